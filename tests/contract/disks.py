"""The disks that every suite of this folder is run on."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raftlock.storage import OsDisk
from raftlock.testing.disk import SimDisk
from raftlock.testing.memory_disk import MemoryDisk


class Opened:
    """One directory, seen through a disk of one kind, and through others of the same directory."""

    def __init__(self, disk: Any, beside: Callable[[], Any]) -> None:
        self.disk = disk
        self._beside = beside
        self._others: list[Any] = []

    def beside(self) -> Any:
        """Return the directory as another process sees it."""
        other = self._beside()
        self._others.append(other)
        return other

    def close(self) -> None:
        """Close all."""
        for disk in (*self._others, self.disk):
            disk.close()


def _os(path: Path) -> Opened:
    return Opened(OsDisk(path), lambda: OsDisk(path))


def _sim(path: Path) -> Opened:
    del path
    disk = SimDisk(rng=random.Random(0))
    return Opened(disk, disk.beside)


def _memory(path: Path) -> Opened:
    del path
    disk = MemoryDisk()
    return Opened(disk, disk.beside)


KINDS: dict[str, Callable[[Path], Opened]] = {"OsDisk": _os, "SimDisk": _sim, "MemoryDisk": _memory}
