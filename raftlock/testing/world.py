"""Simulated time: one queue of events, one source of randomness, nothing real.

It owns the order of everything that happens in a run. A seed decides all of it.
"""

import hashlib
import heapq
import random
from collections.abc import Callable

from raftlock.testing.situations import Situations

RECENT_MAX = 2_000


class World:
    """The clock and the event queue of one simulated run. Times are microseconds since its start."""

    def __init__(self, seed: int, *, keep_all: bool = False) -> None:
        """`keep_all`: keep every line of the trace, not the last ones only."""
        self.seed = seed
        self.rng = self.stream("world")
        self.now_us = 0
        self.events = 0
        self.situations = Situations()
        self.saw = self.situations.saw
        self._queue: list[tuple[int, int, Callable[[], object]]] = []
        self._sequence = 0
        self._trace = hashlib.blake2b(digest_size=16)
        self._keep_all = keep_all
        self.recent: list[str] = []

    def stream(self, name: str) -> random.Random:
        """Return a random source of its own for one part of the world.

        What one part draws does not move what another one draws: a run with a fault left out stays close to the run
        with it, which is what shrinking needs. Seeded with text, it does not depend on PYTHONHASHSEED.
        """
        return random.Random(f"{self.seed}/{name}")

    def at(self, time_us: int, action: Callable[[], object]) -> None:
        """Let `action` happen at `time_us`, or now if that has passed."""
        self._sequence += 1
        heapq.heappush(self._queue, (max(time_us, self.now_us), self._sequence, action))

    def after(self, delay_us: int, action: Callable[[], object]) -> None:
        """Let `action` happen `delay_us` from now."""
        self.at(self.now_us + delay_us, action)

    def run(self, until_us: int) -> None:
        """Let everything happen that is due until then."""
        queue = self._queue
        while queue and queue[0][0] <= until_us:
            self.now_us, _, action = heapq.heappop(queue)
            self.events += 1
            action()
        self.now_us = until_us

    def run_until(self, reached: Callable[[], bool], *, limit_us: int, step_us: int) -> bool:
        """Run until `reached`, looked at every `step_us`, for at most `limit_us`. Return whether it was."""
        end_us = self.now_us + limit_us
        while not reached():
            if self.now_us >= end_us:
                return False
            self.run(min(end_us, self.now_us + step_us))
        return True

    def note(self, text: str) -> None:
        """Add a line to the trace: what two runs of one seed must share, and what a failure shows last."""
        line = f"{self.now_us / 1e6:.6f} {text}"
        self._trace.update(line.encode())
        self.recent.append(line)
        if len(self.recent) > RECENT_MAX and not self._keep_all:
            del self.recent[: RECENT_MAX // 2]

    def trace_hash(self) -> str:
        """Return the hash of all that was noted."""
        return self._trace.hexdigest()
