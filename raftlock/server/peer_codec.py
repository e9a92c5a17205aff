"""The messages between members, as bytes: raft's, and the requests that a follower passes on.

Each is a msgpack array that begins with a code. Only members send them: a link is accepted after its hello, and
closed by the first frame that is none of these.
"""

from collections.abc import Callable
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


def decode(payload: bytes) -> tuple[Any, ...]:
    """Decode a member's frame to its array. Raise BadFrame if it is none that we know."""
    message = unpack(payload, array_count_max=1 << 20)
    if type(message) is not tuple or not message or message[0] not in _KNOWN:
        raise BadFrame("not a message between members")
    if message[0] >= FORWARD and (len(message) != 2 or type(message[1]) is not tuple):
        raise BadFrame("a forwarded message is a code and a list")
    return message


def to_message(message: tuple[Any, ...]) -> Message:
    """Return raft's message for a decoded frame. Raise BadFrame if its fields do not fit."""
    try:
        return _DECODERS[message[0]](message)
    except (TypeError, ValueError, KeyError) as error:
        raise BadFrame(f"the fields of member message {message[0]} do not fit: {error}") from error


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


def _decode_append(m: tuple[Any, ...]) -> AppendEntries:
    _, term, leader_id, prev_log_index, prev_log_term, entries, leader_commit, round_ = m
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


def _decode_install(m: tuple[Any, ...]) -> InstallSnapshot:
    fields = _by_name(InstallSnapshot, m)
    fields["meta"] = SnapshotMeta(*fields["meta"])
    return InstallSnapshot(**fields)


def _by_name(kind: type[Any], m: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip(kind.__slots__, m[1:], strict=True))


_DECODERS: dict[int, Callable[[tuple[Any, ...]], Message]] = {
    REQUEST_VOTE: lambda m: RequestVote(**_by_name(RequestVote, m)),
    REQUEST_VOTE_RESULT: lambda m: RequestVoteResult(**_by_name(RequestVoteResult, m)),
    APPEND_ENTRIES: _decode_append,
    APPEND_ENTRIES_RESULT: lambda m: AppendEntriesResult(**_by_name(AppendEntriesResult, m)),
    INSTALL_SNAPSHOT: _decode_install,
    INSTALL_SNAPSHOT_RESULT: lambda m: InstallSnapshotResult(**_by_name(InstallSnapshotResult, m)),
    TIMEOUT_NOW: lambda m: TimeoutNow(**_by_name(TimeoutNow, m)),
}
_KNOWN = frozenset({*_DECODERS, FORWARD, FORWARD_RESULT, FORWARD_CLOSED})
