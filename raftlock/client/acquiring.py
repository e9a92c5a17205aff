"""One acquire, from its key to a handle or to nothing: asking, waiting, taking up an offer, cancelling (rules R, L10).

It owns the way of one key. It must not know how requests travel.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from raftlock.client.asking import Answer, Ask
from raftlock.client.errors import RaftlockError, refusal
from raftlock.client.handles import Handle, margin_us
from raftlock_wire.messages import Event, GrantState, Op
from raftlock_wire.status import Status

if TYPE_CHECKING:
    from raftlock.client.session import ClientSession
    from raftlock.client.sessions import SessionView


@dataclass(frozen=True, slots=True, kw_only=True)
class AcquireResult:
    """How an acquire ended. Exactly one of `handle` and a status that is not OK."""

    status: Status
    handle: Handle | None = None
    holder: str = ""
    """HELD: the owner's name of who has it."""
    holder_token: int = 0
    held_since_wall_us: int = 0


class _State(Enum):
    NEW = auto()
    ASKING = auto()
    QUEUED = auto()
    TAKING_UP = auto()
    CANCELLING = auto()
    LOOKING = auto()
    DONE = auto()


_RETRY = frozenset({Status.NO_QUORUM, Status.UNKNOWN, Status.OVERLOADED})


class Acquire:
    """What the application wants, and where it stands."""

    def __init__(
        self,
        *,
        resource: str,
        owner: str,
        ttl_ms: int,
        wait_ms: int,
        metadata: dict[str, str] | None,
        limit_us: int,
        on_done: Callable[[AcquireResult | RaftlockError], None],
        renews: bool = True,
    ) -> None:
        """Want `resource`. `ttl_ms` 0: in the session. After `limit_us`, on the client's clock, it is cancelled."""
        self.resource = resource
        self.owner = owner
        self.ttl_ms = ttl_ms
        self.wait_ms = wait_ms
        self.metadata = metadata
        self.limit_us = limit_us
        self.given_up = False
        self.slot = self.n = 0
        self._on_done = on_done
        self._renews = renews
        self._state = _State.NEW
        self._client: ClientSession | None = None
        self._session: SessionView | None = None
        self._ask: Ask | None = None
        self._report: AcquireResult | RaftlockError | None = None

    @property
    def begun(self) -> bool:
        """Return whether it was ever asked; before, it waits for a session."""
        return self._state is not _State.NEW

    # from the client

    def bind(self, client: "ClientSession") -> None:
        """Belong to a client."""
        self._client = client

    def begin(self, session: "SessionView", slot: int, n: int, now_us: int) -> None:
        """Ask, with the key (session, slot, n) (R1)."""
        self._session, self.slot, self.n = session, slot, n
        self._state = _State.ASKING
        session_id = session.session_id

        def build(request_id: int) -> tuple[Any, ...]:
            return (
                int(Op.ACQUIRE), request_id, session_id, slot, n,
                self.resource, self.owner, self.ttl_ms, self.wait_ms, self.metadata,
            )  # fmt: skip

        self._start(Ask(build, self._answered, self._at_limit, self.limit_us, session_id), now_us)

    def give_up(self, now_us: int) -> None:
        """Withdraw it at the caller's wish: cancelled until that is answered (guarantee 7)."""
        self.given_up = True
        if self._state is _State.NEW and self._client is not None:
            self._client.forget(self)
            self._finish(AcquireResult(status=Status.CANCELLED))
        elif self._state in (_State.ASKING, _State.QUEUED, _State.TAKING_UP):
            self._cancel(AcquireResult(status=Status.CANCELLED), now_us)

    def fail(self, error: RaftlockError) -> None:
        """End without ever having been sent."""
        self._finish(error)

    def ask_again(self, now_us: int) -> None:
        """Ask again with the same key: something may have been missed (L9)."""
        if self._state in (_State.ASKING, _State.QUEUED) and self._ask is not None:
            self.client.asking.again(self._ask, now_us)

    def event(self, event: Answer, now_us: int) -> None:
        """Take a pushed event of this key."""
        if self._state not in (_State.ASKING, _State.QUEUED):
            return
        if event[1] == Event.TIMEOUT:
            self._finish(AcquireResult(status=Status.TIMEOUT))
        else:
            self._take_up(event[7], now_us)

    def session_doubted(self, now_us: int) -> None:
        """The client counts the session as over, but the server may not: withdraw."""
        if self._state in (_State.ASKING, _State.QUEUED, _State.TAKING_UP):
            self._cancel(AcquireResult(status=Status.SESSION_EXPIRED), now_us)

    def session_expired(self, now_us: int) -> None:
        """The server says that the session is over: the key has no later effect, but may have had one (R9)."""
        if self._state in (_State.ASKING, _State.QUEUED, _State.TAKING_UP, _State.CANCELLING):
            self._look(now_us)

    @property
    def client(self) -> "ClientSession":
        """Return the client."""
        assert self._client is not None
        return self._client

    @property
    def session(self) -> "SessionView":
        """Return the session of the key."""
        assert self._session is not None
        return self._session

    # asking

    def _start(self, ask: Ask, now_us: int) -> None:
        if self._ask is not None and not self._ask.over:
            self.client.asking.finish(self._ask)
        self._ask = ask
        self.client.asking.start(ask, now_us)

    def _answered(self, ask: Ask, answer: Answer, sent_us: int) -> bool:
        del sent_us
        status = Status(answer[1])
        if status in _RETRY:
            return False
        if status is Status.SESSION_EXPIRED:
            self._look(self.client.now_us)
            return True
        if status in (
            Status.BAD_REQUEST,
            Status.FORBIDDEN,
            Status.QUOTA_EXCEEDED,
            Status.UNAUTHENTICATED,
        ):
            return self._refused(ask, answer)
        session, in_session = self.session, not self.ttl_ms
        session.hi = max(session.hi, answer[3])
        if status is Status.OK:
            if in_session and answer[3] < session.hi:
                # Something was done to the session that this answer does not know of (L9).
                return False
            return self._granted(ask, answer)
        if status is Status.OFFERED:
            self._take_up(answer[4], self.client.now_us)
        elif status is Status.QUEUED:
            self._state = _State.QUEUED
            self.client.asking.park(ask)
            return False
        elif status is Status.ENDING:
            self._cancel(AcquireResult(status=status), self.client.now_us)
        elif status is Status.HELD:
            self._finish(
                AcquireResult(
                    status=status,
                    holder=answer[4],
                    holder_token=answer[5],
                    held_since_wall_us=answer[6],
                )
            )
        else:
            self._finish(AcquireResult(status=status))
        return True

    def _granted(self, ask: Ask, answer: Answer) -> bool:
        token, rev, now_us = answer[4], answer[5], self.client.now_us
        ttl_us = self.ttl_ms * 1_000
        if not ttl_us:
            self._make_handle(token, rev, 0, 0)
            return True
        # Counted from the first attempt (guarantee 10): what a retry gets is the recorded outcome, which re-arms nothing.
        deadline_us = ask.first_us + ttl_us - margin_us(ttl_us)
        if now_us >= deadline_us:
            self._take_up(token, now_us)
        else:
            next_renew_us = now_us if ask.attempts > 1 else ask.first_us + ttl_us // 3
            self._make_handle(token, rev, deadline_us, next_renew_us)
        return True

    def _refused(self, ask: Ask, answer: Answer) -> bool:
        if not answer[2] and answer[1] == Status.BAD_REQUEST and answer[3] == "session":
            # This connection does not carry the session (any more): it is attached again first.
            self.client.attach_again(self.session)
            return False
        error = refusal(Status(answer[1]), tuple(answer[3:]))
        if answer[2] or ask.attempts == 1:
            self._finish(error)
        else:
            # Only this attempt was refused; an earlier one may yet take effect (R4).
            self._cancel(error, self.client.now_us)
        return True

    def _at_limit(self, ask: Ask) -> None:
        del ask
        self._cancel(AcquireResult(status=Status.TIMEOUT), self.client.now_us)

    # an offer

    def _take_up(self, token: int, now_us: int) -> None:
        """Renew once: only then is the lock held (L10)."""
        self._state = _State.TAKING_UP
        items = [(self.resource, token)]

        def renewed(ask: Ask, answer: Answer, sent_us: int) -> bool:
            del ask
            if answer[1] != Status.OK:
                return False
            item = answer[3][0]
            status = Status(item[0])
            if status is Status.OK:
                count = item[1]
                self.session.hi = max(self.session.hi, count or 0)
                if not self.ttl_ms and (count or 0) < self.session.hi:
                    return False
                ttl_us = self.ttl_ms * 1_000
                deadline_us = sent_us + ttl_us - margin_us(ttl_us) if ttl_us else 0
                if ttl_us and self.client.now_us >= deadline_us:
                    # The answer took longer than the lease: a handle would be lost before it was told. Ask once more.
                    return False
                self._make_handle(token, item[2], deadline_us, sent_us + ttl_us // 3)
                return True
            if status is Status.NOT_HELD:
                self._finish(AcquireResult(status=status))
                return True
            if status is Status.ENDING:
                self._cancel(AcquireResult(status=status), self.client.now_us)
                return True
            return False

        until_us = max(self.limit_us, now_us + 1)
        self._start(
            Ask(lambda i: (int(Op.RENEW), i, items), renewed, self._at_limit, until_us), now_us
        )

    def _make_handle(self, token: int, rev: int, deadline_us: int, next_renew_us: int) -> None:
        client, session = self.client, self.session
        if not self.ttl_ms and (
            not client.session_is(session) or client.now_us >= session.alive_us
        ):
            # Its session's deadline passed meanwhile: this is no handle any more.
            self._cancel(AcquireResult(status=Status.SESSION_EXPIRED), client.now_us)
            return
        handle = Handle(
            resource=self.resource,
            token=token,
            owner=self.owner,
            ttl_us=self.ttl_ms * 1_000,
            session=session.session_id,
            rev=rev,
            own_deadline_us=deadline_us,
            renews=self._renews,
            next_renew_us=next_renew_us,
        )
        client.add_handle(handle)
        self._finish(AcquireResult(status=Status.OK, handle=handle))

    # withdrawing

    def _cancel(self, report: AcquireResult | RaftlockError, now_us: int) -> None:
        """Cancel until that is answered. From here on no answer to the acquire makes a handle (R3)."""
        self._state = _State.CANCELLING
        self._report = report
        session_id, slot, n = self.session.session_id, self.slot, self.n

        def cancelled(ask: Ask, answer: Answer, sent_us: int) -> bool:
            del ask, sent_us
            if answer[1] == Status.SESSION_EXPIRED:
                self._look(self.client.now_us)
                return True
            if not answer[2]:
                if answer[1] == Status.BAD_REQUEST:
                    self.client.attach_again(self.session)
                return False
            self._finish(report)
            return True

        ask = Ask(lambda i: (int(Op.CANCEL), i, session_id, slot, n), cancelled, session=session_id)
        self._start(ask, now_us)

    def _look(self, now_us: int) -> None:
        """Look whether the key has a grant that outlives its session, and release it (R9)."""
        self._state = _State.LOOKING
        key = (self.session.session_id, self.slot, self.n)
        report = self._report or AcquireResult(status=Status.SESSION_EXPIRED)

        def seen(ask: Ask, answer: Answer, sent_us: int) -> bool:
            del ask, sent_us
            if not answer[2]:
                return False
            info = answer[4] if answer[1] == Status.OK else None
            if info is not None and tuple(info[5:8]) == key and info[1] != GrantState.WAITING:
                self._release(info[2], report)
            else:
                self._finish(report)
            return True

        self._start(Ask(lambda i: (int(Op.GET), i, self.resource, False), seen), now_us)

    def _release(self, token: int, report: AcquireResult | RaftlockError) -> None:
        def released(ask: Ask, answer: Answer, sent_us: int) -> bool:
            del ask, sent_us
            if answer[2]:
                self._finish(report)
            return bool(answer[2])

        ask = Ask(lambda i: (int(Op.RELEASE), i, self.resource, token), released)
        self._start(ask, self.client.now_us)

    def _finish(self, result: AcquireResult | RaftlockError) -> None:
        if self._state is _State.DONE:
            return
        self._state = _State.DONE
        if self._ask is not None and not self._ask.over:
            self.client.asking.finish(self._ask)
        if self._session is not None:
            self._session.slots.give_back(self.slot, self)
        self._on_done(result)
