"""The client's session with the cluster: opened, attached, kept alive, listed again after a gap, closed (L9, L11, R6).

It owns the session and those that count as over here and are not known to be over there. It must not know how an
acquire goes its way, nor how leases are renewed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from raftlock.client.asking import Answer, Ask, Asking
from raftlock.client.errors import RaftlockError, refusal
from raftlock.client.handles import margin_us
from raftlock.client.leases import Leases
from raftlock.client.slots import Slots
from raftlock_wire.limits import LIST_PAGE_MAX
from raftlock_wire.messages import Event, GrantState, ListBy, Op
from raftlock_wire.status import Status


class SessionState(Enum):
    """Where the session is."""

    NONE = auto()
    OPENING = auto()
    OPEN = auto()


@dataclass(slots=True, eq=False)
class SessionView:
    """The session as the client knows it."""

    nonce: bytes
    first_us: int
    state: SessionState = SessionState.OPENING
    session_id: int = 0
    alive_us: int = 0
    """Its deadline: that of every handle that lives in it."""
    hi: int = 0
    """The largest count met anywhere (L9)."""
    seen: int = 0
    next_keep_alive_us: int = 0
    keeping: Ask | None = None
    resyncing: bool = False
    attaching: Ask | None = None
    closing: Ask | None = None
    slots: Slots = field(default_factory=Slots)


class Sessions:
    """The current session, if there is one, and the dying ones."""

    def __init__(
        self,
        asking: Asking,
        *,
        nonces: Callable[[], bytes],
        ttl_ms: int,
        opened: Callable[[SessionView], None],
        refused: Callable[[RaftlockError], None],
    ) -> None:
        """Ask through `asking`; `opened` and `refused` say how the opening of a session ended."""
        self._asking = asking
        self._nonces = nonces
        self._ttl_ms = ttl_ms
        self._opened = opened
        self._refused = refused
        self.leases = Leases(asking, session_ttl_ms=ttl_ms, session_alive_us=self._alive_us)
        self.current: SessionView | None = None
        self._dying: dict[SessionView, None] = {}

    def _alive_us(self, session_id: int) -> int:
        session = self.current
        return session.alive_us if session is not None and session.session_id == session_id else 0

    @property
    def open(self) -> SessionView | None:
        """Return the current session if it is open."""
        session = self.current
        return session if session is not None and session.state is SessionState.OPEN else None

    def connected(self, now_us: int) -> None:
        """Attach what there is to a new connection."""
        if (session := self.open) is not None:
            self._attach(session, now_us)
        for dying in self._dying:
            self._attach(dying, now_us)

    def start(self, now_us: int) -> SessionView:
        session = SessionView(nonce=self._nonces(), first_us=now_us)
        self.current = session

        def opened(ask: Ask, answer: Answer, sent_us: int) -> bool:
            if session is not self.current:
                return True
            if answer[1] != Status.OK:
                if answer[2]:
                    self.current = None
                    self._refused(refusal(Status(answer[1]), tuple(answer[3:])))
                return bool(answer[2])
            ttl_us = answer[4] * 1_000
            session.session_id = answer[3]
            # Counted from the first attempt: the recorded outcome that a retry gets re-arms nothing (guarantee 10).
            session.alive_us = ask.first_us + ttl_us - margin_us(ttl_us)
            session.state = SessionState.OPEN
            session.next_keep_alive_us = sent_us + ttl_us // 3
            if ask.attempts > 1:
                session.next_keep_alive_us = sent_us
            self._asking.attach(session.session_id)
            self._opened(session)
            return True

        self._asking.start(
            Ask(lambda i: (int(Op.OPEN_SESSION), i, session.nonce, self._ttl_ms), opened), now_us
        )
        return session

    def _attach(self, session: SessionView, now_us: int) -> None:
        """Let the connection carry a session."""
        if session.attaching is not None:
            self._asking.finish(session.attaching)

        def attached(ask: Ask, answer: Answer, sent_us: int) -> bool:
            del ask, sent_us
            if not answer[2]:
                return False
            session.attaching = None
            if answer[1] == Status.OK:
                self._met(session, answer[5])
                self._asking.attach(session.session_id)
                # After a lost connection a keep-alive's count shows what was missed (R6).
                session.next_keep_alive_us = self._asking.now_us
            else:
                self.over(session, expired=True)
            return True

        nonce, session_id = session.nonce, session.session_id
        session.attaching = Ask(lambda i: (int(Op.ATTACH), i, session_id, nonce), attached)
        self._asking.start(session.attaching, now_us)

    def attach_again(self, session: SessionView) -> None:
        """Learn that the connection does not carry a session."""
        self._asking.detach(session.session_id)
        if session.attaching is None and self._asking.connected:
            self._attach(session, self._asking.now_us)

    def _keep_alive(self, session: SessionView, now_us: int) -> None:
        ttl_us = self._ttl_ms * 1_000

        def kept(ask: Ask, answer: Answer, sent_us: int) -> bool:
            del ask
            if not answer[2]:
                return False
            session.keeping = None
            if answer[1] != Status.OK:
                self.over(session, expired=True)
                return True
            self._met(session, answer[3])
            alive_us = sent_us + ttl_us - margin_us(ttl_us)
            if answer[3] != session.seen:
                # A gap: look at the list before anything is extended (L9).
                self._resync(session, answer[3], alive_us)
            else:
                session.alive_us = max(session.alive_us, alive_us)
            session.next_keep_alive_us = sent_us + ttl_us // 3
            return True

        def given_up(ask: Ask) -> None:
            del ask
            session.keeping = None
            self.over(session, expired=False)

        session_id = session.session_id
        session.keeping = Ask(
            lambda i: (int(Op.KEEP_ALIVE), i, session_id),
            kept,
            given_up,
            until_us=session.alive_us,
            session=session_id,
        )
        self._asking.start(session.keeping, now_us)

    def over(self, session: SessionView, *, expired: bool) -> None:
        """Count a session as over: nothing of it makes or keeps a handle in it any more.

        `expired`: the server says so. Otherwise only the client's own deadline passed, and the server may yet carry
        out what was asked: that is withdrawn, and the session closed, until both are answered (L11).
        """
        now_us = self._asking.now_us
        if session is self.current:
            self.current = None
            self._dying[session] = None
            if session.keeping is not None:
                self._asking.finish(session.keeping)
                session.keeping = None
            for handle in self.leases.of_session(session.session_id):
                if not handle.frozen:
                    self.leases.lose(handle, "its session is over", release_owed=False)
            if not expired:
                self._close(session)
        for acquire in session.slots.acquires:
            if expired:
                acquire.session_expired(now_us)
            else:
                acquire.session_doubted(now_us)
        if expired:
            self._dying.pop(session, None)
            if session.closing is not None:
                self._asking.finish(session.closing)

    def _close(self, session: SessionView) -> None:
        session_id = session.session_id

        def closed(ask: Ask, answer: Answer, sent_us: int) -> bool:
            del ask, sent_us
            if answer[2]:
                self.over(session, expired=True)
            elif answer[1] == Status.BAD_REQUEST:
                self.attach_again(session)
            return bool(answer[2])

        session.closing = Ask(
            lambda i: (int(Op.CLOSE_SESSION), i, session_id), closed, session=session_id
        )
        self._asking.start(session.closing, self._asking.now_us)

    @staticmethod
    def _met(session: SessionView, count: int | None) -> None:
        if count is not None:
            session.hi = max(session.hi, count)

    def _resync(self, session: SessionView, count: int, alive_us: int) -> None:
        """List the session; of the handles held when the list was sent, those that are not there are lost (L9)."""
        if session.resyncing:
            return
        session.resyncing = True
        held = self.leases.of_session(session.session_id)
        found: dict[int, int] = {}

        def done() -> None:
            session.resyncing = False
            if session is not self.current:
                return
            for handle in held:
                state = found.get(handle.token)
                if state is None:
                    self.leases.lose(handle, "the session does not list it any more")
                elif state == GrantState.ENDING:
                    self.leases.freeze(handle)
            # The event that was missed may have been about a lease of its own, which the list does not judge: ask.
            self.leases.renew_soon(session.session_id)
            for acquire in session.slots.acquires:
                acquire.ask_again(self._asking.now_us)
            session.seen = max(session.seen, count)
            session.alive_us = max(session.alive_us, alive_us)

        def page(cursor: str) -> None:
            def listed(ask: Ask, answer: Answer, sent_us: int) -> bool:
                del ask, sent_us
                if not answer[2]:
                    return False
                for info in answer[4]:
                    if info[2]:
                        found[info[2]] = info[1]
                if answer[5]:
                    page(answer[5])
                else:
                    done()
                return True

            def given_up(ask: Ask) -> None:
                del ask
                session.resyncing = False

            session_id = session.session_id
            self._asking.start(
                Ask(
                    lambda i: (
                        int(Op.LIST),
                        i,
                        int(ListBy.SESSION),
                        session_id,
                        cursor,
                        LIST_PAGE_MAX,
                        False,
                    ),
                    listed,
                    given_up,
                    until_us=session.alive_us,
                ),
                self._asking.now_us,
            )

        page("")

    def event(self, event: Answer, now_us: int) -> None:
        session = self.current
        if event[1] == Event.ROUTES_LOST:
            if session is not None and session.state is SessionState.OPEN:
                session.next_keep_alive_us = now_us
            return
        if event[1] == Event.GOODBYE or session is None or event[2] != session.session_id:
            return
        if event[1] == Event.SESSION_ENDED:
            self.over(session, expired=True)
            return
        count = event[3]
        self._met(session, count)
        if count == session.seen + 1:
            session.seen = count
        else:
            # One was missed, or this one is a repetition: a keep-alive tells (L9).
            session.next_keep_alive_us = now_us
        if event[1] in (Event.OFFERED, Event.TIMEOUT):
            acquire = session.slots.get(event[4])
            if acquire is not None and acquire.n == event[5]:
                acquire.event(event, now_us)
            return
        handle = self.leases.of_token(event[5])
        if handle is not None:
            if event[1] == Event.CUT:
                self.leases.freeze(handle)
            else:
                self.leases.lose(handle, "it was taken away", release_owed=False)

    def close(self) -> None:
        """Close the session: it counts as over from here on."""
        session, was_open, self.current = self.current, self.open, None
        if session is not None and was_open is not None:
            if session.keeping is not None:
                self._asking.finish(session.keeping)
            self._dying[session] = None
            self._close(session)

    def tick(self, now_us: int) -> None:
        """Count the session as over at its deadline, and keep it alive before."""
        if (session := self.open) is None:
            return
        if now_us >= session.alive_us:
            self.over(session, expired=False)
        elif session.keeping is None and now_us >= session.next_keep_alive_us:
            self._keep_alive(session, now_us)

    def due_us(self) -> list[int]:
        """Return when `tick` has work."""
        if (session := self.open) is None:
            return []
        return [session.alive_us] + [session.next_keep_alive_us] * (session.keeping is None)
