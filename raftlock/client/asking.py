"""Asking until there is a final answer: attempts, retries with backoff, and what each answer belongs to.

`ask(req, until)` of the contract: each attempt has its own request id and its own time of sending, which is read
before the bytes go to the socket. It owns requests under way. It must not know what they are about.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from raftlock.client.errors import OutcomeUnknown, TooManyRequests, Unavailable
from raftlock.client.timetable import Timetable
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

Request = tuple[Any, ...]
Answer = tuple[Any, ...]
Result = Callable[[Any], None]
"""Called once, with a value or a RaftlockError."""

BACKOFF_MIN_US = 10_000
BACKOFF_MAX_US = 500_000
ATTEMPT_TIMEOUT_US = 2_000_000
REQUESTS_MAX = 16_384


class Rng(Protocol):
    """Where jitter comes from."""

    def random(self) -> float:
        """Return a number from 0 up to 1."""


@dataclass(slots=True, eq=False)
class Ask:
    """One request that is repeated until it is answered for good, or its time is up."""

    build: Callable[[int], Request]
    """Makes the request with a request id."""
    on_answer: Callable[["Ask", Answer, int], bool]
    """Takes (ask, answer, when that attempt was sent); returns whether the ask is over."""
    on_expired: Callable[["Ask"], None] | None = None
    until_us: int | None = None
    """On the client's clock; None: for ever."""
    session: int = 0
    """The session that must be attached on the connection; 0: none."""
    first_us: int = 0
    """When the first attempt was sent."""
    attempts: int = 0
    due_us: int = 0
    """When the next attempt is due; only while none is under way."""
    backoff_us: int = BACKOFF_MIN_US
    parked: bool = False
    """Waits for an event: no attempt is due."""
    over: bool = False
    request_id: int = 0
    """Of the attempt under way; 0: none."""
    sent_us: int = 0


class Asking:
    """All asks of one client, and the one connection that they go over."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._asks: dict[Ask, None] = {}
        self._due: Timetable[Ask] = Timetable()
        """When each ask has work: what `_due_us` says of it, kept up by `_look_again`."""
        self._attempts: dict[int, Ask] = {}
        self._next_id = 1
        self.connected = False
        self._heard_us = 0
        self.silent = False
        """Whether the connection brought nothing at all while an attempt waited for its answer in vain.

        A host that vanished closes nothing, and neither does a process that is stopped: asking again over the same
        connection would go on until the kernel gives it up, a quarter of an hour later.
        """
        self._attached: set[int] = set()
        self.outbox: list[Request] = []
        self.now_us = 0
        """The client's clock, as it was when the client was last called."""

    def __len__(self) -> int:
        return len(self._asks)

    def start(self, ask: Ask, now_us: int) -> Ask:
        """Begin to ask."""
        ask.due_us = now_us
        self._asks[ask] = None
        self._try(ask, now_us)
        self._look_again(ask)
        return ask

    def bounded(
        self,
        build: Callable[[int], tuple[Any, ...]],
        answered: Callable[[Ask, Answer, int], bool],
        until_us: int,
        done: Result,
        now_us: int,
    ) -> None:
        """Ask until `until_us`; then `done` gets OutcomeUnknown, or Unavailable if it was never sent."""
        if len(self) >= REQUESTS_MAX:
            raise TooManyRequests(f"{REQUESTS_MAX} requests are under way")

        def given_up(ask: Ask) -> None:
            if ask.attempts:
                done(OutcomeUnknown("no final answer came in time"))
            else:
                done(Unavailable("no node could be reached in time"))

        self.start(Ask(build, answered, given_up, until_us=until_us), now_us)

    def finish(self, ask: Ask) -> None:
        """Stop asking."""
        ask.over = True
        self._asks.pop(ask, None)
        self._due.drop(ask)
        self._attempts.pop(ask.request_id, None)
        ask.request_id = 0

    def again(self, ask: Ask, now_us: int) -> None:
        """Ask again at once."""
        if not ask.over:
            self._attempts.pop(ask.request_id, None)
            ask.request_id = 0
            ask.parked = False
            ask.due_us = now_us
            self._try(ask, now_us)
            self._look_again(ask)

    def park(self, ask: Ask) -> None:
        """Wait for an event instead of asking again."""
        ask.parked = True
        self._attempts.pop(ask.request_id, None)
        ask.request_id = 0
        self._look_again(ask)

    def _try(self, ask: Ask, now_us: int) -> None:
        if ask.request_id or ask.due_us > now_us or not self._may_go(ask):
            return
        request_id = self._next_id
        self._next_id += 1
        ask.request_id, ask.sent_us = request_id, now_us
        if not ask.attempts:
            ask.first_us = now_us
        ask.attempts += 1
        self._attempts[request_id] = ask
        self.outbox.append(ask.build(request_id))

    def _may_go(self, ask: Ask) -> bool:
        """Return whether the connection, as it is, would carry an attempt."""
        carried = not ask.session or ask.session in self._attached
        return self.connected and not ask.parked and carried

    def _due_us(self, ask: Ask) -> int | None:
        """Return when `tick` has work with an ask: its end, an attempt's, or the next attempt."""
        end_us = ask.until_us
        if ask.request_id:
            next_us = ask.sent_us + ATTEMPT_TIMEOUT_US
        elif self._may_go(ask):
            next_us = ask.due_us
        else:
            return end_us
        return next_us if end_us is None else min(next_us, end_us)

    def _look_again(self, ask: Ask) -> None:
        if not ask.over:
            self._due.keep(ask, self._due_us(ask))

    def answer(self, message: Answer, now_us: int) -> None:
        """Take an answer. One to an attempt that was given up says nothing."""
        ask = self._attempts.pop(message[0], None)
        if ask is None or ask.over:
            return
        ask.request_id = 0
        if ask.on_answer(ask, message, ask.sent_us):
            self.finish(ask)
        elif not ask.parked and not ask.request_id:
            self._later(ask, message, now_us)
            self._look_again(ask)

    def _later(self, ask: Ask, message: Answer, now_us: int) -> None:
        pause_us = ask.backoff_us
        if message[1] == Status.OVERLOADED:
            pause_us = max(pause_us, min(int(message[3]) * 1_000, BACKOFF_MAX_US))
        ask.backoff_us = min(ask.backoff_us * 2, BACKOFF_MAX_US)
        # Jitter, so that clients that failed together do not come back together.
        ask.due_us = now_us + int(pause_us * (0.5 + self._rng.random()))

    # the connection

    def silence_us(self, now_us: int) -> int:
        """Return for how long nothing has come while an attempt waits for its answer; 0 if none waits."""
        # Attempts stand in the order in which they were sent.
        for ask in self._attempts.values():
            return max(0, now_us - max(ask.sent_us, self._heard_us))
        return 0

    def probe(self) -> None:
        """Ask the node how it is: whoever runs answers that at once, and the answer itself is of no use."""
        self.outbox.append((int(Op.NODE_STATUS), self._next_id))
        self._next_id += 1

    def heard(self, now_us: int) -> None:
        """Learn that something came over the connection."""
        self._heard_us = now_us
        self.silent = False

    def got_connection(self) -> None:
        """Learn that there is a connection, which carries no session yet."""
        self.connected = True
        for ask in self._asks:
            self._look_again(ask)

    def attach(self, session: int) -> None:
        """Learn that the connection carries a session: what names it goes out from here on."""
        self._attached.add(session)
        self._look_again_at(session)

    def detach(self, session: int) -> None:
        """Learn that the connection does not carry a session."""
        self._attached.discard(session)
        self._look_again_at(session)

    def _look_again_at(self, session: int) -> None:
        for ask in self._asks:
            if ask.session == session:
                self._look_again(ask)

    def lost_connection(self, now_us: int) -> None:
        """Learn that the connection is gone: what had no answer is asked again over the next one."""
        self.connected = False
        self.silent = False
        self._attached.clear()
        self.outbox.clear()
        self._attempts.clear()
        for ask in self._asks:
            ask.request_id = 0
            ask.due_us = now_us
            self._look_again(ask)

    # time

    def tick(self, now_us: int) -> None:
        """Send what is due, give up what is over, and repeat what was not answered in time."""
        for ask in self._due.take_due(now_us):
            if ask.over:
                continue
            if ask.until_us is not None and now_us >= ask.until_us:
                self.finish(ask)
                if ask.on_expired is not None:
                    ask.on_expired(ask)
                continue
            if ask.request_id and now_us - ask.sent_us >= ATTEMPT_TIMEOUT_US:
                self.silent = self.silent or self._heard_us <= ask.sent_us
                self._attempts.pop(ask.request_id, None)
                ask.request_id = 0
                ask.due_us = now_us
            self._try(ask, now_us)
            self._look_again(ask)

    def next_deadline_us(self) -> int | None:
        """Return when `tick` has work, or None."""
        return self._due.next_us()
