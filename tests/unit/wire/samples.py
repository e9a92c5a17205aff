"""Requests and frames that a client may send, and those that it may not: what the vectors of requests are made of."""

from typing import Any, NamedTuple

from raftlock_wire import limits
from raftlock_wire.codec import pack
from raftlock_wire.messages import ListBy, Op
from tests.unit.wire.document import Document, Field

Message = tuple[Any, ...]

_MAX = limits.NUMBER_MAX
_NONCE = bytes(range(16))
WIDTHS = (0, 127, 128, 255, 256, 65_535, 65_536, (1 << 32) - 1, 1 << 32, _MAX)
"""Integers around each format of msgpack."""

USUAL: dict[Op, Message] = {
    Op.HELLO: (1, 1, 1, 1, None, None, "example"),
    Op.OPEN_SESSION: (2, 2, _NONCE, 10_000),
    Op.ATTACH: (3, 3, 5, _NONCE),
    Op.KEEP_ALIVE: (4, 4, 5),
    Op.CLOSE_SESSION: (5, 5, 5),
    Op.ACQUIRE: (6, 6, 5, 0, 1, "order:1", "me", 10_000, 0, None),
    Op.CANCEL: (7, 7, 5, 0, 1),
    Op.RENEW: (8, 8, (("order:1", 1_800_000_000_000_001),)),
    Op.CHANGE_TTL: (9, 9, "order:1", 1_800_000_000_000_001, 5_000, 17),
    Op.RELEASE: (10, 10, "order:1", 1_800_000_000_000_001),
    Op.CHECK: (11, 11, "order:1", 1_800_000_000_000_001),
    Op.GET: (12, 12, "order:1", False),
    Op.LIST: (13, 13, 0, "order:", "", 100, False),
    Op.FORCE_RELEASE: (14, 14, "order:1", 1_800_000_000_000_001, "operator asked", False),
    Op.NODE_STATUS: (15, 15),
    Op.MEMBERS: (16, 16),
    Op.ADD_MEMBER: (17, 17, 4, f"{4:032x}", "192.0.2.4:7411", "192.0.2.4:7401"),
    Op.PROMOTE_MEMBER: (18, 18, 4, f"{4:032x}"),
    Op.REMOVE_MEMBER: (19, 19, 4, f"{4:032x}"),
    Op.AUDIT_READ: (20, 20, 1, 0, None, None, None, None, None, None, None, 1_000),
}


def _metadata(size: int) -> dict[str, str]:
    """Return metadata whose encoding has this many bytes, from 300 on."""
    value = {"key": ""}
    value["key"] = "v" * (size - len(pack({"key": "v" * 256})) + 256)
    return value


GOOD: dict[str, tuple[Message, ...]] = {
    **{op.name.lower(): (request,) for op, request in USUAL.items()},
    "hello, everything set": (
        (1, 1, 1, 65_535, "847bfaea66c3dad911a7ee02d6242e27", "secret", "ä" * 128),
    ),
    "open_session, shortest": ((2, 1, bytes(16), limits.SESSION_TTL_MS_MIN),),
    "open_session, longest": ((2, _MAX, b"\xff" * 16, limits.SESSION_TTL_MS_MAX),),
    "keep_alive, largest numbers": ((4, _MAX, _MAX),),
    "acquire in a session, waiting": ((6, 6, 5, 1, 2, "order:1", "me", 0, 5_000, None),),
    "acquire, empty metadata": ((6, 6, 5, 0, 1, "order:1", "me", 100, 0, {}),),
    "acquire, metadata": ((6, 6, 5, 0, 1, "order:1", "me", 100, 0, {"host": "h1", "pid": "4711"}),),
    "acquire, most metadata": (
        (6, 6, 5, 0, 1, "order:1", "me", 100, 0, _metadata(limits.METADATA_SIZE_MAX)),
    ),
    "acquire, longest names and largest numbers": (
        (
            *(6, _MAX, _MAX, limits.SLOTS_MAX - 1, _MAX),
            *("ä" * 256, "o" * 256, limits.TTL_MS_MAX, limits.WAIT_MS_MAX, None),
        ),
    ),
    "acquire, shortest names": ((6, 1, 1, 0, 1, "r", "o", 0, 0, None),),
    "renew, numbers of every width": ((8, 8, tuple(("r", n or 1) for n in WIDTHS)),),
    "renew, 15 leases: fixarray": ((8, 8, tuple(("r", n) for n in range(1, 16))),),
    "renew, 16 leases: array 16": ((8, 8, tuple(("r", n) for n in range(1, 17))),),
    "renew, 1,000 leases": ((8, 8, tuple(("r", n) for n in range(1, 1_001))),),
    "resource of 31 bytes: fixstr": ((10, 10, "r" * 31, 1),),
    "resource of 32 bytes: str 8": ((10, 10, "r" * 32, 1),),
    "resource of 256 bytes: str 16": ((10, 10, "r" * 256, 1),),
    "get, stale": ((12, 12, "order:1", True),),
    "list by owner": ((13, 13, int(ListBy.OWNER), "me", "order:1", 1_000, True),),
    "list by session": ((13, 13, int(ListBy.SESSION), 5, "t17", 1, False),),
    "audit_read, everything set": (
        (20, 20, 17, 3, "order:1", "order:", "me", 1_800_000_000_000_001, "acquire", 0, _MAX, 1),
    ),
    "force_release now": ((14, 14, "order:1", 1, "r" * 1_024, True),),
    "several requests in a frame": (USUAL[Op.RELEASE], USUAL[Op.KEEP_ALIVE], USUAL[Op.ACQUIRE]),
    "16 requests in a frame: array 16": tuple((4, n, 5) for n in range(1, 17)),
}
"""Frames of requests, by what is special about them."""


def longest(value: Any) -> bytes:
    """Encode a value in the longest formats of msgpack."""
    if isinstance(value, str):
        return b"\xdb" + len(value.encode()).to_bytes(4, "big") + value.encode()
    if isinstance(value, bytes):
        return b"\xc6" + len(value).to_bytes(4, "big") + value
    if isinstance(value, bool) or value is None:
        return pack(value)
    if isinstance(value, int):
        return b"\xcf" + value.to_bytes(8, "big")
    if isinstance(value, dict):
        pairs = b"".join(longest(k) + longest(v) for k, v in value.items())
        return b"\xdf" + len(value).to_bytes(4, "big") + pairs
    return b"\xdd" + len(value).to_bytes(4, "big") + b"".join(map(longest, value))


def signed(value: Any) -> bytes:
    """Encode a value with signed 64-bit integers, as some libraries do, and 16-bit arrays."""
    if isinstance(value, int) and not isinstance(value, bool):
        return b"\xd3" + value.to_bytes(8, "big")
    if isinstance(value, tuple):
        return b"\xdc" + len(value).to_bytes(2, "big") + b"".join(map(signed, value))
    return pack(value)


class Bad(NamedTuple):
    """A frame that must be refused: by a GOODBYE, or by BAD_REQUEST that names a field."""

    name: str
    payload: bytes
    goodbye: str | None = None
    field: str | None = None
    cause: str = ""
    """What the error of our codec says, so that each frame is refused for its own reason."""


def bad_frames() -> list[Bad]:
    """Return frames that are none, each with the cause."""
    usual = pack([USUAL[Op.KEEP_ALIVE]])
    keep_alive_of = b"\x91\x93\x04\x01"
    pairs = b"".join(pack(f"{n:02}") + pack("") for n in range(65))
    found = {
        "nothing": (b"", "incomplete"),
        "cut short": (usual[:-1], "incomplete"),
        "bytes behind the value": (usual + b"\xc0", "extra data"),
        "an integer": (b"\x01", "not an array of 1 to 4096"),
        "a map": (pack({"a": 1}), "not an array of 1 to 4096"),
        "no request": (b"\x90", "not an array of 1 to 4096"),
        "4,097 requests": (b"\xdc\x10\x01" + b"\xc0" * 4_097, "4097 exceeds"),
        "an array that announces 2^32-1 elements": (b"\xdd\xff\xff\xff\xff", "4294967295 exceeds"),
        "an array in an array with 4,097 elements": (
            keep_alive_of + b"\xdc\x10\x01" + b"\xc0" * 4_097,
            "4097 exceeds",
        ),
        "a text that announces 2^32-1 bytes": (
            keep_alive_of + b"\xdb\xff\xff\xff\xff",
            "incomplete",
        ),
        "a key twice": (keep_alive_of + b"\x82\xa1a\x01\xa1a\x02", "same key twice"),
        "an integer as a key": (keep_alive_of + b"\x81\x01\x01", "int is not allowed for map key"),
        "a map of 65 pairs": (keep_alive_of + b"\xde\x00\x41" + pairs, "65 exceeds"),
        "text that is not UTF-8": (keep_alive_of + b"\xa2\xff\xfe", "utf-8"),
        "a surrogate": (keep_alive_of + b"\xa3\xed\xa0\x80", "utf-8"),
        "an extension type": (keep_alive_of + b"\xd4\x05\x00", "extension type 5"),
        "the byte that msgpack never uses": (keep_alive_of + b"\xc1", "FormatError"),
        "arrays in arrays, 2,000 deep": (b"\x91" * 2_000 + b"\x01", "StackError"),
    }
    return [
        Bad(name, payload, goodbye="bad_frame", cause=cause)
        for name, (payload, cause) in found.items()
    ]


def outside(field: Field) -> list[tuple[str, Any]]:
    """Return values just outside the ranges that the document gives, and one of another type."""
    found: list[tuple[str, Any]] = [("a float", 1.5)]
    low, high = (
        field.ranges[0][0] if field.ranges else 0,
        field.ranges[-1][1] if field.ranges else 0,
    )
    if "int" in field.types:
        edges = {low - 1, high + 1} | {r[0] - 1 for r in field.ranges[1:]}
        found += [(f"{n}", n) for n in sorted(edges)]
        found.append(("true", True))
    elif "text" in field.types:
        found += [(f"{n} bytes", "x" * n) for n in (low - 1, high + 1) if n >= 0]
        found.append(("bin", b"x"))
    elif "bin" in field.types:
        found += [(f"{n} bytes", b"x" * n) for n in (low - 1, high + 1)]
        found.append(("text", "x" * low))
    elif "bool" in field.types:
        found.append(("1", 1))
    elif "array" in field.types:
        found += [(f"{n} elements", (("r", 1),) * n) for n in (low - 1, high + 1)]
    elif "map" in field.types:
        found += [(f"{high + 1} bytes", _metadata(high + 1)), ("a number in it", {"a": 1})]
    if "nil" not in field.types:
        found.append(("nil", None))
    return found


def inside(field: Field) -> list[Any]:
    """Return the values at the edges of the ranges that the document gives."""
    found: list[Any] = [None] if "nil" in field.types else []
    edges = [edge for pair in field.ranges for edge in pair]
    if "int" in field.types:
        found += edges
    elif "text" in field.types:
        found += ["x" * edge for edge in edges]
    elif "bin" in field.types:
        found += [b"x" * edge for edge in edges]
    elif "bool" in field.types:
        found += [True, False]
    elif "array" in field.types:
        found += [(("r", 1),) * edge for edge in edges]
    elif "map" in field.types:
        found += [{}, _metadata(edges[-1])]
    return found


def with_field(request: Message, position: int, value: Any) -> Message:
    """Return a request with another value in one place."""
    return (*request[:position], value, *request[position + 1 :])


_WHAT = "what"
"""The field of a LIST whose type depends on `by`: it has its own examples."""


def _bad_requests(document: Document) -> list[Bad]:
    found: list[tuple[str, Any, str]] = [
        ("a request that is an integer", 5, "request"),
        ("a request that is a map", {}, "request"),
        ("a request that is a text", "\x06", "request"),
        ("a request that is nil", None, "request"),
        ("a request without an id", (4,), "request"),
        ("request id 0", (4, 0, 5), "request_id"),
        ("request id 2^53", (4, _MAX + 1, 5), "request_id"),
        ("an unknown code", (99, 1), "code"),
        ("a code of the cluster's own", (32, 1, "order:1", 1, 1), "code"),
        ("code true", (True, 1), "code"),
        ("too few elements", (4, 1), "request"),
        ("too many elements", (4, 1, 5, 0), "request"),
        ("list by session of a text", (13, 1, 2, "5", "", 1, False), "what"),
        ("list by session of 0", (13, 1, 2, 0, "", 1, False), "what"),
        ("list by prefix of an integer", (13, 1, 0, 5, "", 1, False), "what"),
        ("list by prefix of 513 bytes", (13, 1, 0, "x" * 513, "", 1, False), "what"),
        ("renew: a triple", (8, 1, (("r", 1, 1),)), "leases"),
        ("renew: token 0", (8, 1, (("r", 0),)), "token"),
        ("renew: no resource", (8, 1, (("", 1),)), "resource"),
        ("metadata with bin", with_field(USUAL[Op.ACQUIRE], 9, {"a": b"b"}), "metadata"),
        ("a resource of 257 two-byte characters", (10, 1, "ä" * 257, 1), "resource"),
    ]
    for code, request in document.requests.items():
        if code == Op.HELLO:
            continue  # its refusals end the connection, and are among the answers
        for position, field in enumerate(request.fields, 2):
            if field.name != _WHAT:
                found += [
                    (f"{request.name}: {field.name}: {what}", with_field(USUAL[Op(code)], position, value), field.name)
                    for what, value in outside(field)
                ]  # fmt: skip
    bad = [Bad(name, pack([request]), field=field) for name, request, field in found]
    timestamp = b"\x91\x93\x04\x01\xd6\xff\x00\x00\x00\x01"
    return [*bad, Bad("a timestamp", timestamp, field="session")]


def bad(document: Document) -> list[Bad]:
    """Return all frames that must be refused."""
    return [*bad_frames(), *_bad_requests(document)]
