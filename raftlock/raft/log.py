"""The log in memory: entries after a base, with what is committed and handed out.

It owns the entries since the last compaction. It must not know terms of office, votes or peers.
"""

from collections.abc import Sequence

from raftlock_wire.entry import Entry, SnapshotMeta
from raftlock_wire.ids import Index, Term
from raftlock_wire.invariant import check


class Log:
    """Entries `first_index` to `last_index`, after a base whose term is known."""

    __slots__ = ("base_index", "base_stamp_us", "base_term", "base_wall_us", "entries", "sizes")

    def __init__(self, snapshot: SnapshotMeta | None, entries: Sequence[Entry]) -> None:
        self.base_index = snapshot.index if snapshot is not None else Index(0)
        self.base_term = snapshot.term if snapshot is not None else Term(0)
        self.base_stamp_us = snapshot.stamp_us if snapshot is not None else 0
        self.base_wall_us = snapshot.wall_us if snapshot is not None else 0
        self.entries: list[Entry] = []
        for entry in entries:
            if entry.index > self.base_index:
                check(entry.index == self.last_index + 1, "the recovered log has no gap")
                self.entries.append(entry)

    @property
    def last_index(self) -> Index:
        """Return the index of the last entry."""
        return Index(self.base_index + len(self.entries))

    @property
    def last_term(self) -> Term:
        """Return the term of the last entry."""
        return self.entries[-1].term if self.entries else self.base_term

    @property
    def last_stamp_us(self) -> int:
        """Return the highest stamp in the log (rule L7)."""
        return self.entries[-1].stamp_us if self.entries else self.base_stamp_us

    @property
    def last_wall_us(self) -> int:
        """Return the highest wall time in the log."""
        return self.entries[-1].wall_us if self.entries else self.base_wall_us

    def term_at(self, index: int) -> Term | None:
        """Return the term at `index`; None before the base or after the end."""
        if index == self.base_index:
            return self.base_term
        position = index - self.base_index - 1
        if 0 <= position < len(self.entries):
            return self.entries[position].term
        return None

    def entry(self, index: int) -> Entry:
        """Return the entry at an index that the log holds."""
        check(index > self.base_index, "the entry was not compacted")
        return self.entries[index - self.base_index - 1]

    def slice(self, first: int, count_max: int, size_max: int) -> tuple[Entry, ...]:
        """Return entries from `first` on: at least one if there is any, then up to the bounds."""
        position = first - self.base_index - 1
        found: list[Entry] = []
        size = 0
        for entry in self.entries[position : position + count_max]:
            size += len(entry.data)
            if found and size > size_max:
                break
            found.append(entry)
        return tuple(found)

    def between(self, first: int, last: int) -> list[Entry]:
        """Return entries `first` to `last`, both included."""
        return self.entries[first - self.base_index - 1 : last - self.base_index]

    def truncate(self, from_index: int) -> None:
        """Remove the entry at `from_index` and all after it."""
        del self.entries[from_index - self.base_index - 1 :]

    def first_index_of_term(self, index: int) -> Index:
        """Return the first index of the run of entries that share the term at `index`."""
        term = self.term_at(index)
        while index - 1 > self.base_index and self.term_at(index - 1) == term:
            index -= 1
        return Index(index)

    def last_index_of_term(self, term: Term, before: int) -> Index:
        """Return the last index up to `before` whose entry is of `term` or an earlier one."""
        index = min(before, self.last_index)
        while index > self.base_index:
            at = self.term_at(index)
            if at is not None and at <= term:
                break
            index -= 1
        return Index(index)

    def compact(self, meta: SnapshotMeta, keep_from: int) -> None:
        """Drop entries before `keep_from`, which lies at most one after the snapshot's index."""
        base = min(keep_from - 1, meta.index)
        if base <= self.base_index:
            return
        entry = self.entry(base)
        del self.entries[: base - self.base_index]
        self.base_index, self.base_term = entry.index, entry.term
        self.base_stamp_us, self.base_wall_us = entry.stamp_us, entry.wall_us

    def reset(self, meta: SnapshotMeta) -> None:
        """Hold nothing but the state of a snapshot."""
        self.entries = []
        self.base_index, self.base_term = meta.index, meta.term
        self.base_stamp_us, self.base_wall_us = meta.stamp_us, meta.wall_us
