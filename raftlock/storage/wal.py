"""The write-ahead log: numbered segments of chained records (decisions 10 to 12).

It owns the segment files. It must not know votes, snapshots or what entries mean.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from raftlock.storage.disk import Disk
from raftlock.storage.errors import Damaged, NoRoom
from raftlock.storage.records import (
    ENTRIES,
    RECORD_HEADER_SIZE,
    RECORD_MAGIC,
    SEAL,
    SEGMENT_HEADER_SIZE,
    RecordHeader,
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
SEGMENT_SIZE_MIN = 4 << 10
SLICE_SIZE = 1 << 20
"""Bytes that are preallocated at a time, so that a log write never waits for a whole segment."""


@dataclass(slots=True)
class Segment:
    """One segment file that is in use."""

    number: int
    size: int
    last_index: Index
    """The highest index that any of its records placed; 0 if there is none."""

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
        if kind != SEAL:
            # Behind each record there is room for its seal, which therefore never waits for a segment, nor lacks one.
            size += RECORD_HEADER_SIZE
        header = b""
        if not self.segments or self._offset + size > self.segments[-1].size:
            header = self._next_segment(size)
        segment = self.segments[-1]
        number = self._number + 1
        record, crc = encode_record(
            payload, number=number, segment=segment.number, kind=kind, seed=self._seed
        )
        # The header of a new segment goes with its first record: one write, one sync.
        self._disk.pwrite(segment.name, self._offset - len(header), header + record)
        self._disk.fdatasync(segment.name)
        self._offset += len(record)
        self._number, self._seed = number, crc

    def _next_segment(self, record_size: int) -> bytes:
        """Put a preallocated segment into use. Return its header, not written yet."""
        disk = self._disk
        size = max(self._segment_size, SEGMENT_HEADER_SIZE + record_size)
        if self._spare_size < size:
            self._fill_spare(size - self._spare_size)
        size, self._spare_size = self._spare_size, 0
        number = self.segments[-1].number + 1 if self.segments else 1
        segment = Segment(number, size, Index(0))
        disk.rename(SPARE, segment.name)
        disk.fsync_dir()
        self.segments.append(segment)
        self._offset = SEGMENT_HEADER_SIZE
        return encode_segment_header(SegmentHeader(number, size, self._seed))

    def _fill_spare(self, size: int) -> None:
        disk, filled = self._disk, self._spare_size
        # Begun anew after an error: what an append that failed half-way has left is not counted on.
        self._spare_size = 0
        try:
            if not filled:
                disk.create(SPARE)
            disk.append_zeros(SPARE, size)
            disk.fdatasync(SPARE)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise NoRoom(f"preallocating {SPARE}: {error}") from error
            raise
        self._spare_size = filled + size

    @property
    def spare_is_ready(self) -> bool:
        """Return whether the next segment is preallocated."""
        return self._spare_size >= self._segment_size

    def prepare_slice(self) -> None:
        """Preallocate a part of the next segment. Raise NoRoom if there is none."""
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
        for name in names:
            self._read_segment(name, entries, is_last=name == names[-1])
        if self.segments:
            self._rewrite_last()
        disk.fsync_dir()
        return entries

    def _read_segment(self, name: str, entries: list[Entry], *, is_last: bool) -> None:
        disk = self._disk
        file_size = disk.size(name)
        header = decode_segment_header(disk.pread(name, 0, SEGMENT_HEADER_SIZE))
        if header is None:
            self._check_never_used(name, file_size, is_last=is_last)
            disk.unlink(name)
            return
        segment = Segment(header.number, header.size, Index(0))
        if segment.name != name:
            raise Damaged(file=name, offset=0, problem=f"it says it is segment {header.number}")
        if file_size != header.size:
            problem = f"the file has {file_size} of {header.size} bytes"
            raise Damaged(file=name, offset=min(file_size, header.size), problem=problem)
        if self.segments:
            before = self.segments[-1]
            if header.number != before.number + 1 or header.seed != self._seed:
                raise Damaged(file=name, offset=0, problem=f"it does not follow {before.name}")
        self._seed = header.seed
        data = disk.pread(name, 0, file_size)
        offset = self._read_records(segment, data, entries)
        if is_last and offset == SEGMENT_HEADER_SIZE:
            # Its first record was torn. The segment with the last record is the one before, and that is rewritten.
            disk.unlink(name)
            return
        if not is_last and data.count(0, offset) != file_size - offset:
            problem = "what follows is no record, and a later segment follows"
            raise Damaged(file=name, offset=offset, problem=problem)
        self.segments.append(segment)
        self._offset = offset

    def _check_never_used(self, name: str, file_size: int, *, is_last: bool) -> None:
        """Accept a segment without a header only if that was being written, with its first record, for the first time."""
        if file_size < self._segment_size:
            problem = f"it has no header, and {file_size} bytes of at least {self._segment_size}"
            raise Damaged(file=name, offset=file_size, problem=problem)
        number = name.removeprefix(PREFIX).removesuffix(SUFFIX)
        data = self._disk.pread(name, 0, file_size)
        used = not number.isdecimal() or (
            _recognise(data, 0, segment=int(number), number_min=self._number + 1) is not None
        )
        if used or not is_last:
            raise Damaged(file=name, offset=0, problem="the segment's header is damaged")

    def _read_records(self, segment: Segment, data: bytes, entries: list[Entry]) -> int:
        """Take the records of a segment. Return where the last one ends."""
        offset = SEGMENT_HEADER_SIZE
        while True:
            header = decode_record_header(data[offset : offset + RECORD_HEADER_SIZE])
            if header is None:
                self._check_tail(segment, data, offset, offset + 1)
                return offset
            end = offset + RECORD_HEADER_SIZE + header.size
            self._check_place(segment, header, offset, end)
            record = data[offset:end]
            if not record_is_whole(record, header, seed=self._seed):
                self._check_tail(segment, data, offset, end)
                return offset
            self._number, self._seed = header.number, header.crc
            self._sealed = header.kind == SEAL
            if header.kind == ENTRIES:
                self._take(segment, offset, record[RECORD_HEADER_SIZE:], entries)
            offset = end

    def _check_place(self, segment: Segment, header: RecordHeader, offset: int, end: int) -> None:
        """Refuse a record whose whole head does not belong here: no torn write leaves one."""
        problem = None
        if header.segment != segment.number:
            problem = f"a record of segment {header.segment} stands in segment {segment.number}"
        elif self._number and header.number != self._number + 1:
            problem = f"record {header.number} follows record {self._number}"
        elif end > segment.size:
            problem = f"the record ends at {end}, behind the segment's end at {segment.size}"
        elif header.kind not in (ENTRIES, SEAL):
            problem = f"the record is of the unknown kind {header.kind}"
        if problem is not None:
            raise Damaged(file=segment.name, offset=offset, problem=problem)

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

    def _check_tail(self, segment: Segment, data: bytes, offset: int, behind: int) -> None:
        """Tell a torn tail from damage: behind damage a later record can be recognised (decision 10).

        What a record holds, if its head is whole, is passed over: a payload may look like a record.
        """
        # The number of a log's very first record is not known (compaction).
        number_min = self._number + 2 if self._number else 0
        later = _recognise(data, behind, segment=segment.number, number_min=number_min)
        if later is not None:
            problem = f"the record is damaged, and a later one stands at offset {later}"
            raise Damaged(file=segment.name, offset=offset, problem=problem)

    def _rewrite_last(self) -> None:
        """Write the segment that holds the last record anew: what was read may be in the page cache only, and a torn
        tail must not stay where later records will not cover it (decision 12).
        """
        disk, segment = self._disk, self.segments[-1]
        data = disk.pread(segment.name, 0, self._offset)
        disk.create(REWRITE)
        disk.pwrite(REWRITE, 0, data)
        disk.append_zeros(REWRITE, segment.size - len(data))
        disk.fdatasync(REWRITE)
        disk.rename(REWRITE, segment.name)
        disk.fsync_dir()


def _recognise(data: bytes, start: int, *, segment: int, number_min: int) -> int | None:
    """Return the offset of the head of a record at or after `start` that belongs in this place of the log, or None."""
    at = data.find(RECORD_MAGIC, start)
    while at >= 0:
        header = decode_record_header(data[at : at + RECORD_HEADER_SIZE])
        if header is not None and header.segment == segment and header.number >= number_min:
            return at
        at = data.find(RECORD_MAGIC, at + 1)
    return None
