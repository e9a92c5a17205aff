"""The audit segments of one node: written, cut, found again after a crash, and deleted when they are old.

It owns the files of the audit directory, through a disk port. What it must hold at any moment: a snapshot at index S
is durable only when everything up to S can be had from this directory and the state that travels in the snapshot, so
that the log may be compacted and nothing of the audit is lost with it.
"""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from raftlock.audit.chain import Chain, CutRule
from raftlock.audit.format import (
    HEADER_SIZE,
    ZERO_DIGEST,
    AuditDamaged,
    Gap,
    Recorded,
    decode_block,
    decode_gap,
    decode_header,
    encode_block,
    encode_gap,
    encode_pending,
    encode_record,
    gap_name,
    next_content,
    open_name,
    parse_name,
    segment_name,
)

AUDIT_DIRECTORY = "audit"
"""In a node's data directory."""
PENDING = "audit.pending"
TEMPORARY = "audit.tmp"
SYNC_SIZE = 4 << 20
"""Bytes after which the segment under way is synced, so that its end is no burst of writing beside the log's."""


class AuditDisk(Protocol):
    """What the audit needs of a directory; storage's Disk is one. Raises OSError for what fails."""

    def list(self) -> list[str]:
        """Return the names of all files, sorted."""

    def create(self, name: str) -> None:
        """Make an empty file, or empty the one that is there."""

    def pwrite(self, name: str, offset: int, data: bytes) -> None:
        """Write all of `data` at `offset`."""

    def pread(self, name: str, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`; fewer at the end of the file."""

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""

    def fdatasync(self, name: str) -> None:
        """Make a file's contents durable."""

    def fsync_dir(self) -> None:
        """Make creations, renames and removals durable."""

    def rename(self, source: str, target: str) -> None:
        """Give a file another name, over any file of that name."""

    def unlink(self, name: str) -> None:
        """Remove a file."""

    def close(self) -> None:
        """Let go of everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How much of finished segments stays on this node: both limits hold, the oldest go first."""

    size: int = 10 << 30
    age_us: int = 7 * 86_400_000_000


class Finished(NamedTuple):
    """A segment that is complete and durable; of a gap (`reason`), one that is not on this node."""

    first: int
    last: int
    digest: bytes
    reason: str = ""


class Kept(NamedTuple):
    """What a node's audit directory holds. Made whole, so that another thread may look at it."""

    segments: int = 0
    gaps: int = 0
    size: int = 0


class AuditLog:
    """The open audit directory of a node. One thread at a time may call it."""

    def __init__(
        self, disk: AuditDisk, *, cluster_id: str, rule: CutRule | None = None, keep: Keep | None
    ) -> None:
        self._disk = disk
        self._cluster_id = cluster_id
        self._rule = rule or CutRule()
        self._keep = keep or Keep()
        self._chain = Chain(self._rule, cluster_id, first=1, previous=ZERO_DIGEST)
        self._files: list[str] = []
        """Finished segments and gaps, the oldest first."""
        self._sizes: dict[str, int] = {}
        self._missing: tuple[int, str] | None = None
        """From which index on this node lacks what the segment under way holds, and why: only its hash is kept."""
        self._offset = 0
        """Where the next block goes; 0: the segment under way has no file yet."""
        self._unsynced = 0
        self._name_synced = False
        self._finished: list[Finished] = []
        self.kept = Kept()
        """Finished segments, gaps, and their bytes."""

    @property
    def last_index(self) -> int:
        """Return the index of the last record taken."""
        return self._chain.last

    # life

    def recover(self, *, snapshot_index: int, state: bytes | None) -> None:
        """Go on where the directory and the snapshot that the table starts from end.

        `state` travelled in the snapshot; None: there is no snapshot, or it was saved without an audit. Raise
        AuditDamaged if the newest finished segment is not what was written.
        """
        disk = self._disk
        self._files = sorted(name for name in disk.list() if parse_name(name) is not None)
        self._sizes = {name: disk.size(name) for name in self._files}
        end, digest = self._newest()
        blocks = b""
        if state is None or end >= snapshot_index:
            self._begin_without_state(end, digest, snapshot_index)
        else:
            blocks = self._begin_with_state(end, digest, state)
        self._put_back(blocks)
        for name in disk.list():
            # The segment under way has a file only if its blocks were put back: what else stands there is of no use.
            leftover = name.endswith(".open") and (
                not self._offset or name != open_name(self._chain.first)
            )
            if leftover or name in (PENDING, TEMPORARY):
                disk.unlink(name)
        # What was read may be in the page cache only (decision 12).
        if self._files:
            disk.fdatasync(self._files[-1])
        disk.fsync_dir()
        self._count()

    def _newest(self) -> tuple[int, bytes]:
        """Return the last index of what is finished, and its digest."""
        if not self._files:
            return 0, ZERO_DIGEST
        name = self._files[-1]
        parsed = parse_name(name)
        assert parsed is not None
        first, last, suffix = parsed
        data = self._disk.pread(name, 0, HEADER_SIZE if suffix == "seg" else 1 << 16)
        known: Gap | None = None
        if suffix == "gap":
            known = decode_gap(data, file=name)
            found, digest = (known.first, known.last), known.digest
        else:
            header = decode_header(data, file=name)
            found, digest = (header.first, header.last), header.digest
            if header.cluster_id != self._cluster_id:
                problem = f"it is of cluster {header.cluster_id}, not {self._cluster_id}"
                raise AuditDamaged(file=name, offset=0, problem=problem)
        if found != (first, last):
            problem = f"it says that it holds {found[0]} to {found[1]}"
            raise AuditDamaged(file=name, offset=0, problem=problem)
        return last, digest

    def _begin_without_state(self, end: int, digest: bytes, snapshot_index: int) -> None:
        """Begin a segment after what is finished, or, where that ends before the snapshot, another chain."""
        if end < snapshot_index:
            self._note_gap(Gap(end + 1, snapshot_index, ZERO_DIGEST, "the audit was off"))
            end, digest = snapshot_index, ZERO_DIGEST
        self._chain = Chain(self._rule, self._cluster_id, first=end + 1, previous=digest)

    def _begin_with_state(self, end: int, digest: bytes, state: bytes) -> bytes:
        """Go on with the segment that the snapshot lies in. Return the blocks of its file, if they are here."""
        self._chain = chain = Chain.decode(self._rule, self._cluster_id, state)
        before = chain.first - 1
        if end > before or (end == before and digest != chain.previous):
            # Made while some nodes had the audit off: the cluster's own chain is gone on with, and the seam is noted.
            self._missing = (end + 1, "another chain")
            return b""
        blocks = self._read_blocks(chain) if end == before else None
        if blocks is not None:
            return blocks
        # A crash between the arrival of a snapshot and the removal of this file leaves it behind the snapshot: that
        # cannot be told from blocks that were lost.
        reason = "snapshot" if end < before or self._open_file() is None else "damage"
        self._go_on_without(end + 1, reason)
        return b""

    def _go_on_without(self, first_missing: int, reason: str) -> None:
        """Go on with a segment whose beginning is not here: keep its hash, so that the next ones are whole again."""
        chain = self._chain
        if not chain.blocks:
            # All of the segment so far is in the state itself.
            if first_missing < chain.first:
                self._note_gap(Gap(first_missing, chain.first - 1, chain.previous, reason))
            return
        self._missing = (first_missing, reason)

    def _open_file(self) -> str | None:
        name = open_name(self._chain.first)
        return name if name in self._disk.list() else None

    def _read_blocks(self, chain: Chain) -> bytes | None:
        """Return the blocks that the state counts, from the file; None unless they are what it says."""
        if not chain.blocks:
            return b""
        name = self._open_file()
        if name is None:
            return None
        data = self._disk.pread(name, 0, self._disk.size(name))
        content, offset = ZERO_DIGEST, HEADER_SIZE
        try:
            for _ in range(chain.blocks):
                raw, offset = decode_block(data, offset, file=name)
                content = next_content(content, raw)
        except AuditDamaged:
            return None
        return data[HEADER_SIZE:offset] if content == chain.content else None

    def _put_back(self, blocks: bytes) -> None:
        """Write the segment under way anew: nothing may stand behind its last block that was ever written there."""
        self._offset = 0
        if not blocks:
            return
        disk = self._disk
        disk.create(TEMPORARY)
        disk.pwrite(TEMPORARY, HEADER_SIZE, blocks)
        disk.fdatasync(TEMPORARY)
        disk.rename(TEMPORARY, open_name(self._chain.first))
        disk.fsync_dir()
        self._offset = HEADER_SIZE + len(blocks)
        self._name_synced = True

    def close(self) -> None:
        """Let go of the directory."""
        self._disk.close()

    # recording

    def append(self, records: Sequence[Recorded]) -> list[Finished]:
        """Record applied entries; those that are recorded already are passed over. Return what was finished."""
        for recorded in records:
            if recorded.entry.index <= self._chain.last:
                continue
            if self._chain.cuts_before(recorded):
                self._finish()
            block = self._chain.add(recorded, encode_record(recorded))
            if block is not None:
                self._write_block(block)
        finished, self._finished = self._finished, []
        return finished

    def show(self) -> None:
        """Let readers see the block that is not full yet. Nothing is synced: it is made again from the log."""
        chain = self._chain
        data = encode_pending(first=chain.first, block=chain.blocks, raw=chain.pending)

        def write() -> None:
            self._disk.create(TEMPORARY)
            self._disk.pwrite(TEMPORARY, 0, data)
            # Renamed, so that a reader never meets one that is half written.
            self._disk.rename(TEMPORARY, PENDING)

        try:
            write()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def checkpoint(self) -> bytes:
        """Make everything up to here durable, and return the state that a snapshot at this index must carry."""
        self._sync()
        return self._chain.encode()

    def install(self, *, snapshot_index: int, state: bytes | None) -> None:
        """Go on after a snapshot that the leader sent: what lies between is not on this node, which is noted."""
        if snapshot_index <= self._chain.last:
            return
        self._drop_open()
        self._missing = None
        end, digest = self._newest()
        if state is None:
            self._begin_without_state(end, digest, snapshot_index)
        else:
            self._put_back(self._begin_with_state(end, digest, state))

    def _drop_open(self) -> None:
        name = self._open_file()
        if name is not None:
            self._disk.unlink(name)
        self._offset = 0

    def _write_block(self, raw: bytes) -> None:
        if self._missing is not None:
            return
        block = encode_block(raw)

        def write() -> None:
            name = open_name(self._chain.first)
            if not self._offset:
                self._disk.create(name)
                self._offset = HEADER_SIZE
                self._name_synced = False
            self._disk.pwrite(name, self._offset, block)

        if not self._with_room(write):
            return
        self._offset += len(block)
        self._unsynced += len(block)
        if self._unsynced >= SYNC_SIZE:
            self._sync()

    def _sync(self) -> None:
        if not self._offset:
            return
        if self._unsynced:
            self._disk.fdatasync(open_name(self._chain.first))
            self._unsynced = 0
        if not self._name_synced:
            self._disk.fsync_dir()
            self._name_synced = True

    def _finish(self) -> None:
        """End the segment under way, and delete what is older than this node keeps."""
        chain = self._chain
        if chain.pending:
            self._write_block(chain.take_block())
        offset, source = self._offset, open_name(chain.first)
        header = chain.cut()
        self._offset = self._unsynced = 0
        if self._missing is not None:
            first, reason = self._missing
            self._missing = None
            self._note_gap(Gap(first, header.last, header.digest, reason))
            return
        assert offset
        name = segment_name(header.first, header.last)
        self._disk.pwrite(source, 0, header.encode())
        self._disk.fdatasync(source)
        self._disk.rename(source, name)
        self._disk.fsync_dir()
        self._add_file(name, offset)
        self._finished.append(Finished(header.first, header.last, header.digest))
        self._delete_old(header.last_wall_us)

    def _note_gap(self, gap: Gap) -> None:
        name = gap_name(gap.first, gap.last)
        data = encode_gap(gap)
        self._disk.create(TEMPORARY)
        self._disk.pwrite(TEMPORARY, 0, data)
        self._disk.fdatasync(TEMPORARY)
        self._disk.rename(TEMPORARY, name)
        self._disk.fsync_dir()
        self._add_file(name, len(data))
        self._finished.append(Finished(gap.first, gap.last, gap.digest, gap.reason))

    # room

    def _add_file(self, name: str, size: int) -> None:
        self._files.append(name)
        self._sizes[name] = size
        self._count()

    def _count(self) -> None:
        gaps = sum(name.endswith(".gap") for name in self._files)
        self.kept = Kept(len(self._files) - gaps, gaps, sum(self._sizes.values()))

    def _delete_old(self, now_wall_us: int) -> None:
        """Delete the oldest beyond the limits, never the newest. Age is in the log's time, as of the newest."""
        total = sum(self._sizes.values())
        while len(self._files) > 1 and (
            total > self._keep.size
            or self._wall_us_of(self._files[0]) < now_wall_us - self._keep.age_us
        ):
            total -= self._delete_oldest()

    def _wall_us_of(self, name: str) -> int:
        if name.endswith(".gap"):
            # A gap says nothing of its own time: it goes with the segment that follows it.
            segments = [file for file in self._files if not file.endswith(".gap")]
            return self._wall_us_of(segments[0]) if segments else 1 << 62
        return decode_header(self._disk.pread(name, 0, HEADER_SIZE), file=name).last_wall_us

    def _delete_oldest(self) -> int:
        name = self._files.pop(0)
        self._disk.unlink(name)
        self._disk.fsync_dir()
        size = self._sizes.pop(name)
        self._count()
        return size

    def _with_room(self, action: Callable[[], None]) -> bool:
        """Do something that needs room. On a full disk delete the oldest segments, and then give up this one.

        Locks go on without their audit rather than not at all; the gap is noted, with its reason. Return whether it
        was done.
        """
        while True:
            try:
                action()
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                if len(self._files) > 1:
                    self._delete_oldest()
                    continue
                self._drop_open()
                self._missing = self._missing or (self._chain.first, "the disk was full")
                return False
            return True
