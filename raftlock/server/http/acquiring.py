"""One acquire over HTTP, from its session to a token or to nothing: the smallest client of the contract.

A session of 60 s that carries this one acquire under the key (session, 0, 1), and outlives the request. Without an
Idempotency-Key nobody can ask for its outcome again, so what the caller gave up on is cancelled until that is
answered (guarantee 7). With one, the caller may come again through any node: its acquire is never cancelled here, for
the same key may be succeeding there; its wait ends in the log, and what nobody takes up passes on (L10).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from raftlock.server.http.bodies import Order
from raftlock.server.http.lane import Answer, Asked, Lane, NotServed
from raftlock.server.http.problems import Problem
from raftlock_wire.messages import Event, GrantState, Op
from raftlock_wire.status import Status

SESSION_TTL_MS = 60_000
SLOT, N = 0, 1
ANSWER_S = 5.0
"""How long a request may go without any word from the cluster."""
KEEP_ALIVE_S = 15.0
KEYED_POLL_S = 0.5
"""Another request of the same key may take the events away: each looks for itself, four times in an offer's time."""


class Granted(NamedTuple):
    """A grant, and when the caller's right to it ends, on the lane's clock (guarantee 10)."""

    resource: str
    token: int
    deadline_s: float | None
    """None: the lock lives in a session and has no lease of its own."""
    ttl_ms: int


def margin_s(ttl_ms: int) -> float:
    """Return what is taken off a lease for clocks of different rates: 1 % and 5 ms."""
    return ttl_ms / 100_000 + 0.005


def lease_end_s(sent_s: float, ttl_ms: int) -> float:
    """Return the deadline of a lease that was asked for at `sent_s`."""
    return sent_s + ttl_ms / 1_000 - margin_s(ttl_ms)


class Acquiring:
    """One acquire and where it stands."""

    def __init__(
        self, lane: Lane, order: Order, *, nonce: bytes, keyed: bool, clock: Callable[[], float]
    ) -> None:
        self._lane = lane
        self._order = order
        self._nonce = nonce
        self._keyed = keyed
        self._clock = clock
        self._session = 0
        self._in_log = False
        """Whether the acquire is known to have been taken."""
        self._open = False
        self._wait_until_s = clock() + order.wait_ms / 1_000
        self._count = 0

    @property
    def must_withdraw(self) -> bool:
        """Return whether something may be left behind that nobody else will ever ask for."""
        return self._open and not self._keyed

    async def run(self) -> Granted:
        """Acquire. Raise Problem for a final refusal, NotServed for none."""
        await self._open_session()
        granted = await self._acquire()
        self._open = False
        return granted

    def unheard(self) -> None:
        """Learn that the caller was gone before it could be told of the grant."""
        self._open = True

    # asking

    async def _open_session(self) -> None:
        asked = await self._lane.ask(
            lambda i: (int(Op.OPEN_SESSION), i, self._nonce, SESSION_TTL_MS),
            until_s=self._clock() + ANSWER_S,
        )
        answer = asked.answer
        if answer[1] != Status.OK:
            raise refused(answer)
        self._session = answer[3]

    def _request(self, request_id: int) -> tuple[Any, ...]:
        order = self._order
        return (
            int(Op.ACQUIRE), request_id, self._session, SLOT, N,
            order.resource, order.owner, order.ttl_ms, order.wait_ms, order.metadata,
        )  # fmt: skip

    async def _ask(self) -> Asked:
        """Ask for the lock, again with the same key if need be."""
        self._open = True
        try:
            asked = await self._lane.ask(self._request, until_s=self._clock() + ANSWER_S)
        except NotServed as error:
            # No attempt was appended: there is nothing to withdraw (R4).
            self._open = self._in_log or error.unknown
            raise
        self._in_log = True
        return asked

    async def _acquire(self) -> Granted:
        while True:
            asked = await self._ask()
            answer = asked.answer
            match Status(answer[1]):
                case Status.OK:
                    return await self._granted(asked)
                case Status.OFFERED:
                    return await self._take_up(answer[4])
                case Status.QUEUED:
                    self._count = answer[3]
                    token = await self._wait()
                    if token:
                        return await self._take_up(token)
                case _:
                    await self._refuse(asked)

    async def _refuse(self, asked: Asked) -> None:
        """Raise the problem that an answer means, when it is final for the acquire."""
        answer = asked.answer
        if answer[1] == Status.SESSION_EXPIRED or _not_attached(answer):
            if self._keyed:
                # A grant under this key may be one that the caller has been told of: it is not ours to release.
                raise NotServed(unknown=True, why="the session of this Idempotency-Key ran out")
            await self._look(until_s=self._clock() + ANSWER_S)
            raise Problem("cancelled", "the session of this request ran out before it was granted")
        refusal_of_attempt = not answer[2] and asked.attempts > 1
        if answer[1] == Status.ENDING or refusal_of_attempt:
            # An earlier attempt may yet take effect, or did and must not last (R4).
            await self._cancel()
        self._open = False
        raise refused(answer)

    # granted

    async def _granted(self, asked: Asked) -> Granted:
        token, order = asked.answer[4], self._order
        deadline_s = lease_end_s(asked.first_s, order.ttl_ms)
        # Under an Idempotency-Key this may be the outcome of a request long ago, which re-arms nothing (guarantee 10).
        if self._keyed or self._clock() >= deadline_s:
            return await self._take_up(token)
        return Granted(order.resource, token, deadline_s, order.ttl_ms)

    async def _take_up(self, token: int) -> Granted:
        """Renew once: only then is an offer held (L10)."""
        order = self._order
        asked = await self._lane.ask(
            lambda i: (int(Op.RENEW), i, [(order.resource, token)]),
            until_s=self._clock() + ANSWER_S,
        )
        item: Answer = asked.answer[3][0] if asked.answer[1] == Status.OK else (asked.answer[1],)
        if item[0] == Status.OK:
            deadline_s = lease_end_s(asked.sent_s, item[3])
            return Granted(order.resource, token, deadline_s, item[3])
        if item[0] == Status.ENDING:
            await self._cancel()
        self._open = False
        raise refused_item(item)

    # waiting

    async def _wait(self) -> int:
        """Wait for an event. Return the token of an offer, or 0 when the key must be asked again."""
        poll_s = KEEP_ALIVE_S
        if self._keyed:
            poll_s = min(KEYED_POLL_S, self._order.ttl_ms / 4_000)
        while True:
            left_s = self._wait_until_s - self._clock()
            if left_s <= 0 and not self._keyed:
                await self._cancel()
                raise self._timed_out()
            if left_s <= -ANSWER_S:
                raise NotServed(unknown=True, why="the end of the wait is not known")
            event = await self._lane.event(min(poll_s, max(left_s, 0.05)))
            if self._lane.closed_because:
                raise NotServed(unknown=True, why=self._lane.closed_because)
            if event is None:
                if not await self._nothing_missed():
                    return 0
            elif event[1] == Event.OFFERED and event[2] == self._session:
                return int(event[7])
            elif event[1] == Event.TIMEOUT and event[2] == self._session:
                self._open = False
                raise self._timed_out()
            else:
                return 0

    async def _nothing_missed(self) -> bool:
        """Keep the session alive, which waits with its caller. Return whether nothing was done to it meanwhile (R6)."""
        if self._wait_until_s <= self._clock():
            return not self._keyed
        try:
            asked = await self._lane.ask(
                lambda i: (int(Op.KEEP_ALIVE), i, self._session), until_s=self._clock() + ANSWER_S
            )
        except NotServed as error:
            if self._lane.closed_because:
                raise NotServed(unknown=True, why=error.why) from error
            return True
        return bool(asked.answer[1] == Status.OK and asked.answer[3] == self._count)

    def _timed_out(self) -> Problem:
        return Problem("timeout", f"not granted within {self._order.wait_ms / 1_000:g} s")

    # withdrawing

    async def _cancel(self) -> None:
        """Withdraw the acquire before the caller is told. With a key, another request may be succeeding: leave it."""
        if self._keyed:
            return
        await self.withdraw(until_s=self._clock() + ANSWER_S)

    async def withdraw(self, *, until_s: float | None) -> None:
        """Cancel until that is answered. From here on no answer to the acquire counts (R3)."""
        asked = await self._lane.ask(
            lambda i: (int(Op.CANCEL), i, self._session, SLOT, N), until_s=until_s
        )
        if asked.answer[1] == Status.SESSION_EXPIRED or _not_attached(asked.answer):
            await self._look(until_s=until_s)
        self._open = False

    async def _look(self, *, until_s: float | None) -> None:
        """Look whether the key has a grant that outlives its session, and release it (R9)."""
        resource = self._order.resource
        asked = await self._lane.ask(lambda i: (int(Op.GET), i, resource, False), until_s=until_s)
        info = asked.answer[4] if asked.answer[1] == Status.OK else None
        key = (self._session, SLOT, N)
        if info is not None and tuple(info[5:8]) == key and info[1] != GrantState.WAITING:
            token = info[2]
            await self._lane.ask(lambda i: (int(Op.RELEASE), i, resource, token), until_s=until_s)
        self._open = False


def _not_attached(answer: Answer) -> bool:
    """Return whether the lane does not carry the session any more: it was told of the session's end."""
    return answer[1] == Status.BAD_REQUEST and not answer[2] and answer[3] == "session"


def refused(answer: Answer) -> Problem:
    """Return the problem that a final answer, or the refusal of a single attempt, means."""
    status = Status(answer[1])
    match status:
        case Status.HELD:
            _, _, _, _, owner, token, since_us = answer
            return Problem(
                "held",
                f"held by {owner!r}",
                holder={"clientId": owner, "lockToken": token, "acquiredAt": since_us // 1_000},
            )
        case Status.NOT_HELD:
            token = answer[-1]
            return Problem(
                "not-held", "the grant of this request is over", currentToken=token or None
            )
        case Status.ENDING:
            return Problem("ending", "an administrator lets this lease run out")
        case Status.TIMEOUT:
            return Problem("timeout", "the wait ended before the resource was free")
        case Status.CANCELLED:
            return Problem("cancelled", "the acquire was withdrawn")
        case Status.QUOTA_EXCEEDED:
            return Problem("quota", ": ".join(str(field) for field in answer[3:]))
        case Status.UNAUTHENTICATED:
            return Problem("unauthenticated", "the credentials are missing or wrong")
        case Status.FORBIDDEN:
            return Problem("forbidden", str(answer[3]))
        case Status.BAD_REQUEST if answer[3] == "n":
            return Problem("key-reused", "the Idempotency-Key was used with another body")
        case Status.BAD_REQUEST:
            return Problem("bad-request", f"{answer[3]}: {answer[4]}", field=answer[3])
        case _:
            return Problem("bad-request", f"refused with {status.name}")


def refused_item(item: Answer) -> Problem:
    """Return the problem that the answer to one lease of a renew means."""
    if item[0] == Status.NOT_HELD:
        current = item[1] if len(item) > 1 else 0
        return Problem(
            "not-held", "the token is not the current grant", currentToken=current or None
        )
    if item[0] == Status.ENDING:
        return Problem("ending", "an administrator lets this lease run out: nothing was renewed")
    return Problem("bad-request", f"refused with {Status(item[0]).name}")
