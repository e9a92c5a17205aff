"""The lock table as it was: a snapshot, or nothing, and the audit's entries applied to it again up to a moment.

Apply is a function of state and entry (decision 6), so this is the very state that every node had then: its digest is
theirs. It reads a data directory and never writes there. It must not know the command line.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from raftlock.audit import AUDIT_DIRECTORY
from raftlock.audit.format import Record, decode_groups
from raftlock.audit.question import Question
from raftlock.audit.reader import Directory
from raftlock.audit.union import INDEX_MAX, Disk
from raftlock.locks import Grant, LockTable, UnknownCommand
from raftlock.server.jobs import AUDIT_CHUNK
from raftlock.storage.disk import Disk as DiskPort
from raftlock.storage.snapshots import PREFIX, SUFFIX, SnapshotFiles, SnapshotWriter, read_meta
from raftlock_wire.codec import pack
from raftlock_wire.entry import EntryKind, SnapshotMeta
from raftlock_wire.ids import Index, Term

_NOTHING = SnapshotMeta(Index(0), Term(0), 0, 0, b"", 0, b"")


class CannotRestore(Exception):
    """The records do not lead to that moment: the words say from where to where they do."""


@dataclass(frozen=True, slots=True)
class Moment:
    """An index, or a time: the state behind the last entry that is not later."""

    index: int | None = None
    wall_us: int | None = None

    def is_before(self, record: Record) -> bool:
        """Return whether an entry is later than this moment."""
        if self.index is not None:
            return record.entry.index > self.index
        return self.wall_us is not None and record.entry.wall_us > self.wall_us

    def __str__(self) -> str:
        return f"index {self.index}" if self.index is not None else f"time {self.wall_us} µs"


@dataclass(frozen=True, slots=True)
class Base:
    """What to begin with."""

    index: int
    load: Callable[[], tuple[LockTable, SnapshotMeta]]


class ReadOnlyDisk:
    """As much of the disk port as reading a snapshot takes; what would write is not there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def list(self) -> list[str]:
        """See storage's Disk."""
        return sorted(entry.name for entry in self._path.iterdir())

    def size(self, name: str) -> int:
        """See storage's Disk."""
        return (self._path / name).stat().st_size

    def pread(self, name: str, offset: int, size: int) -> bytes:
        """See storage's Disk."""
        with (self._path / name).open("rb") as file:
            file.seek(offset)
            return file.read(size)


class Past:
    """A table on its way through time."""

    def __init__(self, data: Path, *, look: Callable[[int], None] = lambda _: None) -> None:
        """Take a node's data directory. `look` is told each index."""
        self._data = data
        self._look = look
        self.table = LockTable()
        self.term = 0
        self.membership = b""
        self._records: Iterator[Record] = iter(())
        self._next: Record | None = None

    def begin(self, moment: Moment) -> None:
        """Begin at the last state of which the directory has all, at or before a moment. Raise CannotRestore."""
        for base in reversed([Base(0, lambda: (LockTable(), _NOTHING)), *snapshots(self._data)]):
            if moment.index is not None and base.index > moment.index:
                continue
            self._records = self._from(base.index)
            self._next = next(self._records, None)
            # A snapshot at the very end needs no record; an empty table needs the first.
            leads_on = self._next is not None and self._next.entry.index == base.index + 1
            if not leads_on and (self._next is not None or not base.index):
                continue
            table, meta = base.load()
            if moment.wall_us is None or table.wall_us <= moment.wall_us:
                self.table, self.term, self.membership = table, meta.term, meta.membership
                return
        raise CannotRestore(self._why_not(moment))

    def go_to(self, moment: Moment) -> None:
        """Apply what comes up to a moment. Raise CannotRestore if an entry on the way is missing, or it is not yet."""
        while self._next is not None and not moment.is_before(self._next):
            self._apply(self._next)
            self._next = next(self._records, None)
        if moment.index is not None and self.table.applied_index < moment.index:
            last = self.table.applied_index
            raise CannotRestore(f"the records end at index {last}, before {moment}")

    def _apply(self, record: Record) -> None:
        entry = record.entry
        if entry.index != self.table.applied_index + 1:
            first, last = self.table.applied_index + 1, entry.index - 1
            raise CannotRestore(f"the records {first} to {last} are not on this node")
        groups: tuple[Any, ...] = ()
        if entry.kind is EntryKind.BATCH:
            groups = tuple(decode_groups(entry.data))
        elif entry.kind is EntryKind.MEMBERSHIP:
            self.membership = entry.data
        self.table.apply(entry.index, entry.stamp_us, entry.wall_us, groups)
        self.term = entry.term
        self._look(entry.index)

    def _from(self, index: int) -> Iterator[Record]:
        disk = Disk(Directory(self._data / AUDIT_DIRECTORY))
        for span in disk.spans(Question(), after=index, before=INDEX_MAX):
            if span.record is not None:
                yield span.record

    def _why_not(self, moment: Moment) -> str:
        first = next((r.entry.index for r in self._from(0)), None)
        begins = f"its records begin at index {first}" if first else "it has no records"
        found = ", ".join(str(base.index) for base in snapshots(self._data)) or "none"
        return f"{moment} cannot be had from {self._data}: {begins}, and snapshots are at: {found}"

    def save(self, disk: DiskPort) -> SnapshotMeta:
        """Write the state as a snapshot, in the form of a node's."""
        table = self.table
        meta = SnapshotMeta(
            Index(table.applied_index), Term(self.term), table.stamp_us, table.wall_us, self.membership, 0, b"",
        )  # fmt: skip
        writer = SnapshotWriter(disk, meta)
        stream = table.begin_snapshot()
        while (chunk := stream.next_chunk()) is not None:
            writer.append(chunk)
        return writer.finish()


def snapshots(data: Path) -> list[Base]:
    """Return the snapshots in a directory, the oldest first."""
    disk = ReadOnlyDisk(data)
    found = []
    for name in disk.list():
        if name.startswith(PREFIX) and name.endswith(SUFFIX):
            index = name.removeprefix(PREFIX).partition("-")[0]
            found.append(Base(int(index), _reader(disk, name)))
    return found


def _reader(disk: ReadOnlyDisk, name: str) -> Callable[[], tuple[LockTable, SnapshotMeta]]:
    def load() -> tuple[LockTable, SnapshotMeta]:
        port: Any = disk  # reading takes no more of the port
        meta = read_meta(port, name)
        loader = LockTable.loader()
        head = pack(AUDIT_CHUNK)
        for chunk in SnapshotFiles(port).chunks(meta):
            if not chunk[1:].startswith(head):
                loader.feed(chunk)
        return loader.finish(), meta

    return load


def locks_of(table: LockTable, prefix: str = "") -> Iterator[tuple[Grant, int]]:
    """Return the locks that somebody holds or is offered, by name, each with its number of waiters."""
    names = sorted(
        name
        for bucket in range(table.bucket_count)
        for name in (grant.resource for grant in table.iter_grants(bucket))
        if name.startswith(prefix)
    )
    for name in names:
        grant = table.lookup(name)
        if grant is not None:
            yield grant, len(table.queues.get(name, ()))


class Change(NamedTuple):
    """What is another between two moments. None: nobody."""

    resource: str
    before: Grant | None
    after: Grant | None
    waiters_before: int
    waiters_after: int


def changes(
    before: dict[str, tuple[Grant, int]], after: dict[str, tuple[Grant, int]]
) -> Iterator[Change]:
    """Return the locks whose holder, state, lease or number of waiters changed, by name."""
    for name in sorted(before.keys() | after.keys()):
        old, waiters_old = before.get(name, (None, 0))
        new, waiters_new = after.get(name, (None, 0))
        if _seen(old) != _seen(new) or waiters_old != waiters_new:
            yield Change(name, old, new, waiters_old, waiters_new)


def _seen(grant: Grant | None) -> tuple[Any, ...] | None:
    return None if grant is None else (grant.token, grant.state, grant.ttl_ms)


__all__ = [
    "CannotRestore",
    "Change",
    "Grant",
    "Moment",
    "Past",
    "UnknownCommand",
    "changes",
    "locks_of",
    "snapshots",
]
