"""The messages between members, as bytes: raft's, and the requests that a follower passes on.

Each is a msgpack array that begins with a code. Only members send them: a link is accepted after its hello, and
closed by the first frame that is none of these.
"""

from typing import Any

from raftlock.raft import (
    AppendEntries,
    AppendEntriesResult,
    InstallSnapshot,
    InstallSnapshotResult,
    Message,
    RequestVote,
    RequestVoteResult,
    TimeoutNow,
)
from raftlock_wire.codec import pack, unpack
from raftlock_wire.entry import Entry, EntryKind, SnapshotMeta
from raftlock_wire.errors import BadFrame
from raftlock_wire.ids import Index, Term
from raftlock_wire.limits import NUMBER_MAX
from raftlock_wire.membership import decode_membership

REQUEST_VOTE = 1
REQUEST_VOTE_RESULT = 2
APPEND_ENTRIES = 3
APPEND_ENTRIES_RESULT = 4
INSTALL_SNAPSHOT = 5
INSTALL_SNAPSHOT_RESULT = 6
TIMEOUT_NOW = 7
FORWARD = 16
"""[16, [[conn_id, principal, address, frame], ...]]: requests of clients, sent on once (R7)"""
FORWARD_RESULT = 17
"""[17, [[conn_id, payload], ...]]: what goes to those clients"""
FORWARD_CLOSED = 18
"""[18, [conn_id, ...]]: connections that are gone"""

_KINDS = tuple(EntryKind)

Forwarded = tuple[int, tuple[Any, ...]]
"""(code, items): one of the last three."""


def encode(message: Message) -> bytes:
    """Return the payload of one of raft's messages."""
    match message:
        case AppendEntries():
            return _encode_append(message)
        case AppendEntriesResult():
            return pack(_fields(APPEND_ENTRIES_RESULT, message))
        case RequestVote():
            return pack(_fields(REQUEST_VOTE, message))
        case RequestVoteResult():
            return pack(_fields(REQUEST_VOTE_RESULT, message))
        case InstallSnapshot():
            return pack(_fields(INSTALL_SNAPSHOT, message))
        case InstallSnapshotResult():
            return pack(_fields(INSTALL_SNAPSHOT_RESULT, message))
        case TimeoutNow():
            return pack(_fields(TIMEOUT_NOW, message))


def encode_forward(frames: list[tuple[int, str, str, bytes]]) -> bytes:
    """Return the payload that passes clients' frames to the leader."""
    return pack((FORWARD, frames))


def encode_forward_result(results: list[tuple[int, bytes]]) -> bytes:
    """Return the payload that passes answers and events back to a follower's connections."""
    return pack((FORWARD_RESULT, results))


def encode_forward_closed(conn_ids: list[int]) -> bytes:
    """Return the payload that tells the leader of connections that are gone."""
    return pack((FORWARD_CLOSED, conn_ids))


def decode(payload: bytes) -> Message | Forwarded:
    """Decode a member's frame. Raise BadFrame unless it is one of raft's messages or of what is forwarded."""
    message = unpack(payload, array_count_max=1 << 20)
    if type(message) is not tuple or not message or type(message[0]) is not int:
        raise BadFrame("not a message between members")
    code, *fields = message
    if code in _FORWARDED:
        return _decode_forwarded(code, fields)
    kind = _KINDS_OF_MESSAGES.get(code)
    if kind is None:
        raise BadFrame(f"{code} is no message between members")
    _check_types(f"member message {code}", fields, _SHAPES[code])
    if kind is AppendEntries:
        return _decode_append(fields)
    named = dict(zip(kind.__slots__, fields, strict=True))
    if kind is InstallSnapshot:
        _check_types("a snapshot's name", named["meta"], _META)
        named["meta"] = meta = SnapshotMeta(*named["meta"])
        decode_membership(meta.membership)
    decoded: Message = kind(**named)
    return decoded


def _decode_forwarded(code: int, fields: list[Any]) -> Forwarded:
    if len(fields) != 1 or type(fields[0]) is not tuple:
        raise BadFrame("a forwarded message is a code and a list")
    shape = _FORWARDED[code]
    for item in fields[0]:
        _check_types(
            f"an item of member message {code}", item if len(shape) > 1 else (item,), shape
        )
    return (code, fields[0])


def _check_types(what: str, values: Any, types: tuple[type, ...]) -> None:
    # Consensus counts with these: a text where it expects a number would end the node in a turn, and a term beyond what
    # a frame can carry would end it in every turn after it was made durable.
    if type(values) not in (tuple, list) or tuple(map(type, values)) != types:
        raise BadFrame(f"the fields of {what} do not fit")
    for value in values:
        # Below zero or beyond what the log can hold, it would end the node where it is written.
        if type(value) is int and not 0 <= value <= NUMBER_MAX:
            raise BadFrame(f"a number in {what} is {value}, not 0 to {NUMBER_MAX}")


def _fields(code: int, message: Any) -> list[Any]:
    return [code, *(getattr(message, name) for name in message.__slots__)]


def _encode_append(message: AppendEntries) -> bytes:
    # An entry's index follows from prev_log_index: it is not sent.
    entries = [(e.term, e.kind, e.stamp_us, e.wall_us, e.data) for e in message.entries]
    return pack(
        (
            APPEND_ENTRIES,
            message.term,
            message.leader_id,
            message.prev_log_index,
            message.prev_log_term,
            entries,
            message.leader_commit,
            message.round,
        )
    )


def _decode_append(fields: list[Any]) -> AppendEntries:
    term, leader_id, prev_log_index, prev_log_term, entries, leader_commit, round_ = fields
    for entry in entries:
        _check_types("an entry", entry, _ENTRY)
        if not 0 <= entry[1] < len(_KINDS):
            raise BadFrame(f"{entry[1]} is no kind of entry")
        if _KINDS[entry[1]] is EntryKind.MEMBERSHIP:
            decode_membership(entry[4])
    return AppendEntries(
        term=term,
        leader_id=leader_id,
        prev_log_index=prev_log_index,
        prev_log_term=prev_log_term,
        entries=tuple(
            [
                Entry(Index(index), Term(e[0]), _KINDS[e[1]], e[2], e[3], e[4])
                for index, e in enumerate(entries, prev_log_index + 1)
            ]
        ),
        leader_commit=leader_commit,
        round=round_,
    )


_KINDS_OF_MESSAGES: dict[int, type[Any]] = {
    REQUEST_VOTE: RequestVote,
    REQUEST_VOTE_RESULT: RequestVoteResult,
    APPEND_ENTRIES: AppendEntries,
    APPEND_ENTRIES_RESULT: AppendEntriesResult,
    INSTALL_SNAPSHOT: InstallSnapshot,
    INSTALL_SNAPSHOT_RESULT: InstallSnapshotResult,
    TIMEOUT_NOW: TimeoutNow,
}
_SHAPES: dict[int, tuple[type, ...]] = {
    REQUEST_VOTE: (int, int, int, bool, bool),
    REQUEST_VOTE_RESULT: (int, bool, bool, int),
    APPEND_ENTRIES: (int, int, int, int, tuple, int, int),
    APPEND_ENTRIES_RESULT: (int, bool, int, int, int, int),
    INSTALL_SNAPSHOT: (int, int, tuple, int, bytes, bool, int),
    INSTALL_SNAPSHOT_RESULT: (int, int, bytes, int, int),
    TIMEOUT_NOW: (int,),
}
_ENTRY = (int, int, int, int, bytes)
_META = (int, int, int, int, bytes, int, bytes)
_FORWARDED: dict[int, tuple[type, ...]] = {
    FORWARD: (int, str, str, bytes),
    FORWARD_RESULT: (int, bytes),
    FORWARD_CLOSED: (int,),
}
