"""The command line on a real cluster: exit codes, what is printed, and commands that end with their locks."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


class CommandLine:
    """`raftlock` as a user runs it."""

    def __init__(self, cluster: Cluster) -> None:
        self.environment = {**os.environ, "RAFTLOCK_ENDPOINTS": ",".join(cluster.endpoints)}

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start it."""
        return subprocess.Popen(
            [sys.executable, "-m", "raftlock.cli.main", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Run it. Return exit code, stdout and stderr."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def json(self, *arguments: str) -> tuple[int, Any]:
        """Run it with --json. Return the exit code and the one object."""
        code, out, _ = self(arguments[0], "--json", *arguments[1:])
        return code, json.loads(out)


@pytest.fixture
def raftlock(cluster: Cluster) -> CommandLine:
    """The command line, with the cluster's addresses in its environment."""
    return CommandLine(cluster)


def test_lock_runs_a_command_with_its_token(raftlock: CommandLine) -> None:
    """The command has the token and the name in its environment; its output and exit code are ours; then it is free."""
    code, out, err = raftlock(
        "lock", "r", "--", "sh", "-c", 'echo "$RAFTLOCK_RESOURCE $RAFTLOCK_TOKEN"; exit 7'
    )
    name, token = out.split()
    after = raftlock("get", "r")

    assert (code, name, err) == (7, "r", "")
    assert int(token) > 1_600_000_000_000_000
    assert (after[0], after[2]) == (3, "raftlock: 'r' is not held\n")


def test_lock_that_is_not_acquired_is_75_and_says_who_holds_it(raftlock: CommandLine) -> None:
    """The command does not run; the exit code is 75; stderr, or the object, names the holder and the token."""
    token = int(raftlock("acquire", "r", "--ttl", "5m", "--owner", "alice")[1])
    code, out, err = raftlock("lock", "r", "--", "echo", "ran")
    as_json = raftlock.json("lock", "r", "--wait", "300ms", "--", "echo", "ran")

    assert (code, out, err) == (75, "", f"raftlock: 'r' is held by 'alice' (token {token})\n")
    assert as_json[0] == 75
    assert {k: v for k, v in as_json[1].items() if k != "error"} == {
        "status": "TIMEOUT", "resource": "r", "token": None, "holder": "alice", "holder_token": token,
    }  # fmt: skip


@pytest.mark.parametrize(("command", "code"), [("no-such-command", 127), ("/etc/passwd", 126)])
def test_a_command_that_cannot_run_releases(raftlock: CommandLine, command: str, code: int) -> None:
    """127 for a command that is not there, 126 for one that cannot be run, as in a shell; the lock is free again."""
    result = raftlock("lock", "r", "--", command)

    assert (result[0], command in result[2], raftlock("get", "r")[0]) == (code, True, 3)


def test_signals_are_passed_to_the_command(raftlock: CommandLine) -> None:
    """SIGTERM goes to the command, which may end as it likes; the lock is released."""
    process = raftlock.start(
        "lock", "r", "--", "sh", "-c", 'trap "echo ended; exit 5" TERM; echo up; while :; do sleep 0.05; done'
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)

    assert (process.returncode, out, raftlock("get", "r")[0]) == (5, "ended\n", 3)


def test_a_signal_before_the_command_withdraws_the_acquire(raftlock: CommandLine) -> None:
    """SIGTERM while it waits ends it as the signal would, and leaves no waiter behind."""
    raftlock("acquire", "r", "--ttl", "5m")
    process = raftlock.start("lock", "r", "--wait", "5m", "--", "true")
    while raftlock.json("get", "r")[1]["waiters"] == 0:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)

    assert (process.returncode, raftlock.json("get", "r")[1]["waiters"]) == (128 + 15, 0)


def test_the_command_is_dead_by_the_deadline(
    raftlock: CommandLine, cluster: Cluster, tmp_path: Path
) -> None:
    """All nodes stopped: SIGTERM a grace before the deadline, SIGKILL to the whole group by it (guarantee 10)."""
    beats = tmp_path / "beats"
    script = (
        # Clock and token of each beat of a grandchild that ignores SIGTERM; the child goes on too.
        f"{sys.executable} -c \"import time, signal\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('TERM', time.clock_gettime(time.CLOCK_BOOTTIME), flush=True))\n"
        "while True: print('beat', time.clock_gettime(time.CLOCK_BOOTTIME), flush=True); time.sleep(0.01)\n"
        f"\" > {beats} & trap '' TERM; wait; wait"
    )  # fmt: skip
    ttl = 3.0
    process = raftlock.start("lock", "r", "--ttl", "3s", "--", "sh", "-c", script)
    while not (beats.exists() and beats.read_text().count("beat") > 10):
        time.sleep(0.01)
    for node_id in cluster.ids:
        cluster.signal(node_id, signal.SIGSTOP)
    stopped = time.clock_gettime(time.CLOCK_BOOTTIME)
    _, err = process.communicate(timeout=60)
    size = beats.stat().st_size
    lines = [line.split() for line in beats.read_text().splitlines()]
    terms = [float(at) for what, at in (x for x in lines if len(x) == 2) if what == "TERM"]
    last = max(float(at) for what, at in (x for x in lines if len(x) == 2) if what == "beat")

    assert (process.returncode, "was lost" in err) == (70, True)
    # Whatever was renewed was sent before the nodes stopped, so nothing counts on the lock after that and a ttl.
    assert last < stopped + ttl
    assert terms
    assert terms[0] < last
    time.sleep(0.1)
    assert beats.stat().st_size == size


def test_a_lock_that_is_taken_away_ends_the_command(raftlock: CommandLine) -> None:
    """force-release --now kills the command at once; the exit code is 70."""
    process = raftlock.start("lock", "r", "--ttl", "5m", "--", "sleep", "600")
    while raftlock("get", "r")[0] != 0:
        time.sleep(0.05)
    forced = raftlock("force-release", "r", "--reason", "test", "--now")
    _, err = process.communicate(timeout=60)

    assert (forced[0], process.returncode) == (0, 70)
    assert "the lock 'r' was lost; the command was ended" in err


def test_the_life_of_a_token(raftlock: CommandLine) -> None:
    """acquire, check, renew, get, list, release: each by name and token, each with its exit code and one object."""
    code, acquired = raftlock.json("acquire", "a:1", "--ttl", "30s", "--owner", "me")
    token = acquired["token"]
    expected = {"status": "OK", "resource": "a:1", "token": token}
    missing = {"status": "NOT_HELD", "resource": "a:1", "token": token}

    assert (code, acquired) == (0, expected)
    assert raftlock.json("check", "a:1", "--token", str(token)) == (0, expected)
    assert raftlock.json("renew", "a:1", "--token", str(token)) == (0, expected)
    code, got = raftlock.json("get", "a:1")
    listed = raftlock.json("list", "--prefix", "a:")
    assert (code, got.pop("status")) == (0, "OK")
    del got["expires_in"], listed[1]["expires_in"]
    assert listed == (0, got)
    assert {k: got[k] for k in ("resource", "state", "owner", "token", "ttl", "waiters")} == {
        "resource": "a:1", "state": "held", "owner": "me", "token": token, "ttl": 30.0, "waiters": 0,
    }  # fmt: skip
    assert raftlock.json("release", "a:1", "--token", str(token)) == (0, expected)
    for command in ("release", "renew", "check"):
        code, refused = raftlock.json(command, "a:1", "--token", str(token))
        assert (code, {k: v for k, v in refused.items() if k != "error"}) == (3, missing)
    assert raftlock("list")[:2] == (0, "resource  state  owner  token  ttl  waiters\n")


def test_force_release_waits_for_the_lease_or_does_not(raftlock: CommandLine) -> None:
    """Without --now renewals are refused and the lock shows as ending; with it, it is free at once; 3 if nobody holds it."""
    token = raftlock.json("acquire", "r", "--ttl", "5m")[1]["token"]
    later = raftlock("force-release", "r", "--reason", "test")
    state = raftlock.json("get", "r")[1]["state"]
    now = raftlock("force-release", "r", "--token", str(token), "--reason", "test", "--now")
    again = raftlock("force-release", "r", "--reason", "test")

    assert (later[0], later[1]) == (0, f"r ends when the lease of token {token} has run out\n")
    assert state == "ending"
    assert (now[0], raftlock("get", "r")[0], again[0]) == (0, 3, 3)


def test_list_watch_goes_on_and_ends_with_ctrl_c(raftlock: CommandLine) -> None:
    """One line a look with --json, until SIGINT: exit code 130."""
    process = raftlock.start("list", "--watch", "--json")
    assert process.stdout is not None
    empty = json.loads(process.stdout.readline())
    raftlock("acquire", "r", "--ttl", "5m")
    while not (later := json.loads(process.stdout.readline()))["locks"]:
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert (empty["locks"], [x["resource"] for x in later["locks"]]) == ([], ["r"])
    assert process.returncode == 130


def led(raftlock: CommandLine, healthy: int) -> Any:
    """Return the status once a node leads and so many are healthy: a busy machine may be between two leaders."""
    while True:
        code, status = raftlock.json("status")
        if code == 0 and sum(n["healthy"] for n in status["nodes"]) == healthy:
            return status


def test_status_says_who_leads(raftlock: CommandLine, cluster: Cluster) -> None:
    """The object has the leader, and for each node what it says of itself, also when one is down."""
    status = led(raftlock, 3)
    pids = {p.pid for p in cluster.processes.values()}
    down = next(i for i in cluster.ids if i != status["leader"])
    cluster.kill(down)
    after = led(raftlock, 2)
    text = raftlock("status")[1]

    names = {"id", "pid", "role", "term", "commit_index", "applied_index", "address", "healthy"}
    assert [n["id"] for n in status["nodes"]] == [1, 2, 3]
    assert all(set(node) >= names for node in status["nodes"])
    assert {n["pid"] for n in status["nodes"]} == pids
    assert [n["id"] for n in after["nodes"]] == [None if i == down else i for i in cluster.ids]
    assert {s["leader"] for s in (status, after)} <= set(cluster.ids)
    assert all(
        n["role"] == "leader" for s in (status, after) for n in s["nodes"] if n["id"] == s["leader"]
    )
    assert text.count("unreachable") == 1


def test_bench_measures(raftlock: CommandLine) -> None:
    """It prints a table, or one object; operations succeed, and tokens grow."""
    code, values = raftlock.json(
        "bench", "--connections", "2", "--depth", "4", "--seconds", "300ms"
    )
    table = raftlock("bench", "--connections", "1", "--depth", "1", "--seconds", "200ms")

    assert (code, values["token_errors"]) == (0, 0)
    assert values["operations"] > 0
    assert 0 < values["p50_ms"] <= values["p99_ms"] <= values["max_ms"]
    assert (table[0], table[1].split()[:2]) == (0, ["connections", "depth"])
