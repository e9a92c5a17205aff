"""`make docker-test`: a cluster in containers, its leader cut off, a node killed, all restarted; nothing may be lost.

A fourth container holds the client. Each step prints what was seen; the first wrong one ends the test with code 1.
Exit codes: 0 all right; 1 a step failed; 77 no container engine works here.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from deploy.cluster import HARDENED, NODES, Cluster, free_ports, last_json, wait_for
from deploy.engine import Engine, EngineError, arguments, engine_or_exit, say
from deploy.http import WrongAnswer, acquire, ask_http, expect

CLIENT = Path(__file__).with_name("docker_test_client.py")
LOCKS = 50


class Test:
    """The steps, in order, on one cluster."""

    def __init__(self, engine: Engine, image: str) -> None:
        self._engine = engine
        self._image = image
        name = f"raftlock-test-{os.getpid()}"
        self.cluster = Cluster(engine, image, name, published_http=free_ports(len(NODES)))
        self._client = f"{self.cluster.network}-client"
        self._tokens: dict[str, int] = {}
        self._highest = 0
        self._holder: subprocess.Popen[str] | None = None
        self._step_began = time.monotonic()

    def run(self) -> None:
        """Run all steps."""
        self._three_nodes()
        self._lock_from_a_fourth()
        self._http_from_this_machine()
        leader = self._leader()
        self._without_its_leader(leader)
        self._leader_back(leader)
        self._kill_another(leader)
        self._restart_all()
        self._in_order()

    def _done(self, verdict: str) -> None:
        now = time.monotonic()
        say(f"ok    {now - self._step_began:5.1f} s  {verdict}")
        self._step_began = now

    # the steps

    def _three_nodes(self) -> None:
        size = self._engine.image_size(self._image)
        base = self._engine.call(
            "image", "inspect", "--format={{.Size}}", "python:3.11-slim-bookworm", check=False
        ).stdout.strip()
        over = f", {(size - int(base)) / 1e6:.0f} MB over its base" if base.isdigit() else ""
        say(f"image {self._image}: {size / 1e6:.0f} MB{over}; engine: {self._engine}")
        user = self._engine.call("run", "--rm", "--entrypoint=id", self._image, "-u").stdout.strip()
        expect(user not in ("", "0"), f"the image runs as user {user or 'root'}")
        self._step_began = time.monotonic()
        self.cluster.start()
        self._engine.call(
            "run", "--detach", *HARDENED, f"--name={self._client}",
            f"--network={self.cluster.network}",
            "--entrypoint=sleep", self._image, "3600",
        )  # fmt: skip
        self.cluster.wait_healthy()
        self._done("three nodes: read-only, no capabilities, not root, bootstrapped, healthy")

    def _lock_from_a_fourth(self) -> None:
        self._remember(self._ask("acquire", "first", LOCKS))
        expect(len(self._tokens) == LOCKS, f"{len(self._tokens)} of {LOCKS} locks were granted")
        refused = self._cli("acquire", "first:0", "--ttl=10s", check=False)
        expect(refused.returncode == 75, f"a held lock: exit code {refused.returncode}, not 75")
        # A holder that lives through all that follows: it renews, and ends its command if it loses the lock.
        self._holder = self._engine.begin(
            "exec", *self._endpoints(), self._client,
            "raftlock", "lock", "holder", "--ttl=60s", "--", "sleep", "600",
        )  # fmt: skip
        wait_for(self._holder_holds, "the lock of `raftlock lock` is held", 30)
        self._done(f"{LOCKS} locks acquired from a fourth container; a held one is refused")

    def _http_from_this_machine(self) -> None:
        for node_id in NODES:
            url = self.cluster.url(node_id)
            ready, _ = ask_http(f"{url}/readyz")
            expect(ready == 200, f"/readyz of node {node_id}: {ready}")
            self._remember({f"http:{node_id}": acquire(url, f"http:{node_id}")})
        _, metrics = ask_http(f"{self.cluster.url(NODES[0])}/metrics")
        expect("raftlock_" in metrics, f"/metrics shows nothing of raftlock: {metrics[:200]}")
        self._done(
            "HTTP published by each node: ready, a lock acquired, a held one refused; metrics"
        )

    def _without_its_leader(self, leader: int) -> None:
        name = self.cluster.container(leader)
        self._engine.call("network", "disconnect", self.cluster.network, name)
        took_s = wait_for(self._can_acquire, "a lock is granted without the old leader")
        alone = self._engine.call(
            "exec", "--env=RAFTLOCK_ENDPOINTS=127.0.0.1:7401", name,
            "raftlock", "acquire", "alone", "--ttl=10s", check=False,
        )  # fmt: skip
        expect(alone.returncode != 0, f"the leader that was cut off granted a lock: {alone.stdout}")
        expect(not self.cluster.is_healthy(leader), "a node that was cut off calls itself healthy")
        self._verify_tokens()
        self._done(
            f"leader {leader} cut off: served again after {took_s:.1f} s; alone it grants nothing"
        )

    def _leader_back(self, leader: int) -> None:
        name = self.cluster.container(leader)
        self._engine.call("network", "connect", self.cluster.network, name)
        self.cluster.wait_healthy((leader,))
        self._wait_for_all()
        self._done(f"node {leader} connected again: it follows and has caught up")

    def _kill_another(self, other_than: int) -> None:
        leader = self._leader()
        victim = leader if leader != other_than else next(n for n in NODES if n != other_than)
        self._engine.call("kill", "--signal=KILL", self.cluster.container(victim))
        took_s = wait_for(self._can_acquire, "a lock is granted without the killed node")
        self._verify_tokens()
        self._done(f"node {victim} killed with -9: served after {took_s:.1f} s; nothing lost")

    def _restart_all(self) -> None:
        expect(self._holder is not None and self._holder.poll() is None, "`raftlock lock` lost it")
        expect(self._holder_holds(), "the lock of `raftlock lock` is not held any more")
        for node_id in NODES:
            # A second to end in order, then kill -9.
            self._engine.call("restart", "--time=1", self.cluster.container(node_id))
        self.cluster.wait_healthy()
        self._wait_for_all()
        self._verify_tokens()
        self._remember(self._ask("acquire", "last", LOCKS))
        self._done(
            f"all restarted: {LOCKS} locks held under the same tokens; new tokens are larger"
        )

    def _in_order(self) -> None:
        self.cluster.stop()
        for node_id in NODES:
            code = self._engine.call(
                "inspect", "--format={{.State.ExitCode}}", self.cluster.container(node_id)
            ).stdout.strip()
            expect(code == "0", f"node {node_id} ended with exit code {code} after SIGTERM")
        self._done("SIGTERM ends each node with exit code 0")

    # what they are made of

    def _cli(self, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        return self._engine.call(
            "exec", *self._endpoints(), self._client, "raftlock", *words, check=check
        )

    def _endpoints(self) -> list[str]:
        return [f"--env=RAFTLOCK_ENDPOINTS={self.cluster.reachable()}"]

    def _ask(self, *words: object) -> Any:
        """Run the client's script in the fourth container and return the JSON that it prints."""
        done = self._engine.call(
            "exec", "--interactive", *self._endpoints(), self._client, "python", "-", *map(str, words),
            text=CLIENT.read_text(),
        )  # fmt: skip
        return last_json(done.stdout)

    def _status(self) -> Any:
        return last_json(self._cli("status", "--json", check=False).stdout)

    def _leader(self) -> int:
        wait_for(lambda: self._status()["leader"] is not None, "a node leads")
        return int(self._status()["leader"])

    def _wait_for_all(self) -> None:
        """Wait until each node has applied what is committed now. The log grows all the time: leases of an hour need stamps."""
        self._leader()
        committed = max(node["commit_index"] or 0 for node in self._status()["nodes"])

        def caught_up() -> bool:
            nodes = self._status()["nodes"]
            return all(n["healthy"] and n["applied_index"] >= committed for n in nodes)

        wait_for(caught_up, f"all nodes have applied entry {committed}")

    def _can_acquire(self) -> bool:
        tokens = self._ask("try", f"after:{time.monotonic_ns()}")
        if tokens:
            self._remember(tokens)
        return bool(tokens)

    def _remember(self, tokens: dict[str, int]) -> None:
        """Keep what was acknowledged, to look for it later. Each token must be above all before it."""
        for token in sorted(tokens.values()):
            expect(token > self._highest, f"a token did not grow: {token} after {self._highest}")
            self._highest = token
        self._tokens.update(tokens)

    def _verify_tokens(self) -> None:
        lost = self._ask("check", *(f"{name}={token}" for name, token in self._tokens.items()))
        expect(lost == [], f"acknowledged locks were lost: {lost}")

    def _holder_holds(self) -> bool:
        return self._cli("get", "holder", "--json", check=False).returncode == 0

    def clean_up(self) -> None:
        """Remove all that was made."""
        self.cluster.remove()
        if self._holder is not None:
            self._holder.kill()
            self._holder.communicate()


def main() -> None:
    """Test a cluster of three containers."""
    options = arguments(main.__doc__ or "").parse_args()
    began = time.monotonic()
    test = Test(engine_or_exit(options), options.tag)
    code = 0
    try:
        test.run()
        say(f"docker-test: passed in {time.monotonic() - began:.0f} s")
    except (WrongAnswer, EngineError) as error:
        say(f"FAIL  {error}")
        say(test.cluster.logs())
        code = 1
    finally:
        test.clean_up()
        if test.cluster.leftover:
            say(f"could not be removed: {test.cluster.leftover}")
    sys.exit(code)


if __name__ == "__main__":
    main()
