"""When this node saves a snapshot, and its parts on the way to the disk (decision 14).

It owns the stream of the one snapshot being saved. It must not know files.
"""

from raftlock.locks import LockTable
from raftlock.locks.snapshot import SnapshotStream
from raftlock.server.auditing import Auditing
from raftlock.server.jobs import SaveSnapshotJob
from raftlock_wire.entry import Entry, EntryKind, SnapshotMeta
from raftlock_wire.ids import Index, Term
from raftlock_wire.membership import Membership

ENTRY_OVERHEAD_SIZE = 64
PART_SIZE = 256 << 10
"""Bytes of one part: what a turn may spend on the snapshot."""


class Snapshots:
    """Saves the table when the log since the last snapshot has grown enough."""

    def __init__(self, *, log_size_max: int, membership: Membership, auditing: Auditing) -> None:
        self._auditing = auditing
        self._log_size_max = log_size_max
        self._log_size = 0
        self._last_size = 0
        self._saved_size = 0
        self._membership = membership.encode()
        self._last = (Term(0), 0, 0)
        self._stream: SnapshotStream | None = None
        self._first: SnapshotMeta | None = None
        self._part_under_way = False
        self._streamed = False

    @property
    def wants_turn(self) -> bool:
        """Return whether the next part can be made at once."""
        waits = self._part_under_way or (self._streamed and self._auditing.awaits_checkpoint)
        return self._stream is not None and not waits

    def applied(self, entry: Entry) -> None:
        """Count an applied entry, and remember what names a snapshot made after it."""
        self._log_size += len(entry.data) + ENTRY_OVERHEAD_SIZE
        self._last = (entry.term, entry.stamp_us, entry.wall_us)
        if entry.kind is EntryKind.MEMBERSHIP:
            self._membership = entry.data

    def installed(self, meta: SnapshotMeta) -> None:
        """Begin anew after a snapshot that the leader sent."""
        self._log_size = 0
        self._last = (meta.term, meta.stamp_us, meta.wall_us)
        self._membership = meta.membership
        self._stream = None
        self._first = None
        self._streamed = False

    def part_saved(self) -> None:
        """Learn that the part under way is on its way to the disk no longer."""
        self._part_under_way = False

    def next_part(self, table: LockTable, applied_index: Index) -> SaveSnapshotJob | None:
        """Return the next part to save; begin a snapshot when the log is a few times the last one and large enough."""
        if self._part_under_way:
            return None
        if self._stream is None:
            if self._log_size < max(self._log_size_max, 2 * self._last_size):
                return None
            self._begin(table, applied_index)
        assert self._stream is not None
        chunks: list[bytes] = []
        size = 0
        chunk: bytes | None = b""
        while size < PART_SIZE:
            chunk = self._stream.next_chunk()
            if chunk is None:
                self._streamed = True
                break
            chunks.append(chunk)
            size += len(chunk)
        self._saved_size += size
        # A snapshot lets the log be cut: it must not be durable before the audit of what it stands for is.
        last = self._streamed and not self._auditing.awaits_checkpoint
        if not chunks and not last:
            return None
        first, self._first = self._first, None
        if last:
            self._stream = None
            self._streamed = False
            self._last_size = self._saved_size
        self._part_under_way = True
        audit_state = self._auditing.state if last else None
        return SaveSnapshotJob(first, tuple(chunks), last, audit_state)

    def _begin(self, table: LockTable, applied_index: Index) -> None:
        term, stamp_us, wall_us = self._last
        self._first = SnapshotMeta(applied_index, term, stamp_us, wall_us, self._membership, 0, b"")
        self._stream = table.begin_snapshot()
        self._auditing.checkpoint(applied_index)
        self._log_size = 0
        self._saved_size = 0
