"""Simulated time: one queue of events, one random source, nothing real.

It owns the order of everything that happens in a run. A seed decides all of it.
"""

import hashlib
import heapq
import random
from collections.abc import Callable


class World:
    """The clock and the event queue of one simulated run. Times are microseconds since its start."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now_us = 0
        self.events = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._sequence = 0
        self._trace = hashlib.blake2b(digest_size=16)
        self.recent: list[str] = []

    def at(self, time_us: int, action: Callable[[], None]) -> None:
        """Let `action` happen at `time_us`, or now if that has passed."""
        self._sequence += 1
        heapq.heappush(self._queue, (max(time_us, self.now_us), self._sequence, action))

    def after(self, delay_us: int, action: Callable[[], None]) -> None:
        """Let `action` happen `delay_us` from now."""
        self.at(self.now_us + delay_us, action)

    def run(self, until_us: int) -> None:
        """Let everything happen that is due until then."""
        while self._queue and self._queue[0][0] <= until_us:
            self.now_us, _, action = heapq.heappop(self._queue)
            self.events += 1
            action()
        self.now_us = until_us

    def note(self, text: str) -> None:
        """Add a line to the trace: what two runs of one seed must share, and what a failure shows last."""
        line = f"{self.now_us / 1e6:.6f} {text}"
        self._trace.update(line.encode())
        self.recent.append(line)
        if len(self.recent) > 2_000:
            del self.recent[:1_000]

    def trace_hash(self) -> str:
        """Return the hash of all that was noted."""
        return self._trace.hexdigest()

    def chance(self, probability: float) -> bool:
        """Return true with this probability."""
        return self.rng.random() < probability

    def delay_us(self, low_us: int, high_us: int, tail: float = 0.01) -> int:
        """Draw a delay: uniform, and with probability `tail` ten to a hundred times longer."""
        delay = self.rng.randint(low_us, high_us)
        return delay * self.rng.randint(10, 100) if self.chance(tail) else delay
