"""The write-ahead log: numbered segments of chained records (decisions 10 to 12).

It owns the segment files. It must not know votes, snapshots or what entries mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from raftlock.storage.disk import Disk
from raftlock.storage.errors import Damaged
from raftlock.storage.records import (
    ENTRIES,
    RECORD_HEADER_SIZE,
    RECORD_MAGIC,
    SEAL,
    SEGMENT_HEADER_SIZE,
    SegmentHeader,
    decode_entries,
    decode_record_header,
    decode_segment_header,
    encode_entries,
    encode_record,
    encode_segment_header,
    record_is_whole,
)
from raftlock_wire.entry import Entry
from raftlock_wire.ids import Index

SPARE = "segment.spare"
REWRITE = "segment.tmp"
PREFIX, SUFFIX = "wal-", ".log"
SLICE_SIZE = 1 << 20
"""Bytes that are preallocated at a time, so that a log write never waits for a whole segment."""


@dataclass(slots=True)
class Segment:
    """One segment file that is in use."""

    number: int
    size: int
    last_index: Index
    """The highest index that any record up to its end placed; 0 if there is none."""

    @property
    def name(self) -> str:
        """Return the file's name."""
        return f"{PREFIX}{self.number:016d}{SUFFIX}"


class Wal:
    """Appends records and finds them again."""

    def __init__(self, disk: Disk, *, segment_size: int) -> None:
        self._disk = disk
        self._segment_size = segment_size
        self.segments: list[Segment] = []
        self._offset = 0
        self._seed = 0
        self._number = 0
        self._sealed = True
        self._spare_size = 0

    # writing

    def append(self, entries: Sequence[Entry]) -> None:
        """Write one record and sync it. Entries replace what the log holds from the first one's index on."""
        self._record(encode_entries(entries), ENTRIES)
        self._sealed = False
        self.segments[-1].last_index = Index(max(self.segments[-1].last_index, entries[-1].index))

    def seal(self) -> None:
        """Write and sync a seal: damage of what lies before it is then told from a torn tail (decision 10)."""
        if not self._sealed:
            self._record(b"", SEAL)
            self._sealed = True

    def _record(self, payload: bytes, kind: int) -> None:
        size = RECORD_HEADER_SIZE + len(payload)
        header = b""
        if not self.segments or self._offset + size > self.segments[-1].size:
            header = self._next_segment(size)
        segment = self.segments[-1]
        self._number += 1
        record, crc = encode_record(
            payload, number=self._number, segment=segment.number, kind=kind, seed=self._seed
        )
        # The header of a new segment goes with its first record: one write, one sync.
        self._disk.pwrite(segment.name, self._offset - len(header), header + record)
        self._disk.fdatasync(segment.name)
        self._offset += len(record)
        self._seed = crc

    def _next_segment(self, record_size: int) -> bytes:
        """Put a preallocated segment into use. Return its header, not written yet."""
        disk = self._disk
        size = max(self._segment_size, SEGMENT_HEADER_SIZE + record_size)
        if self._spare_size < size:
            self._fill_spare(size - self._spare_size)
        size, self._spare_size = self._spare_size, 0
        number = self.segments[-1].number + 1 if self.segments else 1
        last_index = self.segments[-1].last_index if self.segments else Index(0)
        segment = Segment(number, size, last_index)
        disk.rename(SPARE, segment.name)
        disk.fsync_dir()
        self.segments.append(segment)
        self._offset = SEGMENT_HEADER_SIZE
        return encode_segment_header(SegmentHeader(number, size, self._seed))

    def _fill_spare(self, size: int) -> None:
        if not self._spare_size:
            self._disk.create(SPARE)
        self._disk.append_zeros(SPARE, size)
        self._disk.fdatasync(SPARE)
        self._spare_size += size

    @property
    def spare_is_ready(self) -> bool:
        """Return whether the next segment is preallocated."""
        return self._spare_size >= self._segment_size

    def prepare_slice(self) -> None:
        """Preallocate a part of the next segment. OSError ENOSPC: there is no room."""
        self._fill_spare(min(SLICE_SIZE, self._segment_size - self._spare_size))

    # removing

    def compact(self, index: Index) -> None:
        """Remove segments that hold nothing after `index`, the oldest first, never the last one."""
        removed = False
        while len(self.segments) > 1 and self.segments[0].last_index <= index:
            self._disk.unlink(self.segments.pop(0).name)
            removed = True
        if removed:
            self._disk.fsync_dir()

    def drop(self) -> None:
        """Remove the whole log, the newest segment first: what is left by a crash is a log's beginning."""
        while self.segments:
            self._disk.unlink(self.segments.pop().name)
        self._disk.fsync_dir()
        self._seed = 0
        self._sealed = True

    @property
    def size(self) -> int:
        """Return the bytes of all segments."""
        return sum(segment.size for segment in self.segments)

    # recovery

    def recover(self) -> list[Entry]:
        """Read the log and make what was read durable again (decision 12). Raise Damaged for what is not a torn tail.

        Entries come in the order of the log, what was replaced left out.
        """
        disk = self._disk
        for leftover in (SPARE, REWRITE):
            if leftover in disk.list():
                disk.unlink(leftover)
        names = [name for name in disk.list() if name.startswith(PREFIX) and name.endswith(SUFFIX)]
        entries: list[Entry] = []
        used = 0
        for position, name in enumerate(names):
            used = self._read_segment(name, entries, is_last=position == len(names) - 1)
        if self.segments:
            self._rewrite_last(used)
        disk.fsync_dir()
        return entries

    def _read_segment(self, name: str, entries: list[Entry], *, is_last: bool) -> int:
        data = self._disk.pread(name, 0, self._disk.size(name))
        header = decode_segment_header(data)
        if header is None:
            if is_last and _recognise(data, 0) is None and len(data) >= min(self._segment_size, 1):
                # Its header is written with its first record: a torn first write leaves an empty segment.
                self._disk.unlink(name)
                return self._offset
            raise Damaged(file=name, offset=0, problem="the segment's header is damaged")
        if len(data) < header.size:
            problem = f"the file has {len(data)} of {header.size} bytes"
            raise Damaged(file=name, offset=len(data), problem=problem)
        segment = Segment(header.number, header.size, Index(0))
        if segment.name != name:
            raise Damaged(file=name, offset=0, problem=f"it says it is segment {header.number}")
        if self.segments:
            before = self.segments[-1]
            if header.number != before.number + 1 or header.seed != self._seed:
                raise Damaged(file=name, offset=0, problem=f"it does not follow {before.name}")
            segment.last_index = before.last_index
        self._seed = header.seed
        self.segments.append(segment)
        offset = self._read_records(segment, data, entries)
        if not is_last:
            self._check_end(segment, data, offset)
        self._offset = offset
        return offset

    def _read_records(self, segment: Segment, data: bytes, entries: list[Entry]) -> int:
        offset = SEGMENT_HEADER_SIZE
        while True:
            header = decode_record_header(data[offset : offset + RECORD_HEADER_SIZE])
            whole = False
            if header is not None and header.segment == segment.number:
                record = data[offset : offset + RECORD_HEADER_SIZE + header.size]
                whole = record_is_whole(record, header, seed=self._seed)
            if header is None or not whole:
                self._check_tail(segment, data, offset)
                return offset
            if self._number and header.number != self._number + 1:
                problem = f"record {header.number} follows record {self._number}"
                raise Damaged(file=segment.name, offset=offset, problem=problem)
            self._number, self._seed = header.number, header.crc
            self._sealed = header.kind == SEAL
            if header.kind == ENTRIES:
                self._take(segment, offset, record[RECORD_HEADER_SIZE:], entries)
            offset += RECORD_HEADER_SIZE + header.size

    def _take(self, segment: Segment, offset: int, payload: bytes, entries: list[Entry]) -> None:
        try:
            read = decode_entries(payload)
        except ValueError as error:
            raise Damaged(file=segment.name, offset=offset, problem=str(error)) from error
        first = read[0].index
        if entries and not entries[0].index <= first <= entries[-1].index + 1:
            if first > entries[-1].index:
                problem = f"entry {first} follows entry {entries[-1].index}"
                raise Damaged(file=segment.name, offset=offset, problem=problem)
            entries.clear()
        if entries:
            del entries[first - entries[0].index :]
        entries += read
        segment.last_index = Index(max(segment.last_index, read[-1].index))

    def _check_tail(self, segment: Segment, data: bytes, offset: int) -> None:
        """Tell a torn tail from damage: behind damage a later record can be recognised (decision 10)."""
        later = _recognise(data, offset + 1)
        if later is not None:
            problem = f"the record is damaged, and a later one stands at offset {later}"
            raise Damaged(file=segment.name, offset=offset, problem=problem)

    def _check_end(self, segment: Segment, data: bytes, offset: int) -> None:
        """A segment that another one follows ends in zeros, after its last record."""
        if any(data[offset:]):
            problem = "the record is damaged, and a later segment follows"
            raise Damaged(file=segment.name, offset=offset, problem=problem)

    def _rewrite_last(self, used: int) -> None:
        """Write the segment that holds the last record anew: what was read may be in the page cache only, and a torn
        tail must not stay where later records will not cover it (decision 12).
        """
        disk, segment = self._disk, self.segments[-1]
        data = disk.pread(segment.name, 0, used)
        disk.create(REWRITE)
        disk.pwrite(REWRITE, 0, data)
        disk.append_zeros(REWRITE, segment.size - used)
        disk.fdatasync(REWRITE)
        disk.rename(REWRITE, segment.name)
        disk.fsync_dir()


def _recognise(data: bytes, start: int) -> int | None:
    """Return the offset of a record's header at or after `start`, or None."""
    at = data.find(RECORD_MAGIC, start)
    while at >= 0:
        if decode_record_header(data[at : at + RECORD_HEADER_SIZE]) is not None:
            return at
        at = data.find(RECORD_MAGIC, at + 1)
    return None
