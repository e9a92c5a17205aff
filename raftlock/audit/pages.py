"""Pages of a node's records: what fits from a place in the log on, as much as one answer may hold.

A page ends anywhere, also within an entry, and says where the next one begins: whatever the bounds, the records of all
pages together are the same. It reads a directory that a node writes to, through a port. It must not know the network.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from raftlock.audit.format import (
    BLOCK_HEADER_SIZE,
    BLOCK_SIZE_MAX,
    HEADER_SIZE,
    RECORD_HEADER_SIZE,
    AuditDamaged,
    Record,
    block_size,
    decode_block,
    decode_header,
    decode_pending,
    decode_records,
    open_name,
    parse_name,
)
from raftlock.audit.log import PENDING
from raftlock.audit.names import Row, rows_of
from raftlock.audit.question import Question
from raftlock_wire import limits
from raftlock_wire.codec import pack


class Files(Protocol):
    """A node's audit directory. `size` and `pread` may raise FileNotFoundError: files are renamed and deleted."""

    def list(self) -> list[str]:
        """Return the names of all files, sorted."""

    def size(self, name: str) -> int:
        """Return a file's size in bytes."""

    def pread(self, name: str, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`."""


class Place(NamedTuple):
    """Where a page begins: at a record of an entry."""

    index: int  # type: ignore[assignment]  # the field's word; nobody calls tuple.index on it
    position: int = 0


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Where a page ends at the latest; at least one record, or one entry, is always got over."""

    records: int = limits.AUDIT_PAGE_MAX
    size: int = limits.AUDIT_PAGE_SIZE_MAX
    scan_size: int = limits.AUDIT_SCAN_SIZE_MAX
    files: int = limits.AUDIT_SCAN_FILES_MAX
    goes_on: Callable[[], bool] = lambda: True
    """Asked after each entry and record: it may rest, and says whether there is time left."""


@dataclass(slots=True)
class Page:
    """What was found."""

    next: Place
    """Where the next page begins."""
    rows: list[bytes] = field(default_factory=list)
    """The records that fit, encoded."""
    spans: list[tuple[int, int]] = field(default_factory=list)
    """First and last index of what the node has and this page looked at, whole entries only."""
    complete: bool = False
    """Whether everything was looked at that the node shows."""
    scanned: int = 0
    """Bytes of entries and results that were looked at."""

    def has(self, first: int, last: int) -> None:
        """Note that some indexes are done."""
        if self.spans and self.spans[-1][1] + 1 >= first:
            first = self.spans.pop()[0]
        self.spans.append((first, last))
        self.next = Place(last + 1)


class _Full(Exception):
    """A bound of the page is reached."""


class PageReader:
    """Reads pages. One thread at a time may call it."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._first = 0
        self._offsets: list[int] = []
        """Where the blocks begin of the segment that begins at `_first`; they stay there when it is finished."""

    def read(self, question: Question, start: Place, bounds: Bounds) -> Page:
        """Return a page. Raise AuditDamaged for a finished segment that is damaged, BadFrame for an entry that is."""
        reading = _Reading(question, start, bounds)
        page = reading.page
        try:
            page.complete = self._finished(reading) and self._under_way(reading)
        except FileNotFoundError:
            # Renamed or deleted meanwhile: what comes next is asked for again, and found under its other name.
            self._first = 0
        except AuditDamaged:
            self._first = 0
            raise
        except _Full:
            return page
        return page

    def _segments(self, after: int) -> list[tuple[int, int, str]]:
        found = ((parse_name(name), name) for name in self._files.list())
        return [(p[0], p[1], name) for p, name in found if p and p[2] == "seg" and p[1] > after]

    def _finished(self, reading: "_Reading") -> bool:
        page = reading.page
        for first, last, name in self._segments(page.next.index - 1):
            reading.file()
            header = decode_header(self._files.pread(name, 0, HEADER_SIZE), file=name)
            if not reading.question.may_fit_segment(header):
                page.has(max(first, page.next.index), last)
                continue
            self._blocks(reading, first, name)
        return True

    def _under_way(self, reading: "_Reading") -> bool:
        files, page = self._files, reading.page
        # The block that is not full is read before the others are looked at: nothing lies between them and it.
        pending = None
        if PENDING in files.list():
            pending = decode_pending(files.pread(PENDING, 0, BLOCK_SIZE_MAX))
        names = [name for name in files.list() if name.endswith(".open")]
        if self._segments(page.next.index - 1):
            # One was finished since: what is under way now comes after it.
            return False
        for name in names:
            first = int(name.removesuffix(".open").rpartition("-")[2])
            if name == open_name(first):
                try:
                    self._blocks(reading, first, name)
                except AuditDamaged:
                    # It is being written.
                    self._first = 0
        if pending is not None:
            reading.block(pending[2], PENDING, 0)
        return True

    def _blocks(self, reading: "_Reading", first: int, name: str) -> None:
        """Read a segment's blocks, from the one on in which the next record is."""
        self._locate(first, name)
        offsets = self._offsets
        begin = bisect_right(
            offsets, reading.page.next.index, key=lambda offset: self._first_index(name, offset)
        )
        for offset in offsets[max(0, begin - 1) :]:
            reading.block(self._block(name, offset), name, offset)

    def _locate(self, first: int, name: str) -> None:
        """Learn where the blocks of a segment begin, as far as they are written."""
        if self._first != first:
            self._first, self._offsets = first, []
        end, offset = self._files.size(name), HEADER_SIZE
        if self._offsets:
            offset = self._offsets[-1]
            offset += block_size(self._files.pread(name, offset, BLOCK_HEADER_SIZE))
        while offset < end:
            size = block_size(self._files.pread(name, offset, BLOCK_HEADER_SIZE))
            if not size and name.endswith(".open"):
                break
            # A finished segment in which no block begins here is damaged: decoding it says so.
            if offset + size > end and name.endswith(".open"):
                break  # it is being written
            self._offsets.append(offset)
            if not size:
                break
            offset += size

    def _block(self, name: str, offset: int) -> bytes:
        head = self._files.pread(name, offset, BLOCK_HEADER_SIZE)
        data = self._files.pread(name, offset, block_size(head))
        try:
            return decode_block(data, 0, file=name)[0]
        except AuditDamaged as error:
            raise AuditDamaged(file=name, offset=offset, problem=error.problem) from error

    def _first_index(self, name: str, offset: int) -> int:
        record = next(decode_records(self._block(name, offset), file=name, offset=offset))
        return int(record.entry.index)


class _Reading:
    """A page under way."""

    def __init__(self, question: Question, start: Place, bounds: Bounds) -> None:
        self.question = question
        self.page = Page(next=start)
        self._bounds = bounds
        self._files = 0
        self._size = 0

    def file(self) -> None:
        """Begin another file."""
        if self._files >= self._bounds.files:
            raise _Full
        self._files += 1

    def block(self, raw: bytes, name: str, offset: int) -> None:
        """Take what fits of a block."""
        for record in decode_records(raw, file=name, offset=offset):
            if record.entry.index >= self.page.next.index:
                self._record(record)

    def _record(self, record: Record) -> None:
        page, index = self.page, int(record.entry.index)
        if page.scanned >= self._bounds.scan_size:
            raise _Full
        if self.question.may_fit(record):
            self._rows(record)
        page.scanned += RECORD_HEADER_SIZE + len(record.entry.data) + len(record.results)
        page.has(index, index)
        if not self._bounds.goes_on():
            raise _Full

    def _rows(self, record: Record) -> None:
        page, bounds = self.page, self._bounds
        index = int(record.entry.index)
        skip = page.next.position if index == page.next.index else 0
        for position, row in enumerate(rows_of(record)):
            in_time = bounds.goes_on()
            if position < skip or not self.question.fits(row):
                continue
            full = len(page.rows) >= bounds.records or self._size >= bounds.size
            if full or (page.rows and not in_time):
                page.next = Place(index, position)
                raise _Full
            encoded = pack(_said(index, position, row))
            self._size += len(encoded)
            page.rows.append(encoded)


def _said(index: int, position: int, row: Row) -> Row:
    said = {name: value for name, value in row.items() if value is not None}
    return {"index": index, "position": position, **said}
