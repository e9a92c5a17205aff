"""Records, their chain of checksums, and their entries (decision 10)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from raftlock_wire.entry import Entry, EntryKind
from raftlock_wire.ids import Index, Term
from tests.unit.storage.kit import entries, entry

U64 = st.integers(0, 2**64 - 1)


@st.composite
def logs(draw: st.DrawFn) -> list[Entry]:
    """Draw consecutive entries of any content."""
    first = draw(st.integers(1, 2**63))
    parts = draw(
        st.lists(
            st.tuples(U64, st.sampled_from(EntryKind), U64, U64, st.binary(max_size=60)),
            min_size=1, max_size=5,
        )
    )  # fmt: skip
    return [
        Entry(Index(first + i), Term(term), kind, stamp, wall, data)
        for i, (term, kind, stamp, wall, data) in enumerate(parts)
    ]


@given(logs())
def test_entries_come_back(log: list[Entry]) -> None:
    """Decoding gives what was encoded."""
    assert decode_entries(encode_entries(log)) == log


@given(logs(), st.data())
def test_cut_entries_are_refused(log: list[Entry], data: st.DataObject) -> None:
    """A payload that ends within an entry, or holds none, is an error and never fewer entries."""
    payload = encode_entries(log)
    ends = {len(encode_entries(log[:count])) for count in range(1, len(log) + 1)}
    size = data.draw(st.integers(0, len(payload) - 1).filter(lambda n: n not in ends))

    with pytest.raises(ValueError, match=r"cut off|holds none"):
        decode_entries(payload[:size])


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(payload: bytes) -> None:
    """Whatever decodes, encodes to the same bytes; all else is a ValueError."""
    try:
        decoded = decode_entries(payload)
    except ValueError:
        return

    assert encode_entries(decoded) == payload


def test_entries_that_leave_a_gap_are_refused() -> None:
    """Indexes within a record are consecutive."""
    with pytest.raises(ValueError, match="entry 7 follows entry 5"):
        decode_entries(encode_entries([entry(5), entry(7)]))


def test_an_unknown_kind_is_refused() -> None:
    """A kind that this version does not know is never passed over (decision 7)."""
    payload = bytearray(encode_entries([entry(5)]))
    payload[16] = 9

    with pytest.raises(ValueError, match="entry 5 is of the unknown kind 9"):
        decode_entries(bytes(payload))


@given(st.builds(SegmentHeader, U64, U64, st.integers(0, 2**32 - 1)), st.binary(max_size=8))
def test_a_segment_header_comes_back(header: SegmentHeader, more: bytes) -> None:
    """It is read whatever follows it."""
    assert decode_segment_header(encode_segment_header(header) + more) == header


@given(st.binary(max_size=SEGMENT_HEADER_SIZE + 8))
def test_any_bytes_are_no_segment_header(data: bytes) -> None:
    """Bytes that nobody checksummed are none."""
    assert decode_segment_header(data) is None


@given(U64, U64, st.integers(0, 255), st.integers(0, 2**32 - 1), st.binary(min_size=1, max_size=40))
def test_a_record_comes_back_in_its_place(
    number: int, segment: int, kind: int, seed: int, payload: bytes
) -> None:
    """It is whole behind the record that seeded it, and behind no other."""
    record, crc = encode_record(payload, number=number, segment=segment, kind=kind, seed=seed)

    header = decode_record_header(record)

    assert header == RecordHeader(len(payload), number, segment, kind, crc)
    assert record_is_whole(record, header, seed=seed)
    assert not record_is_whole(record, header, seed=seed ^ 1)
    assert not record_is_whole(record, header._replace(segment=segment ^ 1), seed=seed)
    assert not record_is_whole(record[:-1], header, seed=seed)


@given(st.binary(max_size=RECORD_HEADER_SIZE + 8))
def test_any_bytes_are_no_record(data: bytes) -> None:
    """Bytes that nobody checksummed are none, also behind the magic."""
    assert (decode_record_header(data), decode_record_header(RECORD_MAGIC + data)) == (None, None)


def test_every_flipped_bit_of_a_record_is_seen() -> None:
    """No single flip leaves a whole record."""
    record, _ = encode_record(
        encode_entries(entries(1, 3)), number=7, segment=2, kind=ENTRIES, seed=99
    )
    unseen = []
    for bit in range(len(record) * 8):
        flipped = bytearray(record)
        flipped[bit // 8] ^= 1 << bit % 8
        header = decode_record_header(bytes(flipped))
        if header is not None and record_is_whole(bytes(flipped), header, seed=99):
            unseen.append(bit)

    assert unseen == []


def test_no_text_holds_the_magic() -> None:
    """What clients write is UTF-8, which the magic is not."""
    with pytest.raises(UnicodeDecodeError):
        RECORD_MAGIC.decode()


def test_a_seal_is_a_record_without_payload() -> None:
    """It is as long as a head."""
    record, _ = encode_record(b"", number=1, segment=1, kind=SEAL, seed=0)

    assert len(record) == RECORD_HEADER_SIZE
