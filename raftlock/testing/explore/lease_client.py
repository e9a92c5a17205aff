"""One client of a world of leases: the production client core, and an application that follows a script."""

from collections.abc import Hashable
from typing import Any, NamedTuple

from raftlock.client.acquiring import Acquire, AcquireResult
from raftlock.client.asking import Asking
from raftlock.client.errors import RaftlockError
from raftlock.client.handles import Handle, HandleState
from raftlock.client.leases import Leases
from raftlock.client.session import ClientSession
from raftlock.client.slots import Slots
from raftlock.testing.explore.parts import Input
from raftlock.testing.explore.picture import Way, draw, without
from raftlock_wire.codec import pack, unpack
from raftlock_wire.messages import Op

LIMIT_US = 3_600_000_000
WAYS: dict[type, Way] = {
    Asking: without("now_us", "_due"),
    Leases: without("_of_token", "_living", "_deadlines", "_renewals"),
    Slots: without("_free"),
}
"""Every call says what time it is; the others follow from what is drawn, and only make it faster to find."""


class Act(NamedTuple):
    """One thing that an application does, in its order, at any time."""

    verb: str
    """acquire, give_up, release, look, or end_softly: force_release at_expiry of what anybody holds."""
    resource: str = "r"
    ttl_ms: int = 0
    wait_ms: int = 0


class ClientFacts(NamedTuple):
    """What properties and choices need to know of a client."""

    beliefs: tuple[tuple[str, int, int], ...]
    """Resource, token and deadline of each handle that counts as held."""
    next_us: int
    """When its timers have work; a time that never comes if they have none."""
    session: int
    wants: int
    """Acquires that have not ended."""
    busy: bool
    """Whether anything is being asked."""


class _Even:
    """Jitter in the middle: how long a client waits is told by when the world lets it act."""

    def random(self) -> float:
        return 0.5


class LeaseClient:
    """A client that takes inputs and gives frames."""

    def __init__(self, built_of: Input) -> None:
        """Start without a connection; `built_of` is (number, ttl of its session in milliseconds)."""
        self._number, session_ttl_ms = built_of
        self._nonces = 0
        self._core = ClientSession(rng=_Even(), nonces=self._nonce, session_ttl_ms=session_ttl_ms)
        self._wanted: list[Acquire] = []
        self._lost: list[Handle] = []

    def _nonce(self) -> bytes:
        self._nonces += 1
        return b"%08d%08d" % (self._number, self._nonces)

    def take(self, given: Input) -> tuple[Any, ...]:
        """Take an input; the first element names it, the last is the time. Return the frame to send, if any."""
        core, now_us = self._core, given[-1]
        match given:
            case ("connected", payload, _):
                _, answer = unpack(payload)
                core.connected(answer, now_us)
            case ("disconnected", _):
                core.disconnected(now_us)
            case ("frame", payload, _):
                leader_id, *messages = unpack(payload, array_count_max=1 << 20)
                core.received(leader_id, messages, now_us)
            case ("tick", _):
                core.tick(now_us)
            case ("do", act, token, _):
                self._do(act, token, now_us)
            case _:
                raise ValueError(f"{given[0]!r} is no input of a client")
        while self._lost:
            # A body ends as soon as its lock is lost, and lets go of it (L11).
            core.release(self._lost.pop(), now_us)
        outbox = core.asking.outbox
        frames = (pack(list(outbox)),) if outbox else ()
        outbox.clear()
        return frames

    def _do(self, act: Act, token: int, now_us: int) -> None:
        core = self._core
        if act.verb == "acquire":
            wanted = Acquire(
                resource=act.resource, owner=f"c{self._number}", ttl_ms=act.ttl_ms,
                wait_ms=act.wait_ms, metadata=None, limit_us=now_us + LIMIT_US,
                on_done=self._done,
            )  # fmt: skip
            self._wanted.append(wanted)
            core.acquire(wanted, now_us)
        elif act.verb == "give_up":
            for wanted in list(self._wanted):
                wanted.give_up(now_us)
        elif act.verb == "release":
            for handle in core.handles:
                core.release(handle, now_us)
        elif act.verb == "end_softly":
            self._request(Op.FORCE_RELEASE, act.resource, token, "because", False, now_us=now_us)
        elif act.verb == "look":
            self._request(Op.GET, act.resource, False, now_us=now_us)

    def _request(self, op: Op, *fields: Any, now_us: int) -> None:
        self._core.request(
            lambda i: (int(op), i, *fields), now_us, now_us + LIMIT_US, lambda _: None
        )

    def _done(self, result: AcquireResult | RaftlockError) -> None:
        # The list only says which acquires are open: the newest ends last only by its own result.
        if isinstance(result, AcquireResult) and result.handle is not None:
            result.handle.on_lost = self._lost.append
        self._wanted = [w for w in self._wanted if w._state.name != "DONE"]

    # looking

    def facts(self) -> ClientFacts:
        """Return what is known of it."""
        core = self._core
        next_us = core.next_deadline_us()
        session = core._sessions.current
        return ClientFacts(
            beliefs=tuple(
                (h.resource, h.token, core.deadline_us(h))
                for h in core.handles
                if h.state is HandleState.HELD
            ),
            next_us=1 << 62 if next_us is None else next_us,
            session=0 if session is None else session.session_id,
            wants=len(self._wanted),
            busy=core.busy,
        )

    def picture(self) -> Hashable:
        """Return everything that its future depends on."""
        return (draw(self._core, WAYS), len(self._wanted))
