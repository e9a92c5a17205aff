"""Stores and logs for the tests of storage: small segments, entries that are told apart, and disks that keep a diary."""

import random
from typing import Any

from raftlock.storage.wal import Wal
from raftlock.testing.disk import SimDisk
from raftlock.testing.memory_disk import MemoryDisk
from raftlock.testing.storage_run import Run
from raftlock_wire.entry import Entry, EntryKind
from raftlock_wire.ids import Index, Term

SEGMENT_SIZE = 4096


def entry(index: int, term: int = 1, data: bytes = b"x") -> Entry:
    """Return an entry."""
    return Entry(Index(index), Term(term), EntryKind.BATCH, index * 10, index * 100, data)


def entries(first: int, count: int, *, term: int = 1, size: int = 10) -> list[Entry]:
    """Return consecutive entries."""
    return [entry(i, term, b"%d" % i * size) for i in range(first, first + count)]


def wal_on(disk: Any, *, segment_size: int = SEGMENT_SIZE) -> tuple[Wal, list[Entry]]:
    """Recover the log of a disk. Return it and its entries."""
    wal = Wal(disk, segment_size=segment_size)
    return wal, wal.recover()


def sim_disk(seed: int = 0) -> SimDisk:
    """Return an empty simulated disk."""
    return SimDisk(rng=random.Random(seed))


def run_on(disk: Any) -> Run:
    """Return a bootstrapped node of term 1 at work on a disk."""
    run = Run(disk)
    run.format()
    run.set_cluster()
    run.vote(1, 1)
    return run


class Diary(MemoryDisk):
    """A disk that notes the calls that change it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name not in CHANGES:
            return value

        def noted(*arguments: Any) -> Any:
            names = [a for a in arguments if isinstance(a, str)]
            self.calls.append(" ".join([name, *names]))
            return value(*arguments)

        return noted


CHANGES = {"create", "append_zeros", "pwrite", "fdatasync", "fsync_dir", "rename", "unlink"}


FIRST, SECOND, THIRD = (f"wal-{n:016d}.log" for n in (1, 2, 3))
"""The log's first segments."""
