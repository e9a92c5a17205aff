"""raftlock itself, as one of the systems that are compared: three nodes as a user runs them, with audit and metrics."""

import asyncio
import contextlib
import random
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.gaps import Probe
from bench.peers.base import LOOPBACK, Place, Running, free_ports, servers, until_ready
from bench.promises import Load, Seen, lost
from bench.throughput import measure
from raftlock.client import Unavailable
from raftlock.client.async_client import fetch_status
from raftlock.client.load import find_leader
from raftlock.server.bootstrap import BootstrapError, bootstrap

NODES = 3
STATUS_TIMEOUT_S = 1.0


class Raftlock:
    """Three raftlock nodes."""

    name = "raftlock"
    differs = "three nodes, fsync on a majority before each answer; fencing tokens, fair queues; audit and metrics on"

    def __init__(self) -> None:
        self.version = version("raftlock")
        self.seen = Seen()

    def missing(self) -> str | None:
        """See Peer: it is here."""
        return None

    @contextlib.contextmanager
    def running(self, folder: Path, places: Sequence[Place] = LOOPBACK) -> Iterator[Running]:
        """Run three nodes on free ports."""
        ports = iter(free_ports(3 * NODES))
        client, peer, http = ([f"{place.host}:{next(ports)}" for place in places] for _ in range(3))
        commands = [
            [
                *places[i].prefix, sys.executable, "-m", "raftlock.cli.main", "server",
                "--node-id", str(i + 1), "--data-dir", str(folder / f"node-{i + 1}"),
                "--client", client[i], "--peer", peer[i], "--http", http[i],
            ]
            for i in range(NODES)
        ]  # fmt: skip

        async def begin() -> None:
            members = {i + 1: address for i, address in enumerate(peer)}
            try:
                await asyncio.to_thread(bootstrap, members, wait_s=0.5)
            except BootstrapError as error:
                raise ConnectionError(str(error)) from error

        with servers(commands, folder) as started:
            asyncio.run(until_ready(begin, self.name))
            asyncio.run(find_leader(client))
            yield Running(client, started)

    async def measure(
        self, addresses: Sequence[str], *, connections: int, depth: int, seconds: float
    ) -> dict[str, Any]:
        """Drive the leader as `bench throughput` does."""
        leader = await find_leader(list(addresses))
        return await measure(leader, connections=connections, depth=depth, seconds=seconds)

    async def roles(self, running: Running) -> list[bool | None]:
        """See Replicated."""

        async def ask(address: str) -> bool | None:
            try:
                status = await fetch_status(address, timeout=STATUS_TIMEOUT_S)
            except (OSError, TimeoutError, Unavailable):
                return None
            return status.role == "leader" if status.healthy else None

        return list(await asyncio.gather(*(ask(address) for address in running.addresses)))

    async def acquire_all_the_time(self, running: Running, probe: Probe, clients: int) -> None:
        """See Replicated. Every promise is checked meanwhile."""
        await Load(probe, self.seen).run(running.addresses, clients, random.Random())

    async def broken(self, running: Running) -> list[str]:
        """Return what was promised and not kept, looking for all that was to be kept."""
        missing = await lost(running.addresses, self.seen.kept)
        return [*self.seen.violations, *(f"acknowledged and lost: {name}" for name in missing)]

    async def account(self, running: Running) -> dict[str, int]:
        """Return what was looked at, and the last term: more than the faults, and there were elections without one."""
        status = await fetch_status(await find_leader(running.addresses))
        return {"answers": self.seen.answers, "kept": len(self.seen.kept), "term": status.term}
