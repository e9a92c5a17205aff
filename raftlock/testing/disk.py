"""A simulated disk that behaves as badly as real ones may: the Disk port of storage in memory.

What is written is seen at once, as through a page cache, and is durable only when synced. A crash keeps, loses or tears
each unsynced write, sector by sector, and keeps a beginning of the unsynced directory operations.
"""

import copy
import errno
import random
from collections.abc import Callable
from dataclasses import dataclass, field

SECTOR_SIZE = 512


class CrashPoint(Exception):
    """The process dies here, between two calls."""


@dataclass(slots=True)
class _File:
    """One file: what readers see, what is durable, and the writes in between."""

    seen: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[tuple[int, bytes]] = field(default_factory=list)


class SimDisk:
    """A directory of simulated files."""

    def __init__(self, *, rng: random.Random, capacity: int | None = None) -> None:
        """`capacity` in bytes; None: endless."""
        self._rng = rng
        self.capacity = capacity
        self._files: dict[str, _File] = {}
        self._durable_names: dict[str, _File] = {}
        self._directory_log: list[Callable[[dict[str, _File]], None]] = []
        self._calls_left: int | None = None
        self._failing_sync = False
        self._locked = False
        self.calls = 0
        self.syncs = 0

    # faults

    def crash_after(self, calls: int | None) -> None:
        """Die before the mutating call after the next `calls` ones; None: not at all."""
        self._calls_left = calls

    def fail_sync_once(self) -> None:
        """Let the next sync fail with EIO. What it should have written may be lost."""
        self._failing_sync = True

    def flip_bit(self, name: str, offset: int, bit: int) -> None:
        """Rot: flip a bit of what is at rest."""
        file = self._files[name]
        file.seen[offset] ^= 1 << bit
        file.durable[offset] ^= 1 << bit

    def shorten(self, name: str, size: int) -> None:
        """Cut a file at rest."""
        file = self._files[name]
        del file.seen[size:]
        del file.durable[size:]

    def crash(self) -> None:
        """Cut the power: decide what of the unsynced things survived, and forget the process."""
        names = dict(self._durable_names)
        keep = self._rng.randint(0, len(self._directory_log))
        for operation in self._directory_log[:keep]:
            operation(names)
        for file in {id(f): f for f in names.values()}.values():
            self._tear(file)
        self._files = names
        self._durable_names = dict(names)
        self._directory_log.clear()
        self._calls_left = None
        self._failing_sync = False
        self._locked = False

    def _tear(self, file: _File) -> None:
        for offset, data in file.unsynced:
            fate = self._rng.random()
            if fate < 0.4:
                continue
            kept = data
            if fate < 0.6:
                kept = data[: self._rng.randint(0, len(data))]
            if len(file.durable) < offset:
                file.durable.extend(bytes(offset - len(file.durable)))
            if fate < 0.8 and len(data) > SECTOR_SIZE:
                self._scatter(file, offset, data)
            else:
                file.durable[offset : offset + len(kept)] = kept
        file.unsynced.clear()
        file.seen = bytearray(file.durable)

    def _scatter(self, file: _File, offset: int, data: bytes) -> None:
        """Keep some sectors of a write and not others, whatever their order."""
        end = offset + len(data)
        if len(file.durable) < end:
            file.durable.extend(bytes(end - len(file.durable)))
        at = offset
        while at < end:
            after = min(end, (at // SECTOR_SIZE + 1) * SECTOR_SIZE)
            if self._rng.random() < 0.5:
                file.durable[at:after] = data[at - offset : after - offset]
            at = after

    def clone(self) -> "SimDisk":
        """Return an independent copy."""
        return copy.deepcopy(self)

    def _mutate(self) -> None:
        self.calls += 1
        if self._calls_left is not None:
            if self._calls_left <= 0:
                raise CrashPoint
            self._calls_left -= 1

    def _directory(self, operation: Callable[[dict[str, _File]], None]) -> None:
        operation(self._files)
        self._directory_log.append(operation)

    # the port

    def list(self) -> list[str]:
        """See Disk."""
        return sorted(self._files)

    def lock(self) -> None:
        """See Disk."""
        if self._locked:
            raise BlockingIOError(errno.EWOULDBLOCK, "the directory is locked")
        self._locked = True

    def create(self, name: str) -> None:
        """See Disk."""
        self._mutate()
        file = _File()

        def make(names: dict[str, _File]) -> None:
            names[name] = file

        self._directory(make)

    def append_zeros(self, name: str, size: int) -> None:
        """See Disk."""
        self._mutate()
        file = self._file(name)
        self._check_room(size)
        offset = len(file.seen)
        file.seen.extend(bytes(size))
        file.unsynced.append((offset, bytes(size)))

    def _check_room(self, size: int) -> None:
        if self.capacity is not None:
            used = sum(len(file.seen) for file in self._files.values())
            if used + size > self.capacity:
                raise OSError(errno.ENOSPC, "no space left on device")

    def pwrite(self, name: str, offset: int, data: bytes) -> None:
        """See Disk."""
        self._mutate()
        file = self._file(name)
        self._check_room(max(0, offset + len(data) - len(file.seen)))
        if len(file.seen) < offset:
            file.seen.extend(bytes(offset - len(file.seen)))
        file.seen[offset : offset + len(data)] = data
        file.unsynced.append((offset, bytes(data)))

    def pread(self, name: str, offset: int, size: int) -> bytes:
        """See Disk."""
        return bytes(self._file(name).seen[offset : offset + size])

    def size(self, name: str) -> int:
        """See Disk."""
        return len(self._file(name).seen)

    def fdatasync(self, name: str) -> None:
        """See Disk."""
        self._mutate()
        if self._failing_sync:
            self._failing_sync = False
            raise OSError(errno.EIO, "input/output error")
        self.syncs += 1
        file = self._file(name)
        for offset, data in file.unsynced:
            if len(file.durable) < offset:
                file.durable.extend(bytes(offset - len(file.durable)))
            file.durable[offset : offset + len(data)] = data
        file.unsynced.clear()

    def fsync_dir(self) -> None:
        """See Disk."""
        self._mutate()
        self._durable_names = dict(self._files)
        self._directory_log.clear()

    def rename(self, source: str, target: str) -> None:
        """See Disk."""
        self._mutate()
        self._file(source)

        def move(names: dict[str, _File]) -> None:
            if source in names:
                names[target] = names.pop(source)

        self._directory(move)

    def unlink(self, name: str) -> None:
        """See Disk."""
        self._mutate()
        self._file(name)

        def remove(names: dict[str, _File]) -> None:
            names.pop(name, None)

        self._directory(remove)

    def free_bytes(self) -> int:
        """See Disk."""
        if self.capacity is None:
            return 1 << 60
        return self.capacity - sum(len(file.seen) for file in self._files.values())

    def close(self) -> None:
        """See Disk."""
        self._locked = False

    def _file(self, name: str) -> _File:
        try:
            return self._files[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, f"{name} does not exist") from None
