"""ZooKeeper: three servers with fsync, driven by kazoo's asynchronous calls: create an ephemeral node, delete it.

That is less than kazoo's Lock recipe does (sequential nodes, children, watches: several round trips a lock), to
ZooKeeper's advantage. Each kazoo client has threads of its own: connections beyond CLIENTS_MAX share clients, with as
many requests in flight in all.
"""

import asyncio
import contextlib
import importlib
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.peers.base import PeerTally, free_ports, result_of, servers, timed, until_ready

JAR = Path("/usr/share/java/zookeeper.jar")
"""Where Debian's package has it."""
CLIENTS_MAX = 8
NODES = 3
SESSION_S = 10.0


class Slot:
    """One name that is created and deleted by turns, each from the callback of the one before."""

    def __init__(self, client: Any, path: str, tally: PeerTally) -> None:
        self._client = client
        self._path = path
        self._tally = tally
        self._created = False
        self._began = 0.0
        self.running = True

    def next(self) -> None:
        """Send the next request."""
        self._began = time.perf_counter()
        if self._created:
            self._client.delete_async(self._path).rawlink(self._done)
        else:
            self._client.create_async(self._path, b"bench", ephemeral=True).rawlink(self._done)

    def _done(self, result: Any) -> None:
        if result.exception is None:
            self._tally.operations += 1
            self._tally.latencies.append(time.perf_counter() - self._began)
            self._created = not self._created
        else:
            self._tally.failed(type(result.exception).__name__)
            # A lost connection fails everything at once: to ask again at once would spin.
            self.running = self.running and self._client.client_state != "CLOSED"
            time.sleep(0.01)
        if self.running:
            self.next()


class ZooKeeper:
    """Three ZooKeeper servers."""

    name = "zookeeper"
    differs = (
        "three nodes, fsync; an ephemeral node a lock, without a queue; driven by kazoo in Python"
    )

    def __init__(self) -> None:
        self.version = ""

    def missing(self) -> str | None:
        """Look for Java, the server and the client library."""
        if shutil.which("java") is None or not JAR.exists():
            return f"java or {JAR} is not there (Debian: zookeeper)"
        try:
            self.version = f"kazoo {version('kazoo')}"
        except PackageNotFoundError:
            return "kazoo is not installed (PyPI: kazoo)"
        return None

    @contextlib.contextmanager
    def running(self, folder: Path) -> Iterator[Sequence[str]]:
        """Run three servers on free ports."""
        ports = free_ports(3 * NODES)
        clients, peers, elections = ports[:NODES], ports[NODES : 2 * NODES], ports[2 * NODES :]
        everyone = [f"server.{i + 1}=127.0.0.1:{peers[i]}:{elections[i]}" for i in range(NODES)]
        commands = []
        for i in range(NODES):
            home = folder / f"n{i}"
            home.mkdir()
            (home / "myid").write_text(f"{i + 1}\n")
            lines = [
                "tickTime=500", "initLimit=20", "syncLimit=10", f"dataDir={home}", "maxClientCnxns=0",
                f"clientPort={clients[i]}", "clientPortAddress=127.0.0.1", "admin.enableServer=false",
                "4lw.commands.whitelist=envi",
                *everyone,
            ]  # fmt: skip
            config = folder / f"n{i}.cfg"
            config.write_text("\n".join(lines) + "\n")
            main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
            commands.append(["java", "-Xmx512m", "-cp", str(JAR), main, str(config)])

        async def probe() -> None:
            client = self._client(f"127.0.0.1:{clients[0]}")
            try:
                await asyncio.to_thread(client.start, 3.0)
                number = ".".join(map(str, await asyncio.to_thread(client.server_version)))
                self.version = f"{number}, kazoo {version('kazoo')}"
            except client.handler.timeout_exception as error:
                raise ConnectionError(str(error)) from error
            finally:
                client.stop()
                client.close()

        with servers(commands, folder):
            asyncio.run(until_ready(probe, self.name))
            yield [f"127.0.0.1:{port}" for port in clients]

    @staticmethod
    def _client(address: str) -> Any:
        # It logs each attempt to connect while the servers start; what fails later is counted as an error.
        logging.getLogger("kazoo").setLevel(logging.CRITICAL)
        return importlib.import_module("kazoo.client").KazooClient(address, timeout=SESSION_S)

    async def measure(
        self, addresses: Sequence[str], *, connections: int, depth: int, seconds: float
    ) -> dict[str, Any]:
        """Keep connections x depth requests in flight, spread over clients and nodes."""
        tally = PeerTally()
        count = min(connections, CLIENTS_MAX)
        clients = [self._client(addresses[i % len(addresses)]) for i in range(count)]
        slots: list[Slot] = []
        try:
            await asyncio.gather(*(asyncio.to_thread(client.start) for client in clients))
            root = f"/bench-{os.urandom(3).hex()}"
            clients[0].create(root)
            slots = [
                Slot(clients[i % count], f"{root}/{i}", tally) for i in range(connections * depth)
            ]
            for slot in slots:
                slot.next()
            took = await timed(tally, seconds)
            return result_of(tally, took)
        finally:
            for slot in slots:
                slot.running = False
            for client in clients:
                await asyncio.to_thread(client.stop)
                client.close()
