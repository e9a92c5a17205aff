"""A closed loop of any requests: slots that do one after the other. Lean enough for a mix; `raftlock.client.load` is leaner.

It owns slots, latencies by kind, and counts by kind and status. What is sent next is its subclass's.
"""

import asyncio
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bench.arithmetic import latency_summary
from raftlock.client.lean import LeanConnection, open_all, sleep_and_keep_alive
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

WARM_UP_S = 0.5
IDLE_TIMEOUT_S = 10.0


@dataclass(slots=True)
class KindTally:
    """What a closed loop did, by kind of operation."""

    latencies: "defaultdict[str, array[float]]" = field(
        default_factory=lambda: defaultdict(lambda: array("d"))
    )
    statuses: Counter[str] = field(default_factory=Counter)
    """`kind STATUS` to how often."""

    def clear(self) -> None:
        """Begin to count anew: the load is warm."""
        self.latencies.clear()
        self.statuses.clear()

    def summary(self, seconds: float) -> dict[str, Any]:
        """Return rates and latencies, in all and by kind, and the counts of statuses."""
        operations = sum(len(values) for values in self.latencies.values())
        return {
            "operations_per_second": round(operations / seconds),
            "by_kind": {
                kind: {"per_second": round(len(values) / seconds), **latency_summary(values)}
                for kind, values in sorted(self.latencies.items())
            },
            "statuses": dict(sorted(self.statuses.items())),
        }


class ClosedConnection(LeanConnection):
    """A connection whose slots each have one request in flight. `next_request` and `took` are the subclass's."""

    GOOD = frozenset({Status.OK})
    """Answers that count as an operation done."""

    def __init__(self, depth: int, tally: KindTally) -> None:
        super().__init__()
        self.depth = depth
        self.tally = tally
        self._sent: list[tuple[Any, ...]] = [()] * depth
        self._sent_at = [0.0] * depth
        self._running = False
        self._busy = 0
        self.idle = asyncio.Event()

    def next_request(self, slot: int) -> tuple[Any, ...]:
        """Return the slot's next request; its id is `slot + 1`."""
        raise NotImplementedError

    def took(self, slot: int, request: tuple[Any, ...], message: tuple[Any, ...]) -> None:
        """Learn the final answer to a slot's request."""

    def start(self) -> None:
        """Begin: every slot sends."""
        self._running = True
        self._busy = self.depth
        self._send_next(range(self.depth))

    def stop(self) -> None:
        """Send nothing new; `idle` is set when everything is answered."""
        self._running = False
        if not self._busy:
            self.idle.set()

    def lost(self) -> None:
        """Count the loss."""
        self.tally.statuses["connection lost"] += 1
        self._running = False
        self.idle.set()

    def _send_next(self, slots: Sequence[int]) -> None:
        now = time.perf_counter()
        frame = []
        for slot in slots:
            request = self.next_request(slot)
            self._sent[slot] = request
            self._sent_at[slot] = now
            frame.append(request)
        self.send(frame)

    def answered(self, messages: list[tuple[Any, ...]]) -> None:
        """Note what was answered, and send what comes next."""
        now = time.perf_counter()
        free: list[int] = []
        for message in messages:
            slot = message[0] - 1
            if slot < 0:
                continue
            request = self._sent[slot]
            kind = Op(request[0]).name.lower()
            status = Status(message[1])
            if not message[2]:
                self.tally.statuses[f"{kind} {status.name}"] += 1
                self.repeat(request)
                continue
            if status in self.GOOD or (request[0] == Op.RELEASE and self.released_before(message)):
                self.tally.latencies[kind].append(now - self._sent_at[slot])
            else:
                self.tally.statuses[f"{kind} {status.name}"] += 1
            self.took(slot, request, message)
            free.append(slot)
        if self._running and free:
            self._send_next(free)
        elif not self._running:
            self._busy -= len(free)
            if self._busy <= 0:
                self.idle.set()


_Closed = TypeVar("_Closed", bound=ClosedConnection)


async def run_closed(
    endpoints: Sequence[str],
    make: Callable[[int], _Closed],
    *,
    connections: int,
    seconds: float,
    tally: KindTally,
) -> tuple[dict[str, Any], list[_Closed]]:
    """Drive connections spread over `endpoints`. Return the summary, and the connections, which are closed by then."""
    opened: list[_Closed] = []
    try:
        for position, endpoint in enumerate(endpoints):
            part = len(range(position, connections, len(endpoints)))
            opened += await open_all(endpoint, make, part)
        for connection in opened:
            connection.start()
        await asyncio.sleep(WARM_UP_S)
        tally.clear()
        began = time.perf_counter()
        await sleep_and_keep_alive(opened, seconds)
        summary = tally.summary(time.perf_counter() - began)
        for connection in opened:
            connection.stop()
        async with asyncio.timeout(IDLE_TIMEOUT_S):
            await asyncio.gather(*(connection.idle.wait() for connection in opened))
    finally:
        for connection in opened:
            connection.close()
    return summary, opened
