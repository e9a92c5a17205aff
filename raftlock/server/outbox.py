"""Answers and events of one turn, gathered so that each connection gets one write (decision 1).

It owns the way from an Origin to a frame: straight to a connection of this node, or through the follower that serves
it. It must not know why an answer is what it is.
"""

from typing import Any

from raftlock.server.effects import ClientFrame, Effects, PeerFrame
from raftlock.server.origin import Origin
from raftlock.server.peer_codec import encode_forward_result
from raftlock_wire.codec import pack
from raftlock_wire.ids import NodeId
from raftlock_wire.limits import FRAME_MESSAGES_MAX, SESSION_TTL_MS_MAX
from raftlock_wire.messages import Event, Op
from raftlock_wire.status import Status

Answer = tuple[Any, ...]


class Outbox:
    """What goes out to clients at the end of the turn."""

    def __init__(self) -> None:
        self._messages: dict[Origin, list[Answer]] = {}

    def answers(self, origin: Origin, answers: list[Answer]) -> None:
        """Add answers, each of which ends the attempt with its request id. The list is the outbox's from now on."""
        origin.in_flight -= len(answers)
        if origin.opening:
            note_attached(origin, answers)
        known = self._messages.get(origin)
        if known is None:
            self._messages[origin] = answers
        else:
            known += answers

    def event(self, origin: Origin, event: Answer) -> None:
        """Add a pushed event."""
        if event[1] == Event.SESSION_ENDED:
            origin.attached.discard(event[2])
        self._messages.setdefault(origin, []).append(event)

    def flush(self, leader_id: NodeId, effects: Effects) -> None:
        """Move everything into the effects, one payload a connection."""
        forwarded: dict[NodeId, list[tuple[int, bytes]]] = {}
        for origin, messages in self._messages.items():
            for start in range(0, len(messages), FRAME_MESSAGES_MAX):
                part = (
                    messages[start : start + FRAME_MESSAGES_MAX]
                    if start
                    else messages[:FRAME_MESSAGES_MAX]
                )
                payload = pack([leader_id, *part])
                if origin.local:
                    effects.client_frames.append(ClientFrame(origin.conn_id, payload))
                else:
                    forwarded.setdefault(origin.node, []).append((origin.conn_id, payload))
        self._messages.clear()
        for node, results in forwarded.items():
            effects.peer_frames.append(PeerFrame(node, encode_forward_result(results)))


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
