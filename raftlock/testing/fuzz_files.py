"""Decoders of what stands on a disk, as targets for the fuzzer: log, votes, identity, snapshots, and the audit.

These files have checksums, so most changes would be refused at once. `mend` puts right ones on what was changed: what
is reached then is what a file by a mistaken writer would reach.
"""

import hashlib
import random
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import lz4.block
from crc32c import crc32c

from raftlock.audit import CutRule
from raftlock.audit.chain import Chain
from raftlock.audit.format import (
    BLOCK_MAGIC,
    HEADER_SIZE,
    AuditDamaged,
    Gap,
    Header,
    Record,
    Recorded,
    decode_gap,
    encode_block,
    encode_gap,
    encode_pending,
    encode_record,
    encode_results,
    next_content,
    segment_name,
)
from raftlock.audit.log import PENDING
from raftlock.audit.manifest import (
    NO_MANIFEST,
    Item,
    Manifest,
    decode_manifest,
    encode_manifest,
    manifest_key,
)
from raftlock.audit.names import rows_of
from raftlock.audit.verify import verify
from raftlock.locks import LockTable, UnknownVersion
from raftlock.storage import Damaged
from raftlock.storage.records import (
    ENTRIES,
    RECORD_HEADER_SIZE,
    RECORD_MAGIC,
    SEAL,
    SEGMENT_HEADER_SIZE,
    SegmentHeader,
    encode_entries,
    encode_segment_header,
)
from raftlock.storage.records import (
    encode_record as encode_wal_record,
)
from raftlock.storage.small_files import IDENTITY, VOTES, VoteFile, read_identity
from raftlock.storage.snapshots import SnapshotFiles
from raftlock.storage.wal import Wal
from raftlock.testing.fuzz_judge import Target
from raftlock.testing.fuzz_wire import MEMBERS, NESTED_MEMORY, REQUESTS
from raftlock.testing.memory_disk import MemoryDisk
from raftlock.testing.storage_run import record
from raftlock_wire.codec import pack, unpack
from raftlock_wire.entry import Entry, EntryKind
from raftlock_wire.errors import BadFrame
from raftlock_wire.ids import Index, Term
from raftlock_wire.invariant import InvariantViolation, check
from raftlock_wire.messages import Op

SEGMENT_SIZE = 4 << 10
SEGMENT = "wal-0000000000000001.log"
_TOKEN = 1_800_000_000_000_001
_RECORD_HEAD = struct.Struct(">4sIQQB")
_SIZES = struct.Struct(">II")
_CRC = struct.Struct(">I")


def _with_crc(data: bytes) -> bytes:
    return data + _CRC.pack(crc32c(data))


def _mend_end(data: bytes, rng: random.Random) -> bytes:
    """Put a right checksum at the end."""
    del rng
    return _with_crc(data[:-4])


# the log


def _segment(data: bytes) -> tuple[Entry, ...]:
    """Recover a log of one segment, and once more: what was accepted is accepted for good."""
    disk = MemoryDisk({SEGMENT: data})
    entries = tuple(Wal(disk, segment_size=SEGMENT_SIZE).recover())
    check(
        tuple(Wal(disk, segment_size=SEGMENT_SIZE).recover()) == entries,
        "both starts find the same",
    )
    return entries


def _entries(first: int, *sizes: int, term: int = 1) -> list[Entry]:
    return [
        Entry(Index(first + i), Term(term), EntryKind.BATCH, 5, 6, bytes(size))
        for i, size in enumerate(sizes)
    ]


def _written(records: Sequence[tuple[bytes, int]], *, size: int = SEGMENT_SIZE) -> bytes:
    content, seed = encode_segment_header(SegmentHeader(1, size, 0)), 0
    for number, (payload, kind) in enumerate(records, 1):
        data, seed = encode_wal_record(payload, number=number, segment=1, kind=kind, seed=seed)
        content += data
    return content.ljust(size, b"\0")


def _segment_seeds() -> list[bytes]:
    one = (encode_entries(_entries(1, 3, 50)), ENTRIES)
    two = (encode_entries(_entries(2, 7, term=2)), ENTRIES)
    seal = (b"", SEAL)
    return [_written(r) for r in ((one,), (one, seal), (one, two, seal, two), (one, seal, one), ())]


def _mend_segment(data: bytes, rng: random.Random) -> bytes:
    """Write the records anew as they stand there, chained rightly; sometimes numbered rightly, too."""
    head = data[:SEGMENT_HEADER_SIZE].ljust(SEGMENT_HEADER_SIZE, b"\0")
    number, size, seed = struct.unpack(">QQI", head[8:28])
    if rng.random() < 0.9:
        number, size, seed = 1, len(data), 0
    content = encode_segment_header(SegmentHeader(number, size, seed))
    offset, expected, renumber = SEGMENT_HEADER_SIZE, 1, rng.random() < 0.8
    while len(data) - offset >= RECORD_HEADER_SIZE and data[offset : offset + 4] == RECORD_MAGIC:
        _, claimed, record_number, segment, kind = _RECORD_HEAD.unpack_from(data, offset)
        if renumber:
            record_number, segment = expected, 1
        begin = offset + RECORD_HEADER_SIZE
        payload = data[begin : begin + min(claimed, len(data) - begin)]
        one, seed = encode_wal_record(
            payload, number=record_number, segment=segment, kind=kind, seed=seed
        )
        content, offset, expected = content + one, begin + len(payload), expected + 1
    return content + data[len(content) :]


# votes, identity, snapshots


def _vote(data: bytes) -> Any:
    _, hard_state = VoteFile.recover(MemoryDisk({VOTES[0]: data, VOTES[1]: b""}))
    return hard_state


def _identity(data: bytes) -> Any:
    return read_identity(MemoryDisk({IDENTITY: data}))


def _small_seeds(name: str) -> list[bytes]:
    recording = record()
    return [recording.sealed.files[name], recording.torn[0].files[name]]


_SNAPSHOT = "snapshot-00000000000000000009-0000000000000002.snap"


def _snapshot_file(data: bytes) -> Any:
    """Recover a snapshot, and read it as a start and as a peer do."""
    disk = MemoryDisk({_SNAPSHOT: data})
    files = SnapshotFiles(disk)
    meta = files.recover()
    check(meta is not None, "there is one")
    assert meta is not None
    chunks = tuple(files.chunks(meta))
    check(files.read(meta, 0, meta.size) == data, "it is the file")
    return meta, chunks


def _snapshot_seeds() -> list[bytes]:
    head = pack([9, 2, 7, 8, MEMBERS.encode()])
    start = b"RLSNAP01" + _SIZES.pack(len(head), crc32c(head)) + head
    found = []
    for chunks in ((), (b"abc",), (b"", bytes(100), b"x" * 700)):
        data = start + b"".join(_SIZES.pack(len(c), crc32c(c)) + c for c in chunks)
        found.append(data + _SIZES.pack(0xFFFF_FFFF, crc32c(data)))
    return found


def _mend_snapshot(data: bytes, rng: random.Random) -> bytes:
    """Write head and chunks anew as they stand there, with right checksums."""
    del rng
    if len(data) < 16:
        return data
    size = min(_SIZES.unpack_from(data, 8)[0], len(data) - 16)
    head = data[16 : 16 + size]
    content = b"RLSNAP01" + _SIZES.pack(size, crc32c(head)) + head
    offset = 16 + size
    while len(data) - offset >= 8:
        claimed, _ = _SIZES.unpack_from(data, offset)
        if claimed == 0xFFFF_FFFF:
            return content + _SIZES.pack(claimed, crc32c(content)) + data[offset + 8 :]
        chunk = data[offset + 8 : offset + 8 + min(claimed, len(data) - offset - 8)]
        content += _SIZES.pack(len(chunk), crc32c(chunk)) + chunk
        offset += 8 + len(chunk)
    return content + _SIZES.pack(0xFFFF_FFFF, crc32c(content))


@lru_cache(maxsize=1)
def _table() -> tuple[tuple[bytes, ...], tuple[Recorded, ...]]:
    """Return the chunks of a table in which there is one of everything, and what the audit was told on the way."""
    table = LockTable()
    batches: list[tuple[tuple[Any, ...], ...]] = [
        ((int(Op.GENESIS), 0, _TOKEN - 1, 60_000),),
        tuple((int(Op.OPEN_SESSION), n, bytes((n,)) * 16, 10_000) for n in (1, 2)),
        (REQUESTS[5], REQUESTS[6], (6, 7, 2, 0, 1, "order:1", "b", 0, 9_000, {"k": "v"})),
        ((6, 8, 2, 1, 1, "b", "b", 0, 0, None), (14, 9, "b", _TOKEN + 2, "why", False)),
        (REQUESTS[9], REQUESTS[10], (7, 1, 2, 1, 1), (40, 0, {"slots_max": 4_000})),
        ((6, 8, 1, 2, 1, "order:1", "c", 300, 9_000, None), (5, 9, 2), (35, 0, 2)),
        ((33, 0, 1, 2), (32, 0, "order:1", _TOKEN, 3), (37, 0, "order:1", _TOKEN)),
    ]
    recorded = []
    for index, requests in enumerate(batches, 1):
        groups = (("p", "host:1", *requests),)
        applied = table.apply(index, index * 10, index * 20, groups)
        entry = Entry(Index(index), Term(1), EntryKind.BATCH, index * 10, index * 20, pack(groups))
        results = encode_results([pack(group) for group in applied.answers], applied.effects)
        recorded.append(Recorded(entry, results, len(requests), table.version))
    stream = table.begin_snapshot()
    chunks = []
    while (chunk := stream.next_chunk()) is not None:
        chunks.append(chunk)
    return tuple(chunks), tuple(recorded)


def _load(data: bytes) -> bytes:
    """Load a snapshot's chunks, an array of them; what they give can be saved and loaded again."""
    chunks = unpack(data, array_count_max=4_096)
    if type(chunks) is not tuple or any(type(chunk) is not bytes for chunk in chunks):
        raise BadFrame("no array of chunks")
    loader = LockTable.loader()
    for chunk in chunks:
        loader.feed(chunk)
    return loader.finish().digest()


def _load_seeds() -> list[bytes]:
    chunks, _ = _table()
    return [pack(chunks), pack((chunks[0], *chunks[-2:]))]


def _mutate_chunk(data: bytes, rng: random.Random) -> bytes:
    """Change what is within a chunk: its tree is not part of the array's."""
    from raftlock.testing.fuzz_mutator import Mutator

    try:
        chunks = list(unpack(data))
        at = rng.randrange(len(chunks))
        chunks[at] = Mutator(rng, tree="msgpack").mutate(chunks[at], _table()[0])
        return pack(chunks)
    except (BadFrame, TypeError, ValueError):
        return data


# the audit


class _OneFile:
    def __init__(self, name: str, data: bytes) -> None:
        self._name, self._data = name, data

    def list(self) -> list[str]:
        return [self._name]

    def read(self, name: str) -> bytes:
        if name != self._name:
            raise FileNotFoundError(name)
        return self._data


_AUDIT_RAW_MAX = 8


def _audit_raw() -> list[bytes]:
    return [encode_record(one) for one in _table()[1]][:_AUDIT_RAW_MAX]


def _audit_segment(data: bytes) -> tuple[int, int]:
    """Verify a finished segment, and read its rows. Damage is raised: verify collects it."""
    report = verify(_OneFile(segment_name(1, 7), data))
    if report.damages:
        raise report.damages[0]
    return report.entries, report.commands


def _audit_header(blocks: Sequence[bytes]) -> Header:
    content = bytes(32)
    for raw in blocks:
        content = next_content(content, raw)
    return Header(
        1, "c" * 32, 1, 7, 12, 20, 140, sum(map(len, blocks)), len(blocks), content, bytes(32)
    )


def _audit_seeds() -> list[bytes]:
    raws = _audit_raw()
    found = []
    for blocks in ([b"".join(raws)], raws, [b"".join(raws[:3]), b"".join(raws[3:])]):
        found.append(_audit_header(blocks).encode() + b"".join(map(encode_block, blocks)))
    return found


def _mend_audit(data: bytes, rng: random.Random) -> bytes:
    """Put right checksums on the blocks, and a header on them; sometimes only on the header."""
    offset, mended, blocks = HEADER_SIZE, b"", []
    while data[offset : offset + 4] == BLOCK_MAGIC and len(data) - offset >= 16:
        raw_size, size = struct.unpack_from(">II", data, offset + 4)
        packed = data[offset + 16 : offset + 16 + min(size, len(data) - offset - 16)]
        head = BLOCK_MAGIC + _SIZES.pack(raw_size, len(packed))
        mended += head + _CRC.pack(crc32c(packed, crc32c(head))) + packed
        try:
            blocks.append(lz4.block.decompress(packed, uncompressed_size=min(raw_size, 1 << 16)))
        except lz4.block.LZ4BlockError:
            blocks.append(b"")
        offset += 16 + len(packed)
    if rng.random() < 0.7:
        return _audit_header(blocks).encode() + mended + data[offset:]
    fields = data[: HEADER_SIZE - 32].ljust(HEADER_SIZE - 32, b"\0")
    return fields + hashlib.sha256(fields).digest() + mended + data[offset:]


def _audit_pending(data: bytes) -> tuple[int, int]:
    report = verify(_OneFile(PENDING, data))
    if report.damages:
        raise report.damages[0]
    return report.open_last, report.entries


def _mend_pending(data: bytes, rng: random.Random) -> bytes:
    first, block = struct.unpack(">QQ", data[8:24].ljust(16, b"\0"))
    del rng
    return encode_pending(first=first, block=block, raw=data[32:])


def _rows(data: bytes) -> int:
    """Give the rows of one record: a batch and its results, as an array of the two."""
    values = unpack(data, array_count_max=1 << 16)
    if type(values) is not tuple or len(values) != 2:
        raise BadFrame("no pair")
    groups, results = pack(values[0]), pack(values[1])
    entry = Entry(Index(9), Term(1), EntryKind.BATCH, 5, 6, groups)
    return len(list(rows_of(Record(entry, results), everything=True)))


def _rows_seeds() -> list[bytes]:
    return [pack((unpack(r.entry.data), unpack(r.results))) for r in _table()[1]]


def _chain(data: bytes) -> bytes:
    return Chain.decode(CutRule(), "c" * 32, data).encode()


def _chain_seeds() -> list[bytes]:
    chain = Chain(CutRule(), "c" * 32, first=1, previous=bytes(32))
    found = [chain.encode()]
    for one in _table()[1]:
        chain.add(one, encode_record(one))
    return [*found, chain.encode()]


_DAY = "2026-11-25"


def _manifest(data: bytes) -> Manifest:
    return decode_manifest(data, file=manifest_key(_DAY))


def _manifest_seeds() -> list[bytes]:
    item = Item(f"records/day={_DAY}/hour=01/x.parquet", 1, 9, 100, "a" * 64)
    one = Manifest("c" * 32, _DAY, NO_MANIFEST, (item, item._replace(first=10, last=12)))
    return [encode_manifest(one), encode_manifest(one._replace(objects=one.objects[:1]))]


def _mend_manifest(data: bytes, rng: random.Random) -> bytes:
    """Write the JSON in the only form that is accepted."""
    import json

    del rng
    try:
        values = json.loads(data)
        objects = values["objects"]
        values |= {"first": objects[0]["first"], "last": objects[-1]["last"]}
        return (json.dumps(values, sort_keys=True, indent=1) + "\n").encode()
    except (ValueError, TypeError, LookupError, RecursionError):
        return data


FILE_TARGETS = (
    Target(
        name="wal-segment", seeds=_segment_seeds, run=_segment, refuses=(Damaged,), mend=_mend_segment,
        encode=None, tokens=(RECORD_MAGIC,),
    ),
    Target(name="vote", seeds=lambda: _small_seeds(VOTES[0]), run=_vote, refuses=(Damaged,), mend=_mend_end),
    Target(
        name="identity", seeds=lambda: _small_seeds(IDENTITY), run=_identity, refuses=(Damaged,), mend=_mend_end,
        memory_flat=NESTED_MEMORY,
    ),
    Target(
        name="snapshot-file", seeds=_snapshot_seeds, run=_snapshot_file, refuses=(Damaged,), mend=_mend_snapshot,
        memory_flat=NESTED_MEMORY,
    ),
    Target(
        name="snapshot-state", seeds=_load_seeds, run=_load, refuses=(BadFrame, InvariantViolation, UnknownVersion), mend=_mutate_chunk,
        tree="msgpack", steps_flat=400_000, steps_per_byte=400, memory_flat=NESTED_MEMORY,
    ),
    Target(
        name="audit-segment", seeds=_audit_seeds, run=_audit_segment, refuses=(AuditDamaged,), mend=_mend_audit,
        memory_per_byte=600,
    ),
    Target(
        name="audit-pending", seeds=lambda: [encode_pending(first=1, block=0, raw=b"".join(_audit_raw()))],
        run=_audit_pending, refuses=(AuditDamaged,), mend=_mend_pending,
    ),
    Target(
        name="audit-gap", seeds=lambda: [encode_gap(Gap(1, 9, bytes(32), "why"))],
        run=lambda data: decode_gap(data, file="gap"), refuses=(AuditDamaged,), encode=encode_gap, mend=_mend_end,
        memory_flat=NESTED_MEMORY,
    ),
    Target(
        name="audit-manifest", seeds=_manifest_seeds, run=_manifest, refuses=(AuditDamaged,), encode=encode_manifest,
        mend=_mend_manifest, tree="json",
    ),
    Target(
        name="audit-rows", seeds=_rows_seeds, run=_rows, refuses=(BadFrame,), tree="msgpack", memory_flat=NESTED_MEMORY,
        steps_per_byte=200,
    ),
    Target(
        name="audit-chain", seeds=_chain_seeds, run=_chain, refuses=(BadFrame,), encode=lambda value: value,
        tree="msgpack", memory_flat=NESTED_MEMORY,
    ),
)  # fmt: skip
