"""Reads a node's audit directory, also while the node runs: what is there, and what comes.

It reads and never writes. A node renames what is complete and deletes what is old: a file that is gone is passed over.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from raftlock.audit.format import (
    HEADER_SIZE,
    AuditDamaged,
    Header,
    Record,
    decode_block,
    decode_header,
    decode_pending,
    decode_records,
    parse_name,
)
from raftlock.audit.log import PENDING


class Directory:
    """The files of an audit directory, as `verify` and `Follower` read them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def list(self) -> list[str]:
        """See Source."""
        return sorted(entry.name for entry in self.path.iterdir() if entry.is_file())

    def read(self, name: str) -> bytes:
        """See Source."""
        return (self.path / name).read_bytes()

    def pread(self, name: str, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`. Raise FileNotFoundError for a file that is gone."""
        with (self.path / name).open("rb") as file:
            file.seek(offset)
            return file.read(min(size, max(0, os.fstat(file.fileno()).st_size - offset)))

    def segments(self) -> Sequence[tuple[int, int, str]]:
        """Return (first, last, name) of the finished segments, the oldest first."""
        found = ((parse_name(name), name) for name in self.list())
        return [(p[0], p[1], name) for p, name in found if p is not None and p[2] == "seg"]

    def head(self, name: str) -> bytes:
        """Return the first bytes of a segment."""
        with (self.path / name).open("rb") as file:
            return file.read(HEADER_SIZE)

    def size(self, name: str) -> int:
        """Return a file's size in bytes; 0 if it is gone."""
        try:
            return (self.path / name).stat().st_size
        except FileNotFoundError:
            return 0


class Follower:
    """Gives each record once, in order, as they come."""

    def __init__(self, directory: Directory, *, after: int = 0) -> None:
        """`after`: begin behind this index."""
        self._directory = directory
        self.position = after
        self._open_at: tuple[str, int] = ("", HEADER_SIZE)

    def poll(self, wanted: Callable[[Header], bool] = lambda _: True) -> Iterator[Record]:
        """Return what is new. Raise AuditDamaged for a finished segment that is damaged.

        A finished segment whose header is not `wanted` is passed over.
        """
        for _, last, name in self._directory.segments():
            if last > self.position:
                yield from self._finished(name, wanted)
        yield from self._under_way()

    def _finished(self, name: str, wanted: Callable[[Header], bool]) -> Iterator[Record]:
        try:
            header = decode_header(self._directory.head(name), file=name)
            if not wanted(header):
                self.position = header.last
                return
            data = memoryview(self._directory.read(name))
        except FileNotFoundError:
            return
        blocks = header.blocks
        offset = HEADER_SIZE
        for _ in range(blocks):
            raw, after = decode_block(data, offset, file=name)
            yield from self._new(raw, name, offset)
            offset = after

    def _new(self, raw: bytes, name: str, offset: int) -> Iterator[Record]:
        for record in decode_records(raw, file=name, offset=offset):
            if record.entry.index > self.position:
                self.position = record.entry.index
                yield record

    def _under_way(self) -> Iterator[Record]:
        try:
            found = decode_pending(self._directory.read(PENDING))
            names = [name for name in self._directory.list() if name.endswith(".open")]
            if any(last > self.position for _, last, _ in self._directory.segments()):
                # One was finished since: what is under way now comes after it.
                return
            for name in names:
                yield from self._blocks(name)
        except FileNotFoundError:
            # The next look finds it under its other name.
            return
        if found is None:
            return
        # It was read before the blocks were: nothing lies between them and it.
        yield from self._new(found[2], PENDING, 0)

    def _blocks(self, name: str) -> Iterator[Record]:
        known, offset = self._open_at
        if known != name:
            offset = HEADER_SIZE
        data = self._directory.read(name)
        while offset < len(data):
            try:
                raw, after = decode_block(data, offset, file=name)
            except AuditDamaged:
                # It is being written.
                break
            yield from self._new(raw, name, offset)
            offset = after
        self._open_at = (name, offset)
