"""Client: the same client for programs without asyncio. It renews in a thread of its own; many threads may share it.

It owns the thread, and what happens to it in a fork. Everything else is AsyncClient's, on that thread's loop.
"""

import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from raftlock.client.acquiring import AcquireResult
from raftlock.client.arguments import DEFAULT_ENDPOINTS
from raftlock.client.async_client import REQUEST_TIMEOUT_S, AsyncClient
from raftlock.client.errors import ClientClosed, NotAcquired
from raftlock.client.lock import Lock
from raftlock.client.loop_thread import Callbacks, LoopThread
from raftlock.client.records import AuditPage, AuditQuestion, Record, check_whole
from raftlock.client.sync_lock import SyncHolding, SyncLock
from raftlock.client.values import LockInfo, Members
from raftlock_wire import limits

Value = TypeVar("Value")


class _Engine:
    """The thread and the AsyncClient on it, of one process."""

    def __init__(self, make: Callable[[], AsyncClient]) -> None:
        self.pid = os.getpid()
        self.callbacks = Callbacks()
        self.client = make()
        self.thread = LoopThread("raftlock-client")
        self.run(self._start)

    async def _start(self) -> None:
        self.client.start()

    def run(
        self,
        work: Callable[[], Coroutine[Any, Any, Value]],
        unwanted: Callable[[Value], None] | None = None,
    ) -> Value:
        """Run a coroutine on the thread's loop and wait for it."""
        return self.thread.run(work, unwanted=unwanted)

    def post(self, function: Callable[[], None]) -> None:
        """Call a function on the thread's loop soon."""
        self.thread.post(function)


class Client:
    """A client of a cluster. Use it as `with Client([...]) as client`, or keep one for the whole program.

    Times are seconds. It connects at its first use. It keeps one connection, to the leader when it can, and one session
    for all locks that live in it. A thread of its own renews, and watches the deadlines, whatever the other threads do.

    After a fork the parent goes on undisturbed. In the child every lock of the parent is lost, and the client opens a
    connection and a session of its own when it is used.
    """

    def __init__(
        self,
        endpoints: Iterable[str] = DEFAULT_ENDPOINTS,
        *,
        session_ttl: float = limits.SESSION_TTL_MS_DEFAULT / 1_000,
        owner: str | None = None,
        request_timeout: float = REQUEST_TIMEOUT_S,
    ) -> None:
        """Know the nodes by their client addresses, host:port.

        `owner` is how people see this client (default: host and pid). A request is repeated, on any node, for
        `request_timeout` seconds; an acquire for its `wait` in addition. Raise ValueError for what is not allowed.
        """
        addresses = list(endpoints)

        def make() -> AsyncClient:
            return AsyncClient(
                addresses, session_ttl=session_ttl, owner=owner, request_timeout=request_timeout
            )

        make()  # What is not allowed is said here, not at the first use.
        self._make = make
        self._mutex = threading.Lock()
        self._engine: _Engine | None = None
        self._closed = False
        self._inherited: list[_Engine] = []
        """Of the processes that this one was forked from: kept, so that nothing of them is cleaned up here."""
        _clients.add(self)

    # life

    def __enter__(self) -> "Client":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Begin to connect. The first use does it."""
        self._running()

    def close(self, *, timeout: float = 2.0) -> None:
        """Release all locks and close the session; after `timeout` seconds they are left to run out."""
        with self._mutex:
            self._closed = True
            engine, self._engine = self._engine, None
        if engine is None or engine.pid != os.getpid():
            return
        try:
            engine.run(lambda: engine.client.close(timeout=timeout))
        finally:
            engine.thread.stop()

    def _running(self) -> _Engine:
        engine = self._engine
        if engine is not None and engine.pid == os.getpid():
            return engine
        with self._mutex:
            if self._closed:
                raise ClientClosed("the client is closed")
            if self._engine is None or self._engine.pid != os.getpid():
                self._engine = _Engine(self._make)
            return self._engine

    def _forked(self) -> None:
        """In a forked child: leave the parent's thread, connection and session alone, for good."""
        # Another thread of the parent may have held the mutex: here nobody will ever release that one.
        self._mutex = threading.Lock()
        engine, self._engine = self._engine, None
        if engine is not None:
            self._inherited.append(engine)
            number = engine.client.connection_fileno
            engine.thread.let_go([] if number is None else [number])

    # locks

    def lock(
        self,
        resource: str,
        *,
        ttl: float | None = None,
        wait: float = 0.0,
        owner: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> SyncHolding:
        """Hold a lock for the body of `with`. Raise NotAcquired if it is not to be had within `wait` seconds.

        The body is not interrupted when the lock is lost: ask `lock.lost`, `lock.held` or `lock.raise_if_lost()` before
        what must not be done without it. LockLost is raised at the end of a body that was overtaken. With `ttl` the lock
        has a lease of its own of that many seconds, renewed by itself; without it, it lives with the client's session.
        """

        def acquired() -> SyncLock:
            result = self._acquire(
                resource, ttl=ttl, wait=wait, owner=owner, metadata=metadata, renew=True
            )
            if isinstance(result, AcquireResult):
                raise NotAcquired(resource, result.status, result.holder, result.holder_token)
            return result

        return SyncHolding(acquired)

    def acquire(
        self,
        resource: str,
        *,
        ttl: float | None = None,
        wait: float = 0.0,
        owner: str | None = None,
        metadata: dict[str, str] | None = None,
        renew: bool = True,
    ) -> SyncLock | None:
        """Acquire a lock and return its handle, or None if it is not to be had within `wait` seconds.

        `renew=False`, with a `ttl`: the lock is left to run out by itself, and outlives this client.
        Raise OutcomeUnknown when no node answered in time; the acquire is then cancelled in the background.
        """
        result = self._acquire(
            resource, ttl=ttl, wait=wait, owner=owner, metadata=metadata, renew=renew
        )
        return result if isinstance(result, SyncLock) else None

    def try_acquire(
        self,
        resource: str,
        *,
        ttl: float | None = None,
        wait: float = 0.0,
        owner: str | None = None,
        metadata: dict[str, str] | None = None,
        renew: bool = True,
    ) -> SyncLock | AcquireResult:
        """Acquire like `acquire`, but say why it was not to be had: the status, and who holds it."""
        return self._acquire(
            resource, ttl=ttl, wait=wait, owner=owner, metadata=metadata, renew=renew
        )

    def _acquire(
        self,
        resource: str,
        *,
        ttl: float | None,
        wait: float,
        owner: str | None,
        metadata: dict[str, str] | None,
        renew: bool,
    ) -> SyncLock | AcquireResult:
        engine = self._running()

        async def work() -> SyncLock | AcquireResult:
            result = await engine.client.try_acquire(
                resource, ttl=ttl, wait=wait, owner=owner, metadata=metadata, renew=renew
            )
            # Made on the loop: a loss can come only after the new lock listens for it.
            return SyncLock(engine, result) if isinstance(result, Lock) else result

        def unwanted(result: SyncLock | AcquireResult) -> None:
            if isinstance(result, SyncLock):
                result.release_later()

        return engine.run(work, unwanted)

    def release(self, lock: SyncLock) -> None:
        """Release a lock."""
        lock.release()

    def change_ttl(self, lock: SyncLock, ttl: float) -> None:
        """Give a lock with a lease of its own another ttl, in seconds. Raise LockLost if it is not held."""
        lock.change_ttl(ttl)

    # by name and token

    def release_token(self, resource: str, token: int) -> bool:
        """Release by token a lock that was acquired elsewhere. Return whether it was held under this token."""
        return self._ask(lambda client: client.release_token(resource, token))

    def renew_token(self, resource: str, token: int) -> bool:
        """Renew by token a lock that was acquired elsewhere. Return whether it is held under this token."""
        return self._ask(lambda client: client.renew_token(resource, token))

    def check(self, resource: str, token: int) -> bool:
        """Return whether `token` is the current grant of `resource`: true at one point between call and return.

        It does not replace comparing tokens where the resource is kept: the answer may be old when it arrives.
        """
        return self._ask(lambda client: client.check(resource, token))

    def get(self, resource: str, *, stale: bool = False) -> LockInfo | None:
        """Return who holds a lock, or None. `stale`: from any node's own table."""
        return self._ask(lambda client: client.get(resource, stale=stale))

    def list(
        self,
        *,
        prefix: str = "",
        owner: str | None = None,
        session: int | None = None,
        stale: bool = False,
    ) -> list[LockInfo]:
        """Return all locks by prefix, or by owner, or all locks, offers and waiting acquires of a session.

        Each page is one picture; several pages are not.
        """
        return self._ask(
            lambda client: client.list(prefix=prefix, owner=owner, session=session, stale=stale)
        )

    def force_release(self, resource: str, token: int, *, reason: str, now: bool = False) -> bool:
        """End a lock for an administrator. Return whether the token was held.

        At expiry by default: renewals are refused and the lease runs out. `now` passes the lock on at once, while its
        old holder may act until it hears of it.
        """
        return self._ask(
            lambda client: client.force_release(resource, token, reason=reason, now=now)
        )

    # the audit

    def audit_page(
        self,
        question: AuditQuestion | None = None,
        *,
        from_index: int = 1,
        from_position: int = 0,
        limit: int = limits.AUDIT_PAGE_MAX,
    ) -> AuditPage:
        """Return a page of the records that the node has to which this client is connected, from a place on."""
        return self._ask(
            lambda client: client.audit_page(
                question, from_index=from_index, from_position=from_position, limit=limit
            )
        )

    def audit_records(
        self, question: AuditQuestion | None = None, *, from_index: int = 1
    ) -> Iterator[Record]:
        """Yield the records that fit and were not deleted yet, in the log's order, up to the last one that is there now.

        What was answered to anybody is there within a second. Raise RecordsMissing for a hole in them.
        """
        page, position = None, 0
        while page is None or not page.complete:
            page = self.audit_page(question, from_index=from_index, from_position=position)
            check_whole(page, from_index)
            yield from page.records
            from_index, position = page.next_index, page.next_position

    # the members of the cluster

    def members(self) -> Members:
        """Return who the members of the cluster are, as its leader sees them."""
        return self._ask(lambda client: client.members())

    def add_member(
        self, node_id: int, *, incarnation: str, peer_address: str, client_address: str
    ) -> None:
        """Add a node as a learner, which gets the log and counts in no majority; of a member: set its addresses.

        It may be repeated. `incarnation` is that of the node's data directory, as the node itself says it.
        Raise ChangeRefused, which says why.
        """
        self._ask(
            lambda client: client.add_member(
                node_id,
                incarnation=incarnation,
                peer_address=peer_address,
                client_address=client_address,
            )
        )

    def promote_member(self, node_id: int, *, incarnation: str) -> None:
        """Make a learner a voter. Raise ChangeRefused while it does not keep up, with the cause `behind`."""
        self._ask(lambda client: client.promote_member(node_id, incarnation=incarnation))

    def remove_member(self, node_id: int, *, incarnation: str) -> None:
        """Remove a member; its data directory cannot come back. What is not there is removed.

        Raise ChangeRefused where the voters that are left would have no majority that keeps up.
        """
        self._ask(lambda client: client.remove_member(node_id, incarnation=incarnation))

    def _ask(self, ask: Callable[[AsyncClient], Coroutine[Any, Any, Value]]) -> Value:
        engine = self._running()
        return engine.run(lambda: ask(engine.client))


# Fork handlers cannot be taken back, and each would keep its client alive: there is one for all of the process.
_clients: "weakref.WeakSet[Client]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for client in list(_clients):
        client._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
