"""Redis: one server, SET NX PX and the compare-and-delete script of redis-py's Lock, over a pipelining client.

The client speaks RESP itself and sends what follows the answers of a read in one write, as the load on raftlock does:
it is leaner than redis-py, to Redis's advantage.
"""

import asyncio
import contextlib
import importlib
import os
import shutil
import subprocess
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from bench.peers.base import (
    LEASE_MS,
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

RELEASE = (
    b"if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) end return 0"
)
OPENING_AT_ONCE = 100


def command(*parts: bytes) -> bytes:
    """Return a command in RESP."""
    head = b"*%d\r\n" % len(parts)
    return head + b"".join([b"$%d\r\n%s\r\n" % (len(part), part) for part in parts])


class RedisConnection(asyncio.Protocol):
    """One connection with slots that acquire and release. Answers come in the order of the commands."""

    def __init__(self, number: int, depth: int, tally: PeerTally) -> None:
        self._tally = tally
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._in_flight: deque[int] = deque()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._script = b""
        run = os.urandom(3).hex()
        self._acquires: list[bytes] = []
        self._releases: list[bytes] = []
        self._names = [f"bench:{run}:{number}:{slot}".encode() for slot in range(depth)]
        self._held = [False] * depth
        self._sent_at = [0.0] * depth
        self._running = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Load the script."""
        self._transport = transport  # type: ignore[assignment]
        self._transport.write(command(b"SCRIPT", b"LOAD", RELEASE))  # type: ignore[union-attr]

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the loss, or fail the opening."""
        if not self.ready.done():
            self.ready.set_exception(exc or ConnectionResetError("redis closed the connection"))
        elif self._running:
            self._tally.failed("connection lost")

    def start(self) -> None:
        """Begin: every slot acquires."""
        self._prepare()
        now = time.perf_counter()
        self._sent_at = [now] * len(self._names)
        self._in_flight.extend(range(len(self._names)))
        self._write(b"".join(self._acquires))

    def _prepare(self) -> None:
        token = os.urandom(16).hex().encode()
        ttl = str(LEASE_MS).encode()
        self._acquires = [command(b"SET", name, token, b"NX", b"PX", ttl) for name in self._names]
        self._releases = [
            command(b"EVALSHA", self._script, b"1", name, token) for name in self._names
        ]
        self._running = True

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)

    def _lines(self, data: bytes) -> list[bytes]:
        """Return the whole lines that came."""
        lines = (self._buffer + data).split(b"\r\n")
        self._buffer = lines.pop()
        return lines

    def data_received(self, data: bytes) -> None:
        """Take all whole lines, and send what follows."""
        lines = self._lines(data)
        if not self._running:
            self._opening(lines)
            return
        now = time.perf_counter()
        tally, held, in_flight = self._tally, self._held, self._in_flight
        out: list[bytes] = []
        for line in lines:
            slot = in_flight.popleft()
            if line == (b":1" if held[slot] else b"+OK"):
                tally.operations += 1
                tally.latencies.append(now - self._sent_at[slot])
            else:
                tally.failed(line.decode()[:40] or "empty")
            held[slot] = not held[slot] and line == b"+OK"
            self._sent_at[slot] = now
            in_flight.append(slot)
            out.append(self._releases[slot] if held[slot] else self._acquires[slot])
        self._write(b"".join(out))

    def _opening(self, lines: list[bytes]) -> None:
        for line in lines:
            if line.startswith(b"-"):
                self.ready.set_exception(ConnectionRefusedError(line.decode()))
            elif not line.startswith(b"$"):
                self._script = line
                self.ready.set_result(None)

    def close(self) -> None:
        """End the connection."""
        self._running = False
        if self._transport is not None:
            self._transport.abort()


_Opened = TypeVar("_Opened", bound=RedisConnection)


@contextlib.asynccontextmanager
async def open_connections(
    address: str, count: int, make: Callable[[int], _Opened]
) -> AsyncIterator[list[_Opened]]:
    """Open connections, some at a time, and close them after."""
    loop = asyncio.get_running_loop()
    host, _, port = address.rpartition(":")
    opened: list[_Opened] = []
    try:
        for start in range(0, count, OPENING_AT_ONCE):
            for number in range(start, min(start + OPENING_AT_ONCE, count)):
                connection = make(number)
                opened.append(connection)
                await loop.create_connection(lambda made=connection: made, host, int(port))  # type: ignore[misc]
            await asyncio.gather(*(connection.ready for connection in opened[start:]))
        yield opened
    finally:
        for connection in opened:
            connection.close()


class RedisWaiter:
    """A client with redis-py's Lock as it is: it looks every 100 ms."""

    def __init__(self, address: str, name: str) -> None:
        host, _, port = address.rpartition(":")
        library = importlib.import_module("redis.asyncio")
        self._client: Any = library.Redis(host=host, port=int(port))
        self._lock: Any = self._client.lock(name, timeout=LEASE_MS / 1_000)

    async def lock(self) -> None:
        """See Waiter."""
        await self._lock.acquire()

    async def unlock(self) -> None:
        """See Waiter."""
        await self._lock.release()

    async def close(self) -> None:
        """See Waiter."""
        await self._client.aclose()


class Redis:
    """One Redis server, with its append-only file synced at each command, or without one."""

    recipe = "redis-py's Lock, which looks every 100 ms; no queue"

    def __init__(self, *, aof: bool) -> None:
        self._aof = aof
        self.name = "redis" if aof else "redis_memory"
        self.version = ""
        self.differs = (
            "one node, nothing replicated; no fencing token, no queue; "
            + ("fsync before each answer" if aof else "nothing on disk")
        )  # fmt: skip

    def missing(self) -> str | None:
        """Look for the server."""
        path = shutil.which("redis-server")
        if path is None:
            return "redis-server is not on PATH (Debian: redis-server)"
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, check=True
        ).stdout
        server = said.partition("v=")[2].partition(" ")[0]
        try:
            self.version = f"{server}, redis-py {version('redis')}"
        except PackageNotFoundError:
            return "redis-py is not installed (PyPI: redis)"
        return None

    @contextlib.contextmanager
    def running(self, folder: Path, places: Sequence[Place] = LOOPBACK) -> Iterator[Running]:  # noqa: ARG002 - one node
        """Run it on a free port."""
        (port,) = free_ports(1)
        line = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        line += ["--appendonly", "yes" if self._aof else "no", "--appendfsync", "always"]
        line += ["--dir", str(folder), "--maxclients", "5000"]

        async def probe() -> None:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()

        with servers([line], folder) as started:
            asyncio.run(until_ready(probe, self.name))
            yield Running([f"127.0.0.1:{port}"], started)

    async def waiters(self, addresses: Sequence[str], name: str, count: int) -> list[Waiter]:
        """See Queued."""
        return [RedisWaiter(addresses[0], name) for _ in range(count)]

    async def measure(
        self, addresses: Sequence[str], *, connections: int, depth: int, seconds: float
    ) -> dict[str, Any]:
        """Keep `depth` commands in flight on each connection."""
        tally = PeerTally()
        async with open_connections(
            addresses[0], connections, lambda number: RedisConnection(number, depth, tally)
        ) as opened:
            for connection in opened:
                connection.start()
            took = await timed(tally, seconds)
            return result_of(tally, took)
