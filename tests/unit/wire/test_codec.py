"""The strict msgpack dialect: one decoder for clients and for the log (decision 6)."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftlock_wire.codec import array_body_offset, array_header, pack, split_array, unpack
from raftlock_wire.errors import BadFrame

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=20)
    | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(values)
def test_what_is_packed_is_unpacked(value: object) -> None:
    """Tuples, text, bytes, integers, booleans, nil and maps survive."""
    assert unpack(pack(value)) == value


@given(values, st.binary(min_size=1, max_size=4))
def test_trailing_bytes_are_refused(value: object, rest: bytes) -> None:
    """A payload is exactly one value."""
    with pytest.raises(BadFrame):
        unpack(pack(value) + rest)


@given(values)
def test_a_cut_value_is_refused(value: object) -> None:
    """Fed byte by byte, no beginning of a value is taken for the value."""
    data = pack(value)
    for size in range(len(data)):
        with pytest.raises(BadFrame):
            unpack(data[:size])


@pytest.mark.parametrize(
    "data",
    [
        msgpack.packb(msgpack.ExtType(5, b"x")),
        b"\x82\xa1a\x01\xa1a\x02",
        b"\xa2\xff\xfe",
        b"\x81\x91\x01\x01",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
    ],
    ids=["extension", "key twice", "bad UTF-8", "list as key", "never used", "huge array"],
)
def test_what_the_dialect_does_not_have_is_refused(data: bytes) -> None:
    """Extension types, duplicate keys, bad UTF-8, odd keys and absurd sizes are no frames."""
    with pytest.raises(BadFrame):
        unpack(data)


def test_nested_headers_do_not_allocate_what_they_announce() -> None:
    """Arrays in arrays that each announce millions of elements are refused at the first."""
    bomb = b"\xdd\x00\x0f\x42\x40" * 200

    with pytest.raises(BadFrame, match="4096"):
        unpack(bomb)


@given(st.binary(max_size=60))
def test_no_input_raises_anything_else(data: bytes) -> None:
    """Random bytes give a value or BadFrame."""
    try:
        unpack(data)
    except BadFrame as error:
        assert "not msgpack" in str(error)


@given(st.lists(values, max_size=40))
def test_an_array_is_split_into_the_bytes_that_it_was_made_of(items: list[object]) -> None:
    """Elements keep their bytes, and a header with them makes the same array again (decision 2)."""
    data = pack(items)

    parts = split_array(data)

    assert (parts, array_header(len(parts)) + b"".join(parts)) == (
        [pack(item) for item in items],
        data,
    )


@pytest.mark.parametrize("count", [0, 15, 16, 65_535, 65_536])
def test_headers_of_every_size(count: int) -> None:
    """A header announces its count, and its length is where the first element begins."""
    header = array_header(count)

    assert (header + b"\xc0" * count, array_body_offset(header)) == (
        pack([None] * count),
        len(header),
    )
