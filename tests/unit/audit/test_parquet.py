"""Parquet holds every record that a segment tells, and is the same bytes whoever makes it."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlock.audit import AuditDamaged
from raftlock.audit.format import HEADER_SIZE, decode_block, decode_header, decode_records
from raftlock.audit.names import Row, rows_of
from raftlock.audit.parquet import Origin, encode_segment, origin_of, read_schema, rows_from_table
from tests.unit.audit.kit import CLUSTER, twin_files
from tests.unit.audit.ship_kit import files_of_days


def told(data: bytes, name: str) -> list[Row]:
    """Return what `tail` would tell of a segment."""
    rows: list[Row] = []
    offset = HEADER_SIZE
    for _ in range(decode_header(data, file=name).blocks):
        raw, after = decode_block(data, offset, file=name)
        for record in decode_records(raw, file=name, offset=offset):
            rows += [{k: v for k, v in row.items() if v is not None} for row in rows_of(record)]
        offset = after
    return rows


def read(data: bytes) -> list[Row]:
    """Return the rows of a Parquet file in the order of the log."""
    table = pq.read_table(pa.BufferReader(data))
    rows = list(rows_from_table(table.sort_by([("index", "ascending"), ("position", "ascending")])))
    for row in rows:
        del row["position"]
    return rows


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), length=st.integers(2, 120))
def test_every_record_comes_back(seed: int, length: int) -> None:
    """What is read of a segment's Parquet is what its records tell, every field, in order, nothing else."""
    for name, data in files_of_days(seed, length).items():
        _, parquet = encode_segment(data, file=name)

        assert read(parquet) == told(data, name)


def test_a_field_without_a_column_comes_back() -> None:
    """Settings, members and what else is rare are kept in `detail` and come back in their places."""
    name, data = next(iter(files_of_days().items()))
    _, parquet = encode_segment(data, file=name)

    genesis = read(parquet)[0]

    assert (genesis["operation"], "detail" in genesis) == ("genesis", False)
    assert genesis == told(data, name)[0]


def test_the_same_segment_gives_the_same_bytes() -> None:
    """A segment is a function of the log, and its Parquet one of the segment."""
    for name, data in twin_files().items():
        assert encode_segment(data, file=name) == encode_segment(bytes(data), file=name)


def test_a_file_is_sorted_by_resource_and_then_by_the_log() -> None:
    """A query for one lock finds its rows side by side."""
    for name, data in files_of_days().items():
        table = pq.read_table(pa.BufferReader(encode_segment(data, file=name)[1]))
        keys = [
            (row["resource"] is None, row["resource"] or "", row["index"], row["position"])
            for row in table.to_pylist()
        ]

        assert keys == sorted(keys)


def test_a_file_says_which_segment_it_is() -> None:
    """Its metadata has the cluster, the range, the segment's digest and the one before, and its writer."""
    files = list(files_of_days().items())
    (before, before_data), (name, data) = files[0], files[1]
    header, parquet = encode_segment(data, file=name)

    origin = origin_of(read_schema(parquet, file=name), file=name)

    assert origin == Origin(
        CLUSTER,
        header.first,
        header.last,
        header.commands,
        header.digest.hex(),
        decode_header(before_data, file=before).digest.hex(),
        origin.writer,
    )
    assert origin.writer.endswith(f"pyarrow-{pa.__version__}")


@pytest.mark.parametrize("at", [HEADER_SIZE + 40, -1, 100])
def test_a_damaged_segment_makes_no_file(at: int) -> None:
    """A flipped bit in header or content is noticed before anything is made of it."""
    name, data = next(iter(files_of_days().items()))
    broken = bytearray(data)
    broken[at] ^= 1

    with pytest.raises(AuditDamaged):
        encode_segment(bytes(broken), file=name)


def test_a_segment_with_anothers_content_makes_no_file() -> None:
    """Header and blocks may each be whole: what the header says of the content is checked."""
    (name, data), other = [
        (name, data)
        for name, data in files_of_days().items()
        if decode_header(data, file=name).blocks == 1
    ][:2]

    with pytest.raises(AuditDamaged):
        encode_segment(data[:HEADER_SIZE] + other[1][HEADER_SIZE:], file=name)


@pytest.mark.parametrize("data", [b"", b"PAR1" + bytes(20) + b"PAR1"])
def test_what_is_no_parquet_is_damage(data: bytes) -> None:
    """The reader says what is wrong and does not let pyarrow's exceptions out."""
    with pytest.raises(AuditDamaged):
        read_schema(data, file="x")


def test_metadata_that_is_no_text_is_damage() -> None:
    """A flipped bit in the footer gives bytes that are no UTF-8."""
    schema = pa.schema([pa.field("a", pa.int64())], metadata={b"raftlock.\xac": b"\xac"})

    with pytest.raises(AuditDamaged, match="metadata"):
        origin_of(schema, file="x")


def test_parquet_of_something_else_is_damage() -> None:
    """A file without our metadata is none of the audit."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1]}), sink)

    with pytest.raises(AuditDamaged, match="metadata"):
        origin_of(read_schema(sink.getvalue().to_pybytes(), file="x"), file="x")
