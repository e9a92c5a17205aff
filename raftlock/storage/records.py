"""The bytes of the log: segment headers, records and their chained checksums (decision 10). FORMAT.md is the reference.

Pure functions. They must not know files.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from crc32c import crc32c

from raftlock_wire.entry import Entry, EntryKind
from raftlock_wire.ids import Index, Term

SEGMENT_MAGIC = b"RLSEG001"
RECORD_MAGIC = b"\xd7RLr"
_SEGMENT = struct.Struct(">8sQQI")
_HEADER_CRC = struct.Struct(">I")
SEGMENT_HEADER_SIZE = _SEGMENT.size + _HEADER_CRC.size

_RECORD = struct.Struct(">4sIQQB")
RECORD_HEADER_SIZE = _RECORD.size + 8
_ENTRY = struct.Struct(">QQBQQI")
_TWO = struct.Struct(">II")

ENTRIES, SEAL = 1, 2
_KINDS = {int(kind): kind for kind in EntryKind}


class SegmentHeader(NamedTuple):
    """What a segment begins with."""

    number: int
    size: int
    """The preallocated size of the file."""
    seed: int
    """The checksum of the last record of the segment before; 0 for the first."""


class RecordHeader(NamedTuple):
    """What a record begins with."""

    size: int
    """Bytes of the payload."""
    number: int
    """Grows by one a record, over all segments."""
    segment: int
    kind: int
    crc: int
    """Of header and payload, seeded with the record before and the segment's number."""


def encode_segment_header(header: SegmentHeader) -> bytes:
    """Return a segment's first bytes."""
    data = _SEGMENT.pack(SEGMENT_MAGIC, header.number, header.size, header.seed)
    return data + _HEADER_CRC.pack(crc32c(data))


def decode_segment_header(data: bytes) -> SegmentHeader | None:
    """Decode a segment's first bytes; None if they are none."""
    if len(data) < SEGMENT_HEADER_SIZE:
        return None
    body = data[: _SEGMENT.size]
    magic, number, size, seed = _SEGMENT.unpack(body)
    (crc,) = _HEADER_CRC.unpack(data[_SEGMENT.size : SEGMENT_HEADER_SIZE])
    if magic != SEGMENT_MAGIC or crc != crc32c(body):
        return None
    return SegmentHeader(number, size, seed)


def encode_record(
    payload: bytes, *, number: int, segment: int, kind: int, seed: int
) -> tuple[bytes, int]:
    """Return a record and its checksum, which seeds the next one."""
    head = _RECORD.pack(RECORD_MAGIC, len(payload), number, segment, kind)
    # The head has a checksum of its own, so that a later record can be recognised behind a damaged one.
    head += _HEADER_CRC.pack(crc32c(head))
    crc = _chain(head, payload, seed=seed, segment=segment)
    return head + _HEADER_CRC.pack(crc) + payload, crc


def _chain(head: bytes, payload: bytes, *, seed: int, segment: int) -> int:
    return int(crc32c(payload, crc32c(head, crc32c(segment.to_bytes(8, "big"), seed))))


def decode_record_header(data: bytes) -> RecordHeader | None:
    """Decode the header that `data` begins with; None if it is none."""
    if len(data) < RECORD_HEADER_SIZE or not data.startswith(RECORD_MAGIC):
        return None
    head = data[: _RECORD.size]
    _, size, number, segment, kind = _RECORD.unpack(head)
    head_crc, crc = _TWO.unpack(data[_RECORD.size : RECORD_HEADER_SIZE])
    if head_crc != crc32c(head):
        return None
    return RecordHeader(size, number, segment, kind, crc)


def record_is_whole(data: bytes, header: RecordHeader, *, seed: int) -> bool:
    """Return whether `data` is the whole record of `header`, in its place in the chain."""
    payload = data[RECORD_HEADER_SIZE : RECORD_HEADER_SIZE + header.size]
    if len(payload) != header.size:
        return False
    head = data[: _RECORD.size + 4]
    return _chain(head, payload, seed=seed, segment=header.segment) == header.crc


def encode_entries(entries: Sequence[Entry]) -> bytes:
    """Return the payload of a record of entries."""
    parts: list[bytes] = []
    for entry in entries:
        data = entry.data
        parts.append(
            _ENTRY.pack(
                entry.index, entry.term, entry.kind, entry.stamp_us, entry.wall_us, len(data)
            )
        )
        parts.append(data)
    return b"".join(parts)


def decode_entries(payload: bytes) -> list[Entry]:
    """Decode what `encode_entries` gave for at least one entry. Raise ValueError for anything else."""
    entries: list[Entry] = []
    offset = 0
    while offset < len(payload):
        if len(payload) - offset < _ENTRY.size:
            raise ValueError("an entry's head is cut off")
        index, term, kind, stamp_us, wall_us, size = _ENTRY.unpack_from(payload, offset)
        offset += _ENTRY.size
        data = payload[offset : offset + size]
        if len(data) != size:
            raise ValueError(f"entry {index} is cut off")
        if kind not in _KINDS:
            raise ValueError(f"entry {index} is of the unknown kind {kind}")
        if entries and index != entries[-1].index + 1:
            raise ValueError(f"entry {index} follows entry {entries[-1].index}")
        entries.append(Entry(Index(index), Term(term), _KINDS[kind], stamp_us, wall_us, data))
        offset += size
    if not entries:
        raise ValueError("a record of entries holds none")
    return entries
