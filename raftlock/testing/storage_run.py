"""A recorded run of the production Store: the data directory that the tables of `storage_tables` damage.

It owns the run and the twin that says what must come back. It must not know how the directory is damaged.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from raftlock.storage import Disk, Recovered, Store, StoreConfig
from raftlock.testing.memory_disk import MemoryDisk
from raftlock_wire.entry import Entry, EntryKind, HardState, SnapshotMeta, Write
from raftlock_wire.ids import Index, NodeId, Term
from raftlock_wire.membership import Member, Membership, cluster_id_of

NODE = NodeId(1)
INCARNATION = "1" * 32
CONFIG = StoreConfig(segment_size=8 << 10)
WAL_SIZE = 64 << 10
MEMBERS = Membership(
    tuple(
        Member(NodeId(n), str(n) * 32, f"127.0.0.1:{9000 + n}", f"127.0.0.1:{9100 + n}")
        for n in (1, 2, 3)
    )
)
TTL_MS = 60_000


def entry(index: int, term: int, size: int, rng: random.Random) -> Entry:
    """Return an entry whose data nobody can guess."""
    now_us = index * 1_000
    return Entry(Index(index), Term(term), EntryKind.BATCH, now_us, now_us, rng.randbytes(size))


@dataclass(slots=True)
class Twin:
    """What the directory must hold: a list of entries and a few values."""

    cluster_id: str | None = None
    hard_state: HardState = field(default_factory=lambda: HardState(Term(0), NodeId(0)))
    snapshot: SnapshotMeta | None = None
    entries: list[Entry] = field(default_factory=list)
    """The log after the snapshot."""

    @property
    def last_index(self) -> int:
        """Return where the log ends."""
        base = self.snapshot.index if self.snapshot is not None else 0
        return self.entries[-1].index if self.entries else base

    def recovered(self) -> Recovered:
        """Return what `Store.open` must say."""
        known = self.cluster_id is not None
        return Recovered(
            node_id=NODE,
            incarnation=INCARNATION,
            cluster_id=self.cluster_id,
            first_membership=MEMBERS if known else None,
            logged_renewal_ttl_ms=TTL_MS if known else None,
            hard_state=self.hard_state,
            snapshot=self.snapshot,
            entries=tuple(self.entries),
        )

    def copy(self) -> "Twin":
        """Return an independent copy."""
        return replace(self, entries=list(self.entries))


class Run:
    """A Store at work on a disk, and its twin."""

    def __init__(self, disk: Disk, *, seed: int = 0) -> None:
        self.disk = disk
        self.twin = Twin()
        self._rng = random.Random(seed)
        self._number = 0
        self._store: Store | None = None
        self.received: SnapshotMeta | None = None
        """A snapshot that was received and is not installed."""

    @property
    def store(self) -> Store:
        """Return the open store."""
        assert self._store is not None
        return self._store

    def format(self) -> None:
        """Make the directory a node's, and open it."""
        Store.format(self.disk, node_id=NODE, incarnation=INCARNATION)
        self.open()

    def open(self) -> Recovered:
        """Open the directory, as at a start. Return what it holds."""
        self._store, recovered = Store.open(self.disk, node_id=NODE, config=CONFIG)
        return recovered

    def set_cluster(self) -> None:
        """Bootstrap the node."""
        self.twin.cluster_id = cluster_id_of(MEMBERS)
        self.store.set_cluster(
            cluster_id=self.twin.cluster_id, membership=MEMBERS, logged_renewal_ttl_ms=TTL_MS
        )

    def vote(self, term: int, voted_for: int) -> None:
        """Write a term and vote."""
        self.twin.hard_state = HardState(Term(term), NodeId(voted_for))
        self._write(Write(self._next(), self.twin.hard_state, ()))

    def append(self, *sizes: int, first: int | None = None, vote: HardState | None = None) -> None:
        """Write one record of entries of these sizes, from `first` on, or at the end of the log."""
        twin = self.twin
        if vote is not None:
            twin.hard_state = vote
        start = twin.last_index + 1 if first is None else first
        term = twin.hard_state.term
        new = [entry(start + i, term, size, self._rng) for i, size in enumerate(sizes)]
        twin.entries = [e for e in twin.entries if e.index < start] + new
        self._write(Write(self._next(), vote, tuple(new)))

    def write_again(self, entries: list[Entry]) -> None:
        """Write these entries, as they are, in one record."""
        self._write(Write(self._next(), None, tuple(entries)))

    def write_together(self, *writes: tuple[int | None, tuple[int, ...]]) -> int:
        """Make several writes durable at once; a new term or None, and sizes of entries; those of the n-th begin at index n."""
        made = []
        for number, (term, sizes) in enumerate(writes, 1):
            vote = HardState(Term(term), NodeId(term)) if term is not None else None
            if vote is not None:
                self.twin.hard_state = vote
            new = [
                entry(number + i, self.twin.hard_state.term, size, self._rng)
                for i, size in enumerate(sizes)
            ]
            self.twin.entries = [e for e in self.twin.entries if e.index < number] + new
            made.append(Write(self._next(), vote, tuple(new)))
        assert self.store.write(made) == made[-1].number
        return made[-1].number

    def save_snapshot(self, index: int, *sizes: int) -> None:
        """Save a snapshot of the state after `index`, in chunks of these sizes."""
        meta = self.write_snapshot(self.store, index, *sizes)
        self._took(meta)

    def write_snapshot(
        self, store: Store, index: int, *sizes: int, term: int | None = None
    ) -> SnapshotMeta:
        """Write a snapshot into a store's directory and return its name; of the log's own term if none is given."""
        if term is None:
            term = next((e.term for e in self.twin.entries if e.index == index), Term(9))
        writer = store.begin_snapshot(
            index=Index(index), term=Term(term), stamp_us=7, wall_us=8, membership=MEMBERS.encode()
        )
        for size in sizes:
            writer.append(self._rng.randbytes(size))
        return writer.finish()

    def receive_snapshot(self, index: int, *sizes: int, term: int | None = None) -> None:
        """Receive a snapshot that another node made, but do not install it yet."""
        other = MemoryDisk()
        Store.format(other, node_id=NODE, incarnation=INCARNATION)
        source, _ = Store.open(other, node_id=NODE, config=CONFIG)
        meta = self.write_snapshot(source, index, *sizes, term=term)
        offset = 0
        while offset < meta.size:
            part = source.read_snapshot(meta, offset, 1_000)
            offset = self.store.store_chunk(meta, offset, part)
        self.received = meta

    def install(self) -> None:
        """Install the received snapshot."""
        assert self.received is not None
        self.store.install_snapshot(self.received)
        self._took(self.received)

    def _took(self, meta: SnapshotMeta) -> None:
        agrees = any((e.index, e.term) == (meta.index, meta.term) for e in self.twin.entries)
        self.twin.entries = [e for e in self.twin.entries if agrees and e.index > meta.index]
        self.twin.snapshot = meta

    def compact(self) -> None:
        """Remove what the snapshot replaces."""
        assert self.twin.snapshot is not None
        self.store.compact(self.twin.snapshot)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _write(self, write: Write) -> None:
        self.store.write([write])


@dataclass(frozen=True, slots=True)
class Image:
    """A data directory at rest."""

    files: dict[str, bytes]
    holds: Recovered
    """What must come back."""


@dataclass(frozen=True, slots=True)
class Torn:
    """One write that a crash may tear."""

    what: str
    files: dict[str, bytes]
    """The directory before the write."""
    name: str
    offset: int
    data: bytes
    before: Recovered
    after: Recovered


@dataclass(frozen=True, slots=True)
class Recording:
    """What the run left."""

    sealed: Image
    """The log ends in a seal."""
    unsealed: Image
    """The same with one more record."""
    unsealed_from: int
    """The offset of that record in the last segment."""
    torn: tuple[Torn, ...]


class _Recorder:
    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.run = Run(self.disk)
        self.torn: list[Torn] = []

    def image(self) -> Image:
        return Image(dict(self.disk.files), self.run.twin.recovered())

    def tear(self, what: str, step: Callable[[], None]) -> None:
        """Do a step, and keep its writes for the table of crashes."""
        before = self.run.twin.recovered()
        self.disk.writes = []
        step()
        after = self.run.twin.recovered()
        for files, name, offset, data in self.disk.writes:
            self.torn.append(Torn(f"{what}: {name}", files, name, offset, data, before, after))
        self.disk.writes = None


@lru_cache(maxsize=1)
def record() -> Recording:
    """Do the run: about 64 KiB of log, votes, an identity and a snapshot, through the production Store."""
    recorder = _Recorder()
    run = recorder.run
    run.format()
    recorder.tear("bootstrap", run.set_cluster)
    run.vote(1, 1)
    for number in range(1, 40):
        run.append(*([120] * (number % 4 + 1)))
    run.vote(2, 3)
    run.append(300, 300, first=run.twin.last_index - 3)
    index = run.twin.last_index - 5
    recorder.tear("snapshot", lambda: run.save_snapshot(index, 100, 4_000, 0, 1_500))
    run.compact()
    segment_size = CONFIG.segment_size
    number = 0
    while sum(len(d) for n, d in recorder.disk.files.items() if n.startswith("wal-")) < WAL_SIZE:
        number += 1
        run.append(*([800] * (number % 3 + 1)))
        if number % 2 == 0:
            run.store.seal()
        if number % 7 == 0:
            run.append(500, first=run.twin.last_index)
    recorder.tear("vote", lambda: run.vote(3, 2))
    recorder.tear("record of entries", lambda: run.append(600, 700, 800))
    recorder.tear("seal", run.store.seal)
    recorder.tear("replacing record", lambda: run.append(900, first=run.twin.last_index - 1))
    run.store.seal()
    sealed = recorder.image()
    recorder.tear("record after a seal", lambda: run.append(400))
    offset = recorder.torn[-1].offset
    unsealed = recorder.image()
    recorder.tear("a segment's first", lambda: run.append(segment_size - 600))
    return Recording(sealed, unsealed, offset, tuple(recorder.torn))
