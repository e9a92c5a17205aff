"""A load generator that speaks the protocol with real sessions, lean enough not to be the limit.

It owns connections that keep a number of operations in flight: acquire a fenced lease, release it, on many resources.
"""

import asyncio
import os
import time
from array import array
from dataclasses import dataclass, field
from typing import Any

from raftlock.client.connection import fetch_status
from raftlock.client.errors import Unavailable
from raftlock.client.lean import (
    OPENING_TIMEOUT_S,
    LeanConnection,
    open_all,
    sleep_and_keep_alive,
)
from raftlock_wire.messages import Event, Op
from raftlock_wire.status import Status

_ACQUIRE, _RELEASE = int(Op.ACQUIRE), int(Op.RELEASE)
_OK = int(Status.OK)
LEASE_TTL_MS = 10_000


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


class LoadConnection(LeanConnection):
    """A connection with `depth` slots that acquire and release for as long as it runs."""

    def __init__(self, number: int, depth: int, tally: Tally) -> None:
        super().__init__()
        self._depth = depth
        self._tally = tally
        self._n = 0
        self._running = False
        self._open_requests = 0
        self.idle = asyncio.Event()
        # A slot's request id is its number + 1; it acquires and releases in turn.
        # Names of this run only: a lease that an earlier run left behind must not be in the way.
        run = os.urandom(3).hex()
        self._names = [f"bench:{run}:{number}:{slot}" for slot in range(depth)]
        self._tokens = [0] * depth
        self._ns = [0] * depth
        self._last_tokens = [0] * depth
        self._sent_at = [0.0] * depth

    def lost(self) -> None:
        """Count the loss: what was in flight has no answer."""
        self._tally.statuses["connection lost"] = self._tally.statuses.get("connection lost", 0) + 1
        self._running = False
        self.idle.set()

    # the load

    def start(self) -> None:
        """Begin: every slot acquires."""
        self._running = True
        self._n = 1
        self._sent_at = [time.perf_counter()] * self._depth
        self._open_requests = self._depth
        self.send([self._acquire(slot) for slot in range(self._depth)])

    def stop(self) -> None:
        """Send nothing new; `idle` is set when everything is answered."""
        self._running = False
        if not self._open_requests:
            self.idle.set()

    def answered(self, messages: list[tuple[Any, ...]]) -> None:
        """Send what follows the answers in one frame: a release after a grant, an acquire after a release."""
        now = time.perf_counter()
        tally, tokens, sent_at = self._tally, self._tokens, self._sent_at
        names, session, ns = self._names, self.session, self._ns
        self._n = n = self._n + 1
        frame: list[Any] = []
        send, running = frame.append, self._running
        latency = tally.latencies.append
        for message in messages:
            slot = message[0] - 1
            if slot < 0 or message[1] != _OK:
                if not self._odd(slot, message):
                    continue
            else:
                tally.operations += 1
                latency(now - sent_at[slot])
            if tokens[slot] or message[1] != _OK:
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
                ns[slot] = n
                # In line, as `_acquire` has it: a call more is a tenth of what an operation costs here.
                send(
                    (
                        _ACQUIRE, slot + 1, session, slot, n, names[slot], "bench", LEASE_TTL_MS, 0, None,
                    )
                )  # fmt: skip
            else:
                self._open_requests -= 1
        if frame:
            self.send(frame)
        elif not running and self._open_requests <= 0:
            self.idle.set()

    def _acquire(self, slot: int) -> tuple[Any, ...]:
        self._ns[slot] = self._ns[slot] or self._n
        key = (self.session, slot, self._ns[slot])
        return (_ACQUIRE, slot + 1, *key, self._names[slot], "bench", LEASE_TTL_MS, 0, None)

    def _odd(self, slot: int, message: tuple[Any, ...]) -> bool:
        """Count an event, or an answer other than OK. Return whether the slot's operation is over."""
        if self._tokens[slot] and self.released_before(message):
            return True
        name = (Status(message[1]) if slot >= 0 else Event(message[1])).name
        self._tally.statuses[name] = self._tally.statuses.get(name, 0) + 1
        if slot < 0 or message[2]:
            return slot >= 0
        if self._tokens[slot]:
            self.repeat((_RELEASE, slot + 1, self._names[slot], self._tokens[slot]))
        else:
            self.repeat(self._acquire(slot))
        return False


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
    tally = Tally()
    opened = await open_all(
        endpoint, lambda number: LoadConnection(number, depth, tally), connections
    )
    try:
        for protocol in opened:
            protocol.start()
        await asyncio.sleep(warmup)
        tally.operations, tally.latencies = 0, array("d")
        began = time.perf_counter()
        await sleep_and_keep_alive(opened, seconds)
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
