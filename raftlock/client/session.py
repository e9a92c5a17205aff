"""The client's core: "The client, in any language" of the contract, without input or output.

It owns the session, its handles and its acquires. Time comes in with every call, requests go out in `outbox`, and
what the application waits for is called back. AsyncClient and the simulator drive the same object.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from raftlock.client.acquiring import Acquire, AcquireResult
from raftlock.client.asking import REQUESTS_MAX, Answer, Ask, Asking, Rng
from raftlock.client.errors import (
    OutcomeUnknown,
    RaftlockError,
    TooManyRequests,
    Unavailable,
    refusal,
)
from raftlock.client.handles import Handle, HandleState, margin_us
from raftlock_wire.limits import LIST_PAGE_MAX, PROTOCOL_VERSION, RENEW_ITEMS_MAX, SLOTS_MAX
from raftlock_wire.messages import Event, GrantState, ListBy, Op
from raftlock_wire.status import Status

Result = Callable[[Any], None]
"""Called once, with a value or a RaftlockError."""

_DONE = frozenset({int(Status.OK), int(Status.NOT_HELD)})
RENEW_RETRY_US = 50_000


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
    slots: dict[int, Acquire] = field(default_factory=dict)
    last_n: dict[int, int] = field(default_factory=dict)


class ClientSession:
    """One client. Calls take `now_us`, read from the client's clock before anything is sent."""

    def __init__(self, *, rng: Rng, nonces: Callable[[], bytes], session_ttl_ms: int) -> None:
        self.asking = Asking(rng)
        self._nonces = nonces
        self._ttl_ms = session_ttl_ms
        self._session: SessionView | None = None
        self._handles: dict[Handle, None] = {}
        self._waiting: list[Acquire] = []
        self._dying: dict[SessionView, None] = {}
        """Sessions that count as over here and are not known to be over there."""
        self.now_us = 0
        self.leader_id = 0
        self.node_id = 0
        self.nodes: dict[int, str] = {}
        self._closing = False

    # the connection

    @staticmethod
    def hello(client_name: str) -> tuple[Any, ...]:
        """Return the first request of a connection."""
        return (int(Op.HELLO), 1, PROTOCOL_VERSION, PROTOCOL_VERSION, None, None, client_name)

    def connected(self, hello_answer: Answer, now_us: int) -> None:
        """Begin on a connection whose hello was answered OK."""
        self.now_us = now_us
        self.node_id = hello_answer[5]
        self.nodes = dict(hello_answer[6])
        self.asking.connected = True
        session = self._session
        if session is not None and session.state is SessionState.OPEN:
            self._attach_session(session, now_us)
        for dying in self._dying:
            self._attach_session(dying, now_us)
        self.tick(now_us)

    def disconnected(self, now_us: int) -> None:
        """Learn that the connection is gone. That alone ends no lock."""
        self.now_us = now_us
        self.asking.lost_connection(now_us)

    def received(self, leader_id: int, messages: list[Answer], now_us: int) -> None:
        """Take the messages of one frame."""
        self.now_us = now_us
        self.leader_id = leader_id
        for message in messages:
            if message[0]:
                self.asking.answer(message, now_us)
            else:
                self._event(message, now_us)

    @property
    def wants_node(self) -> str | None:
        """Return the address of the leader when another node is connected (every answer says who leads)."""
        if not self.leader_id or self.leader_id == self.node_id:
            return None
        return self.nodes.get(self.leader_id)

    # the session

    def _start_session(self, now_us: int) -> SessionView:
        session = SessionView(nonce=self._nonces(), first_us=now_us)
        self._session = session

        def opened(ask: Ask, answer: Answer, sent_us: int) -> bool:
            if session is not self._session:
                return True
            if answer[1] != Status.OK:
                if answer[2]:
                    self._fail_waiting(refusal(Status(answer[1]), tuple(answer[3:])))
                    self._session = None
                return bool(answer[2])
            ttl_us = answer[4] * 1_000
            session.session_id = answer[3]
            # Counted from the first attempt: the recorded outcome that a retry gets re-arms nothing (guarantee 10).
            session.alive_us = ask.first_us + ttl_us - margin_us(ttl_us)
            session.state = SessionState.OPEN
            session.next_keep_alive_us = sent_us + ttl_us // 3
            if ask.attempts > 1:
                session.next_keep_alive_us = sent_us
            self.asking.attached.add(session.session_id)
            waiting, self._waiting = self._waiting, []
            for acquire in waiting:
                self._begin(acquire, self.now_us)
            return True

        self.asking.start(
            Ask(lambda i: (int(Op.OPEN_SESSION), i, session.nonce, self._ttl_ms), opened), now_us
        )
        return session

    def _fail_waiting(self, error: RaftlockError) -> None:
        waiting, self._waiting = self._waiting, []
        for acquire in waiting:
            acquire.fail(error)

    def _attach_session(self, session: SessionView, now_us: int) -> None:
        """Let the connection carry a session."""
        if session.attaching is not None:
            self.asking.finish(session.attaching)

        def attached(ask: Ask, answer: Answer, sent_us: int) -> bool:
            del ask, sent_us
            if not answer[2]:
                return False
            session.attaching = None
            if answer[1] == Status.OK:
                self._met(session, answer[5])
                self.asking.attached.add(session.session_id)
                # After a lost connection a keep-alive's count shows what was missed (R6).
                session.next_keep_alive_us = self.now_us
            else:
                self._session_over(session, expired=True)
            return True

        nonce, session_id = session.nonce, session.session_id
        session.attaching = Ask(lambda i: (int(Op.ATTACH), i, session_id, nonce), attached)
        self.asking.start(session.attaching, now_us)

    def attach_again(self, session: SessionView) -> None:
        """Learn that the connection does not carry a session."""
        self.asking.attached.discard(session.session_id)
        if session.attaching is None and self.asking.connected:
            self._attach_session(session, self.now_us)

    def _keep_alive(self, session: SessionView, now_us: int) -> None:
        ttl_us = self._ttl_ms * 1_000

        def kept(ask: Ask, answer: Answer, sent_us: int) -> bool:
            del ask
            if not answer[2]:
                return False
            session.keeping = None
            if answer[1] != Status.OK:
                self._session_over(session, expired=True)
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
            self._session_over(session, expired=False)

        session_id = session.session_id
        session.keeping = Ask(
            lambda i: (int(Op.KEEP_ALIVE), i, session_id),
            kept,
            given_up,
            until_us=session.alive_us,
            session=session_id,
        )
        self.asking.start(session.keeping, now_us)

    def _session_over(self, session: SessionView, *, expired: bool) -> None:
        """Count a session as over: nothing of it makes or keeps a handle in it any more.

        `expired`: the server says so. Otherwise only the client's own deadline passed, and the server may yet carry
        out what was asked: that is withdrawn, and the session closed, until both are answered (L11).
        """
        now_us = self.now_us
        if session is self._session:
            self._session = None
            self._dying[session] = None
            if session.keeping is not None:
                self.asking.finish(session.keeping)
                session.keeping = None
            for handle in list(self._handles):
                if handle.in_session and handle.session == session.session_id and not handle.frozen:
                    self._lose(handle, "its session is over", release=False)
            if not expired:
                self._close_session(session)
        for acquire in list(session.slots.values()):
            if expired:
                acquire.session_expired(now_us)
            else:
                acquire.session_doubted(now_us)
        if expired:
            self._dying.pop(session, None)
            if session.closing is not None:
                self.asking.finish(session.closing)

    def _close_session(self, session: SessionView) -> None:
        session_id = session.session_id

        def closed(ask: Ask, answer: Answer, sent_us: int) -> bool:
            del ask, sent_us
            if answer[2]:
                self._session_over(session, expired=True)
            elif answer[1] == Status.BAD_REQUEST:
                self.attach_again(session)
            return bool(answer[2])

        session.closing = Ask(
            lambda i: (int(Op.CLOSE_SESSION), i, session_id), closed, session=session_id
        )
        self.asking.start(session.closing, self.now_us)

    @staticmethod
    def _met(session: SessionView, count: int | None) -> None:
        if count is not None:
            session.hi = max(session.hi, count)

    def _resync(self, session: SessionView, count: int, alive_us: int) -> None:
        """List the session; of the handles held when the list was sent, those that are not there are lost (L9)."""
        if session.resyncing:
            return
        session.resyncing = True
        held = [h for h in self._handles if h.in_session and h.session == session.session_id]
        found: dict[int, int] = {}

        def done() -> None:
            session.resyncing = False
            if session is not self._session:
                return
            for handle in held:
                state = found.get(handle.token)
                if state is None:
                    self._lose(handle, "the session does not list it any more")
                elif state == GrantState.ENDING:
                    self._freeze(handle, session)
            for acquire in list(session.slots.values()):
                acquire.ask_again(self.now_us)
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
            self.asking.start(
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
                self.now_us,
            )

        page("")

    # events

    def _event(self, event: Answer, now_us: int) -> None:
        self.now_us = now_us
        session = self._session
        if event[1] == Event.ROUTES_LOST:
            if session is not None and session.state is SessionState.OPEN:
                session.next_keep_alive_us = now_us
            return
        if event[1] == Event.GOODBYE or session is None or event[2] != session.session_id:
            return
        if event[1] == Event.SESSION_ENDED:
            self._session_over(session, expired=True)
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
        for handle in list(self._handles):
            if handle.token == event[5]:
                if event[1] == Event.CUT:
                    self._freeze(handle, session)
                else:
                    self._lose(handle, "it was taken away", release=False)

    @staticmethod
    def _freeze(handle: Handle, session: SessionView) -> None:
        """Keep the deadline that a handle has, for good: its lease runs out (ENDING)."""
        if not handle.frozen:
            handle.own_deadline_us = min(
                session.alive_us, handle.own_deadline_us or session.alive_us
            )
            handle.frozen = True

    # handles

    def deadline_us(self, handle: Handle) -> int:
        """Return until when a handle may be believed: a lock in a session has its session's deadline, as it stands."""
        if not handle.in_session or handle.frozen:
            return handle.own_deadline_us
        session = self._session
        return (
            session.alive_us if session is not None and session.session_id == handle.session else 0
        )

    def add_handle(self, handle: Handle) -> None:
        """Keep a handle, and renew it if it has a lease of its own."""
        self._handles[handle] = None

    def _lose(self, handle: Handle, why: str, *, release: bool = True) -> None:
        if handle.state is not HandleState.HELD:
            return
        handle.state = HandleState.LOST
        handle.why_lost = why
        self._handles.pop(handle, None)
        if handle.on_lost is not None:
            handle.on_lost(handle)
        if release:
            until_us = self._lease_end_us(handle)
            self._ask_release(handle.resource, handle.token, None, self.now_us, until_us)

    def _renew_due(self, now_us: int) -> None:
        due = [
            h
            for h in self._handles
            if not h.in_session
            and h.renews
            and not h.frozen
            and not h.renew_id
            and h.next_renew_us <= now_us
        ]
        for start in range(0, len(due), RENEW_ITEMS_MAX):
            self._renew(due[start : start + RENEW_ITEMS_MAX], now_us)

    def _renew(self, handles: list[Handle], now_us: int) -> None:
        if not self.asking.connected:
            return
        items = [(h.resource, h.token) for h in handles]

        def renewed(ask: Ask, answer: Answer, sent_us: int) -> bool:
            if answer[1] != Status.OK:
                return retry(ask)
            for handle, item in zip(handles, answer[3], strict=True):
                handle.renew_id = 0
                handle.next_renew_us = sent_us + handle.ttl_us // 3
                self._renewed(handle, item, sent_us)
            return True

        def retry(ask: Ask) -> bool:
            del ask
            for handle in handles:
                handle.renew_id = 0
                handle.next_renew_us = self.now_us + min(RENEW_RETRY_US, handle.ttl_us // 10)
            return True

        for handle in handles:
            handle.renew_id = 1
        shortest = min(h.ttl_us for h in handles)
        ask = Ask(
            lambda i: (int(Op.RENEW), i, items),
            renewed,
            lambda ask: (retry(ask), None)[1],
            until_us=now_us + max(shortest // 6, 20_000),
        )
        self.asking.start(ask, now_us)

    def _renewed(self, handle: Handle, item: Answer, sent_us: int) -> None:
        status = item[0]
        if handle.state is not HandleState.HELD:
            return
        if status == Status.OK:
            handle.rev = item[2]
            deadline = sent_us + handle.ttl_us - margin_us(handle.ttl_us)
            handle.own_deadline_us = max(handle.own_deadline_us, deadline)
        elif status == Status.ENDING:
            handle.frozen = True
        elif status == Status.NOT_HELD:
            self._lose(handle, "the server says that it is not held", release=False)
        else:
            handle.next_renew_us = self.now_us + min(RENEW_RETRY_US, handle.ttl_us // 10)

    # what the application asks for

    def acquire(self, wanted: Acquire, now_us: int) -> None:
        """Begin an acquire. Its result is called back; `cancel` ends it before."""
        self.now_us = now_us
        if len(self.asking) + len(self._waiting) >= REQUESTS_MAX:
            raise TooManyRequests(f"{REQUESTS_MAX} requests are under way")
        session = self._session or self._start_session(now_us)
        wanted.bind(self)
        if session.state is SessionState.OPEN:
            self._begin(wanted, now_us)
        else:
            self._waiting.append(wanted)

    def forget(self, acquire: Acquire) -> None:
        """Drop an acquire that waits for a session: it was never asked."""
        if acquire in self._waiting:
            self._waiting.remove(acquire)

    def _begin(self, acquire: Acquire, now_us: int) -> None:
        session = self._session
        assert session is not None
        slot = next((s for s in range(SLOTS_MAX) if s not in session.slots), None)
        if slot is None:
            acquire.fail(TooManyRequests(f"{SLOTS_MAX} acquires are under way"))
            return
        n = session.last_n.get(slot, 0) + 1
        session.last_n[slot] = n
        session.slots[slot] = acquire
        acquire.begin(session, slot, n, now_us)

    def release(self, handle: Handle, now_us: int, done: Result | None = None) -> None:
        """Release a lock: asked until answered, or until its lease is over (guarantee 7)."""
        self.now_us = now_us
        if handle.state is not HandleState.HELD:
            if done is not None:
                done(None)
            return
        handle.state = HandleState.RELEASED
        self._handles.pop(handle, None)
        self._ask_release(handle.resource, handle.token, done, now_us, self._lease_end_us(handle))

    def _lease_end_us(self, handle: Handle) -> int:
        """Return until when a release is worth asking: by then the lease has run out by itself."""
        return self.now_us + max(handle.ttl_us or self._ttl_ms * 1_000, 1_000_000)

    def release_token(
        self, resource: str, token: int, now_us: int, until_us: int, done: Result
    ) -> None:
        """Release by token, for a lock that this object did not acquire."""
        self.now_us = now_us
        self._ask_release(resource, token, done, now_us, until_us)

    def _ask_release(
        self, resource: str, token: int, done: Result | None, now_us: int, until_us: int
    ) -> None:
        def answered(ask: Ask, answer: Answer, sent_us: int) -> bool:
            del ask, sent_us
            if not answer[2]:
                return False
            if done is not None:
                done(answer)
            return True

        def given_up(ask: Ask) -> None:
            if done is None:
                return
            if ask.attempts:
                done(OutcomeUnknown(f"the release of {resource!r} was not answered in time"))
            else:
                done(Unavailable("no node could be reached in time"))

        self.asking.start(
            Ask(
                lambda i: (int(Op.RELEASE), i, resource, token),
                answered,
                given_up,
                until_us=until_us,
            ),
            now_us,
        )

    def change_ttl(
        self, handle: Handle, ttl_ms: int, now_us: int, until_us: int, done: Result
    ) -> None:
        """Set the ttl of a lock with a lease of its own."""
        self.now_us = now_us
        ttl_us = ttl_ms * 1_000
        if ttl_us < handle.ttl_us:
            # From the sending on, the shorter one counts, until it is known that it was refused (L8).
            shorter = now_us + ttl_us - margin_us(ttl_us)
            handle.own_deadline_us = min(handle.own_deadline_us, shorter)
            handle.ttl_us = ttl_us

        def answered(ask: Ask, answer: Answer, sent_us: int) -> bool:
            del ask
            if not answer[2]:
                return False
            if answer[1] == Status.OK or (answer[1] == Status.HELD and answer[4] == ttl_ms):
                handle.rev, handle.ttl_us = answer[3], ttl_us
                deadline = sent_us + ttl_us - margin_us(ttl_us)
                if answer[1] == Status.OK:
                    handle.own_deadline_us = max(handle.own_deadline_us, deadline)
            elif answer[1] == Status.NOT_HELD:
                self._lose(handle, "the server says that it is not held", release=False)
            handle.next_renew_us = self.now_us
            done(answer)
            return True

        self._bounded(
            lambda i: (int(Op.CHANGE_TTL), i, handle.resource, handle.token, ttl_ms, handle.rev),
            answered,
            until_us,
            done,
            now_us,
        )

    def request(
        self, build: Callable[[int], tuple[Any, ...]], now_us: int, until_us: int, done: Result
    ) -> None:
        """Ask anything that needs no session until it is answered for good; `done` gets the answer or an error."""
        self.now_us = now_us

        def answered(ask: Ask, answer: Answer, sent_us: int) -> bool:
            del ask, sent_us
            status = Status(answer[1])
            if not answer[2] and status in (Status.NO_QUORUM, Status.UNKNOWN, Status.OVERLOADED):
                return False
            done(answer)
            return True

        self._bounded(build, answered, until_us, done, now_us)

    def _bounded(
        self,
        build: Callable[[int], tuple[Any, ...]],
        answered: Callable[[Ask, Answer, int], bool],
        until_us: int,
        done: Result,
        now_us: int,
    ) -> None:
        if len(self.asking) >= REQUESTS_MAX:
            raise TooManyRequests(f"{REQUESTS_MAX} requests are under way")

        def given_up(ask: Ask) -> None:
            if ask.attempts:
                done(OutcomeUnknown("no final answer came in time"))
            else:
                done(Unavailable("no node could be reached in time"))

        self.asking.start(Ask(build, answered, given_up, until_us=until_us), now_us)

    def close(self, now_us: int) -> None:
        """Release every lock, close the session; what is not answered runs out by itself."""
        self.now_us = now_us
        self._closing = True
        for handle in list(self._handles):
            if handle.renews and not handle.in_session:
                self.release(handle, now_us)
        session, self._session = self._session, None
        if session is not None and session.state is SessionState.OPEN:
            if session.keeping is not None:
                self.asking.finish(session.keeping)
            for handle in list(self._handles):
                if handle.in_session:
                    handle.state = HandleState.RELEASED
                    del self._handles[handle]
            self._dying[session] = None
            self._close_session(session)

    # time

    def tick(self, now_us: int) -> None:
        """Do what is due: deadlines first, since a lock past its deadline must not be believed a moment longer."""
        self.now_us = now_us
        for handle in list(self._handles):
            if now_us >= self.deadline_us(handle):
                self._lose(handle, "its deadline passed")
        session = self._session
        if session is not None and session.state is SessionState.OPEN and not self._closing:
            if now_us >= session.alive_us:
                self._session_over(session, expired=False)
            elif session.keeping is None and now_us >= session.next_keep_alive_us:
                self._keep_alive(session, now_us)
        self._renew_due(now_us)
        self.asking.tick(now_us)

    def next_deadline_us(self) -> int | None:
        """Return when `tick` has work, or None."""
        times = [self.asking.next_deadline_us()]
        times += [self.deadline_us(handle) for handle in self._handles]
        if self.asking.connected:
            times += [
                h.next_renew_us
                for h in self._handles
                if not h.in_session and h.renews and not h.frozen and not h.renew_id
            ]
        session = self._session
        if session is not None and session.state is SessionState.OPEN:
            times.append(session.alive_us)
            if session.keeping is None:
                times.append(session.next_keep_alive_us)
        return min((t for t in times if t is not None), default=None)

    # for acquires

    def session_is(self, session: SessionView) -> bool:
        """Return whether this is still the client's session."""
        return session is self._session

    @property
    def handles(self) -> list[Handle]:
        """Return the handles that are held."""
        return list(self._handles)

    @property
    def busy(self) -> bool:
        """Return whether anything is still being asked."""
        return len(self.asking) > 0


__all__ = ["AcquireResult", "ClientSession", "SessionView"]
