"""A load generator that speaks the protocol with real sessions, lean enough not to be the limit.

It owns connections that keep a number of operations in flight: acquire a fenced lease, release it, on many resources.
"""

import asyncio
import os
import time
from array import array
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgpack

from raftlock.client.arguments import host_and_port
from raftlock.client.connection import fetch_status
from raftlock.client.errors import Unavailable
from raftlock_wire.limits import PROTOCOL_VERSION
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

_ACQUIRE, _RELEASE, _KEEP_ALIVE = int(Op.ACQUIRE), int(Op.RELEASE), int(Op.KEEP_ALIVE)
_OK = int(Status.OK)
SESSION_TTL_MS = 60_000
LEASE_TTL_MS = 10_000
OPENING_TIMEOUT_S = 30.0


@dataclass(slots=True)
class Tally:
    """What a load did: counts, and latencies in seconds (eight bytes each: a minute's are a hundred megabytes)."""

    operations: int = 0
    latencies: "array[float]" = field(default_factory=lambda: array("d"))
    statuses: dict[str, int] = field(default_factory=dict)
    """Answers other than OK, by their names."""
    token_errors: int = 0
    """Tokens that did not grow on one connection's slot."""

    def percentiles_ms(self, *shares: float) -> list[float]:
        """Return latencies in milliseconds below which these shares of the operations are; 0 if there are none."""
        values = sorted(self.latencies)
        last = len(values) - 1
        return [
            round(values[min(last, int(len(values) * share))] * 1_000, 3) if values else 0.0
            for share in shares
        ]


class LoadConnection(asyncio.Protocol):
    """One connection with its session, and `depth` slots that acquire and release for as long as `running`."""

    def __init__(self, number: int, depth: int, tally: Tally) -> None:
        self._number = number
        self._depth = depth
        self._tally = tally
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._packer = msgpack.Packer(autoreset=False)
        self.opened: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The leader's id, once the session is open."""
        self.nodes: dict[int, str] = {}
        self._session = 0
        self._n = 0
        self._running = False
        self._open_requests = 0
        self.idle = asyncio.Event()
        # A slot's request id is its number; odd rounds acquire, even ones release.
        # Names of this run only: a lease that an earlier run left behind must not be in the way.
        run = os.urandom(3).hex()
        self._names = [f"bench:{run}:{number}:{slot}" for slot in range(depth)]
        self._tokens = [0] * depth
        self._last_tokens = [0] * depth
        self._sent_at = [0.0] * depth

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello and open a session."""
        self._transport = transport  # type: ignore[assignment]
        self._send(
            [(int(Op.HELLO), 1 << 40, PROTOCOL_VERSION, PROTOCOL_VERSION, None, None, "bench")]
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what waits for this connection."""
        if not self.opened.done():
            self.opened.set_exception(
                exc or ConnectionResetError("the server closed the connection")
            )
        self.idle.set()

    def data_received(self, data: bytes) -> None:
        """Take answers, and send what follows them in one frame a read."""
        buffer = self._buffer
        buffer += data
        messages: list[Any] = []
        start, end = 0, len(buffer)
        while end - start >= 4:
            after = start + 4 + int.from_bytes(buffer[start : start + 4], "big")
            if after > end:
                break
            messages += msgpack.unpackb(buffer[start + 4 : after], use_list=False)[1:]
            start = after
        del buffer[:start]
        if messages:
            if self._session and messages[0][0] < 1 << 40:
                self._answers(messages)
            else:
                for message in messages:
                    self._opening(message)

    # the session

    def _opening(self, message: tuple[Any, ...]) -> None:
        if message[0] == 1 << 40:
            self.nodes = dict(message[6])
            self._send([(int(Op.OPEN_SESSION), (1 << 40) + 1, os.urandom(16), SESSION_TTL_MS)])
        elif message[0] == (1 << 40) + 1:
            if message[1] == _OK:
                self._session = message[3]
                self.opened.set_result(self._session)
            else:
                self.opened.set_exception(ConnectionRefusedError(Status(message[1]).name))

    def keep_alive(self) -> None:
        """Keep the session for another ttl."""
        self._send([(_KEEP_ALIVE, (1 << 40) + 2, self._session)])

    # the load

    def start(self) -> None:
        """Begin: every slot acquires."""
        self._running = True
        self._n = 1
        now = time.perf_counter()
        frame = []
        for slot in range(self._depth):
            self._sent_at[slot] = now
            frame.append(
                (
                    _ACQUIRE,
                    slot + 1,
                    self._session,
                    slot,
                    self._n,
                    self._names[slot],
                    "bench",
                    LEASE_TTL_MS,
                    0,
                    None,
                )
            )
        self._open_requests = self._depth
        self._send(frame)

    def stop(self) -> None:
        """Send nothing new; `idle` is set when everything is answered."""
        self._running = False
        if not self._open_requests:
            self.idle.set()

    def _answers(self, messages: list[tuple[Any, ...]]) -> None:
        now = time.perf_counter()
        tally, tokens, sent_at = self._tally, self._tokens, self._sent_at
        names, session = self._names, self._session
        self._n = n = self._n + 1
        frame: list[Any] = []
        send, running = frame.append, self._running
        latency = tally.latencies.append
        for message in messages:
            slot = message[0] - 1
            if message[0] >= 1 << 40:
                continue
            if slot < 0 or message[1] != _OK:
                name = Status(message[1]).name if slot >= 0 else "event"
                tally.statuses[name] = tally.statuses.get(name, 0) + 1
                if slot < 0:
                    continue
                tokens[slot] = 0
            else:
                tally.operations += 1
                latency(now - sent_at[slot])
                if tokens[slot]:
                    tokens[slot] = 0
                else:
                    token = message[4]
                    tally.token_errors += token <= self._last_tokens[slot]
                    tokens[slot] = self._last_tokens[slot] = token
                    if running:
                        sent_at[slot] = now
                        send((_RELEASE, slot + 1, names[slot], token))
                        continue
            if running:
                sent_at[slot] = now
                send(
                    (
                        _ACQUIRE,
                        slot + 1,
                        session,
                        slot,
                        n,
                        names[slot],
                        "bench",
                        LEASE_TTL_MS,
                        0,
                        None,
                    )
                )
        if frame:
            self._send(frame)
        elif not running:
            self._open_requests -= len(messages)
            if self._open_requests <= 0:
                self.idle.set()

    def _send(self, frame: list[Any]) -> None:
        payload = msgpack.packb(frame, use_bin_type=True)
        assert self._transport is not None
        self._transport.write(len(payload).to_bytes(4, "big") + payload)

    def close(self) -> None:
        """Close the session, and the connection."""
        if self._transport is not None and not self._transport.is_closing():
            if self._session:
                self._send([(int(Op.CLOSE_SESSION), (1 << 40) + 3, self._session)])
            self._transport.close()


async def find_leader(endpoints: list[str], *, timeout: float = OPENING_TIMEOUT_S) -> str:  # noqa: ASYNC109 - over many attempts
    """Return the address of the node that leads, as the nodes' own status says."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        for endpoint in endpoints:
            try:
                status = await fetch_status(endpoint)
            except (OSError, TimeoutError, Unavailable):
                continue
            if status.role == "leader" and status.healthy:
                return endpoint
        await asyncio.sleep(0.1)
    raise Unavailable(f"no leader at {', '.join(endpoints)} within {timeout:g} s")


async def run_load(
    endpoint: str, *, connections: int, depth: int, seconds: float, warmup: float
) -> tuple[Tally, float]:
    """Drive `connections` x `depth` operations in flight for `seconds`. Return the tally and the time that it took."""
    loop = asyncio.get_running_loop()
    host, port = host_and_port(endpoint)
    tally = Tally()
    opened: list[LoadConnection] = []
    try:
        for start in range(0, connections, 100):
            batch = []
            for number in range(start, min(start + 100, connections)):
                make = partial(LoadConnection, number, depth, tally)
                _, protocol = await loop.create_connection(make, host, port)
                batch.append(protocol)
            opened += batch
            async with asyncio.timeout(OPENING_TIMEOUT_S):
                await asyncio.gather(*(protocol.opened for protocol in batch))
        for protocol in opened:
            protocol.start()
        await asyncio.sleep(warmup)
        tally.operations, tally.latencies = 0, array("d")
        began = time.perf_counter()
        until = began + seconds
        while (left := until - time.perf_counter()) > 0:
            await asyncio.sleep(min(left, SESSION_TTL_MS / 3_000))
            if left > SESSION_TTL_MS / 3_000:
                for protocol in opened:
                    protocol.keep_alive()
        took = time.perf_counter() - began
        counted = Tally(
            tally.operations, tally.latencies[:], dict(tally.statuses), tally.token_errors
        )
        for protocol in opened:
            protocol.stop()
        async with asyncio.timeout(10):
            await asyncio.gather(*(protocol.idle.wait() for protocol in opened))
    finally:
        for protocol in opened:
            protocol.close()
    return counted, took
