"""The lock operations for HTTP, each on a lane of its own.

It owns which acquires are being withdrawn after their callers left, and how the session of an Idempotency-Key is
named. It must not know HTTP.
"""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

from raftlock.server.http.acquiring import (
    ANSWER_S,
    Acquiring,
    Granted,
    lease_end_s,
    refused,
    refused_item,
)
from raftlock.server.http.bodies import Grant, Order, Page
from raftlock.server.http.lane import Answer, Asked, Core, Lane, NotServed
from raftlock.server.http.problems import Problem
from raftlock.server.http.records import RecordsPage
from raftlock_wire.messages import Op
from raftlock_wire.status import Status


class Caller:
    """Who asks, as far as HTTP says."""

    __slots__ = ("address", "conn", "credentials")

    def __init__(self, *, address: str, credentials: str | None) -> None:
        self.address = address
        self.credentials = credentials
        self.conn = 0
        """The id of its lane, which the log shows on follower and leader at debug level."""


class Gateway:
    """Carries out lock operations of HTTP callers."""

    def __init__(
        self,
        core: Core,
        *,
        cluster_id: Callable[[], str],
        clock: Callable[[], float],
        jitter: Callable[[], float],
        nonces: Callable[[], bytes],
    ) -> None:
        self._core = core
        self._cluster_id = cluster_id
        self.clock = clock
        self._jitter = jitter
        self._nonces = nonces
        self._withdrawals: set[asyncio.Task[None]] = set()

    @property
    def withdrawals(self) -> int:
        """Return how many acquires of callers who left are not known to be withdrawn."""
        return len(self._withdrawals)

    async def stop(self) -> None:
        """Give up the withdrawals: the sessions' ends do the rest."""
        tasks = list(self._withdrawals)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # operations

    async def acquire(self, order: Order, *, key: str | None, caller: Caller) -> "Acquired":
        """Acquire. Raise Problem or NotServed. What the caller gives up on is withdrawn in the background."""
        lane = self._lane(caller)
        nonce = self._nonces() if key is None else self._nonce_of(key)
        acquiring = Acquiring(lane, order, nonce=nonce, keyed=key is not None, clock=self.clock)
        try:
            granted = await acquiring.run()
        except BaseException:
            self._leave(lane, acquiring)
            raise
        return Acquired(granted, lane, acquiring, self)

    async def renew(self, grant: Grant, caller: Caller) -> Granted:
        """Renew one lease. Raise Problem when it was not."""
        asked = await self._once(
            lambda i: (int(Op.RENEW), i, [(grant.resource, grant.token)]), caller
        )
        if asked.answer[1] != Status.OK:
            raise refused(asked.answer)
        item = asked.answer[3][0]
        if item[0] != Status.OK:
            raise refused_item(item)
        ttl_ms = item[3]
        deadline_s = lease_end_s(asked.sent_s, ttl_ms) if ttl_ms else None
        return Granted(grant.resource, grant.token, deadline_s, ttl_ms)

    async def release(self, grant: Grant, caller: Caller) -> bool:
        """Release. Return whether the token held the resource until now."""
        asked = await self._once(
            lambda i: (int(Op.RELEASE), i, grant.resource, grant.token), caller
        )
        if asked.answer[1] not in (Status.OK, Status.NOT_HELD):
            raise refused(asked.answer)
        return bool(asked.answer[1] == Status.OK)

    async def check(self, grant: Grant, caller: Caller) -> Answer:
        """Return the answer to a check: OK, OFFERED, or NOT_HELD with the token that holds now."""
        asked = await self._once(lambda i: (int(Op.CHECK), i, grant.resource, grant.token), caller)
        if asked.answer[1] not in (Status.OK, Status.OFFERED, Status.NOT_HELD):
            raise refused(asked.answer)
        return asked.answer

    async def get(self, resource: str, caller: Caller, *, stale: bool) -> Answer:
        """Return (age_ms, info or None) of a resource."""
        asked = await self._once(lambda i: (int(Op.GET), i, resource, stale), caller)
        if asked.answer[1] != Status.OK:
            raise refused(asked.answer)
        return asked.answer[3:]

    async def page(self, page: Page, caller: Caller) -> Answer:
        """Return (age_ms, infos, next cursor) of a list."""
        asked = await self._once(
            lambda i: (
                int(Op.LIST), i, int(page.by), page.what, page.cursor, page.limit, page.stale,
            ),
            caller,
        )  # fmt: skip
        if asked.answer[1] != Status.OK:
            raise refused(asked.answer)
        return asked.answer[3:]

    async def records(self, asked: RecordsPage, caller: Caller) -> Answer:
        """Return (applied_index, spans, next_index, next_position, complete, records) of this node's audit."""
        done = await self._once(lambda i: (int(Op.AUDIT_READ), i, *asked), caller)
        if done.answer[1] == Status.REFUSED:
            _, _, _, cause, why, *_ = done.answer
            raise Problem("not-found" if cause == "no_audit" else "unavailable", str(why))
        if done.answer[1] != Status.OK:
            raise refused(done.answer)
        return done.answer[3:9]

    # lanes

    def _lane(self, caller: Caller) -> Lane:
        lane = Lane(
            self._core,
            address=caller.address,
            credentials=caller.credentials,
            clock=self.clock,
            jitter=self._jitter,
        )
        lane.open()
        caller.conn = lane.tag
        return lane

    async def _once(self, build: Callable[[int], tuple[Any, ...]], caller: Caller) -> Asked:
        lane = self._lane(caller)
        try:
            return await lane.ask(build, until_s=self.clock() + ANSWER_S)
        finally:
            lane.finish()

    def _nonce_of(self, key: str) -> bytes:
        """Return the session's nonce for an Idempotency-Key: the same through any node of this cluster.

        The principal has its place in it (R8): one caller's key never names another's session. Nobody has one yet.
        """
        digest = hashlib.blake2b(digest_size=16, person=b"raftlock-http-1")
        for part in (self._cluster_id(), "", key):
            encoded = part.encode()
            digest.update(len(encoded).to_bytes(4, "big") + encoded)
        return digest.digest()

    # callers who left

    def _leave(self, lane: Lane, acquiring: Acquiring) -> None:
        if not acquiring.must_withdraw or lane.closed_because:
            lane.finish()
            return

        async def withdraw() -> None:
            try:
                await acquiring.withdraw(until_s=None)
            except NotServed:
                # The node goes away: the waiter goes with its session, an offer passes on, a lease runs out.
                return
            finally:
                lane.finish()

        task = asyncio.get_running_loop().create_task(withdraw())
        self._withdrawals.add(task)
        task.add_done_callback(self._withdrawals.discard)

    def settle(self, lane: Lane, acquiring: Acquiring, *, heard: bool) -> None:
        """End an acquire that was granted: for good if the caller heard of it, else withdraw it."""
        if not heard:
            acquiring.unheard()
        self._leave(lane, acquiring)


class Acquired:
    """A grant whose answer is on its way. `settle` says whether the caller was still there to get it."""

    __slots__ = ("_acquiring", "_gateway", "_lane", "granted")

    def __init__(
        self, granted: Granted, lane: Lane, acquiring: Acquiring, gateway: Gateway
    ) -> None:
        self.granted = granted
        self._lane = lane
        self._acquiring = acquiring
        self._gateway = gateway

    def settle(self, *, heard: bool) -> None:
        """Let go of the lane; withdraw the grant if nobody heard of it."""
        self._gateway.settle(self._lane, self._acquiring, heard=heard)
