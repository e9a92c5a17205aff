"""The disk port on the real system: the only module of storage that makes system calls."""

import fcntl
import os
from pathlib import Path

ZEROS = bytes(1 << 20)
LOCK_NAME = "lock"
NOT_OURS = frozenset((LOCK_NAME, "lost+found"))
"""What may stand in a data directory and is no file of the node: a volume of its own has a `lost+found`."""


class OsDisk:
    """A directory of the file system. Descriptors stay open until a file is removed or the disk is closed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fds: dict[str, int] = {}
        self._dir_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._lock_fd: int | None = None

    def _fd(self, name: str) -> int:
        fd = self._fds.get(name)
        if fd is None:
            fd = self._fds[name] = os.open(name, os.O_RDWR | os.O_CLOEXEC, dir_fd=self._dir_fd)
        return fd

    def _drop(self, name: str) -> None:
        fd = self._fds.pop(name, None)
        if fd is not None:
            os.close(fd)

    def list(self) -> list[str]:
        """See Disk."""
        return sorted(name for name in os.listdir(self._path) if name not in NOT_OURS)

    def lock(self) -> None:
        """See Disk. The kernel lets go of the lock when the process ends, however it ends."""
        if self._lock_fd is not None:
            return
        fd = os.open(LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self._dir_fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        self._lock_fd = fd

    def create(self, name: str) -> None:
        """See Disk."""
        self._drop(name)
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._fds[name] = os.open(name, flags, 0o600, dir_fd=self._dir_fd)

    def append_zeros(self, name: str, size: int) -> None:
        """See Disk. Zeros are written, not promised: a later fdatasync then has no extents to convert."""
        offset = self.size(name)
        while size > 0:
            part = min(size, len(ZEROS))
            self.pwrite(name, offset, ZEROS if part == len(ZEROS) else ZEROS[:part])
            offset += part
            size -= part

    def pwrite(self, name: str, offset: int, data: bytes) -> None:
        """See Disk."""
        fd = self._fd(name)
        view = memoryview(data)
        while view:
            written = os.pwrite(fd, view, offset)
            view = view[written:]
            offset += written

    def pread(self, name: str, offset: int, size: int) -> bytes:
        """See Disk."""
        fd = self._fd(name)
        parts = []
        while size > 0:
            part = os.pread(fd, size, offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return b"".join(parts)

    def size(self, name: str) -> int:
        """See Disk."""
        return os.fstat(self._fd(name)).st_size

    def fdatasync(self, name: str) -> None:
        """See Disk."""
        os.fdatasync(self._fd(name))

    def fsync_dir(self) -> None:
        """See Disk."""
        os.fsync(self._dir_fd)

    def rename(self, source: str, target: str) -> None:
        """See Disk."""
        os.rename(source, target, src_dir_fd=self._dir_fd, dst_dir_fd=self._dir_fd)
        self._drop(target)
        fd = self._fds.pop(source, None)
        if fd is not None:
            self._fds[target] = fd

    def unlink(self, name: str) -> None:
        """See Disk."""
        os.unlink(name, dir_fd=self._dir_fd)
        self._drop(name)

    def free_bytes(self) -> int:
        """See Disk."""
        stat = os.fstatvfs(self._dir_fd)
        return stat.f_bavail * stat.f_frsize

    def close(self) -> None:
        """See Disk. Again is fine: the numbers of the descriptors may be somebody else's by then."""
        for name in list(self._fds):
            self._drop(name)
        if self._dir_fd >= 0:
            os.close(self._dir_fd)
            self._dir_fd = -1
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None
