"""Answers and events of one turn, gathered so that each connection gets one write (decision 1).

It owns the way from an Origin to a frame: straight to a connection of this node, or through the follower that serves
it. It must not know why an answer is what it is.
"""

from collections.abc import Iterator
from typing import Any

from raftlock.server.effects import ClientFrame, Effects, PeerFrame
from raftlock.server.origin import Origin
from raftlock.server.peer_codec import encode_forward_result
from raftlock_wire.codec import array_body_offset, array_header, pack
from raftlock_wire.ids import NodeId
from raftlock_wire.limits import FRAME_MESSAGES_MAX, SESSION_TTL_MS_MAX
from raftlock_wire.messages import Event, Op
from raftlock_wire.status import Status

Answer = tuple[Any, ...]


class Outbox:
    """What goes out to clients at the end of the turn."""

    def __init__(self) -> None:
        self._parts: dict[Origin, list[tuple[int, bytes]]] = {}
        """In order, arrays of messages as `pack` encodes them, with their counts."""

    def answers(self, origin: Origin, answers: list[Answer], encoded: bytes | None = None) -> None:
        """Add answers, each of which ends the attempt with its request id.

        `encoded` is the list as `pack` encodes it, where the audit has done that already.
        """
        origin.in_flight -= len(answers)
        if origin.opening:
            note_attached(origin, answers)
        self._add(origin, answers, encoded)

    def event(self, origin: Origin, event: Answer) -> None:
        """Add a pushed event."""
        if event[1] == Event.SESSION_ENDED:
            origin.attached.discard(event[2])
        self._add(origin, [event], None)

    def _add(self, origin: Origin, messages: list[Answer], encoded: bytes | None) -> None:
        parts = self._parts.setdefault(origin, [])
        if len(messages) <= FRAME_MESSAGES_MAX:
            parts.append((len(messages), pack(messages) if encoded is None else encoded))
            return
        for start in range(0, len(messages), FRAME_MESSAGES_MAX):
            part = messages[start : start + FRAME_MESSAGES_MAX]
            parts.append((len(part), pack(part)))

    def flush(self, leader_id: NodeId, effects: Effects) -> None:
        """Move everything into the effects: one payload a connection, or more where one would hold too many messages."""
        leader = pack(leader_id)
        forwarded: dict[NodeId, list[tuple[int, bytes]]] = {}
        for origin, parts in self._parts.items():
            for count, bodies in _frames(parts):
                payload = b"".join((array_header(1 + count), leader, *bodies))
                if origin.local:
                    effects.client_frames.append(ClientFrame(origin.conn_id, payload))
                else:
                    forwarded.setdefault(origin.node, []).append((origin.conn_id, payload))
        self._parts.clear()
        for node, results in forwarded.items():
            effects.peer_frames.append(PeerFrame(node, encode_forward_result(results)))


def _frames(parts: list[tuple[int, bytes]]) -> Iterator[tuple[int, list[memoryview]]]:
    """Yield what each frame holds: how many messages, and their bytes without the headers of their arrays."""
    total = 0
    bodies: list[memoryview] = []
    for count, encoded in parts:
        if total + count > FRAME_MESSAGES_MAX:
            yield total, bodies
            total, bodies = 0, []
        total += count
        bodies.append(memoryview(encoded)[array_body_offset(encoded) :])
    if total:
        yield total, bodies


def note_attached(origin: Origin, answers: list[Answer]) -> None:
    """Attach the sessions whose open_session or attach was just answered OK (R6)."""
    for answer in answers:
        code = origin.opening.pop(answer[0], None)
        opens = code in (Op.OPEN_SESSION, Op.ATTACH) and answer[1] == Status.OK
        if opens and _names_session(answer):
            origin.attached.add(answer[3])


def _names_session(answer: Answer) -> bool:
    """Return whether an OK is that of an open_session or attach: [id, OK, true, session, ttl_ms, count].

    A client that uses one id for two requests must not attach a session by the answer to the other: it could name
    any session without its nonce. The answer to an acquire has the same shape, but a token where this has a ttl, and
    tokens begin far above the longest ttl of a session (T1).
    """
    return (
        len(answer) == 6
        and type(answer[3]) is int
        and type(answer[4]) is int
        and answer[4] <= SESSION_TTL_MS_MAX
    )
