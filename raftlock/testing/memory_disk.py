"""The plainest disk: the Disk port on a dict of bytes, for runs that look at what a data directory holds.

A copy of `files` is a copy of the disk, which costs next to nothing. It knows no crash; SimDisk does.
"""

import errno
from collections.abc import Mapping


class MemoryDisk:
    """A directory in memory. What is written is there."""

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        self.files: dict[str, bytes] = dict(files or {})
        self.writes: list[tuple[dict[str, bytes], str, int, bytes]] | None = None
        """If a list: each `pwrite` with the files as they were before it."""
        self._holder: list[MemoryDisk] = []

    def list(self) -> list[str]:
        """See Disk."""
        return sorted(self.files)

    def lock(self) -> None:
        """See Disk."""
        if self._holder and self._holder[0] is not self:
            raise BlockingIOError(errno.EWOULDBLOCK, "the directory is locked")
        self._holder[:] = [self]

    def beside(self) -> "MemoryDisk":
        """Return the same directory as another process sees it."""
        other = MemoryDisk()
        other.files, other._holder = self.files, self._holder
        return other

    def create(self, name: str) -> None:
        """See Disk."""
        self.files[name] = b""

    def append_zeros(self, name: str, size: int) -> None:
        """See Disk."""
        self.files[name] = self._content(name) + bytes(size)

    def pwrite(self, name: str, offset: int, data: bytes) -> None:
        """See Disk."""
        if self.writes is not None:
            self.writes.append((dict(self.files), name, offset, bytes(data)))
        self.files[name] = overwritten(self._content(name), offset, data)

    def pread(self, name: str, offset: int, size: int) -> bytes:
        """See Disk."""
        return self._content(name)[offset : offset + size]

    def size(self, name: str) -> int:
        """See Disk."""
        return len(self._content(name))

    def fdatasync(self, name: str) -> None:
        """See Disk."""
        self._content(name)

    def fsync_dir(self) -> None:
        """See Disk."""

    def rename(self, source: str, target: str) -> None:
        """See Disk."""
        content = self._content(source)
        del self.files[source]
        self.files[target] = content

    def unlink(self, name: str) -> None:
        """See Disk."""
        self._content(name)
        del self.files[name]

    def free_bytes(self) -> int:
        """See Disk."""
        return 1 << 60

    def close(self) -> None:
        """See Disk."""
        if self._holder and self._holder[0] is self:
            self._holder.clear()

    def _content(self, name: str) -> bytes:
        try:
            return self.files[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, f"{name} does not exist") from None


def overwritten(content: bytes, offset: int, data: bytes) -> bytes:
    """Return `content` with `data` written at `offset`, zeros in a gap before it."""
    before = content[:offset].ljust(offset, b"\x00")
    return before + data + content[offset + len(data) :]
