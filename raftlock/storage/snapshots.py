"""Snapshot files: written in parts, named by index and term, verified as a whole (decision 14).

It owns their files and those on their way. It must not know what a chunk holds.
"""

import hashlib
import struct
from collections.abc import Iterator
from typing import Any

from crc32c import crc32c

from raftlock.storage.disk import Disk
from raftlock.storage.errors import BadSnapshot, Damaged, SnapshotGone
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


class SnapshotWriter:
    """Writes one snapshot to a temporary file."""

    def __init__(self, disk: Disk, meta: SnapshotMeta) -> None:
        self._disk = disk
        self._meta = meta
        self._sha256 = hashlib.sha256()
        self._size = 0
        disk.create(SAVING)
        head = pack([meta.index, meta.term, meta.stamp_us, meta.wall_us, meta.membership])
        self._write(MAGIC + _SIZES.pack(len(head), crc32c(head)) + head)

    def _write(self, data: bytes) -> None:
        self._disk.pwrite(SAVING, self._size, data)
        self._sha256.update(data)
        self._size += len(data)

    def append(self, chunk: bytes) -> None:
        """Write the next chunk."""
        self._write(_SIZES.pack(len(chunk), crc32c(chunk)) + chunk)

    def finish(self) -> SnapshotMeta:
        """Sync the file, give it its name, and return what names it."""
        self._write(_SIZES.pack(_END, 0))
        meta = self._meta._replace(size=self._size, sha256=self._sha256.digest())
        self._disk.fdatasync(SAVING)
        self._disk.rename(SAVING, file_name(meta))
        self._disk.fsync_dir()
        return meta

    def abort(self) -> None:
        """Give the snapshot up."""
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
        for old in names[:-1]:
            disk.unlink(old)
        if not names:
            return None
        name = names[-1]
        sha256 = hashlib.sha256()
        size = disk.size(name)
        for offset in range(0, size, _READ_SIZE):
            sha256.update(disk.pread(name, offset, _READ_SIZE))
        meta = _read_head(disk, name)._replace(size=size, sha256=sha256.digest())
        for _ in _chunks(disk, name):
            pass
        if file_name(meta) != name:
            raise Damaged(file=name, offset=0, problem=f"it says it is {file_name(meta)}")
        # What was read may be in the page cache only (decision 12).
        disk.fdatasync(name)
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
        """Return the chunks of a snapshot, each verified."""
        return _chunks(self._disk, file_name(meta))

    def store_chunk(self, meta: SnapshotMeta, offset: int, data: bytes) -> int:
        """Store a part of a received snapshot, in order. Return the offset that comes next."""
        if self._receiving != meta or offset == 0:
            self._disk.create(RECEIVING)
            self._receiving, self._received = meta, 0
        if offset == self._received:
            self._disk.pwrite(RECEIVING, offset, data)
            self._received += len(data)
        return self._received

    def install(self, meta: SnapshotMeta) -> None:
        """Verify a received snapshot and give it its name. Raise BadSnapshot if it is not what the name says."""
        disk = self._disk
        if self._receiving != meta or self._received != meta.size:
            raise BadSnapshot(f"{self._received} of {meta.size} bytes were received")
        sha256 = hashlib.sha256()
        for offset in range(0, meta.size, _READ_SIZE):
            sha256.update(disk.pread(RECEIVING, offset, _READ_SIZE))
        self._receiving = None
        if sha256.digest() != meta.sha256:
            disk.unlink(RECEIVING)
            raise BadSnapshot("the SHA-256 of what was received is another one")
        disk.fdatasync(RECEIVING)
        disk.rename(RECEIVING, file_name(meta))
        disk.fsync_dir()


def file_name(meta: SnapshotMeta) -> str:
    """Return the name of a snapshot's file: they sort by index."""
    return f"{PREFIX}{meta.index:020d}-{meta.term:016d}{SUFFIX}"


def _read_head(disk: Disk, name: str) -> SnapshotMeta:
    start = disk.pread(name, 0, len(MAGIC) + _SIZES.size)
    if len(start) != len(MAGIC) + _SIZES.size or not start.startswith(MAGIC):
        raise Damaged(file=name, offset=0, problem="it does not begin as a snapshot does")
    size, crc = _SIZES.unpack(start[len(MAGIC) :])
    head = disk.pread(name, len(start), min(size, 1 << 20))
    if len(head) != size or crc32c(head) != crc:
        raise Damaged(file=name, offset=len(start), problem="the head is damaged")
    try:
        fields: Any = unpack(head)
        index, term, stamp_us, wall_us, membership = fields
    except (BadFrame, TypeError, ValueError) as error:
        raise Damaged(file=name, offset=len(start), problem=str(error)) from error
    return SnapshotMeta(Index(index), Term(term), stamp_us, wall_us, membership, 0, b"")


def _chunks(disk: Disk, name: str) -> Iterator[bytes]:
    start = disk.pread(name, 0, len(MAGIC) + _SIZES.size)
    offset = len(start) + int(_SIZES.unpack(start[len(MAGIC) :])[0])
    file_size = disk.size(name)
    while True:
        sizes = disk.pread(name, offset, _SIZES.size)
        if len(sizes) != _SIZES.size:
            raise Damaged(file=name, offset=offset, problem="the file ends before its end")
        size, crc = _SIZES.unpack(sizes)
        if size == _END and crc == 0:
            if offset + _SIZES.size != file_size:
                raise Damaged(file=name, offset=offset, problem="something follows the end")
            return
        chunk = disk.pread(name, offset + _SIZES.size, min(size, file_size))
        if len(chunk) != size or crc32c(chunk) != crc:
            raise Damaged(file=name, offset=offset, problem="a chunk is damaged")
        yield chunk
        offset += _SIZES.size + size
