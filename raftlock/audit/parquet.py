"""Parquet of a finished segment: one row for each record, the same bytes on every node with the same writer.

It owns the columns. Pure but for pyarrow: bytes in, bytes out. It must not know where they are kept.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from raftlock.audit.format import (
    HEADER_SIZE,
    AuditDamaged,
    Header,
    decode_block,
    decode_header,
    decode_records,
)
from raftlock.audit.names import Row, rows_of
from raftlock.audit.verify import check_content

SCHEMA_VERSION = 2
"""Raised when the rows of a segment change: 2 says what an acquire ended before its own outcome, and why each wait ended."""
WRITER = f"raftlock-audit-{SCHEMA_VERSION} pyarrow-{pa.__version__}"
"""Who made a file. Another version of pyarrow may make other bytes of the same records."""
META_PREFIX = "raftlock."
ROW_GROUP_ROWS = 32_768
"""Rows in a row group: what a query for one lock reads at least, and the unit of the statistics."""
BATCH_ROWS = 8_192
"""Rows that are Python objects at one time; beyond it they are columns."""
ZSTD_LEVEL = 6

SCHEMA = pa.schema(
    [
        pa.field("index", pa.int64(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("operation", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        *(pa.field(name, pa.string()) for name in ("resource", "owner", "principal", "address")),
        *(
            pa.field(name, pa.int64())
            for name in ("token", "session", "slot", "n", "ttl_ms", "wait_ms")
        ),
        *(pa.field(name, pa.string()) for name in ("reason", "when", "held_by", "problem")),
        pa.field("held_by_token", pa.int64()),
        pa.field("place", pa.int64()),
        pa.field("repeated", pa.bool_()),
        pa.field("metadata", pa.map_(pa.string(), pa.string())),
        pa.field("detail", pa.string()),
    ]
)
"""`position` is the row's place in its entry. `detail` is JSON of what has no column of its own."""
_NAMES = frozenset(SCHEMA.names)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SORT = [("resource", "ascending"), ("index", "ascending"), ("position", "ascending")]


class Origin(NamedTuple):
    """What a file says of the segment that it was made from."""

    cluster: str
    first: int
    last: int
    commands: int
    segment: str
    """The segment's digest, in hex."""
    previous: str
    """The digest of the segment before."""
    writer: str


def encode_segment(data: bytes, *, file: str) -> tuple[Header, bytes]:
    """Return a finished segment's header, and its Parquet. Raise AuditDamaged, and make nothing, if it is not whole."""
    header = decode_header(data[:HEADER_SIZE], file=file)
    check_content(data, header, file)
    table = pa.Table.from_batches(_batches(data, header, file), SCHEMA).sort_by(_SORT)
    table = table.replace_schema_metadata(_metadata(header))
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=ZSTD_LEVEL,
        row_group_size=ROW_GROUP_ROWS,
        write_page_index=True,
        sorting_columns=pq.SortingColumn.from_ordering(SCHEMA, _SORT),
    )
    return header, sink.getvalue().to_pybytes()


def read_schema(data: bytes, *, file: str) -> pa.Schema:
    """Return a file's schema with its metadata. Raise AuditDamaged if it is no Parquet."""
    try:
        return pq.read_schema(pa.BufferReader(data))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise AuditDamaged(file=file, offset=0, problem=str(error)) from error


def origin_of(schema: pa.Schema, *, file: str) -> Origin:
    """Return what a file's metadata says. Raise AuditDamaged for a file that is not of the audit."""
    said = {
        key.decode(errors="replace"): value.decode(errors="replace")
        for key, value in (schema.metadata or {}).items()
    }
    try:
        texts = [said[META_PREFIX + name] for name in Origin._fields]
        cluster, first, last, commands, segment, previous, writer = texts
        return Origin(cluster, int(first), int(last), int(commands), segment, previous, writer)
    except (KeyError, ValueError) as error:
        problem = f"its metadata is not that of an audit file: {error}"
        raise AuditDamaged(file=file, offset=0, problem=problem) from error


def rows_from_table(table: pa.Table) -> Iterator[Row]:
    """Return the rows as `names.rows_of` made them, without the fields that say nothing, and with `position`."""
    # A full segment has half a million rows: as Python objects there are only so many at one time.
    batches = table.to_batches(max_chunksize=BATCH_ROWS)
    for values in (values for batch in batches for values in batch.to_pylist()):
        row = {name: value for name, value in values.items() if value is not None}
        row["time"] = f"{row['time']:%Y-%m-%dT%H:%M:%S.%f}Z"
        if "metadata" in row:
            row["metadata"] = dict(row["metadata"])
        row |= json.loads(row.pop("detail", "{}"))
        yield row


def columns_of(row: Row) -> Row:
    """Return a row of a query in the columns of the schema."""
    time = datetime.fromisoformat(row["time"])
    return _columns(row, row["position"], time)


def _metadata(header: Header) -> dict[str, str]:
    origin = Origin(
        header.cluster_id,
        header.first,
        header.last,
        header.commands,
        header.digest.hex(),
        header.previous.hex(),
        WRITER,
    )
    return {META_PREFIX + name: str(value) for name, value in origin._asdict().items()}


def _batches(data: bytes, header: Header, file: str) -> Iterator[pa.RecordBatch]:
    rows: list[Row] = []
    for row in _rows(data, header, file):
        rows.append(row)
        if len(rows) >= BATCH_ROWS:
            yield pa.RecordBatch.from_pylist(rows, SCHEMA)
            rows = []
    yield pa.RecordBatch.from_pylist(rows, SCHEMA)


def _rows(data: bytes, header: Header, file: str) -> Iterator[Row]:
    view, offset = memoryview(data), HEADER_SIZE
    for _ in range(header.blocks):
        raw, after = decode_block(view, offset, file=file)
        for record in decode_records(raw, file=file, offset=offset):
            time = _EPOCH + timedelta(microseconds=record.entry.wall_us)
            for position, row in enumerate(rows_of(record)):
                yield _columns(row, position, time)
        offset = after


def _columns(row: Row, position: int, time: datetime) -> Row:
    """Return a row in the columns of the schema."""
    rest = {name: value for name, value in row.items() if name not in _NAMES and value is not None}
    found: dict[str, Any] = {name: value for name, value in row.items() if name in _NAMES}
    found |= {"position": position, "time": time}
    if "metadata" in found:
        found["metadata"] = list(found["metadata"].items())
    if rest:
        found["detail"] = json.dumps(rest, ensure_ascii=False, sort_keys=True)
    return found
