"""A client's core between a clock that the test moves and a server whose answers the test writes."""

from collections.abc import Callable
from typing import Any

from raftlock.client.acquiring import Acquire, AcquireResult
from raftlock.client.asking import ATTEMPT_TIMEOUT_US
from raftlock.client.errors import RaftlockError
from raftlock.client.handles import Handle
from raftlock.client.session import ClientSession
from raftlock_wire.messages import Event, GrantState, Op
from raftlock_wire.status import Status

SECOND = 1_000_000
START_US = 50 * SECOND
SESSION_TTL_US = 10 * SECOND
SESSION_MARGIN_US = 105_000
"""A hundredth of 10 s, and 5 ms."""
SESSION = 7
Request = tuple[Any, ...]


class Middle:
    """Jitter that changes nothing: always the middle."""

    def random(self) -> float:
        """Return a half."""
        return 0.5


class Wanted:
    """An acquire and what was called back."""

    def __init__(self, now_us: int, **fields: Any) -> None:
        self.results: list[AcquireResult | RaftlockError] = []
        values: dict[str, Any] = {
            "resource": "r", "owner": "me", "ttl_ms": 0, "wait_ms": 0, "metadata": None,
            "limit_us": now_us + 60 * SECOND,
        }  # fmt: skip
        self.acquire = Acquire(**{**values, **fields}, on_done=self.results.append)

    @property
    def result(self) -> AcquireResult | RaftlockError | None:
        """Return the one result, or None while there is none."""
        assert len(self.results) <= 1
        return self.results[0] if self.results else None

    @property
    def status(self) -> Status | None:
        """Return how it ended, or None while it has not."""
        return self.result.status if isinstance(self.result, AcquireResult) else None

    @property
    def handle(self) -> Handle:
        """Return the handle that it ended with."""
        assert isinstance(self.result, AcquireResult)
        assert self.result.handle is not None
        return self.result.handle


def next_us_of_all(core: ClientSession) -> int | None:
    """Return when a client's tick has work, by looking at every handle and every ask that it has."""
    asking, held = core.asking, core.handles
    times = [core.deadline_us(handle) for handle in held] + core._sessions.due_us()
    for handle in held:
        renews = handle.renews and not handle.in_session and not handle.frozen
        if asking.connected and renews and not handle.renew_id:
            times.append(handle.next_renew_us)
    for ask in asking._asks:
        carried = asking.connected and (not ask.session or ask.session in asking._attached)
        if ask.until_us is not None:
            times.append(ask.until_us)
        if ask.request_id:
            times.append(ask.sent_us + ATTEMPT_TIMEOUT_US)
        elif carried and not ask.parked:
            times.append(ask.due_us)
    return min(times, default=None)


class Scripted:
    """The core, driven as a shell drives it. After each step it must know when it has work next."""

    def __init__(self, *, connect: bool = True, checked: bool = True) -> None:
        """Begin connected, unless told otherwise. `checked`: look at everything after each step, as above."""
        self._checked = checked
        self._nonces = iter(bytes([i]) * 16 for i in range(1, 255))
        self.core = ClientSession(
            rng=Middle(), nonces=lambda: next(self._nonces), session_ttl_ms=SESSION_TTL_US // 1_000
        )
        self.now_us = START_US
        self.leader_id = 1
        self.lost: list[tuple[int, int]] = []
        """(token, when) of each handle that was lost."""
        self._unread: list[Request] = []
        if connect:
            self.connect()

    # the connection

    def connect(self, node_id: int = 1) -> None:
        """Let a connection's hello be answered."""
        nodes = ((1, "a:1"), (2, "b:2"))
        self.core.connected((1, 0, True, 1, "cluster", node_id, nodes, {}), self.now_us)
        self.next_us()

    def disconnect(self) -> None:
        """Lose the connection, and everything on the way."""
        self.core.disconnected(self.now_us)
        self._unread.clear()
        self.next_us()

    def sent(self) -> list[Request]:
        """Return the requests that were sent since the last look."""
        unread, self._unread = self._unread + self.core.asking.outbox, []
        self.core.asking.outbox.clear()
        return unread

    def ops(self) -> list[Op]:
        """Return the codes of the requests that were sent since the last look."""
        return [Op(request[0]) for request in self.sent()]

    def take(self, op: Op) -> Request:
        """Return the next request of this code; those of other codes stay to be looked at."""
        unread = self.sent()
        found = next((r for r in unread if r[0] == op), None)
        assert found is not None, f"{op.name} was not sent, but {unread}"
        unread.remove(found)
        self._unread = unread
        return found

    def answer(
        self, request: Request, status: Status, *fields: Any, final: bool | None = None
    ) -> None:
        """Answer a request. What is not taken, and QUEUED, is not final."""
        if final is None:
            final = status not in (
                Status.NO_QUORUM,
                Status.UNKNOWN,
                Status.OVERLOADED,
                Status.QUEUED,
            )
        message = (request[1], int(status), final, *fields)
        self.core.received(self.leader_id, [message], self.now_us)
        self.next_us()

    def event(self, code: Event, *fields: Any) -> None:
        """Push an event."""
        self.core.received(self.leader_id, [(0, int(code), *fields)], self.now_us)
        self.next_us()

    # time

    def next_us(self) -> int | None:
        """Return when the core wants its next tick: when looking at everything says so too."""
        said = self.core.next_deadline_us()
        if self._checked:
            assert said == next_us_of_all(self.core)
        return said

    def wait(self, us: int) -> None:
        """Let time pass; the timers are looked at when they are due, as the shell does."""
        end_us = self.now_us + us
        while (due_us := self.next_us()) is not None and due_us <= end_us:
            self.now_us = max(self.now_us, due_us)
            self.core.tick(self.now_us)
            assert (self.next_us() or end_us + 1) > self.now_us, "a timer spins"
        self.now_us = end_us

    def freeze(self, us: int) -> None:
        """Let time pass without a look at any timer, as a stopped process does."""
        self.now_us += us

    # what tests begin with

    def want(self, **fields: Any) -> Wanted:
        """Ask for a lock."""
        wanted = Wanted(self.now_us, **fields)
        self.core.acquire(wanted.acquire, self.now_us)
        return wanted

    def open(self, session: int = SESSION) -> None:
        """Answer the open_session that is under way."""
        self.answer(self.take(Op.OPEN_SESSION), Status.OK, session, SESSION_TTL_US // 1_000, 0)

    def hold(self, token: int = 100, *, count: int = 0, **fields: Any) -> Handle:
        """Acquire at once and return the handle; the session is opened if it is not."""
        wanted = self.want(**fields)
        if any(r[0] == Op.OPEN_SESSION for r in self._peek()):
            self.open()
        self.answer(self.take(Op.ACQUIRE), Status.OK, count, token, 1)
        self.watch(wanted.handle)
        return wanted.handle

    def queue(self, *, count: int = 0, **fields: Any) -> Wanted:
        """Wait for a lock: its acquire is answered QUEUED."""
        wanted = self.want(**{"wait_ms": 30_000, **fields})
        if any(r[0] == Op.OPEN_SESSION for r in self._peek()):
            self.open()
        self.answer(self.take(Op.ACQUIRE), Status.QUEUED, count, 1)
        return wanted

    def change(self, handle: Handle, ttl_ms: int) -> list[Any]:
        """Begin a change of ttl; return where its result will be."""
        results: list[Any] = []
        until_us = self.now_us + SECOND
        self.core.change_ttl(handle, ttl_ms, self.now_us, until_us, results.append)
        self.next_us()
        return results

    def watch(self, handle: Handle) -> None:
        """Note when a handle is lost."""
        handle.on_lost = lambda lost: self.lost.append((lost.token, self.now_us))

    def keep_alive(self, count: int = 0) -> None:
        """Answer the keep-alive that is under way."""
        self.answer(self.take(Op.KEEP_ALIVE), Status.OK, count)

    def deadline(self, handle: Handle) -> int:
        """Return a handle's deadline, counted from the start of the test."""
        return self.core.deadline_us(handle) - START_US

    def _peek(self) -> list[Request]:
        self._unread = self.sent()
        return self._unread


def info(
    resource: str = "r",
    *,
    token: int = 100,
    state: GrantState = GrantState.HELD,
    key: tuple[int, int, int] = (SESSION, 0, 1),
) -> tuple[Any, ...]:
    """Return what a get or a list says of a lock."""
    return (
        resource, int(state), token, 1, "me", *key, 0, 1_700_000_000_000_000, "", "10.0.0.1:5",
        None, 0, None,
    )  # fmt: skip


def collect(into: list[Any]) -> Callable[[Any], None]:
    """Return a callback that keeps what it was called with."""
    return into.append
