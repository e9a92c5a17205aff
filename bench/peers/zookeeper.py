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
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.gaps import Probe, Witness
from bench.peers.base import (
    LOOPBACK,
    PeerTally,
    Place,
    Running,
    Waiter,
    free_ports,
    result_of,
    servers,
    timed,
    until_ready,
)

JAR = Path("/usr/share/java/zookeeper.jar")
"""Where Debian's package has it."""
CLIENTS_MAX = 8
NODES = 3
SESSION_S = 10.0
FAILOVER_SESSION_S = 2.0
"""Of a client around a fault: kazoo leaves a server that says nothing after two thirds of it."""
RETRY_AFTER_S = 0.01
WORKERS = 4
PACE_S = 0.001
MODE = b"srvr"


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


class ZooKeeperWaiter:
    """A client with kazoo's Lock recipe, whose calls block: in a thread of a pool."""

    def __init__(self, client: Any, path: str, pool: ThreadPoolExecutor, *, owns: bool) -> None:
        self._client = client
        self._lock = client.Lock(path)
        self._pool = pool
        self._owns = owns

    async def lock(self) -> None:
        """See Waiter."""
        await asyncio.get_running_loop().run_in_executor(self._pool, self._lock.acquire)

    async def unlock(self) -> None:
        """See Waiter."""
        await asyncio.get_running_loop().run_in_executor(self._pool, self._lock.release)

    async def close(self) -> None:
        """See Waiter."""
        if self._owns:
            await asyncio.to_thread(self._client.stop)
            self._client.close()


class ZooKeeper:
    """Three ZooKeeper servers."""

    name = "zookeeper"
    differs = (
        "three nodes, fsync; an ephemeral node a lock, without a queue; driven by kazoo in Python"
    )

    recipe = f"kazoo's Lock, {CLIENTS_MAX} clients, a thread a waiter"

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
    def running(self, folder: Path, places: Sequence[Place] = LOOPBACK) -> Iterator[Running]:
        """Run three servers on free ports."""
        ports = free_ports(3 * NODES)
        clients, peers, elections = ports[:NODES], ports[NODES : 2 * NODES], ports[2 * NODES :]
        addresses = [f"{place.host}:{port}" for place, port in zip(places, clients, strict=True)]
        everyone = [
            f"server.{i + 1}={place.host}:{peers[i]}:{elections[i]}"
            for i, place in enumerate(places)
        ]
        commands = []
        for i in range(NODES):
            home = folder / f"n{i}"
            home.mkdir()
            (home / "myid").write_text(f"{i + 1}\n")
            lines = [
                "tickTime=500", "initLimit=20", "syncLimit=10", f"dataDir={home}", "maxClientCnxns=0",
                f"clientPort={clients[i]}", f"clientPortAddress={places[i].host}", "admin.enableServer=false",
                "4lw.commands.whitelist=envi,srvr",
                *everyone,
            ]  # fmt: skip
            config = folder / f"n{i}.cfg"
            config.write_text("\n".join(lines) + "\n")
            main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
            java = ["java", "-Xmx512m", "-cp", str(JAR), main, str(config)]
            commands.append([*places[i].prefix, *java])

        async def probe() -> None:
            client = self._client(addresses[0])
            try:
                await asyncio.to_thread(client.start, 3.0)
                number = ".".join(map(str, await asyncio.to_thread(client.server_version)))
                self.version = f"{number}, kazoo {version('kazoo')}"
            except client.handler.timeout_exception as error:
                raise ConnectionError(str(error)) from error
            finally:
                client.stop()
                client.close()

        with servers(commands, folder) as started:
            asyncio.run(until_ready(probe, self.name))
            yield Running(addresses, started)

    @staticmethod
    def _client(addresses: str, session_s: float = SESSION_S) -> Any:
        # It logs each attempt to connect while the servers start; what fails later is counted as an error.
        logging.getLogger("kazoo").setLevel(logging.CRITICAL)
        # Else a client that lost its server pauses for up to a minute before the next attempt.
        again = {"max_tries": -1, "delay": 0.02, "backoff": 2, "max_delay": 0.5}
        library = importlib.import_module("kazoo.client")
        return library.KazooClient(addresses, timeout=session_s, connection_retry=again)

    async def waiters(self, addresses: Sequence[str], name: str, count: int) -> list[Waiter]:
        """See Queued."""
        clients = [
            self._client(addresses[i % len(addresses)]) for i in range(min(count, CLIENTS_MAX))
        ]
        await asyncio.gather(*(asyncio.to_thread(client.start) for client in clients))
        pool = ThreadPoolExecutor(count, "waiter")
        return [
            ZooKeeperWaiter(
                clients[i % len(clients)], f"/contended/{name}", pool, owns=i < len(clients)
            )
            for i in range(count)
        ]

    async def roles(self, running: Running) -> list[bool | None]:
        """See Replicated."""

        async def ask(address: str) -> bool | None:
            host, _, port = address.rpartition(":")
            try:
                async with asyncio.timeout(1.0):
                    reader, writer = await asyncio.open_connection(host, int(port))
                    writer.write(MODE)
                    said = await reader.read()
                    writer.close()
            except (OSError, TimeoutError):
                return None
            return leads(said)

        return list(await asyncio.gather(*(ask(address) for address in running.addresses)))

    async def acquire_all_the_time(self, running: Running, probe: Probe, clients: int) -> None:
        """See Replicated."""
        everywhere = ",".join(running.addresses)
        opened = [self._client(everywhere, FAILOVER_SESSION_S) for _ in range(clients)]
        root = f"/gap-{os.urandom(3).hex()}"
        try:
            await asyncio.gather(*(asyncio.to_thread(client.start) for client in opened))
            opened[0].create(root)
            async with asyncio.TaskGroup() as group:
                for i, client in enumerate(opened):
                    witness = probe.witness()
                    for worker in range(WORKERS):
                        prefix = f"{root}/{i}-{worker}-"
                        group.create_task(_acquire_on(client, prefix, probe, witness))
        finally:
            for client in opened:
                await asyncio.to_thread(client.stop)
                client.close()

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


def leads(said: bytes) -> bool | None:
    """Return what a server's answer to `srvr` says of it; None if it does not serve."""
    for line in said.decode(errors="replace").splitlines():
        if line.startswith("Mode: "):
            return line == "Mode: leader"
    return None


async def _acquire_on(client: Any, prefix: str, probe: Probe, witness: Witness) -> None:
    """Create and delete one node after the other, whatever happens, and note the creations."""
    loop = asyncio.get_running_loop()
    taken = 0

    async def done(result: Any) -> bool:
        answered = loop.create_future()

        def settle() -> None:
            if not answered.done():
                answered.set_result(None)

        def tell(_: Any) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle)

        result.rawlink(tell)
        await answered
        return result.exception is None

    while not probe.over.is_set():
        taken += 1
        # A new name an attempt: one that had no answer may be there.
        path = f"{prefix}{taken}"
        if await done(client.create_async(path, b"bench", ephemeral=True)):
            witness.granted_at.append(time.monotonic())
            await done(client.delete_async(path))
        else:
            probe.refused += 1
            await asyncio.sleep(RETRY_AFTER_S)
        await asyncio.sleep(PACE_S)
