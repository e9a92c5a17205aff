"""Real clusters for the tests: three server processes on free loopback ports, ended by pid."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftlock.client import NodeStatus, Unavailable
from raftlock.client.async_client import fetch_status
from raftlock.server.bootstrap import bootstrap


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on.

    Below those that the kernel hands out to callers: one of them could be taken before the node that it is meant for
    listens. Each worker of a parallel run has a range of its own, and takes them in turn.
    """
    found: list[int] = []
    while len(found) < count:
        port = next(_PORTS)
        with contextlib.suppress(OSError), socket.socket() as sock:
            sock.bind(("127.0.0.1", port))
            found.append(port)
    return found


def _ports() -> Iterator[int]:
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    first, size = PORTS.start + worker * (len(PORTS) // WORKERS), len(PORTS) // WORKERS
    # Other runs of the suite on this machine begin somewhere else.
    offset = random.SystemRandom().randrange(size)
    while True:
        yield first + offset
        offset = (offset + 1) % size


PORTS, WORKERS = range(10_000, 20_000), 8
_PORTS = _ports()


class Cluster:
    """Three nodes as processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = free_ports(15)
        self.ids: tuple[int, ...] = (1, 2, 3)
        """The members, or those that are asked who leads."""
        self._ports = {i: ports[3 * (i - 1) : 3 * i] for i in range(1, 6)}
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.environment: dict[int, dict[str, str]] = {i: {} for i in self._ports}
        """What a node gets besides this process's own environment."""

    @property
    def endpoints(self) -> list[str]:
        """Return the client addresses."""
        return [f"127.0.0.1:{self._ports[i][0]}" for i in self.ids]

    def endpoint(self, node_id: int) -> str:
        """Return one client address."""
        return f"127.0.0.1:{self._ports[node_id][0]}"

    def peer(self, node_id: int) -> str:
        """Return one peer address."""
        return f"127.0.0.1:{self._ports[node_id][1]}"

    def http(self, node_id: int) -> str:
        """Return the root of a node's HTTP."""
        return f"http://127.0.0.1:{self._ports[node_id][2]}"

    def move(self, node_id: int, *, to: int) -> None:
        """Give a node that is down the addresses of one that was never started."""
        self._ports[node_id] = self._ports.pop(to)

    def start(self, node_id: int) -> None:
        """Start a node."""
        client, peer, http = self._ports[node_id]
        with (self.folder / f"node-{node_id}.log").open("ab") as log:
            self.processes[node_id] = subprocess.Popen(
                [
                    sys.executable, "-m", "raftlock.cli.main", "server",
                    "--node-id", str(node_id),
                    "--data-dir", str(self.folder / f"node-{node_id}"),
                    "--client", f"127.0.0.1:{client}",
                    "--peer", f"127.0.0.1:{peer}",
                    "--http", f"127.0.0.1:{http}",
                    "--segment-size", str(4 << 20),
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment[node_id]},
            )  # fmt: skip

    def start_all(self) -> None:
        """Start and bootstrap all nodes."""
        for node_id in self.ids:
            self.start(node_id)
        bootstrap({i: f"127.0.0.1:{self._ports[i][1]}" for i in self.ids}, wait_s=60)

    def signal(self, node_id: int, number: int) -> None:
        """Send a node a signal."""
        os.kill(self.processes[node_id].pid, number)

    def kill(self, node_id: int) -> None:
        """kill -9 a node."""
        self.processes[node_id].kill()
        self.processes[node_id].wait()

    def stop_all(self) -> None:
        """End every node."""
        for process in self.processes.values():
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()

    def status(self, node_id: int) -> NodeStatus | None:
        """Ask a node how it is."""
        try:
            return asyncio.run(fetch_status(self.endpoint(node_id), timeout=1.0))
        except (OSError, TimeoutError, Unavailable):
            return None

    async def leader(self, *, other_than: int = 0) -> int:
        """Wait until a node leads and return its id."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            for node_id in self.ids:
                if node_id == other_than:
                    continue
                with contextlib.suppress(OSError, TimeoutError, Unavailable):
                    status = await fetch_status(self.endpoint(node_id), timeout=1.0)
                    if status.role == "leader" and status.healthy:
                        return node_id
            await asyncio.sleep(0.02)
        raise TimeoutError("no leader")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes that serve."""
    running = Cluster(tmp_path)
    try:
        running.start_all()
        yield running
    finally:
        running.stop_all()


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes for a whole module: nothing in it may harm them."""
    running = Cluster(tmp_path_factory.mktemp("steady"))
    try:
        running.start_all()
        asyncio.run(running.leader())
        yield running
        assert {i: p.poll() for i, p in running.processes.items()} == {1: None, 2: None, 3: None}
        assert "Traceback" not in "".join(
            (running.folder / f"node-{i}.log").read_text() for i in running.ids
        )
    finally:
        running.stop_all()
