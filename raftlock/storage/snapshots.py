"""Snapshot files: written in parts, named by index and term, verified as a whole (decision 14).

It owns their files and those on their way. It must not know what a chunk holds.
"""

import hashlib
import struct
from collections.abc import Iterator
from typing import Any

from crc32c import crc32c

from raftlock.storage.disk import Disk
from raftlock.storage.errors import BadSnapshot, Damaged, SnapshotGone, disk_errors
from raftlock_wire.codec import pack, unpack
from raftlock_wire.entry import SnapshotMeta
from raftlock_wire.errors import BadFrame
from raftlock_wire.ids import Index, Term

MAGIC = b"RLSNAP01"
PREFIX, SUFFIX = "snapshot-", ".snap"
SAVING = "snapshot.saving"
RECEIVING = "snapshot.receiving"
_SIZES = struct.Struct(">II")
_END = 0xFFFF_FFFF
_READ_SIZE = 1 << 20
_HEAD_SIZE_MAX = 1 << 20


class SnapshotWriter:
    """Writes one snapshot to a temporary file. Raises NoRoom if there is none; DiskFailed ends the process."""

    def __init__(self, disk: Disk, meta: SnapshotMeta) -> None:
        self._disk = disk
        self._meta = meta
        self._sha256 = hashlib.sha256()
        self._crc = 0
        self._size = 0
        with disk_errors("writing a snapshot", asks_room=True):
            disk.create(SAVING)
        head = pack([meta.index, meta.term, meta.stamp_us, meta.wall_us, meta.membership])
        self._write(MAGIC + _SIZES.pack(len(head), crc32c(head)) + head)

    def _write(self, data: bytes) -> None:
        with disk_errors("writing a snapshot", asks_room=True):
            self._disk.pwrite(SAVING, self._size, data)
        self._sha256.update(data)
        self._crc = crc32c(data, self._crc)
        self._size += len(data)

    def append(self, chunk: bytes) -> None:
        """Write the next chunk."""
        self._write(_SIZES.pack(len(chunk), crc32c(chunk)) + chunk)

    def finish(self) -> SnapshotMeta:
        """Sync the file, give it its name, and return what names it."""
        self._write(_SIZES.pack(_END, self._crc))
        meta = self._meta._replace(size=self._size, sha256=self._sha256.digest())
        with disk_errors("writing a snapshot", asks_room=True):
            self._disk.fdatasync(SAVING)
        with disk_errors("giving a snapshot its name"):
            self._disk.rename(SAVING, file_name(meta))
            self._disk.fsync_dir()
        return meta

    def abort(self) -> None:
        """Give the snapshot up."""
        with disk_errors("giving a snapshot up"):
            self._disk.unlink(SAVING)


class SnapshotFiles:
    """The newest snapshot, and one that is being received."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._receiving: SnapshotMeta | None = None
        self._received = 0

    def recover(self) -> SnapshotMeta | None:
        """Verify the newest snapshot, remove older ones and leftovers, and return its name."""
        disk = self._disk
        for leftover in (SAVING, RECEIVING):
            if leftover in disk.list():
                disk.unlink(leftover)
        names = [name for name in disk.list() if name.startswith(PREFIX) and name.endswith(SUFFIX)]
        if not names:
            return None
        name = names[-1]
        meta, _ = _read_head(disk, name)
        if file_name(meta) != name:
            raise Damaged(file=name, offset=0, problem=f"it says it is {file_name(meta)}")
        for _ in _spans(disk, name):
            pass
        size = disk.size(name)
        meta = meta._replace(size=size, sha256=_sha256(disk, name, size))
        # What was read may be in the page cache only (decision 12).
        disk.fdatasync(name)
        # Only now, so that a damaged one leaves what it would have replaced.
        for old in names[:-1]:
            disk.unlink(old)
        return meta

    def remove_older(self, meta: SnapshotMeta) -> None:
        """Remove snapshots older than this one."""
        for name in self._disk.list():
            if name.startswith(PREFIX) and name.endswith(SUFFIX) and name < file_name(meta):
                self._disk.unlink(name)
        self._disk.fsync_dir()

    def read(self, meta: SnapshotMeta, offset: int, size: int) -> bytes:
        """Return a part of a snapshot's file, for a peer. Raise SnapshotGone if a newer one replaced it."""
        name = file_name(meta)
        if name not in self._disk.list():
            raise SnapshotGone(f"{name} was replaced")
        return self._disk.pread(name, offset, size)

    def chunks(self, meta: SnapshotMeta) -> Iterator[bytes]:
        """Return the chunks of a snapshot, each verified; the file as a whole is, once all are taken."""
        name = file_name(meta)
        for offset, size in _spans(self._disk, name):
            yield self._disk.pread(name, offset, size)

    def store_chunk(self, meta: SnapshotMeta, offset: int, data: bytes) -> int:
        """Store a part of a received snapshot, in order. Return the offset that comes next."""
        if self._receiving != meta or offset == 0:
            self._disk.create(RECEIVING)
            self._receiving, self._received = meta, 0
        # What is longer than its name says is not stored; `install` refuses it.
        if offset == self._received and offset + len(data) <= meta.size:
            self._disk.pwrite(RECEIVING, offset, data)
            self._received += len(data)
        return self._received

    def install(self, meta: SnapshotMeta) -> None:
        """Verify a received snapshot and give it its name. Raise BadSnapshot if it is not what the name says."""
        disk = self._disk
        if self._receiving != meta or self._received != meta.size:
            raise BadSnapshot(f"{self._received} of {meta.size} bytes were received")
        self._receiving = None
        try:
            self._check_received(meta)
        except BadSnapshot:
            disk.unlink(RECEIVING)
            raise
        disk.fdatasync(RECEIVING)
        disk.rename(RECEIVING, file_name(meta))
        disk.fsync_dir()

    def _check_received(self, meta: SnapshotMeta) -> None:
        """Verify now what `recover` will: a file in place that cannot be read would keep the node from starting."""
        disk = self._disk
        if _sha256(disk, RECEIVING, meta.size) != meta.sha256:
            raise BadSnapshot("the SHA-256 of what was received is another one")
        try:
            head, _ = _read_head(disk, RECEIVING)
            for _ in _spans(disk, RECEIVING):
                pass
        except Damaged as error:
            raise BadSnapshot(f"what was received is no snapshot: {error}") from error
        if head != meta._replace(size=0, sha256=b""):
            raise BadSnapshot(f"what was received says it is {file_name(head)}")


def file_name(meta: SnapshotMeta) -> str:
    """Return the name of a snapshot's file: they sort by index."""
    return f"{PREFIX}{meta.index:020d}-{meta.term:016d}{SUFFIX}"


def read_meta(disk: Disk, name: str) -> SnapshotMeta:
    """Return what a snapshot's file says of itself, without size and hash. Raise Damaged if its head is none."""
    return _read_head(disk, name)[0]


def _sha256(disk: Disk, name: str, size: int) -> bytes:
    sha256 = hashlib.sha256()
    for offset in range(0, size, _READ_SIZE):
        sha256.update(disk.pread(name, offset, _READ_SIZE))
    return sha256.digest()


def _read_head(disk: Disk, name: str) -> tuple[SnapshotMeta, bytes]:
    """Return what a snapshot says of itself, without size and hash, and the bytes before its first chunk."""
    start = disk.pread(name, 0, len(MAGIC) + _SIZES.size)
    if len(start) != len(MAGIC) + _SIZES.size or not start.startswith(MAGIC):
        raise Damaged(file=name, offset=0, problem="it does not begin as a snapshot does")
    size, crc = _SIZES.unpack(start[len(MAGIC) :])
    head = disk.pread(name, len(start), min(size, _HEAD_SIZE_MAX))
    if len(head) != size or crc32c(head) != crc:
        raise Damaged(file=name, offset=len(start), problem="the head is damaged")
    try:
        fields: Any = unpack(head)
        index, term, stamp_us, wall_us, membership = fields
    except (BadFrame, TypeError, ValueError) as error:
        raise Damaged(file=name, offset=len(start), problem=str(error)) from error
    numbers = (index, term, stamp_us, wall_us)
    if any(type(n) is not int or n < 0 for n in numbers) or not isinstance(membership, bytes):
        raise Damaged(file=name, offset=len(start), problem=f"the head says {fields!r:.120}")
    meta = SnapshotMeta(Index(index), Term(term), stamp_us, wall_us, membership, 0, b"")
    return meta, start + head


def _spans(disk: Disk, name: str) -> Iterator[tuple[int, int]]:
    """Yield offset and size of each chunk, verified, with no more than _READ_SIZE of it in memory."""
    _, start = _read_head(disk, name)
    offset, whole_crc = len(start), crc32c(start)
    file_size = disk.size(name)
    while True:
        sizes = disk.pread(name, offset, _SIZES.size)
        if len(sizes) != _SIZES.size:
            raise Damaged(file=name, offset=offset, problem="the file ends before its end")
        size, crc = _SIZES.unpack(sizes)
        begin = offset + _SIZES.size
        if size == _END:
            _check_end(name, offset, at_end=begin == file_size, crc=crc, whole_crc=whole_crc)
            return
        whole_crc = crc32c(sizes, whole_crc)
        chunk_crc = 0
        for at in range(begin, min(begin + size, file_size), _READ_SIZE):
            part = disk.pread(name, at, min(_READ_SIZE, begin + size - at))
            chunk_crc, whole_crc = crc32c(part, chunk_crc), crc32c(part, whole_crc)
        if begin + size > file_size or chunk_crc != crc:
            raise Damaged(file=name, offset=offset, problem="a chunk is damaged")
        yield begin, size
        offset = begin + size


def _check_end(name: str, offset: int, *, at_end: bool, crc: int, whole_crc: int) -> None:
    if not at_end:
        raise Damaged(file=name, offset=offset, problem="something follows the end")
    if crc != whole_crc:
        raise Damaged(file=name, offset=offset, problem="the checksum of the file does not fit")
