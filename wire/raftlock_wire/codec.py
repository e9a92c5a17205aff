"""The strict msgpack dialect of the protocol and of the log: one decoder for both (decision 6).

No floats, no extension types, no duplicate map keys, no bad UTF-8, no trailing bytes. Arrays decode to tuples.
Floats, and timestamps (extension -1, which msgpack decodes by itself), are refused by the field checks of `messages`,
which name the exact type of every field.
"""

from collections.abc import Iterable
from typing import Any

import msgpack

from raftlock_wire.errors import BadFrame
from raftlock_wire.limits import FRAME_MESSAGES_MAX, METADATA_KEYS_MAX


def _no_ext(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code} of {len(data)} bytes is not allowed")


def _unique(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    items = list(pairs)
    unique = dict(items)
    if len(unique) != len(items):
        raise ValueError("a map has the same key twice")
    return unique


def unpack(data: bytes | memoryview, *, array_count_max: int = FRAME_MESSAGES_MAX) -> Any:
    """Decode exactly one value. Raise BadFrame for anything that is not one strictly encoded value.

    `array_count_max` bounds each array: the decoder allocates what an array's header announces, so that nested
    headers could otherwise ask for far more memory than the frame has bytes.
    """
    try:
        return msgpack.unpackb(
            data,
            max_array_len=array_count_max,
            max_map_len=METADATA_KEYS_MAX,
            raw=False,
            use_list=False,
            strict_map_key=True,
            object_pairs_hook=_unique,
            ext_hook=_no_ext,
        )
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise BadFrame(
            f"not msgpack as the protocol allows it: {error or type(error).__name__}"
        ) from error


def pack(value: Any) -> bytes:
    """Encode tuples, lists, ints, bools, text, bytes, None and maps of them."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpack_own(data: bytes) -> Any:
    """Decode what this process encoded itself: nothing in it is checked again."""
    return msgpack.unpackb(data, use_list=False)


class Encoder(msgpack.Packer):  # type: ignore[misc]  # msgpack has no types
    """Encodes as `pack` does, and keeps its buffer: for what encodes many small values in one thread."""

    def __init__(self) -> None:
        super().__init__(use_bin_type=True)


def array_header(count: int) -> bytes:
    """Return the msgpack header of an array of `count` values, whose encodings the caller appends."""
    if count < 16:
        return bytes((0x90 | count,))
    if count < 1 << 16:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


def array_body_offset(data: bytes | memoryview) -> int:
    """Return where the first element of the array in `data` begins. `data` holds a decoded, hence valid, array."""
    first = data[0]
    if first & 0xF0 == 0x90:
        return 1
    return 3 if first == 0xDC else 5


def split_array(data: bytes) -> list[bytes]:
    """Return the encoding of each element of the array in `data`, unchanged and in order.

    For the few frames whose messages do not all go the same way: decision 2 keeps the client's bytes.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=0, read_size=len(data) or 1, strict_map_key=False)
    unpacker.feed(data)
    count = unpacker.read_array_header()
    parts = []
    start = unpacker.tell()
    for _ in range(count):
        unpacker.skip()
        end = unpacker.tell()
        parts.append(data[start:end])
        start = end
    return parts
