"""The slots of one session, each of which carries one acquire at a time (R1).

It owns which acquire is in which slot, and the count of each slot. It must not know how an acquire goes its way.
"""

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from raftlock_wire.limits import SLOTS_MAX

if TYPE_CHECKING:
    from raftlock.client.acquiring import Acquire


class Slots:
    """The lowest free slot goes first, so that a session uses as few as it needs at once."""

    def __init__(self) -> None:
        self._open: dict[int, Acquire] = {}
        self._last_n: list[int] = []
        """Of each slot that was ever used; the next one to use for the first time is the one after them."""
        self._free: list[int] = []
        """A heap of those that were used and are free again."""

    def take(self, acquire: "Acquire") -> tuple[int, int] | None:
        """Put an acquire into a slot. Return the slot and its next n, or None if all are taken."""
        if self._free:
            slot = heappop(self._free)
        elif len(self._last_n) < SLOTS_MAX:
            slot = len(self._last_n)
            self._last_n.append(0)
        else:
            return None
        self._last_n[slot] += 1
        self._open[slot] = acquire
        return slot, self._last_n[slot]

    def give_back(self, slot: int, acquire: "Acquire") -> None:
        """Free a slot, if this acquire is in it."""
        if self._open.get(slot) is acquire:
            del self._open[slot]
            heappush(self._free, slot)

    def get(self, slot: int) -> "Acquire | None":
        """Return the acquire in a slot."""
        return self._open.get(slot)

    @property
    def acquires(self) -> "list[Acquire]":
        """Return all acquires that are in a slot, in the order in which they began."""
        return list(self._open.values())
