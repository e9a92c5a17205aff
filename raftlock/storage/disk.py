"""The disk port: the few calls that storage makes. Names are relative to the data directory, which has no folders.

An implementation raises OSError for what fails; ENOSPC from calls that make a file or make one longer, and, on file
systems that copy on write, from any write.
"""

from typing import Protocol


class Disk(Protocol):
    """A directory of files."""

    def list(self) -> list[str]:
        """Return the names of all files, sorted."""

    def lock(self) -> None:
        """Take the directory for this object, until `close`; again is fine. Raise BlockingIOError if another has it."""

    def create(self, name: str) -> None:
        """Make an empty file, or empty the one that is there."""

    def append_zeros(self, name: str, size: int) -> None:
        """Make a file longer by `size` zero bytes whose blocks are allocated."""

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

    def free_bytes(self) -> int:
        """Return how much room is left."""

    def close(self) -> None:
        """Let go of everything."""
