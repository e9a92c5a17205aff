"""The client's core: "The client, in any language" of the contract, without input or output.

It puts together the session, the leases and the acquires of one client. Time comes in with every call, requests go out
in `asking.outbox`, and what the application waits for is called back. AsyncClient and the simulator drive the same
object.
"""

from collections.abc import Callable
from typing import Any

from raftlock.client.acquiring import Acquire, AcquireResult
from raftlock.client.asking import REQUESTS_MAX, Answer, Ask, Asking, Result, Rng
from raftlock.client.errors import RaftlockError, TooManyRequests
from raftlock.client.handles import Handle
from raftlock.client.sessions import Sessions, SessionView
from raftlock_wire.limits import PROTOCOL_VERSION, SLOTS_MAX
from raftlock_wire.messages import Op
from raftlock_wire.status import Status


class ClientSession:
    """One client. Calls take `now_us`, read from the client's clock before anything is sent."""

    def __init__(self, *, rng: Rng, nonces: Callable[[], bytes], session_ttl_ms: int) -> None:
        self.asking = Asking(rng)
        self._sessions = Sessions(
            self.asking,
            nonces=nonces,
            ttl_ms=session_ttl_ms,
            opened=self._session_opened,
            refused=self._session_refused,
        )
        self._leases = self._sessions.leases
        self._waiting: dict[Acquire, None] = {}
        """Those that wait for a session."""
        self.leader_id = 0
        self.node_id = 0
        self.nodes: dict[int, str] = {}
        self._closing = False

    @property
    def now_us(self) -> int:
        """Return the client's clock at the last call."""
        return self.asking.now_us

    # the connection

    @staticmethod
    def hello(client_name: str) -> tuple[Any, ...]:
        """Return the first request of a connection."""
        return (int(Op.HELLO), 1, PROTOCOL_VERSION, PROTOCOL_VERSION, None, None, client_name)

    def connected(self, hello_answer: Answer, now_us: int) -> None:
        """Begin on a connection whose hello was answered OK."""
        self.asking.now_us = now_us
        self.node_id = hello_answer[5]
        self.nodes = dict(hello_answer[6])
        self.asking.got_connection()
        self._sessions.connected(now_us)
        self.tick(now_us)

    def disconnected(self, now_us: int) -> None:
        """Learn that the connection is gone. That alone ends no lock."""
        self.asking.now_us = now_us
        self.asking.lost_connection(now_us)

    def received(self, leader_id: int, messages: list[Answer], now_us: int) -> None:
        """Take the messages of one frame."""
        self.asking.now_us = now_us
        self.asking.heard(now_us)
        self.leader_id = leader_id
        for message in messages:
            if message[0]:
                self.asking.answer(message, now_us)
            else:
                self._sessions.event(message, now_us)

    @property
    def wants_node(self) -> str | None:
        """Return the address of the leader when another node is connected (every answer says who leads)."""
        if not self.leader_id or self.leader_id == self.node_id:
            return None
        return self.nodes.get(self.leader_id)

    # acquires

    def acquire(self, wanted: Acquire, now_us: int) -> None:
        """Begin an acquire. Its result is called back; `cancel` ends it before."""
        self.asking.now_us = now_us
        if len(self.asking) + len(self._waiting) >= REQUESTS_MAX:
            raise TooManyRequests(f"{REQUESTS_MAX} requests are under way")
        session = self._sessions.current or self._sessions.start(now_us)
        wanted.bind(self)
        if self._sessions.open is not None:
            self._begin(session, wanted, now_us)
        else:
            self._waiting[wanted] = None

    def forget(self, acquire: Acquire) -> None:
        """Drop an acquire that waits for a session: it was never asked."""
        self._waiting.pop(acquire, None)

    def _begin(self, session: SessionView, acquire: Acquire, now_us: int) -> None:
        key = session.slots.take(acquire)
        if key is None:
            acquire.fail(TooManyRequests(f"{SLOTS_MAX} acquires are under way"))
            return
        slot, n = key
        acquire.begin(session, slot, n, now_us)

    def _session_opened(self, session: SessionView) -> None:
        waiting, self._waiting = self._waiting, {}
        for acquire in waiting:
            self._begin(session, acquire, self.now_us)

    def _session_refused(self, error: RaftlockError) -> None:
        waiting, self._waiting = self._waiting, {}
        for acquire in waiting:
            acquire.fail(error)

    def session_is(self, session: SessionView) -> bool:
        """Return whether this is still the client's session."""
        return session is self._sessions.current

    def attach_again(self, session: SessionView) -> None:
        """Learn that the connection does not carry a session."""
        self._sessions.attach_again(session)

    # leases

    @property
    def handles(self) -> list[Handle]:
        """Return the handles that are held."""
        return self._leases.held

    def add_handle(self, handle: Handle) -> None:
        """Keep a handle, and renew it if it has a lease of its own."""
        self._leases.add(handle)

    def deadline_us(self, handle: Handle) -> int:
        """Return until when a handle may be believed."""
        return self._leases.deadline_us(handle)

    def release(self, handle: Handle, now_us: int, done: Result | None = None) -> None:
        """Release a lock: asked until answered, or until its lease is over (guarantee 7)."""
        self.asking.now_us = now_us
        self._leases.release(handle, now_us, done)

    def release_token(
        self, resource: str, token: int, now_us: int, until_us: int, done: Result
    ) -> None:
        """Release by token, for a lock that this object did not acquire."""
        self.asking.now_us = now_us
        self._leases.release_token(resource, token, now_us, until_us, done)

    def change_ttl(
        self, handle: Handle, ttl_ms: int, now_us: int, until_us: int, done: Result
    ) -> None:
        """Set the ttl of a lock with a lease of its own."""
        self.asking.now_us = now_us
        self._leases.change_ttl(handle, ttl_ms, now_us, until_us, done)

    # all else

    def request(
        self, build: Callable[[int], tuple[Any, ...]], now_us: int, until_us: int, done: Result
    ) -> None:
        """Ask anything that needs no session until it is answered for good; `done` gets the answer or an error."""
        self.asking.now_us = now_us

        def answered(ask: Ask, answer: Answer, sent_us: int) -> bool:
            del ask, sent_us
            status = Status(answer[1])
            if not answer[2] and status in (Status.NO_QUORUM, Status.UNKNOWN, Status.OVERLOADED):
                return False
            done(answer)
            return True

        self.asking.bounded(build, answered, until_us, done, now_us)

    def close(self, now_us: int) -> None:
        """Release every lock, close the session; what is not answered runs out by itself."""
        self.asking.now_us = now_us
        self._closing = True
        self._leases.close(now_us)
        self._sessions.close()

    # time

    def tick(self, now_us: int) -> None:
        """Do what is due: deadlines first, since a lock past its deadline must not be believed a moment longer."""
        self.asking.now_us = now_us
        self._leases.expire(now_us)
        if not self._closing:
            self._sessions.tick(now_us)
        self._leases.renew_due(now_us)
        self.asking.tick(now_us)

    def next_deadline_us(self) -> int | None:
        """Return when `tick` has work, or None."""
        asking_us = self.asking.next_deadline_us()
        times = self._leases.due_us() + self._sessions.due_us()
        return min(times if asking_us is None else [*times, asking_us], default=None)

    @property
    def busy(self) -> bool:
        """Return whether anything is still being asked."""
        return len(self.asking) > 0


__all__ = ["AcquireResult", "ClientSession", "SessionView"]
