"""What the driver wants done on the disk, as data, and the one function that does it.

Production runs the jobs on the disk thread, in order; the simulator runs them in simulated time. The driver gets
each job back with its result.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from raftlock.locks import VERSIONS, LockTable, Versions
from raftlock.storage import BadSnapshot, NoRoom, SnapshotGone, Store
from raftlock_wire.codec import pack, unpack
from raftlock_wire.entry import SnapshotMeta, Write
from raftlock_wire.ids import NodeId


class WriteJob(NamedTuple):
    """Make these writes durable, in one record. Result: a WriteDone."""

    writes: tuple[Write, ...]


class WriteDone(NamedTuple):
    """The result of a WriteJob."""

    number: int
    """All writes up to this one are durable."""
    spare_is_ready: bool
    """Whether the next segment is preallocated."""


class SealJob(NamedTuple):
    """Seal the log after 20 ms without writes (decision 10)."""


class PrepareJob(NamedTuple):
    """Preallocate a slice of the next segment. Result: a Prepared (decision 12)."""


class SaveSnapshotJob(NamedTuple):
    """Write a snapshot's chunks to a temporary file. Result: None."""

    first: SnapshotMeta | None
    """With the first chunks: what names the snapshot, size and hash not yet known."""
    chunks: tuple[bytes, ...]
    last: bool
    """Sync and rename. Result: the SnapshotMeta."""
    audit_state: bytes | None = None
    """With the last chunks: the audit at the snapshot's index, None where there is none."""


class CompactJob(NamedTuple):
    """Delete what lies before a durable snapshot."""

    meta: SnapshotMeta


class ReadChunkJob(NamedTuple):
    """Read a part of a snapshot for a peer. Result: the bytes, or None if the file is gone."""

    peer: NodeId
    meta: SnapshotMeta
    offset: int
    size: int


class StoreChunkJob(NamedTuple):
    """Store a part of a snapshot that the leader sent. Result: None."""

    number: int
    meta: SnapshotMeta
    offset: int
    data: bytes
    done: bool


class InstallJob(NamedTuple):
    """Verify and install a received snapshot, and load it. Result: Loaded, or None if it was bad."""

    meta: SnapshotMeta


Job = (
    WriteJob
    | SealJob
    | PrepareJob
    | SaveSnapshotJob
    | CompactJob
    | ReadChunkJob
    | StoreChunkJob
    | InstallJob
)


class Loaded(NamedTuple):
    """What a snapshot holds."""

    table: LockTable
    audit_state: bytes | None


AUDIT_CHUNK = "audit"
"""Begins the one chunk of a snapshot that is not the table's; the table's begin with a number."""


def load_snapshot(store: Store, meta: SnapshotMeta, versions: Versions = VERSIONS) -> Loaded:
    """Read a snapshot's state. Raise UnknownVersion when it is of a version that is not among these."""
    loader = LockTable.loader(versions)
    audit_state: bytes | None = None
    head = pack(AUDIT_CHUNK)
    for chunk in store.snapshot_chunks(meta):
        if chunk[1:].startswith(head):
            audit_state = unpack(chunk)[1]
        else:
            loader.feed(chunk)
    return Loaded(loader.finish(), audit_state)


class JobRunner:
    """Does jobs on a Store, one after the other. An error of the disk passes through: the process ends (decision 12)."""

    def __init__(self, store: Store, versions: Versions = VERSIONS) -> None:
        self._store = store
        self._versions = versions
        self._snapshot: Any = None

    def run(self, job: Job) -> Any:
        """Do one job and return its result."""
        store = self._store
        match job:
            case WriteJob(writes):
                return WriteDone(store.write(writes), store.spare_is_ready)
            case SealJob():
                return store.seal()
            case PrepareJob():
                return store.prepare()
            case SaveSnapshotJob(first, chunks, last, audit_state):
                if audit_state is not None:
                    chunks = (*chunks, pack((AUDIT_CHUNK, audit_state)))
                try:
                    return self._save(first, chunks, last=last)
                except NoRoom:
                    # Not an error of the disk (decision 12): the next one begins when the log has grown again.
                    self._give_up()
                    return None
            case CompactJob(meta):
                return store.compact(meta)
            case ReadChunkJob(_, meta, offset, size):
                try:
                    return store.read_snapshot(meta, offset, size)
                except SnapshotGone:
                    return None
            case StoreChunkJob(_, meta, offset, data, _):
                return store.store_chunk(meta, offset, data)
            case InstallJob(meta):
                try:
                    store.install_snapshot(meta)
                except BadSnapshot:
                    return None
                return load_snapshot(store, meta, self._versions)

    def _give_up(self) -> None:
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            snapshot.abort()

    def _save(
        self, first: SnapshotMeta | None, chunks: Sequence[bytes], *, last: bool
    ) -> SnapshotMeta | None:
        if first is not None:
            self._give_up()
            self._snapshot = self._store.begin_snapshot(
                index=first.index,
                term=first.term,
                stamp_us=first.stamp_us,
                wall_us=first.wall_us,
                membership=first.membership,
            )
        if self._snapshot is None:
            return None
        for chunk in chunks:
            self._snapshot.append(chunk)
        if not last:
            return None
        meta: SnapshotMeta = self._snapshot.finish()
        self._snapshot = None
        return meta
