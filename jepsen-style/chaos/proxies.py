"""The network where namespaces are forbidden: a TCP proxy before each port of each node, on the loopback device.

A node listens at a loopback address of its own, and everybody else is told the proxy's. On a peer port the first frame
says which member calls (decision 13), so each ordered pair of nodes is a link of its own; whoever says no such thing is
a client. The proxies run in a thread of the run.

What it cannot do that packets can: a connection to a node that is cut off opens, and stays silent. What is cut is held
and not lost, as TCP's own retransmission would have it: it arrives after the fault.
"""

import asyncio
import collections
import contextlib
import random
import socket
import struct
import threading
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import msgpack

from chaos.wiring import Addresses, free_ports

CLIENTS = 0
"""The source and target of what is no member's."""
CHUNK = 1 << 16
PIECE = 1 << 10
"""What is sent at once where the rate is limited."""
CHUNKS_MAX = 64
"""Chunks under way in one direction of a connection; then the proxy stops reading, and the sender feels it."""
HELLO = 64
HELLO_SIZE_MAX = 1 << 16
LAST_BYTE = 10
ROOTLESS = "proxies lose no packets: TCP's retransmission is below them"
NEEDS_ROOT = "needs a file system of its own, which needs root"

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rules:
    """What happens to the bytes of which links, by (source, target). Replaced as a whole."""

    held: frozenset[Pair] = frozenset()
    reset: frozenset[Pair] = frozenset()
    delayed: dict[Pair, tuple[int, int]] = field(default_factory=dict)
    bytes_per_s: dict[int, float] = field(default_factory=dict)
    """By source."""


class ProxyNetwork:
    """All proxies of one run."""

    def __init__(self, node_ids: Iterable[int]) -> None:
        self.node_ids = list(node_ids)
        hosts = {node_id: f"127.0.0.{LAST_BYTE + node_id}" for node_id in self.node_ids}
        ports = iter(free_ports(3 * len(self.node_ids), hosts.values()))
        self._addresses = {
            node_id: Addresses(
                client=f"127.0.0.1:{next(ports)}",
                peer=f"127.0.0.1:{next(ports)}",
                http=f"127.0.0.1:{next(ports)}",
                listen_host=host,
            )
            for node_id, host in hosts.items()
        }
        self._rules = Rules()
        self._loop = asyncio.new_event_loop()
        self._lines: set[Line] = set()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)

    @property
    def left_out(self) -> dict[str, str]:
        """See Wiring."""
        return {"lose packets": ROOTLESS, "disk full": NEEDS_ROOT}

    def up(self) -> None:
        """See Wiring."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(timeout=10)

    async def _listen(self) -> None:
        for node_id, addresses in self._addresses.items():
            for kind in ("client", "peer"):
                port = int(getattr(addresses, kind).rpartition(":")[2])
                front = Front(self, node_id, addresses.listen_host, port, is_peer=kind == "peer")
                self._servers.append(await asyncio.start_server(front.accept, "127.0.0.1", port))

    def down(self) -> None:
        """See Wiring."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for line in list(self._lines):
            line.abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # The transports that were reset close their sockets in the next round of the loop.
        await asyncio.sleep(0)

    def prefix(self, node_id: int) -> list[str]:
        """See Wiring."""
        del node_id
        return []

    def addresses(self, node_id: int) -> Addresses:
        """See Wiring."""
        return self._addresses[node_id]

    # faults

    def heal(self) -> None:
        """See Wiring."""
        self._change(Rules())

    def drop(self, pairs: Iterable[Pair], *, also_clients: Iterable[int] = ()) -> None:
        """See Wiring."""
        cut = set(pairs)
        for node_id in also_clients:
            cut |= {(CLIENTS, node_id), (node_id, CLIENTS)}
        self._change(replace(self._rules, held=self._rules.held | cut))

    def lose(self, node_ids: Iterable[int], percent: int) -> None:
        """See Wiring."""
        raise NotImplementedError(ROOTLESS)

    def slow(self, node_id: int, kilobits: int) -> None:
        """See Wiring."""
        rates = {**self._rules.bytes_per_s, node_id: kilobits * 125.0}
        self._change(replace(self._rules, bytes_per_s=rates))

    def delay(self, pairs: Iterable[Pair], low_ms: int, high_ms: int) -> None:
        """See Wiring."""
        delayed = {**self._rules.delayed, **dict.fromkeys(pairs, (low_ms, high_ms))}
        self._change(replace(self._rules, delayed=delayed))

    def reset(self, pairs: Iterable[Pair]) -> None:
        """See Wiring."""
        self._change(replace(self._rules, reset=self._rules.reset | set(pairs)))

    def lose_tails(self, node_ids: Iterable[int]) -> None:
        """See Wiring."""
        self._loop.call_soon_threadsafe(self._end_lines, frozenset(node_ids))

    def _change(self, rules: Rules) -> None:
        self._rules = rules
        self._loop.call_soon_threadsafe(self._changed)

    def _changed(self) -> None:
        for line in list(self._lines):
            line.rules_changed()

    def _end_lines(self, node_ids: frozenset[int]) -> None:
        for line in list(self._lines):
            if node_ids & {line.source, line.target}:
                line.abort()

    @property
    def rules(self) -> Rules:
        """Return what holds now."""
        return self._rules

    def opened(self, line: "Line") -> None:
        """Know a connection."""
        self._lines.add(line)

    def closed(self, line: "Line") -> None:
        """Forget a connection."""
        self._lines.discard(line)


@dataclass(frozen=True, slots=True)
class Front:
    """What stands before one port of one node."""

    network: ProxyNetwork
    node_id: int
    host: str
    port: int
    is_peer: bool

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Find out who calls, call the node, and carry bytes until one of them ends."""
        try:
            first = await _first_frame(reader) if self.is_peer else b""
            source = _caller(first)
            inside = await asyncio.open_connection(self.host, self.port)
        except (OSError, asyncio.IncompleteReadError):
            _reset(writer)
            return
        line = Line(self.network, source, self.node_id, writer, inside[1])
        self.network.opened(line)
        try:
            await line.carry(first, reader, inside[0])
        finally:
            line.abort()
            self.network.closed(line)


class Line:
    """One connection through a proxy, both ways."""

    def __init__(
        self,
        network: ProxyNetwork,
        source: int,
        target: int,
        outer: asyncio.StreamWriter,
        inner: asyncio.StreamWriter,
    ) -> None:
        self.source, self.target = source, target
        self._network = network
        self._writers = (outer, inner)
        self._changed = asyncio.Event()

    def rules_changed(self) -> None:
        """Look at the rules again."""
        self._changed.set()
        if self._network.rules.reset & {(self.source, self.target), (self.target, self.source)}:
            self.abort()

    def abort(self) -> None:
        """Reset both halves; what is under way on them is lost."""
        for writer in self._writers:
            _reset(writer)

    async def carry(
        self, first: bytes, outside: asyncio.StreamReader, inside: asyncio.StreamReader
    ) -> None:
        """Carry bytes until a half is reset, or one has ended and all that it sent was passed on."""
        self.rules_changed()
        outer, inner = self._writers
        there, back = (self.source, self.target), (self.target, self.source)
        tasks = [
            asyncio.create_task(work)
            for work in (
                *self._pipe(there, outside, inner, first),
                *self._pipe(back, inside, outer, b""),
            )
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _pipe(
        self, pair: Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes
    ) -> tuple[Any, Any]:
        chunks: collections.deque[tuple[float, bytes]] = collections.deque()
        filled, drained = asyncio.Event(), asyncio.Event()

        async def fill() -> None:
            loop, due, data = asyncio.get_running_loop(), 0.0, first
            while True:
                low_ms, high_ms = self._network.rules.delayed.get(pair, (0, 0))
                # Never before what was sent earlier: it is one stream.
                due = max(due, loop.time() + random.uniform(low_ms, high_ms) / 1e3)
                if data:
                    chunks.append((due, data))
                    filled.set()
                while len(chunks) >= CHUNKS_MAX:
                    drained.clear()
                    await drained.wait()
                data = await reader.read(CHUNK)
                if not data:
                    chunks.append((due, b""))
                    filled.set()
                    # The other task ends the line, when all before this was passed on.
                    await asyncio.Event().wait()

        async def drain() -> None:
            loop = asyncio.get_running_loop()
            while True:
                while not chunks:
                    filled.clear()
                    await filled.wait()
                due, data = chunks.popleft()
                drained.set()
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self._wait_while_held(pair)
                if not data:
                    with contextlib.suppress(OSError):
                        writer.close()
                        await writer.wait_closed()
                    return
                async for piece in self._paced(pair, data):
                    writer.write(piece)
                    await writer.drain()

        return fill(), drain()

    async def _paced(self, pair: Pair, data: bytes) -> AsyncIterator[bytes]:
        """Yield the bytes as fast as their sender may send: all at once, or a little at a time."""
        position = 0
        while position < len(data):
            rate = self._network.rules.bytes_per_s.get(pair[0])
            piece = data[position : position + (PIECE if rate else CHUNK)]
            if rate:
                await asyncio.sleep(len(piece) / rate)
                await self._wait_while_held(pair)
            position += len(piece)
            yield piece

    async def _wait_while_held(self, pair: Pair) -> None:
        while pair in self._network.rules.held:
            self._changed.clear()
            await self._changed.wait()


async def _first_frame(reader: asyncio.StreamReader) -> bytes:
    """Read a whole frame. Raise IncompleteReadError, also for one that is no caller's."""
    head = await reader.readexactly(4)
    size: int = struct.unpack(">I", head)[0]
    if size > HELLO_SIZE_MAX:
        raise asyncio.IncompleteReadError(head, size)
    return head + await reader.readexactly(size)


def _caller(frame: bytes) -> int:
    """Return which member says hello in a frame; CLIENTS if none does."""
    try:
        hello = msgpack.unpackb(frame[4:]) if frame else None
    except ValueError:
        return CLIENTS
    if isinstance(hello, list) and len(hello) > 2 and hello[0] == HELLO:
        return int(hello[2])
    return CLIENTS


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with a reset and not in order."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
