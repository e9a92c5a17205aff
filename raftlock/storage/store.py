"""A node's whole data directory behind one object: identity, votes, log and snapshots.

It owns the order in which they are written and recovered (decisions 10 to 14).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from raftlock.storage.disk import Disk
from raftlock.storage.errors import (
    ClusterMismatch,
    Damaged,
    DirectoryInUse,
    NoRoom,
    NotOurs,
    disk_errors,
)
from raftlock.storage.small_files import (
    IDENTITY,
    VOTES,
    Identity,
    VoteFile,
    read_identity,
    write_identity,
)
from raftlock.storage.snapshots import SnapshotFiles, SnapshotWriter
from raftlock.storage.wal import PREFIX, SEGMENT_SIZE_MIN, Wal
from raftlock_wire.entry import Entry, HardState, SnapshotMeta, Write
from raftlock_wire.ids import Index, NodeId, Term
from raftlock_wire.membership import Membership


class Prepared(Enum):
    """How far the next segment is."""

    READY = auto()
    MORE = auto()
    NO_ROOM = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """Sizes in bytes."""

    segment_size: int = 64 << 20

    def __post_init__(self) -> None:
        if self.segment_size < SEGMENT_SIZE_MIN:
            raise ValueError(
                f"segment_size is {self.segment_size}, and {SEGMENT_SIZE_MIN} is the least"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What a data directory held, all of it durable."""

    node_id: NodeId
    incarnation: str
    cluster_id: str | None
    first_membership: Membership | None
    logged_renewal_ttl_ms: int | None
    hard_state: HardState
    snapshot: SnapshotMeta | None
    entries: tuple[Entry, ...]
    """The log after the snapshot."""


class Store:
    """An open data directory. One thread at a time may call it."""

    def __init__(
        self, disk: Disk, identity: Identity, wal: Wal, votes: VoteFile, snapshots: SnapshotFiles
    ) -> None:
        self._disk = disk
        self._identity = identity
        self._wal = wal
        self._votes = votes
        self._snapshots = snapshots
        self._terms: list[tuple[Index, Term]] = []
        """(first index, term) of each run of one term in the log."""
        self._last_index = Index(0)

    # life

    @staticmethod
    def is_formatted(disk: Disk) -> bool:
        """Return whether the directory is a node's. Raise NotOurs if it holds other things."""
        with disk_errors("listing the data directory"):
            names = disk.list()
        if IDENTITY in names:
            return True
        # Formatting that was cut off left at most these; a log or a snapshot without an identity is not ours to erase.
        foreign = [name for name in names if name not in (*VOTES, IDENTITY + ".tmp")]
        if foreign:
            raise NotOurs(
                f"the data directory holds {foreign[0]} but no {IDENTITY}: it is not a node's"
            )
        return False

    @staticmethod
    def format(disk: Disk, *, node_id: NodeId, incarnation: str) -> None:
        """Make an empty directory a node's. Raise NotOurs if it is one already."""
        # Locked before it is looked at: of two processes that find it empty, the later one would erase the other's votes.
        Store._lock(disk)
        if Store.is_formatted(disk):
            raise NotOurs("the data directory is formatted already")
        with disk_errors("formatting the data directory"):
            VoteFile.create(disk)
            write_identity(disk, Identity(node_id=node_id, incarnation=incarnation))

    @staticmethod
    def _lock(disk: Disk) -> None:
        with disk_errors("locking the data directory"):
            try:
                disk.lock()
            except BlockingIOError as error:
                raise DirectoryInUse("another process has this data directory open") from error

    @staticmethod
    def open(disk: Disk, *, node_id: NodeId, config: StoreConfig) -> tuple["Store", Recovered]:
        """Read everything, verify it, and make it durable again before it is used (decision 12)."""
        Store._lock(disk)
        if not Store.is_formatted(disk):
            raise NotOurs("the data directory is not formatted")
        with disk_errors("reading the data directory"):
            return Store._recover(disk, node_id, config)

    @staticmethod
    def _recover(disk: Disk, node_id: NodeId, config: StoreConfig) -> tuple["Store", Recovered]:
        identity = read_identity(disk)
        if identity.node_id != node_id:
            raise NotOurs(f"the data directory is node {identity.node_id}'s, not node {node_id}'s")
        votes, hard_state = VoteFile.recover(disk)
        snapshots = SnapshotFiles(disk)
        snapshot = snapshots.recover()
        wal = Wal(disk, segment_size=config.segment_size)
        entries = wal.recover()
        store = Store(disk, identity, wal, votes, snapshots)
        store._note(entries)
        if entries and hard_state.term < entries[-1].term:
            problem = f"term {hard_state.term} is below term {entries[-1].term} of the last entry"
            raise Damaged(file=" and ".join(VOTES), offset=0, problem=problem)
        entries = store._after(snapshot, entries)
        return store, Recovered(
            node_id=identity.node_id,
            incarnation=identity.incarnation,
            cluster_id=identity.cluster_id,
            first_membership=identity.first_membership,
            logged_renewal_ttl_ms=identity.logged_renewal_ttl_ms,
            hard_state=hard_state,
            snapshot=snapshot,
            entries=tuple(entries),
        )

    def _after(self, snapshot: SnapshotMeta | None, entries: list[Entry]) -> list[Entry]:
        """Return the entries after the snapshot. A log that does not contain its index and term is dropped whole."""
        start = snapshot.index if snapshot is not None else Index(0)
        if entries and entries[0].index > start + 1:
            name = self._wal.segments[0].name if self._wal.segments else PREFIX
            problem = (
                f"the log begins at entry {entries[0].index}, and the snapshot ends at {start}"
            )
            raise Damaged(file=name, offset=0, problem=problem)
        if snapshot is not None and entries and self._term_at(start) not in (snapshot.term, None):
            self._drop_log()
            return []
        if snapshot is not None and self._last_index < start:
            self._drop_log()
            return []
        return [entry for entry in entries if entry.index > start]

    def close(self) -> None:
        """Let go of the directory."""
        self._disk.close()

    def set_cluster(
        self, *, cluster_id: str, membership: Membership, logged_renewal_ttl_ms: int
    ) -> None:
        """Make the first membership durable (decision 13). The same again is fine; another cluster is refused."""
        identity = self._identity
        if identity.cluster_id is not None:
            if identity.cluster_id != cluster_id:
                raise ClusterMismatch(
                    f"this node is of cluster {identity.cluster_id}, not {cluster_id}"
                )
            return
        self._identity = Identity(
            node_id=identity.node_id,
            incarnation=identity.incarnation,
            cluster_id=cluster_id,
            first_membership=membership,
            logged_renewal_ttl_ms=logged_renewal_ttl_ms,
        )
        with disk_errors("writing the identity file"):
            write_identity(self._disk, self._identity)

    # the log

    def write(self, writes: Sequence[Write]) -> int:
        """Make writes durable: the newest vote first, then all entries in one record. Return the last one's number.

        Raise DiskFailed, after which nothing may be acknowledged and the process ends.
        """
        hard_state = next(
            (w.hard_state for w in reversed(writes) if w.hard_state is not None), None
        )
        entries = _merged(writes)
        if hard_state is not None:
            with disk_errors("writing the vote file"):
                self._votes.write(hard_state)
        if entries:
            with disk_errors("writing the log"):
                self._wal.append(entries)
            self._note(entries)
        return writes[-1].number

    def seal(self) -> None:
        """Seal the log, 20 ms after the last write."""
        with disk_errors("sealing the log"):
            self._wal.seal()

    @property
    def spare_is_ready(self) -> bool:
        """Return whether the next segment is preallocated."""
        return self._wal.spare_is_ready

    def prepare(self) -> Prepared:
        """Preallocate a slice of the next segment. No room is an answer, not an error (decision 12)."""
        if self._wal.spare_is_ready:
            return Prepared.READY
        try:
            with disk_errors("preallocating a segment"):
                self._wal.prepare_slice()
        except NoRoom:
            return Prepared.NO_ROOM
        return Prepared.READY if self._wal.spare_is_ready else Prepared.MORE

    # snapshots

    def begin_snapshot(
        self, *, index: Index, term: Term, stamp_us: int, wall_us: int, membership: bytes
    ) -> SnapshotWriter:
        """Begin to save the state after `index`."""
        meta = SnapshotMeta(index, term, stamp_us, wall_us, membership, 0, b"")
        return SnapshotWriter(self._disk, meta)

    def compact(self, meta: SnapshotMeta) -> None:
        """Remove what a durable snapshot replaces: older snapshots, then log segments."""
        with disk_errors("removing what a snapshot replaces"):
            self._snapshots.remove_older(meta)
            self._wal.compact(meta.index)

    def read_snapshot(self, meta: SnapshotMeta, offset: int, size: int) -> bytes:
        """Return a part of a snapshot's file. Raise SnapshotGone if a newer one replaced it."""
        with disk_errors("reading a snapshot"):
            return self._snapshots.read(meta, offset, size)

    def snapshot_chunks(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """Return the chunks of a snapshot as they were appended."""
        with disk_errors("reading a snapshot"):
            yield from self._snapshots.chunks(meta)

    def store_chunk(self, meta: SnapshotMeta, offset: int, data: bytes) -> int:
        """Store a part of a received snapshot. Return the offset that comes next. Raise NoRoom if there is none."""
        with disk_errors("storing a received snapshot", asks_room=True):
            return self._snapshots.store_chunk(meta, offset, data)

    def install_snapshot(self, meta: SnapshotMeta) -> None:
        """Put a received snapshot in place; drop the log unless it contains its index and term (decision 12)."""
        with disk_errors("installing a snapshot"):
            self._snapshots.install(meta)
            if self._term_at(meta.index) != meta.term:
                self._drop_log()
            self._snapshots.remove_older(meta)

    def free_bytes(self) -> int:
        """Return how much room is left."""
        with disk_errors("asking for the free room"):
            return self._disk.free_bytes()

    @property
    def log_bytes(self) -> int:
        """Return the size of all segments."""
        return self._wal.size

    # what the log holds

    def _drop_log(self) -> None:
        self._wal.drop()
        self._terms.clear()
        self._last_index = Index(0)

    def _note(self, entries: Sequence[Entry]) -> None:
        """Keep the runs of terms, so that an (index, term) can be looked up without reading."""
        for entry in entries:
            while self._terms and self._terms[-1][0] >= entry.index:
                self._terms.pop()
            if not self._terms or self._terms[-1][1] != entry.term:
                self._terms.append((entry.index, entry.term))
        if entries:
            self._last_index = entries[-1].index

    def _term_at(self, index: Index) -> Term | None:
        if index > self._last_index:
            return None
        return next((term for first, term in reversed(self._terms) if first <= index), None)


def _merged(writes: Sequence[Write]) -> list[Entry]:
    """Return the entries of several writes as one, what a later one replaces left out."""
    merged: list[Entry] = []
    for write in writes:
        if not write.entries:
            continue
        first = write.entries[0].index
        if merged and first <= merged[-1].index:
            if first <= merged[0].index:
                merged.clear()
            else:
                del merged[first - merged[0].index :]
        merged += write.entries
    return merged
