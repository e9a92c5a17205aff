"""Deadlines by key: a heap of 10 ms buckets.

It owns which keys are armed and when each is due. It does not know what a key is.

A bucket costs one dict entry to arm and one to disarm, where a heap of single deadlines pays log n. A key that is
extended stays in its old bucket and moves when that comes due, so a renewal is one dict write. What is disarmed after
it was extended leaves a dead entry, also when it is armed again; `tidy` keeps them below the living.
"""

import heapq
from collections.abc import Iterator
from typing import Generic, TypeVar

BUCKET_US = 10_000
DEAD_ALLOWED = 10_000
TIDY_SLICE = 2_000
"""Entries that one call of `tidy` looks at, but for the rest of the last bucket."""

Item = TypeVar("Item")


class Timers(Generic[Item]):
    """Which keys are due, in order of their deadlines to the bucket.

    An item belongs to its key: a key that was extended, disarmed and armed again may come back with its first item.
    """

    def __init__(self) -> None:
        self.deadlines: dict[int, int] = {}
        """Key to deadline, in microseconds: the truth. Buckets only say where to look."""
        self._buckets: dict[int, dict[int, Item]] = {}
        self._order: list[int] = []
        self._entries = 0
        """Entries in all buckets: one for each armed key, and the dead."""
        self._to_tidy: list[int] | None = None
        """Buckets that the pass under way has not looked at."""

    def __len__(self) -> int:
        return len(self.deadlines)

    @property
    def dead(self) -> int:
        """Return how many entries stand for no deadline."""
        return self._entries - len(self.deadlines)

    def arm(self, key: int, item: Item, deadline_us: int) -> None:
        """Make `key` due at `deadline_us`; if it is armed already, at a later deadline than it has."""
        known = key in self.deadlines
        self.deadlines[key] = deadline_us
        if not known:
            self._place(key, item, deadline_us)

    def extend(self, key: int, deadline_us: int) -> None:
        """Move the deadline of an armed key, but never back (rule L3: nothing moves a receipt back)."""
        if deadline_us > self.deadlines[key]:
            self.deadlines[key] = deadline_us

    def shorten(self, key: int, item: Item, deadline_us: int) -> None:
        """Give an armed key a deadline that may be earlier than the one it has."""
        self.disarm(key)
        self.arm(key, item, deadline_us)

    def disarm(self, key: int) -> None:
        """Forget `key`; nothing happens if it is not armed."""
        deadline_us = self.deadlines.pop(key, None)
        if deadline_us is None:
            return
        bucket = self._buckets.get(deadline_us // BUCKET_US)
        if bucket is not None and bucket.pop(key, None) is not None:
            self._entries -= 1

    def due(self, now_us: int, count_max: int) -> list[tuple[int, Item]]:
        """Return up to `count_max` keys whose deadline has passed, and disarm them. Never one early."""
        found: list[tuple[int, Item]] = []
        while self._order and len(found) < count_max:
            tick = self._order[0]
            # A bucket is looked at when its last deadline has passed: late by up to 10 ms, never early.
            if (tick + 1) * BUCKET_US > now_us:
                break
            bucket = self._buckets[tick]
            while bucket and len(found) < count_max:
                key, item = bucket.popitem()
                self._entries -= 1
                deadline_us = self.deadlines.get(key)
                if deadline_us is None:
                    continue
                if deadline_us > now_us:
                    self._place(key, item, deadline_us)
                else:
                    del self.deadlines[key]
                    found.append((key, item))
            if not bucket:
                heapq.heappop(self._order)
                del self._buckets[tick]
        return found

    def next_us(self) -> int | None:
        """Return the time when `due` has something to look at, or None."""
        return (self._order[0] + 1) * BUCKET_US if self._order else None

    def tidy(self) -> None:
        """Drop dead entries when they outnumber the living: a slice of the buckets a call, so that no turn stalls."""
        if self._to_tidy is None:
            if self.dead <= len(self.deadlines) + DEAD_ALLOWED:
                return
            self._to_tidy = list(self._buckets)
        looked_at = 0
        while self._to_tidy and looked_at < TIDY_SLICE:
            tick = self._to_tidy.pop()
            bucket = self._buckets.get(tick)
            if bucket is not None:
                looked_at += len(bucket)
                self._tidy_bucket(tick, bucket)
        if not self._to_tidy:
            self._to_tidy = None

    def _tidy_bucket(self, tick: int, bucket: dict[int, Item]) -> None:
        """Leave in a bucket what is due in it: a key that was armed anew may lie in several."""
        for key, item in list(bucket.items()):
            deadline_us = self.deadlines.get(key)
            if deadline_us is None or deadline_us // BUCKET_US != tick:
                del bucket[key]
                self._entries -= 1
                if deadline_us is not None:
                    self._place(key, item, deadline_us)

    def clear(self) -> None:
        """Forget everything."""
        self.deadlines.clear()
        self._buckets.clear()
        self._order.clear()
        self._entries = 0
        self._to_tidy = None

    def keys(self) -> Iterator[int]:
        """Iterate over the armed keys."""
        return iter(self.deadlines)

    def _place(self, key: int, item: Item, deadline_us: int) -> None:
        tick = deadline_us // BUCKET_US
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = {}
            heapq.heappush(self._order, tick)
        if key not in bucket:
            bucket[key] = item
            self._entries += 1
