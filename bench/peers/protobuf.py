"""As much of protobuf as etcd's Txn and LeaseGrant need: fields of varints and bytes. It needs no generated code."""


def varint(value: int) -> bytes:
    """Encode a number from 0 to 2^64-1."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """Encode a field of a number, also when it is 0: a Compare needs its target to be there."""
    return varint(field << 3) + varint(value)


def chunk(field: int, value: bytes) -> bytes:
    """Encode a field of bytes, text or a message."""
    return varint(field << 3 | 2) + varint(len(value)) + value


def fields(message: bytes) -> dict[int, int | bytes]:
    """Decode a message's fields by number; of one that is repeated, the last. Raise ValueError for another wire type."""
    found: dict[int, int | bytes] = {}
    at = 0
    while at < len(message):
        key, at = _varint_at(message, at)
        if key & 7 == 0:
            found[key >> 3], at = _varint_at(message, at)
        elif key & 7 == 2:
            size, at = _varint_at(message, at)
            found[key >> 3] = message[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {key & 7} of field {key >> 3}")
    return found


def _varint_at(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
