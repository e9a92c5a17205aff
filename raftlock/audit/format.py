"""The bytes of audit segments: headers, blocks and records. FORMAT.md is the reference.

Pure functions. They must not know files, nor what a command means.
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import lz4.block
from crc32c import crc32c

from raftlock_wire.codec import array_header, pack, unpack
from raftlock_wire.entry import Entry, EntryKind
from raftlock_wire.errors import BadFrame
from raftlock_wire.ids import Index, Term

FORMAT_VERSION = 1
ZERO_DIGEST = bytes(32)
SEGMENT_MAGIC = b"RLAUDIT1"
GAP_MAGIC = b"RLAUGAP1"
PENDING_MAGIC = b"RLAUPEN1"
_HEADER = struct.Struct(">8sHH64sQQQQQQI32s32s")
DIGEST_SIZE = 32
HEADER_SIZE = _HEADER.size + DIGEST_SIZE

BLOCK_MAGIC = b"\xd7RLa"
_BLOCK = struct.Struct(">4sII")
_CRC = struct.Struct(">I")
BLOCK_HEADER_SIZE = _BLOCK.size + _CRC.size
BLOCK_SIZE_MAX = 1 << 27
"""No block is larger: a block ends after the record that fills it, and a record holds one entry and its results."""

_RECORD = struct.Struct(">QQBQQII")
RECORD_HEADER_SIZE = _RECORD.size
_PENDING = struct.Struct(">8sQQII")
_KINDS = {int(kind): kind for kind in EntryKind}
_ARRAY_MAX = 1 << 24
_NAME = "audit-{first:020d}-{last:020d}.{suffix}"


class AuditDamaged(Exception):
    """An audit file is not what was written, or does not fit the chain. Nothing was changed."""

    def __init__(self, *, file: str, offset: int, problem: str) -> None:
        super().__init__(f"{file} at offset {offset}: {problem}")
        self.file, self.offset, self.problem = file, offset, problem


class Recorded(NamedTuple):
    """One applied entry, as the audit takes it. Everything in it is immutable."""

    entry: Entry
    results: bytes
    """Of a batch: `encode_results`. Empty for any other entry."""
    commands: int
    version: int
    """The state machine's version that interpreted the entry (decision 7)."""


class Record(NamedTuple):
    """One record of a segment, as read."""

    entry: Entry
    results: bytes


class Header(NamedTuple):
    """What a finished segment begins with."""

    version: int
    cluster_id: str
    first: int
    last: int
    commands: int
    first_wall_us: int
    last_wall_us: int
    size: int
    """Bytes of the uncompressed content."""
    blocks: int
    content: bytes
    """The hash of the uncompressed content: chained over its blocks."""
    previous: bytes
    """The digest of the segment before; zeros for the first of a chain."""

    def encode(self) -> bytes:
        """Return the header's bytes, its own digest included."""
        data = _HEADER.pack(
            SEGMENT_MAGIC,
            FORMAT_VERSION,
            self.version,
            self.cluster_id.encode(),
            *self[2:],
        )
        return data + hashlib.sha256(data).digest()

    @property
    def digest(self) -> bytes:
        """Return the hash of the header, and through it of the content and of every segment before."""
        return self.encode()[-DIGEST_SIZE:]


class Gap(NamedTuple):
    """Says which indexes are not on this node, and why."""

    first: int
    last: int
    digest: bytes
    """Of the segment that ends at `last` on the nodes that have it: the chain goes on from it."""
    reason: str


def decode_header(data: bytes, *, file: str) -> Header:
    """Decode a finished segment's first bytes. Raise AuditDamaged for anything else."""
    if len(data) < HEADER_SIZE or not data.startswith(SEGMENT_MAGIC):
        raise AuditDamaged(file=file, offset=0, problem="it does not begin as a segment does")
    _, format_, version, cluster_id, *fields = _HEADER.unpack_from(data)
    if hashlib.sha256(data[: _HEADER.size]).digest() != data[_HEADER.size : HEADER_SIZE]:
        raise AuditDamaged(file=file, offset=0, problem="the header is not what its digest says")
    if format_ != FORMAT_VERSION:
        raise AuditDamaged(file=file, offset=8, problem=f"format version {format_} is not known")
    return Header(version, cluster_id.rstrip(b"\0").decode(errors="replace"), *fields)


def segment_name(first: int, last: int) -> str:
    """Return the name of a finished segment: names sort by index."""
    return _NAME.format(first=first, last=last, suffix="seg")


def gap_name(first: int, last: int) -> str:
    """Return the name of a note of missing indexes."""
    return _NAME.format(first=first, last=last, suffix="gap")


def open_name(first: int) -> str:
    """Return the name of the segment under way."""
    return f"audit-{first:020d}.open"


def parse_name(name: str) -> tuple[int, int, str] | None:
    """Return (first, last, suffix) of a finished segment's or a gap's name; None for any other name."""
    stem, _, suffix = name.partition(".")
    parts = stem.split("-")
    if len(parts) != 3 or parts[0] != "audit" or suffix not in ("seg", "gap"):
        return None
    if not all(part.isascii() and part.isdigit() and len(part) == 20 for part in parts[1:]):
        return None
    return int(parts[1]), int(parts[2]), suffix


def next_content(content: bytes, raw: bytes) -> bytes:
    """Return the hash of a content that goes on with a block."""
    return hashlib.sha256(content + hashlib.sha256(raw).digest()).digest()


def encode_block(raw: bytes) -> bytes:
    """Return a block of the file."""
    packed = lz4.block.compress(raw, mode="fast", acceleration=4, store_size=False)
    head = _BLOCK.pack(BLOCK_MAGIC, len(raw), len(packed))
    return b"".join((head, _CRC.pack(crc32c(packed, crc32c(head))), packed))


def block_size(head: bytes) -> int:
    """Return how many bytes the block has that begins so; 0 if none begins so."""
    if len(head) < BLOCK_HEADER_SIZE or not head.startswith(BLOCK_MAGIC):
        return 0
    _, _, packed_size = _BLOCK.unpack_from(head)
    return BLOCK_HEADER_SIZE + int(packed_size)


def decode_block(data: bytes | memoryview, offset: int, *, file: str) -> tuple[bytes, int]:
    """Return the content of the block at `offset`, and where the next one begins. Raise AuditDamaged if it is none."""
    head = bytes(data[offset : offset + BLOCK_HEADER_SIZE])
    if len(head) < BLOCK_HEADER_SIZE or not head.startswith(BLOCK_MAGIC):
        raise AuditDamaged(file=file, offset=offset, problem="no block begins here")
    _, raw_size, packed_size = _BLOCK.unpack_from(head)
    start = offset + BLOCK_HEADER_SIZE
    packed = bytes(data[start : start + packed_size])
    (crc,) = _CRC.unpack_from(head, _BLOCK.size)
    if len(packed) != packed_size or crc != crc32c(packed, crc32c(head[: _BLOCK.size])):
        raise AuditDamaged(file=file, offset=offset, problem="the block's checksum does not fit")
    # LZ4 makes at most 255 bytes of one: a size beyond that is not what stands there, and nothing is allocated for it.
    if raw_size > min(BLOCK_SIZE_MAX, 255 * packed_size):
        raise AuditDamaged(file=file, offset=offset, problem=f"a block of {raw_size} bytes")
    try:
        raw: bytes = lz4.block.decompress(packed, uncompressed_size=raw_size)
    except lz4.block.LZ4BlockError as error:
        raise AuditDamaged(file=file, offset=offset, problem=str(error)) from error
    if len(raw) != raw_size:
        raise AuditDamaged(file=file, offset=offset, problem="the block is shorter than it says")
    return raw, start + packed_size


def encode_record(recorded: Recorded) -> bytes:
    """Return the record of an applied entry: its bytes as they stand in the log, and its results."""
    index, term, kind, stamp_us, wall_us, data = recorded.entry
    results = recorded.results
    head = _RECORD.pack(index, term, kind, stamp_us, wall_us, len(data), len(results))
    return b"".join((head, data, results))


def decode_records(raw: bytes, *, file: str, offset: int) -> Iterator[Record]:
    """Decode a block's content. Raise AuditDamaged, for the block at `offset`, when it is none."""
    at = 0
    while at < len(raw):
        if len(raw) - at < _RECORD.size:
            raise AuditDamaged(file=file, offset=offset, problem="a record's head is cut off")
        index, term, kind, stamp_us, wall_us, size, results_size = _RECORD.unpack_from(raw, at)
        at += _RECORD.size
        if kind not in _KINDS or at + size + results_size > len(raw):
            raise AuditDamaged(file=file, offset=offset, problem="a record is cut off")
        data, results = raw[at : at + size], raw[at + size : at + size + results_size]
        at += size + results_size
        yield Record(
            Entry(Index(index), Term(term), _KINDS[kind], stamp_us, wall_us, data), results
        )


def encode_results(answers: Sequence[bytes], effects: Sequence[tuple[Any, ...]]) -> bytes:
    """Return the results of a batch: the answers to each of its groups as `pack` encodes them, and the effects.

    `effects` are those of raftlock_wire.effects. The inverse of `decode_results`.
    """
    return b"".join((array_header(2), array_header(len(answers)), *answers, pack(effects)))


def decode_results(results: bytes) -> tuple[Sequence[Any], Sequence[Any]]:
    """Return the answers and effects of a batch's record. Raise BadFrame if they are none."""
    pair = unpack(results, array_count_max=_ARRAY_MAX)
    if type(pair) is not tuple or tuple(map(type, pair)) != (tuple, tuple):
        raise BadFrame("the results of a batch are not a pair of answers and effects")
    answers, effects = pair
    return answers, effects


def decode_groups(data: bytes) -> Sequence[Any]:
    """Return the groups of a batch. Raise BadFrame if they are none."""
    groups = unpack(data, array_count_max=_ARRAY_MAX)
    if type(groups) is not tuple:
        raise BadFrame("a batch is not an array of groups")
    return groups


def encode_gap(gap: Gap) -> bytes:
    """Return a gap's file."""
    data = GAP_MAGIC + pack(tuple(gap))
    return data + _CRC.pack(crc32c(data))


def decode_gap(data: bytes, *, file: str) -> Gap:
    """Decode a gap's file. Raise AuditDamaged for anything else."""
    if not data.startswith(GAP_MAGIC) or _CRC.pack(crc32c(data[:-4])) != data[-4:]:
        raise AuditDamaged(file=file, offset=0, problem="the checksum does not fit")
    try:
        fields = unpack(data[len(GAP_MAGIC) : -4], array_count_max=len(Gap._fields))
    except BadFrame as error:
        raise AuditDamaged(file=file, offset=0, problem=str(error)) from error
    if type(fields) is not tuple or tuple(map(type, fields)) != (int, int, bytes, str):
        raise AuditDamaged(file=file, offset=0, problem="it does not hold what a gap says")
    return Gap(*fields)


def encode_pending(*, first: int, block: int, raw: bytes) -> bytes:
    """Return the file that shows readers the content of the block that is not full yet."""
    head = _PENDING.pack(PENDING_MAGIC, first, block, len(raw), crc32c(raw))
    return head + raw


def decode_pending(data: bytes) -> tuple[int, int, bytes] | None:
    """Return (first, block, content); None if it is not whole: its writer was cut off."""
    if len(data) < _PENDING.size or not data.startswith(PENDING_MAGIC):
        return None
    _, first, block, size, crc = _PENDING.unpack_from(data)
    raw = data[_PENDING.size :]
    return (first, block, raw) if len(raw) == size and crc32c(raw) == crc else None
