"""What can go wrong with a data directory. Each error names the file and, where it matters, the offset."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class StorageError(Exception):
    """Base of all errors about a data directory. The node does not start, or ends (decision 12)."""


class Damaged(StorageError):
    """A file is not what was written. Nothing was changed."""

    def __init__(self, *, file: str, offset: int, problem: str) -> None:
        super().__init__(f"{file} at offset {offset}: {problem}")
        self.file, self.offset, self.problem = file, offset, problem


class DiskFailed(StorageError):
    """A write, sync or rename failed: nothing that rests on it may be acknowledged, and it is not tried again."""


class NoRoom(StorageError):
    """There is no room for another segment or snapshot. Nothing that anyone relies on was written (decision 12)."""


class NotOurs(StorageError):
    """The directory belongs to another node, or holds something that is no data directory."""


class DirectoryInUse(StorageError):
    """Another process has the directory open."""


class ClusterMismatch(StorageError):
    """The directory belongs to another cluster."""


class BadSnapshot(StorageError):
    """A received snapshot is not the one that its name says."""


class SnapshotGone(StorageError):
    """The snapshot's file was replaced by a newer one."""


@contextmanager
def disk_errors(doing: str, *, asks_room: bool = False) -> Iterator[None]:
    """Turn an error of the disk into DiskFailed, or NoRoom where room is only asked for (decision 12)."""
    try:
        yield
    except OSError as error:
        if asks_room and error.errno == errno.ENOSPC:
            raise NoRoom(f"{doing}: {error}") from error
        raise DiskFailed(f"{doing}: {error}") from error
