"""The messages between client and server: codes, shapes and checks.

Every message is a msgpack array; a frame's payload is an array of messages.

    client to server   [request, ...]           request = [code, request_id, *fields]
    server to client   [leader_id, message, ...] message = [request_id, status, final, *fields], or an event
                                                 event   = [0, event code, *fields]

Request ids are the client's, 1 to 2^53-1; 0 marks events. The fields of each answer depend on the request and the
status: PROTOCOL.md has them byte by byte. Codes from 32 on are commands that only a leader writes to the log.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any

from raftlock_wire import limits
from raftlock_wire.codec import pack
from raftlock_wire.errors import BadField


class Op(IntEnum):
    """Codes of requests, and of the commands that only the log holds."""

    HELLO = 1
    """[1, id, version_min, version_max, cluster_id | nil, auth | nil, client_name]"""
    OPEN_SESSION = 2
    """[2, id, nonce: bin 16, ttl_ms]"""
    ATTACH = 3
    """[3, id, session, nonce: bin 16]"""
    KEEP_ALIVE = 4
    """[4, id, session]"""
    CLOSE_SESSION = 5
    """[5, id, session]"""
    ACQUIRE = 6
    """[6, id, session, slot, n, resource, owner, ttl_ms | 0 (in session), wait_ms, metadata | nil]"""
    CANCEL = 7
    """[7, id, session, slot, n]"""
    RENEW = 8
    """[8, id, [[resource, token], ...]]"""
    CHANGE_TTL = 9
    """[9, id, resource, token, ttl_ms, rev]"""
    RELEASE = 10
    """[10, id, resource, token]"""
    CHECK = 11
    """[11, id, resource, token]"""
    GET = 12
    """[12, id, resource, stale]"""
    LIST = 13
    """[13, id, by: ListBy, what: str | session, cursor: str, limit, stale]"""
    FORCE_RELEASE = 14
    """[14, id, resource, token, reason, now]"""
    NODE_STATUS = 15
    """[15, id]: of the node that is asked, whoever leads"""
    MEMBERS = 16
    """[16, id]: who the members are, as the leader sees them"""
    ADD_MEMBER = 17
    """[17, id, node_id, incarnation, peer_address, client_address]: as a learner; of a member: its addresses"""
    PROMOTE_MEMBER = 18
    """[18, id, node_id, incarnation]: a learner becomes a voter"""
    REMOVE_MEMBER = 19
    """[19, id, node_id, incarnation]"""
    AUDIT_READ = 20
    """[20, id, from_index, from_position, resource | nil, prefix | nil, owner | nil, token | nil, operation | nil,
    since_us | nil, until_us | nil, limit]: records of the node that is asked, whoever leads"""

    EXPIRE_LOCK = 32
    """[32, 0, resource, token, rev]"""
    EXPIRE_SESSION = 33
    """[33, 0, session, rev]"""
    WAIT_TIMEOUT = 34
    """[34, 0, session, slot, n]"""
    SWEEP_SESSION = 35
    """[35, 0, session]"""
    SWEEP_RESOURCE = 36
    """[36, 0, resource]"""
    LOGGED_RENEW = 37
    """[37, 0, resource, token]: the first renewal of an offer (L10), or one of the logged class (L6)"""
    GENESIS = 38
    """[38, 0, token, logged_renewal_ttl_ms]: the first command of a cluster's life (T1)"""
    NEW_LIFE = 39
    """[39, 0, token_floor, refuse_until_us]: a restore (T2); the time is on the lease clock"""
    SET_SETTINGS = 40
    """[40, 0, {name: integer}]"""
    SET_VERSION = 41
    """[41, 0, version]: raise the state machine's version (decision 7)"""


class Event(IntEnum):
    """Codes of pushed events. Those that name a session carry its count (L9)."""

    OFFERED = 1
    """[0, 1, session, count, slot, n, resource, token, rev]"""
    TIMEOUT = 2
    """[0, 2, session, count, slot, n]"""
    LOST = 3
    """[0, 3, session, count, resource, token]: a lock of the session was ended by others"""
    CUT = 4
    """[0, 4, session, count, resource, token]: a lock was cut out of its session (at_expiry)"""
    ROUTES_LOST = 5
    """[0, 5]: the leader changed, or this node lost it; send a keep-alive"""
    SESSION_ENDED = 6
    """[0, 6, session, count]"""
    GOODBYE = 7
    """[0, 7, code: str, text]: the server closes this connection, and why"""


class ListBy(IntEnum):
    """What a list is by."""

    PREFIX = 0
    OWNER = 1
    SESSION = 2


class GrantState(IntEnum):
    """The state of what a list or a get shows."""

    HELD = 0
    OFFERED = 1
    ENDING = 2
    WAITING = 3


def _integer(field: str, value: Any, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise BadField(field, f"{_show(value)} is not an integer from {low} to {high}")


def _text(field: str, value: Any, low: int, high: int) -> None:
    if type(value) is not str:
        raise BadField(field, f"{_show(value)} is not text of {low} to {high} bytes of UTF-8")
    # A character is at most four bytes: most names need no encoding to be known as short enough.
    if (not value and low) or (len(value) * 4 > high and len(value.encode()) > high):
        raise BadField(
            field, f"{len(value.encode())} bytes of UTF-8 are not within {low} to {high}"
        )


def _boolean(field: str, value: Any) -> None:
    if type(value) is not bool:
        raise BadField(field, f"{_show(value)} is not true or false")


def _show(value: Any) -> str:
    try:
        text = repr(value)
    except RecursionError:
        # msgpack reads deeper nests than Python writes.
        return f"a {type(value).__name__} that is nested too deeply"
    return text if len(text) <= 60 else text[:57] + "..."


def check_metadata(value: Any) -> None:
    """Accept nil or a map of text to text whose encoding is at most METADATA_SIZE_MAX bytes."""
    if value is None:
        return
    if type(value) is not dict:
        raise BadField("metadata", f"{_show(value)} is not a map of text to text")
    for key, item in value.items():
        if type(key) is not str or type(item) is not str:
            raise BadField("metadata", f"{_show(key)}: {_show(item)} is not text to text")
    size = len(pack(value))
    if size > limits.METADATA_SIZE_MAX:
        raise BadField("metadata", f"{size} bytes encoded exceed {limits.METADATA_SIZE_MAX}")


def _check_key(session: Any, slot: Any, n: Any) -> None:
    _integer("session", session, 1, limits.NUMBER_MAX)
    _integer("slot", slot, 0, limits.SLOTS_MAX - 1)
    _integer("n", n, 1, limits.NUMBER_MAX)


def check_resource(value: Any) -> None:
    """Accept a resource name: 1 to 512 bytes of UTF-8."""
    _text("resource", value, 1, limits.RESOURCE_SIZE_MAX)


def check_owner(value: Any) -> None:
    """Accept an owner: 1 to 256 bytes of UTF-8."""
    _text("owner", value, 1, limits.OWNER_SIZE_MAX)


def check_ttl(value: Any) -> None:
    """Accept the ttl of a lease in milliseconds, or 0: the lock lives in its session."""
    if value != 0 or type(value) is not int:
        _integer("ttl_ms", value, limits.TTL_MS_MIN, limits.TTL_MS_MAX)


def _check_grant(resource: Any, token: Any) -> None:
    check_resource(resource)
    _integer("token", token, 1, limits.NUMBER_MAX)


def _check_nonce(value: Any) -> None:
    if type(value) is not bytes or len(value) != limits.NONCE_SIZE:
        raise BadField("nonce", f"{_show(value)} is not {limits.NONCE_SIZE} bytes")


def _hello(r: tuple[Any, ...]) -> None:
    _integer("version_min", r[2], 1, 65_535)
    _integer("version_max", r[3], r[2], 65_535)
    if r[4] is not None:
        _text("cluster_id", r[4], 1, 64)
    if r[5] is not None:
        _text("auth", r[5], 1, 4_096)
    _text("client_name", r[6], 0, 256)


def _open_session(r: tuple[Any, ...]) -> None:
    _check_nonce(r[2])
    _integer("ttl_ms", r[3], limits.SESSION_TTL_MS_MIN, limits.SESSION_TTL_MS_MAX)


def _attach(r: tuple[Any, ...]) -> None:
    _integer("session", r[2], 1, limits.NUMBER_MAX)
    _check_nonce(r[3])


def _session(r: tuple[Any, ...]) -> None:
    _integer("session", r[2], 1, limits.NUMBER_MAX)


def _acquire(r: tuple[Any, ...]) -> None:
    _, _, session, slot, n, resource, owner, ttl_ms, wait_ms, metadata = r
    # The common case in one expression, 0.4 us instead of 1.3 us (bench: throughput); the slow path names the field.
    if (
        type(session) is int
        and type(slot) is int
        and type(n) is int
        and type(resource) is str
        and type(owner) is str
        and type(ttl_ms) is int
        and type(wait_ms) is int
        and metadata is None
        and 0 < session <= 9007199254740991
        and 0 <= slot < 4096
        and 0 < n <= 9007199254740991
        and 0 < len(resource) <= 128
        and 0 < len(owner) <= 64
        and (ttl_ms == 0 or 100 <= ttl_ms <= 86400000)
        and 0 <= wait_ms <= 86400000
    ):
        return
    _check_key(session, slot, n)
    check_resource(resource)
    check_owner(owner)
    check_ttl(ttl_ms)
    _integer("wait_ms", wait_ms, 0, limits.WAIT_MS_MAX)
    check_metadata(metadata)


def _cancel(r: tuple[Any, ...]) -> None:
    _check_key(r[2], r[3], r[4])


def _renew(r: tuple[Any, ...]) -> None:
    items = r[2]
    if type(items) is not tuple or not 1 <= len(items) <= limits.RENEW_ITEMS_MAX:
        raise BadField(
            "leases", f"not a list of 1 to {limits.RENEW_ITEMS_MAX} pairs of resource and token"
        )
    for item in items:
        if type(item) is not tuple or len(item) != 2:
            raise BadField("leases", f"{_show(item)} is not a pair of resource and token")
        _check_grant(item[0], item[1])


def _change_ttl(r: tuple[Any, ...]) -> None:
    _check_grant(r[2], r[3])
    _integer("ttl_ms", r[4], limits.TTL_MS_MIN, limits.TTL_MS_MAX)
    _integer("rev", r[5], 1, limits.NUMBER_MAX)


def _grant(r: tuple[Any, ...]) -> None:
    _, _, resource, token = r
    if (
        type(resource) is str
        and type(token) is int
        and 0 < len(resource) <= 128
        and 0 < token <= 9007199254740991
    ):
        return
    _check_grant(resource, token)


def _get(r: tuple[Any, ...]) -> None:
    check_resource(r[2])
    _boolean("stale", r[3])


def _list(r: tuple[Any, ...]) -> None:
    _, _, by, what, cursor, limit, stale = r
    _integer("by", by, 0, 2)
    if by == ListBy.SESSION:
        _integer("what", what, 1, limits.NUMBER_MAX)
    else:
        _text("what", what, 0, limits.RESOURCE_SIZE_MAX)
    _text("cursor", cursor, 0, limits.CURSOR_SIZE_MAX)
    _integer("limit", limit, 1, limits.LIST_PAGE_MAX)
    _boolean("stale", stale)


def _force_release(r: tuple[Any, ...]) -> None:
    _check_grant(r[2], r[3])
    _text("reason", r[4], 1, limits.REASON_SIZE_MAX)
    _boolean("now", r[5])


def _member(r: tuple[Any, ...]) -> None:
    _integer("node_id", r[2], 1, limits.NODE_ID_MAX)
    _text("incarnation", r[3], 1, limits.INCARNATION_SIZE_MAX)


def _add_member(r: tuple[Any, ...]) -> None:
    _member(r)
    _text("peer_address", r[4], 1, limits.ADDRESS_SIZE_MAX)
    _text("client_address", r[5], 1, limits.ADDRESS_SIZE_MAX)


def _audit_read(r: tuple[Any, ...]) -> None:
    _integer("from_index", r[2], 1, limits.NUMBER_MAX)
    _integer("from_position", r[3], 0, limits.NUMBER_MAX)
    for field, value, high in (
        ("resource", r[4], limits.RESOURCE_SIZE_MAX),
        ("prefix", r[5], limits.RESOURCE_SIZE_MAX),
        ("owner", r[6], limits.OWNER_SIZE_MAX),
    ):
        if value is not None:
            _text(field, value, 1, high)
    if r[7] is not None:
        _integer("token", r[7], 1, limits.NUMBER_MAX)
    if r[8] is not None:
        _text("operation", r[8], 1, limits.OPERATION_SIZE_MAX)
    for field, value in (("since_us", r[9]), ("until_us", r[10])):
        if value is not None:
            _integer(field, value, 0, limits.NUMBER_MAX)
    _integer("limit", r[11], 1, limits.AUDIT_PAGE_MAX)


def _nothing(_: tuple[Any, ...]) -> None:
    return


CHECKS: dict[int, tuple[int, Callable[[tuple[Any, ...]], None]]] = {
    Op.HELLO: (7, _hello),
    Op.OPEN_SESSION: (4, _open_session),
    Op.ATTACH: (4, _attach),
    Op.KEEP_ALIVE: (3, _session),
    Op.CLOSE_SESSION: (3, _session),
    Op.ACQUIRE: (10, _acquire),
    Op.CANCEL: (5, _cancel),
    Op.RENEW: (3, _renew),
    Op.CHANGE_TTL: (6, _change_ttl),
    Op.RELEASE: (4, _grant),
    Op.CHECK: (4, _grant),
    Op.GET: (4, _get),
    Op.LIST: (7, _list),
    Op.FORCE_RELEASE: (6, _force_release),
    Op.NODE_STATUS: (2, _nothing),
    Op.MEMBERS: (2, _nothing),
    Op.ADD_MEMBER: (6, _add_member),
    Op.PROMOTE_MEMBER: (4, _member),
    Op.REMOVE_MEMBER: (4, _member),
    Op.AUDIT_READ: (12, _audit_read),
}
"""For each request of a client: how many elements its array has, and the check of its fields."""


def check_request(request: Any) -> None:
    """Raise BadField unless `request` is a well-formed client request of a known code."""
    if type(request) is not tuple or len(request) < 2:
        raise BadField("request", "not an array of at least a code and a request id")
    code, request_id = request[0], request[1]
    _integer("request_id", request_id, 1, limits.NUMBER_MAX)
    shape = CHECKS.get(code) if type(code) is int else None
    if shape is None:
        raise BadField("code", f"{_show(code)} is not a known request")
    length, check = shape
    if len(request) != length:
        raise BadField("request", f"{Op(code).name} has {length} elements, not {len(request)}")
    check(request)
