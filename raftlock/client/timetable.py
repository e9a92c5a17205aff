"""When each of many things is due, so that a client with very many locks looks only at those that are.

It owns times and an order. It must not know what is due, nor what is done then.
"""

from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")

DEAD_MIN = 64
"""Entries that are true no longer are swept out when they outnumber what is kept by so many."""


class Timetable(Generic[T]):
    """The times of things, each of which has one or none. What is due at once comes in the order of first keeping.

    A heap whose entries are left in place when a time moves, and known by what is kept to be true no longer.
    """

    def __init__(self) -> None:
        self._kept: dict[T, tuple[int, int | None]] = {}
        """Number in the order of first keeping, and time."""
        self._heap: list[tuple[int, int, T]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, thing: T, due_us: int | None) -> None:
        """Keep a thing, due at this time or at none."""
        known = self._kept.get(thing)
        if known is None:
            self._number += 1
            number = self._number
        elif known[1] == due_us:
            return
        else:
            number = known[0]
        self._kept[thing] = (number, due_us)
        if due_us is not None:
            if len(self._heap) >= 2 * len(self._kept) + DEAD_MIN:
                self._sweep()
            else:
                heappush(self._heap, (due_us, number, thing))

    def _sweep(self) -> None:
        """Build the heap anew from what is kept."""
        self._heap = [
            (due_us, number, thing)
            for thing, (number, due_us) in self._kept.items()
            if due_us is not None
        ]
        heapify(self._heap)

    def drop(self, thing: T) -> None:
        """Keep a thing no longer, if it is kept."""
        self._kept.pop(thing, None)

    def next_us(self) -> int | None:
        """Return the earliest time, or None."""
        while self._heap:
            due_us, number, thing = self._heap[0]
            if self._kept.get(thing) == (number, due_us):
                return due_us
            heappop(self._heap)
        return None

    def take_due(self, now_us: int) -> list[T]:
        """Return what is due, in the order of first keeping. It stays kept, with no time until it is given one."""
        due: list[tuple[int, T]] = []
        while (due_us := self.next_us()) is not None and due_us <= now_us:
            _, number, thing = heappop(self._heap)
            self._kept[thing] = (number, None)
            due.append((number, thing))
        due.sort(key=lambda pair: pair[0])
        return [thing for _, thing in due]

    @property
    def heap_size(self) -> int:
        """Return how many entries there are, true or not."""
        return len(self._heap)
