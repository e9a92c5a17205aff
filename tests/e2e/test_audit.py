"""The audit on real processes: the same bytes on three nodes, over kill -9, and what the commands print."""

import json
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgpack
import pytest

from raftlock.audit.reader import Directory
from raftlock.audit.verify import verify
from raftlock.client import AsyncClient
from raftlock_wire.messages import Op
from raftlock_wire.status import Status
from tests.e2e.conftest import Cluster
from tests.e2e.raw import RawClient

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]

FAT = {"note": "x" * 1_000}
PER_FRAME = 800


def directory(cluster: Cluster, node_id: int) -> Directory:
    """Return a node's audit directory."""
    return Directory(cluster.folder / f"node-{node_id}" / "audit")


def segments(cluster: Cluster, node_id: int) -> dict[str, bytes]:
    """Return a node's finished segments."""
    found = directory(cluster, node_id)
    return {name: found.read(name) for _, _, name in found.segments()}


def cli(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run a command."""
    command = [sys.executable, "-m", "raftlock.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def fill(endpoint: str, frames: int) -> tuple[int, int]:
    """Log acquires with much metadata, nearly all of them refused: a segment is 64 MiB.

    Return how many are in the log, at least and at most: one without a final answer is asked again.
    """
    unknown = 0
    with RawClient(endpoint) as client:
        session = client.ask_until_final(Op.OPEN_SESSION, bytes(range(16)), 60_000)[2]
        for number in range(frames):
            open_ids = set(range(10_000, 10_000 + PER_FRAME))
            while open_ids:
                requests = [
                    [int(Op.ACQUIRE), i, session, i - 10_000, number + 1, "r", "o", 60_000, 0, FAT]
                    for i in sorted(open_ids)
                ]
                payload = msgpack.packb(requests)
                client.send_bytes(struct.pack(">I", len(payload)) + payload)
                answered = 0
                while answered < len(requests):
                    frame = client.frame()
                    assert frame is not None
                    answers = [message for message in frame[1:] if message[0]]
                    answered += len(answers)
                    unknown += sum(answer[1] == Status.UNKNOWN for answer in answers)
                    open_ids -= {answer[0] for answer in answers if answer[2]}
    return frames * PER_FRAME, frames * PER_FRAME + unknown


def wait_for(condition: Any, what: str) -> None:
    """Wait until a node has done what it does in the background."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.05)


async def test_three_nodes_write_the_same_bytes(cluster: Cluster) -> None:
    """Over more than a segment, with a node killed and started again on the way, all three have the same files."""
    leader = await cluster.leader()
    victim = next(i for i in cluster.ids if i != leader)
    sent = fill(cluster.endpoint(leader), 45)[1]
    cluster.kill(victim)
    sent += fill(cluster.endpoint(leader), 40)[1]
    cluster.start(victim)
    for node_id in cluster.ids:
        wait_for(lambda i=node_id: segments(cluster, i), f"node {node_id} has finished no segment")

    files = [segments(cluster, node_id) for node_id in cluster.ids]
    printed = [
        cli("audit", "verify", "--json", "--data", cluster.folder / f"node-{i}")
        for i in cluster.ids
    ]

    assert files[0] == files[1] == files[2]
    reports = [json.loads(done.stdout) for done in printed]
    assert [(r["ok"], r["gaps"], r["first"]) for r in reports] == [(True, [], 1)] * 3
    assert len({r["digest"] for r in reports}) == 1
    wait_for(
        lambda: verify(directory(cluster, victim)).open_last > reports[0]["last"],
        "the node that was killed shows nothing of the segment under way",
    )
    assert sent > reports[0]["commands"] > 0


async def test_tail_tells_what_happened_while_the_node_runs(cluster: Cluster) -> None:
    """Every node's disk tells of a lock within about a second: who got it, and that it was released."""
    async with (
        AsyncClient(cluster.endpoints, owner="me") as client,
        client.lock("demo", ttl=10) as lock,
    ):
        token = lock.token

    def rows(node_id: int) -> list[dict[str, Any]]:
        folder = cluster.folder / f"node-{node_id}"
        done = cli("audit", "tail", "--data", folder, "-n", "5", "--resource", "demo")
        return [json.loads(line) for line in done.stdout.splitlines()]

    for node_id in cluster.ids:
        wait_for(lambda i=node_id: len(rows(i)) == 2, f"node {node_id} does not tell")
        told = [(row["operation"], row["status"], row["token"]) for row in rows(node_id)]
        assert told == [("acquire", "OK", token), ("release", "OK", token)]
        assert rows(node_id)[0]["owner"] == "me"


async def test_three_nodes_restore_the_same_table(cluster: Cluster) -> None:
    """At any index each node's records lead to the same table, and it has who held the lock then; its story agrees."""
    async with AsyncClient(cluster.endpoints, owner="me") as client:
        for _ in range(3):
            async with client.lock("demo", ttl=10) as lock:
                token = lock.token
        held = await client.acquire("held", ttl=30)
        await client.force_release("held", held.token, reason="drain", now=True)
    folders = [cluster.folder / f"node-{node_id}" for node_id in cluster.ids]

    def rows(folder: Path) -> list[dict[str, Any]]:
        done = cli("audit", "query", "--data", folder, "--token", str(token), "--format", "json")
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    for folder in folders:
        wait_for(lambda f=folder: len(rows(f)) == 2, f"{folder} does not tell")
    grant = rows(folders[0])[0]

    tables = [
        json.loads(cli("audit", "restore", "--at", str(grant["index"]), "--list", "--json", "--data", f).stdout)
        for f in folders
    ]  # fmt: skip
    stories = [json.loads(cli("history", "held", "--json", "--data", f).stdout) for f in folders]

    assert tables[0] == tables[1] == tables[2]
    assert [(lock["resource"], lock["token"]) for lock in tables[0]["list"]] == [("demo", token)]
    assert stories[0] == stories[1] == stories[2]
    [story] = stories[0]
    assert (story["end"], story["forced"]["reason"], story["owner"]) == ("forced", "drain", "me")


def test_verify_names_what_is_damaged(tmp_path: Path) -> None:
    """Without an audit, and with a file that is none, the command says so and fails."""
    nothing = cli("audit", "verify", "--data", tmp_path)
    (tmp_path / "audit").mkdir()
    name = f"audit-{1:020d}-{9:020d}.seg"
    (tmp_path / "audit" / name).write_bytes(b"RLAUDIT1" + bytes(400))
    damaged = cli("audit", "verify", "--data", tmp_path)

    assert (nothing.returncode, "holds no audit" in nothing.stderr) == (1, True)
    assert (damaged.returncode, f"{name} at offset 0" in damaged.stderr) == (1, True)
