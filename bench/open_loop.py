"""An open loop: acquires and releases at a fixed rate, each at its own time, however slow the answers are.

It owns the pacing and the latencies. Latency counts from the intended time of sending (`bench.arithmetic.Schedule`).
"""

import asyncio
import os
import time
from array import array
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from bench.arithmetic import Schedule
from raftlock.client.lean import LeanConnection, open_all
from raftlock.client.load import LEASE_TTL_MS
from raftlock_wire.limits import SLOTS_MAX
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

PACE_S = 0.0005
"""How often the pacer looks: a request is sent late by up to that, and the lateness is in its latency."""
BACKLOG_MAX = 200_000
"""Operations whose time has come and that have no slot: with more the run ends, the rate is beyond the system."""
DRAIN_S = 10.0
_ACQUIRE, _RELEASE = int(Op.ACQUIRE), int(Op.RELEASE)
_OK = int(Status.OK)


@dataclass(slots=True)
class OpenTally:
    """What an open loop did. `intended` and `latencies` go together, in seconds."""

    intended: "array[float]" = field(default_factory=lambda: array("d"))
    latencies: "array[float]" = field(default_factory=lambda: array("d"))
    sent: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    late_max: float = 0.0
    """The longest time from an operation's time to its sending: a backlog, or the load generator's own fault."""
    overflowed: bool = False

    def refused(self, name: str) -> None:
        """Count an answer other than OK."""
        self.statuses[name] = self.statuses.get(name, 0) + 1


class OpenConnection(LeanConnection):
    """A connection whose slots do their next operation when the pacer says so."""

    def __init__(self, number: int, slots: int, tally: OpenTally) -> None:
        super().__init__()
        self._tally = tally
        run = os.urandom(3).hex()
        self._names = [f"open:{run}:{number}:{slot}" for slot in range(slots)]
        self._tokens = [0] * slots
        self._intended = [0.0] * slots
        self._ns = [0] * slots
        self._n = 0
        self._in_flight = 0
        self.free = deque(range(slots))
        """Slots without a request in flight."""
        self.is_lost = False

    def lost(self) -> None:
        """Count the loss once; its slots are never free again."""
        self._tally.refused("connection lost")
        self.free.clear()
        self.is_lost = True

    @property
    def idle(self) -> bool:
        """Return whether nothing is in flight."""
        return self.is_lost or not self._in_flight

    def send_due(self, times: list[float]) -> None:
        """Send the next operation of as many free slots as there are times."""
        self._n += 1
        frame: list[tuple[Any, ...]] = []
        for intended in times:
            slot = self.free.popleft()
            self._intended[slot] = intended
            self._ns[slot] = self._n
            frame.append(self._request(slot))
        self._in_flight += len(frame)
        self.send(frame)

    def _request(self, slot: int) -> tuple[Any, ...]:
        name, token = self._names[slot], self._tokens[slot]
        if token:
            return (_RELEASE, slot + 1, name, token)
        key = (self.session, slot, self._ns[slot])
        return (_ACQUIRE, slot + 1, *key, name, "bench", LEASE_TTL_MS, 0, None)

    def answered(self, messages: list[tuple[Any, ...]]) -> None:
        """Note the latencies and free the slots."""
        now = time.perf_counter()
        tally = self._tally
        for message in messages:
            slot = message[0] - 1
            if slot < 0:
                continue
            if not message[2]:
                # Its operation goes on, and its latency grows.
                tally.refused(Status(message[1]).name)
                self.repeat(self._request(slot))
                continue
            self._in_flight -= 1
            self.free.append(slot)
            if message[1] == _OK or (self._tokens[slot] and self.released_before(message)):
                tally.intended.append(self._intended[slot])
                tally.latencies.append(now - self._intended[slot])
                self._tokens[slot] = 0 if self._tokens[slot] else message[4]
            else:
                tally.refused(Status(message[1]).name)
                self._tokens[slot] = 0


class Paced(Protocol):
    """A connection as the pacer sees it."""

    free: deque[int]

    @property
    def idle(self) -> bool:
        """Return whether nothing is in flight."""

    def send_due(self, times: list[float]) -> None:
        """Send the next operation of as many free slots as there are times."""

    def keep_alive(self) -> None:
        """Do what the connection needs now and then."""


class OpenLoop:
    """Connections, and a pacer that spreads a schedule over them."""

    def __init__(self, connections: list[Paced], tally: OpenTally, rate: float) -> None:
        self._connections = connections
        self._tally = tally
        self._rate = rate
        self._backlog: deque[float] = deque()

    async def run(self, seconds: float) -> None:
        """Keep the schedule for `seconds`, then wait for the last answers, but not for ever."""
        schedule = Schedule(self._rate, time.perf_counter())
        until = schedule.began + seconds
        keep_alive_at = schedule.began + 15.0
        while (now := time.perf_counter()) < until and not self._tally.overflowed:
            self._backlog += [schedule.time_of(i) for i in schedule.due(now)]
            self._send(now)
            if now >= keep_alive_at:
                keep_alive_at += 15.0
                for connection in self._connections:
                    connection.keep_alive()
            await asyncio.sleep(PACE_S)
        if not self._tally.overflowed:
            # However late the last look was: what came due before the end belongs to the run.
            self._backlog += [schedule.time_of(i) for i in schedule.due(until)]
        until = time.perf_counter() + DRAIN_S
        while (now := time.perf_counter()) < until and not self._tally.overflowed:
            self._send(now)
            if not self._backlog and all(connection.idle for connection in self._connections):
                break
            await asyncio.sleep(0.01)
        # What never had an answer took at least until now: left out, the worst latencies would be.
        for intended in self._backlog:
            self._tally.refused("not sent")
            self._tally.late_max = max(self._tally.late_max, time.perf_counter() - intended)

    def _send(self, now: float) -> None:
        backlog, tally = self._backlog, self._tally
        if not backlog:
            return
        tally.late_max = max(tally.late_max, now - backlog[0])
        # Each connection gets a share of what is due: one frame a connection, not one a request.
        share = -(-len(backlog) // len(self._connections))
        for connection in self._connections:
            number = min(share, len(backlog), len(connection.free))
            if number:
                connection.send_due([backlog.popleft() for _ in range(number)])
                tally.sent += number
        # The next turn begins with another connection: with few requests a turn all have their share.
        self._connections.append(self._connections.pop(0))
        tally.overflowed = len(backlog) > BACKLOG_MAX


async def open_loop(
    endpoint: str, *, rate: float, connections: int, seconds: float, tally: OpenTally
) -> None:
    """Run an open loop against a node."""
    # What is in flight at the deepest: a second's worth of the rate, within what a session has slots for.
    slots = min(SLOTS_MAX, max(16, round(rate / connections)))
    opened = await open_all(endpoint, lambda n: OpenConnection(n, slots, tally), connections)
    try:
        await OpenLoop(list(opened), tally, rate).run(seconds)
    finally:
        for connection in opened:
            connection.close()
