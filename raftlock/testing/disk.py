"""A simulated disk that behaves as badly as real ones may: the Disk port of storage in memory.

What is written is seen at once, as through a page cache, and is durable only when synced. A crash keeps, loses or tears
each unsynced write, sector by sector, and keeps a beginning of the unsynced directory operations.
"""

import copy
import errno
import random
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

SECTOR_SIZE = 512


class CrashPoint(Exception):
    """The process dies here, between two calls."""


class Kept(Enum):
    """What a power cut leaves of what was not synced."""

    SOME = auto()
    """Each write is kept, lost or torn; the directory operations up to some moment are kept."""
    NOTHING = auto()
    HALF = auto()
    """The first half of each write, and of the directory operations."""
    ALL = auto()


@dataclass(slots=True)
class _File:
    """One file: what readers see, what is durable, and the writes in between."""

    seen: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[tuple[int, bytes]] = field(default_factory=list)


class _NameChange(NamedTuple):
    """A directory operation: a file gets a name, takes another one's, or loses it."""

    name: str
    file: _File | None = None
    source: str | None = None

    def do(self, names: dict[str, _File]) -> None:
        """Do it to a directory."""
        if self.file is not None:
            names[self.name] = self.file
        elif self.source is None:
            names.pop(self.name, None)
        elif self.source in names:
            names[self.name] = names.pop(self.source)


class SimDisk:
    """A directory of simulated files."""

    def __init__(self, *, rng: random.Random, capacity: int | None = None) -> None:
        """`capacity` in bytes; None: endless."""
        self._rng = rng
        self.capacity = capacity
        self._files: dict[str, _File] = {}
        self._durable_names: dict[str, _File] = {}
        self._directory_log: list[_NameChange] = []
        self._calls_left: int | None = None
        self._failing: dict[str, int] = {}
        self._holder: list[SimDisk] = []
        self.calls = 0
        self.syncs = 0

    # faults

    def crash_after(self, calls: int | None) -> None:
        """Die before the mutating call after the next `calls` ones; None: not at all."""
        self._calls_left = calls

    def fail_once(self, call: str, code: int = errno.EIO) -> None:
        """Let the next call of this name fail with this errno.

        A sync that fails is not made good by the next one, as on Linux: what it should have written may be lost, is
        still seen, and counts as written.
        """
        self._failing[call] = code

    def fail_no_more(self) -> None:
        """Let the calls that were to fail succeed."""
        self._failing.clear()

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

    def end_process(self) -> None:
        """Kill the process alone: what it wrote stays in the page cache, synced or not."""
        self._calls_left = None
        self._failing.clear()
        self._holder.clear()

    def crash(self, kept: Kept = Kept.SOME) -> None:
        """Cut the power: decide what of the unsynced things survived, and forget the process."""
        self.end_process()
        names = dict(self._durable_names)
        for operation in self._directory_log[: self._kept_operations(kept)]:
            operation.do(names)
        for file in {id(f): f for f in names.values()}.values():
            self._settle(file, kept)
            file.seen = bytearray(file.durable)
        self._files = names
        self._durable_names = dict(names)
        self._directory_log.clear()

    def _kept_operations(self, kept: Kept) -> int:
        count = len(self._directory_log)
        if kept is Kept.SOME:
            return self._rng.randint(0, count)
        return {Kept.NOTHING: 0, Kept.HALF: count // 2, Kept.ALL: count}[kept]

    def _settle(self, file: _File, kept: Kept) -> None:
        """Decide what of the unsynced writes becomes durable; there are none left."""
        for offset, data in file.unsynced:
            if kept is Kept.ALL:
                _put(file.durable, offset, data)
            elif kept is Kept.HALF:
                _put(file.durable, offset, data[: len(data) // 2])
            elif kept is Kept.SOME:
                self._tear(file, offset, data)
        file.unsynced.clear()

    def _tear(self, file: _File, offset: int, data: bytes) -> None:
        fate = self._rng.random()
        if fate < 0.4:
            return
        if fate < 0.6:
            _put(file.durable, offset, data[: self._rng.randint(0, len(data))])
        elif fate < 0.8 and len(data) > SECTOR_SIZE:
            self._scatter(file, offset, data)
        else:
            _put(file.durable, offset, data)

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

    def reseed(self, seed: int) -> None:
        """Draw what the next faults do anew."""
        self._rng = random.Random(seed)

    def beside(self) -> "SimDisk":
        """Return the same directory as another process sees it, until the power is cut."""
        return copy.copy(self)

    def _mutate(self) -> None:
        self.calls += 1
        if self._calls_left is not None:
            if self._calls_left <= 0:
                raise CrashPoint
            self._calls_left -= 1

    def _call(self, call: str) -> None:
        self._mutate()
        self._fail(call)

    def _fail(self, call: str) -> None:
        code = self._failing.pop(call, None)
        if code is not None:
            raise OSError(code, f"{call} fails")

    def _change(self, change: _NameChange) -> None:
        change.do(self._files)
        self._directory_log.append(change)

    # the port

    def list(self) -> list[str]:
        """See Disk."""
        self._fail("list")
        return sorted(self._files)

    def lock(self) -> None:
        """See Disk."""
        if self._holder and self._holder[0] is not self:
            raise BlockingIOError(errno.EWOULDBLOCK, "the directory is locked")
        self._holder[:] = [self]

    def create(self, name: str) -> None:
        """See Disk."""
        self._call("create")
        self._change(_NameChange(name, file=_File()))

    def append_zeros(self, name: str, size: int) -> None:
        """See Disk. When there is no room, what fits is written, as on a real disk."""
        self._call("append_zeros")
        file = self._file(name)
        offset, fits = len(file.seen), min(size, self._room())
        file.seen.extend(bytes(fits))
        file.unsynced.append((offset, bytes(fits)))
        if fits < size:
            raise OSError(errno.ENOSPC, "no space left on device")

    def pwrite(self, name: str, offset: int, data: bytes) -> None:
        """See Disk."""
        self._call("pwrite")
        file = self._file(name)
        if offset + len(data) - len(file.seen) > self._room():
            raise OSError(errno.ENOSPC, "no space left on device")
        _put(file.seen, offset, data)
        file.unsynced.append((offset, bytes(data)))

    def pread(self, name: str, offset: int, size: int) -> bytes:
        """See Disk."""
        self._fail("pread")
        return bytes(self._file(name).seen[offset : offset + size])

    def size(self, name: str) -> int:
        """See Disk."""
        return len(self._file(name).seen)

    def fdatasync(self, name: str) -> None:
        """See Disk."""
        file = self._file(name)
        try:
            self._call("fdatasync")
        except OSError:
            self._settle(file, Kept.SOME)
            raise
        self.syncs += 1
        self._settle(file, Kept.ALL)

    def fsync_dir(self) -> None:
        """See Disk."""
        self._call("fsync_dir")
        self._durable_names = dict(self._files)
        self._directory_log.clear()

    def rename(self, source: str, target: str) -> None:
        """See Disk."""
        self._call("rename")
        self._file(source)
        self._change(_NameChange(target, source=source))

    def unlink(self, name: str) -> None:
        """See Disk."""
        self._call("unlink")
        self._file(name)
        self._change(_NameChange(name))

    def free_bytes(self) -> int:
        """See Disk."""
        return self._room()

    def _room(self) -> int:
        if self.capacity is None:
            return 1 << 60
        return max(0, self.capacity - sum(len(file.seen) for file in self._files.values()))

    def close(self) -> None:
        """See Disk."""
        if self._holder and self._holder[0] is self:
            self._holder.clear()

    def _file(self, name: str) -> _File:
        try:
            return self._files[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, f"{name} does not exist") from None


def _put(content: bytearray, offset: int, data: bytes) -> None:
    """Write into what may be shorter, as a sparse file is."""
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data
