"""AsyncClient: the client's core on asyncio, with any event loop.

It owns the futures that callers wait for. Everything that matters is decided in `ClientSession`, and carried out by
`Link`.
"""

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from types import TracebackType
from typing import Any, cast

from raftlock.client import arguments
from raftlock.client.acquiring import Acquire, AcquireResult
from raftlock.client.arguments import DEFAULT_ENDPOINTS
from raftlock.client.clock import client_now_us
from raftlock.client.connection import fetch_status
from raftlock.client.errors import (
    LockLost,
    NotAcquired,
    OutcomeUnknown,
    RaftlockError,
    Unavailable,
    refusal,
)
from raftlock.client.handles import Handle, HandleState
from raftlock.client.link import Link
from raftlock.client.lock import Holding, Lock
from raftlock.client.records import (
    AuditPage,
    AuditQuestion,
    Record,
    audit_page,
    audit_request,
    check_whole,
)
from raftlock.client.session import ClientSession
from raftlock.client.values import LockInfo, Members, lock_info, members_info
from raftlock_wire import limits
from raftlock_wire.messages import ListBy, Op
from raftlock_wire.status import Status

__all__ = ["DEFAULT_ENDPOINTS", "AsyncClient", "Lock", "client_now_us", "fetch_status"]

REQUEST_TIMEOUT_S = 10.0
REQUEST_TIMEOUT_MS_MIN, REQUEST_TIMEOUT_MS_MAX = 100, 600_000
HOLDER_TIMEOUT_S = 1.0
GIVE_UP_S = 2.0
"""How long a caller waits for an acquire to be cancelled after its time; then the outcome is unknown to it."""


class AsyncClient:
    """A client of a cluster. Use it as `async with AsyncClient([...]) as client`.

    Times are seconds. It keeps one connection, to the leader when it can, and one session with one keep-alive for all
    locks that live in it. It belongs to one event loop and one process.
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
        addresses = [arguments.endpoint(e) for e in endpoints]
        if not addresses:
            raise ValueError("endpoints: at least one host:port is needed")
        session_ttl_ms = arguments.milliseconds(
            "session_ttl", session_ttl, limits.SESSION_TTL_MS_MIN, limits.SESSION_TTL_MS_MAX
        )
        self._timeout_ms = arguments.milliseconds(
            "request_timeout", request_timeout, REQUEST_TIMEOUT_MS_MIN, REQUEST_TIMEOUT_MS_MAX
        )
        self._owner = owner or f"{socket.gethostname()}:{os.getpid()}"
        arguments.owner(self._owner)
        rng = random.SystemRandom()
        self._core = ClientSession(
            rng=rng,
            nonces=lambda: os.urandom(limits.NONCE_SIZE),
            session_ttl_ms=session_ttl_ms,
        )
        self._pid = os.getpid()
        self._link = Link(self._core, rng.sample(addresses, len(addresses)), rng)
        self._runner: asyncio.Task[None] | None = None

    # life

    async def __aenter__(self) -> "AsyncClient":
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to connect. `async with` does it."""
        if self._runner is None:
            self._runner = asyncio.get_running_loop().create_task(self._link.run())

    async def close(self, *, timeout: float = 2.0) -> None:  # noqa: ASYNC109 - a bound on courtesy, not on the outcome
        """Release all locks and close the session; after `timeout` seconds they are left to run out."""
        self._core.close(client_now_us())
        self._link.flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._core.busy and self._link.wire is not None:  # noqa: ASYNC110 - the core tells no one when it is idle
                    await asyncio.sleep(0.005)
        if self._runner is not None:
            self._runner.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._runner
            self._runner = None
        self._link.stop()

    # locks

    def lock(
        self,
        resource: str,
        *,
        ttl: float | None = None,
        wait: float = 0.0,
        owner: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> Holding:
        """Hold a lock for the body. Raise NotAcquired if it is not to be had within `wait` seconds.

        The body is cancelled when the lock is lost, and LockLost is raised in its place. With `ttl` the lock has a lease
        of its own of that many seconds, renewed by itself; without it, it lives with the client's session.
        """

        async def acquired() -> Lock:
            result = await self._acquire(
                resource, ttl=ttl, wait=wait, owner=owner, metadata=metadata
            )
            if isinstance(result, AcquireResult):
                raise NotAcquired(resource, result.status, result.holder, result.holder_token)
            return result

        return Holding(acquired)

    async def acquire(
        self,
        resource: str,
        *,
        ttl: float | None = None,
        wait: float = 0.0,
        owner: str | None = None,
        metadata: dict[str, str] | None = None,
        renew: bool = True,
    ) -> Lock | None:
        """Acquire a lock and return its handle, or None if it is not to be had within `wait` seconds.

        `renew=False`, with a `ttl`: the lock is left to run out by itself, and outlives this client.
        Raise OutcomeUnknown when no node answered in time; the acquire is then cancelled in the background.
        """
        result = await self._acquire(
            resource, ttl=ttl, wait=wait, owner=owner, metadata=metadata, renew=renew
        )
        return result if isinstance(result, Lock) else None

    async def try_acquire(
        self,
        resource: str,
        *,
        ttl: float | None = None,
        wait: float = 0.0,
        owner: str | None = None,
        metadata: dict[str, str] | None = None,
        renew: bool = True,
    ) -> Lock | AcquireResult:
        """Acquire like `acquire`, but say why it was not to be had: the status, and who holds it."""
        return await self._acquire(
            resource, ttl=ttl, wait=wait, owner=owner, metadata=metadata, renew=renew
        )

    async def _acquire(
        self,
        resource: str,
        *,
        ttl: float | None,
        wait: float,
        owner: str | None,
        metadata: dict[str, str] | None,
        renew: bool = True,
    ) -> Lock | AcquireResult:
        self._check_process()
        ttl_ms = arguments.ttl_milliseconds(ttl)
        wait_ms = arguments.milliseconds("wait", wait, 0, limits.WAIT_MS_MAX)
        name = self._owner if owner is None else owner
        arguments.resource(resource)
        arguments.owner(name)
        arguments.metadata(metadata)
        if ttl is None and not renew:
            raise ValueError(
                "renew: a lock without a ttl lives in the session, which is always kept alive"
            )
        future: asyncio.Future[AcquireResult | RaftlockError] = (
            asyncio.get_running_loop().create_future()
        )
        now_us = client_now_us()
        wanted = Acquire(
            resource=resource,
            owner=name,
            ttl_ms=ttl_ms,
            wait_ms=wait_ms,
            metadata=metadata or None,
            # A lock that is not wanted any more when it is granted helps nobody: a little longer than the wait.
            limit_us=now_us + (wait_ms + self._timeout_ms) * 1_000,
            on_done=_resolver(future),
            renews=renew,
        )
        self._core.acquire(wanted, now_us)
        self._link.flush()
        try:
            await asyncio.wait({future}, timeout=(wait_ms + self._timeout_ms) / 1_000)
            if not future.done() and wanted.begun:
                await asyncio.wait({future}, timeout=GIVE_UP_S)
        except asyncio.CancelledError:
            # The caller left: cancel until that is answered, in the background (guarantee 7).
            result = future.result() if future.done() else None
            if isinstance(result, AcquireResult) and result.handle is not None:
                self._core.release(result.handle, client_now_us())
            wanted.give_up(client_now_us())
            self._link.flush()
            raise
        if not future.done():
            if not wanted.begun:
                wanted.give_up(client_now_us())
                raise Unavailable(self._unreachable)
            raise OutcomeUnknown(f"the acquire of {resource!r} was not answered in time")
        answer = future.result()
        if isinstance(answer, RaftlockError):
            raise answer
        if answer.handle is not None:
            return Lock(self, answer.handle)
        return await self._with_holder(resource, answer) if wait_ms else answer

    async def _with_holder(self, resource: str, result: AcquireResult) -> AcquireResult:
        """Add who has the lock to the end of a wait, which does not say so. A hint: it may have changed since."""
        if result.status is not Status.TIMEOUT:
            return result
        with contextlib.suppress(TimeoutError, RaftlockError):
            async with asyncio.timeout(HOLDER_TIMEOUT_S):
                if (info := await self.get(resource)) is not None:
                    return replace(result, holder=info.owner, holder_token=info.token)
        return result

    async def release(self, lock: Lock) -> None:
        """Release a lock."""
        await self._call(lambda done: self._core.release(lock.handle, client_now_us(), done))

    def release_later(self, lock: Lock) -> None:
        """Release a lock without waiting for the answer."""
        self._core.release(lock.handle, client_now_us())
        self._link.flush()

    async def change_ttl(self, lock: Lock, ttl: float) -> None:
        """Give a lock with a lease of its own another ttl, in seconds. Raise LockLost if it is not held."""
        ttl_ms = arguments.ttl_milliseconds(ttl)
        if lock.handle.in_session:
            raise ValueError("ttl: a lock that lives in its session has no ttl of its own")
        until_us = client_now_us() + self._timeout_ms * 1_000
        answer = await self._call(
            lambda done: self._core.change_ttl(lock.handle, ttl_ms, client_now_us(), until_us, done)
        )
        if answer[1] == Status.NOT_HELD:
            raise LockLost(lock.resource, lock.token, "the server says that it is not held")
        if answer[1] != Status.OK:
            raise refusal(Status(answer[1]), tuple(answer[3:]))

    async def release_token(self, resource: str, token: int) -> bool:
        """Release by token a lock that was acquired elsewhere. Return whether it was held under this token."""
        arguments.resource(resource)
        until_us = client_now_us() + self._timeout_ms * 1_000
        answer = await self._call(
            lambda done: self._core.release_token(resource, token, client_now_us(), until_us, done)
        )
        if answer[1] in (Status.OK, Status.NOT_HELD):
            return bool(answer[1] == Status.OK)
        raise refusal(Status(answer[1]), tuple(answer[3:]))

    async def renew_token(self, resource: str, token: int) -> bool:
        """Renew by token a lock that was acquired elsewhere. Return whether it is held under this token."""
        arguments.resource(resource)
        answer = await self._request(lambda i: (int(Op.RENEW), i, [(resource, token)]))
        status = Status(answer[3][0][0])
        # Leases are answered one by one: an outcome that is not known is no "not held" (guarantee 9).
        if status is Status.UNKNOWN:
            raise OutcomeUnknown(f"whether {resource!r} was renewed is not known")
        if status not in (Status.OK, Status.NOT_HELD, Status.ENDING):
            raise refusal(status, ())
        return status is Status.OK

    async def check(self, resource: str, token: int) -> bool:
        """Return whether `token` is the current grant of `resource`: true at one point between call and return.

        It does not replace comparing tokens where the resource is kept: the answer may be old when it arrives.
        """
        arguments.resource(resource)
        answer = await self._request(lambda i: (int(Op.CHECK), i, resource, token))
        return bool(answer[1] == Status.OK)

    async def get(self, resource: str, *, stale: bool = False) -> LockInfo | None:
        """Return who holds a lock, or None. `stale`: from any node's own table."""
        arguments.resource(resource)
        answer = await self._request(lambda i: (int(Op.GET), i, resource, stale))
        return None if answer[4] is None else lock_info(answer[4])

    async def list(
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
        by: ListBy = ListBy.PREFIX
        what: str | int = prefix
        if owner is not None:
            by, what = ListBy.OWNER, owner
        elif session is not None:
            by, what = ListBy.SESSION, session
        found: list[LockInfo] = []
        cursor = ""
        while True:
            page = cursor

            def build(i: int, page: str = page) -> tuple[Any, ...]:
                return (int(Op.LIST), i, int(by), what, page, limits.LIST_PAGE_MAX, stale)

            answer = await self._request(build)
            found += [lock_info(info) for info in answer[4]]
            cursor = answer[5]
            if not cursor:
                return found

    async def force_release(
        self, resource: str, token: int, *, reason: str, now: bool = False
    ) -> bool:
        """End a lock for an administrator. Return whether the token was held.

        At expiry by default: renewals are refused and the lease runs out. `now` passes the lock on at once, while its
        old holder may act until it hears of it.
        """
        arguments.resource(resource)
        arguments.reason(reason)
        answer = await self._request(
            lambda i: (int(Op.FORCE_RELEASE), i, resource, token, reason, now)
        )
        return bool(answer[1] == Status.OK)

    # the audit

    async def audit_page(
        self,
        question: AuditQuestion | None = None,
        *,
        from_index: int = 1,
        from_position: int = 0,
        limit: int = limits.AUDIT_PAGE_MAX,
    ) -> AuditPage:
        """Return a page of the records that the node has to which this client is connected, from a place on."""
        asked = arguments.checked(
            lambda: audit_request(
                question or AuditQuestion(),
                from_index=from_index,
                from_position=from_position,
                limit=limit,
            )
        )
        return audit_page(await self._request(asked))

    async def audit_records(
        self, question: AuditQuestion | None = None, *, from_index: int = 1
    ) -> AsyncIterator[Record]:
        """Yield the records that fit and were not deleted yet, in the log's order, up to the last one that is there now.

        What was answered to anybody is there within a second. Raise RecordsMissing for a hole in them.
        """
        page, position = None, 0
        while page is None or not page.complete:
            page = await self.audit_page(question, from_index=from_index, from_position=position)
            check_whole(page, from_index)
            for record in page.records:
                yield record
            from_index, position = page.next_index, page.next_position

    # the members of the cluster

    async def members(self) -> Members:
        """Return who the members of the cluster are, as its leader sees them."""
        answer = await self._request(lambda i: (int(Op.MEMBERS), i))
        return members_info(*answer[3:6])

    async def add_member(
        self, node_id: int, *, incarnation: str, peer_address: str, client_address: str
    ) -> None:
        """Add a node as a learner, which gets the log and counts in no majority; of a member: set its addresses.

        It may be repeated. `incarnation` is that of the node's data directory, as the node itself says it.
        Raise ChangeRefused, which says why.
        """
        new = (arguments.node_id(node_id), incarnation, peer_address, client_address)
        await self._request(lambda i: (int(Op.ADD_MEMBER), i, *new))

    async def promote_member(self, node_id: int, *, incarnation: str) -> None:
        """Make a learner a voter. Raise ChangeRefused while it does not keep up, with the cause `behind`."""
        of = (arguments.node_id(node_id), incarnation)
        await self._request(lambda i: (int(Op.PROMOTE_MEMBER), i, *of))

    async def remove_member(self, node_id: int, *, incarnation: str) -> None:
        """Remove a member; its data directory cannot come back. What is not there is removed.

        Raise ChangeRefused where the voters that are left would have no majority that keeps up.
        """
        of = (arguments.node_id(node_id), incarnation)
        await self._request(lambda i: (int(Op.REMOVE_MEMBER), i, *of))

    def deadline_us(self, handle: Handle) -> int:
        """Return until when a handle may be believed, on the client's clock."""
        return self._core.deadline_us(handle) if handle.state is HandleState.HELD else 0

    @property
    def connection_fileno(self) -> int | None:
        """Return the number of the connection's socket, or None while there is none."""
        return None if self._link.wire is None else self._link.wire.fileno

    # requests

    async def _request(self, build: Callable[[int], tuple[Any, ...]]) -> tuple[Any, ...]:
        until_us = client_now_us() + self._timeout_ms * 1_000
        answer = await self._call(
            lambda done: self._core.request(build, client_now_us(), until_us, done)
        )
        status = Status(answer[1])
        if status in (Status.OK, Status.OFFERED, Status.NOT_HELD, Status.HELD, Status.ENDING):
            return answer
        raise refusal(status, tuple(answer[3:]))

    async def _call(self, begin: Callable[[Callable[[Any], None]], None]) -> tuple[Any, ...]:
        self._check_process()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        begin(_resolver(future))
        self._link.flush()
        result = await future
        if isinstance(result, Unavailable):
            raise Unavailable(self._unreachable)
        if isinstance(result, RaftlockError):
            raise result
        return cast("tuple[Any, ...]", result)

    @property
    def _unreachable(self) -> str:
        if self._link.wire is not None:
            return "no node served in time: they have no leader, or no majority"
        why = f"; the last one tried: {self._link.trouble}" if self._link.trouble else ""
        return f"no node could be reached in time{why}"

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError(
                "this client belongs to the process that made it: make a new one after a fork"
            )
        if self._runner is None:
            raise RuntimeError("the client is not started: use `async with`, or call start()")


def _resolver(future: "asyncio.Future[Any]") -> Callable[[Any], None]:
    """Return what sets a future that may have been left meanwhile."""

    def resolve(result: Any) -> None:
        if not future.done():
            future.set_result(result)

    return resolve
