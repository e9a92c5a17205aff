"""A lock as the user of AsyncClient holds it, and the body of `async with` that ends when the lock does."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Protocol

from raftlock.client.clock import client_now_us
from raftlock.client.errors import LockLost
from raftlock.client.handles import Handle, HandleState


class Keeper(Protocol):
    """What a lock needs of its client."""

    def deadline_us(self, handle: Handle) -> int:
        """Return until when a handle may be believed."""

    async def release(self, lock: "Lock") -> None:
        """Release a lock."""

    def release_later(self, lock: "Lock") -> None:
        """Release a lock without waiting for the answer."""

    async def change_ttl(self, lock: "Lock", ttl: float) -> None:
        """Give a lock another ttl."""


class Lock:
    """A lock that this client holds. It renews by itself until it is released or lost."""

    def __init__(self, client: Keeper, handle: Handle) -> None:
        self._client = client
        self._handle = handle
        self._pid = os.getpid()
        self.lost = asyncio.Event()
        """Set when the lock is over or can no longer be known to be held."""
        self._callbacks: list[Callable[[Lock], None]] = []
        handle.on_lost = self._on_lost

    @property
    def resource(self) -> str:
        """Return the name of what is locked."""
        return self._handle.resource

    @property
    def token(self) -> int:
        """Return the fencing token: hand it to whatever the lock guards."""
        return self._handle.token

    @property
    def held(self) -> bool:
        """Return whether the lock may be believed now. A forked child holds none of its parent's locks."""
        return (
            self._handle.state is HandleState.HELD
            and self.remaining > 0
            and os.getpid() == self._pid
        )

    @property
    def remaining(self) -> float:
        """Return the seconds until the deadline, as it stands; renewals move it."""
        return max(0.0, (self._client.deadline_us(self._handle) - client_now_us()) / 1e6)

    def on_lost(self, callback: "Callable[[Lock], None]") -> None:
        """Call `callback` when the lock is lost; at once if it is."""
        if self.lost.is_set():
            callback(self)
        else:
            self._callbacks.append(callback)

    def raise_if_lost(self) -> None:
        """Raise LockLost if the lock is over."""
        if self.lost.is_set() or not self.held:
            raise LockLost(self.resource, self.token, self.why_lost)

    @property
    def overtaken(self) -> bool:
        """Return whether the lock ended without being released; the clock decides, also before `lost` is set."""
        return self._handle.state is not HandleState.RELEASED and not self.held

    @property
    def why_lost(self) -> str:
        """Return why the lock is over; for one that is held, why it would be."""
        if self._handle.state is HandleState.RELEASED:
            return "it was released"
        return self._handle.why_lost or "its deadline passed"

    async def release(self) -> None:
        """Release the lock. Asked until it is answered or the lease is over; returning early does not stop that."""
        if self._handle.state is HandleState.HELD or self._handle.release_owed:
            await self._client.release(self)

    def release_later(self) -> None:
        """Release the lock without waiting for the answer: it is asked in the background."""
        self._client.release_later(self)

    async def change_ttl(self, ttl: float) -> None:
        """Give a lock with a lease of its own another ttl, in seconds. It counts from now."""
        await self._client.change_ttl(self, ttl)

    def _on_lost(self, handle: Handle) -> None:
        del handle
        self.lost.set()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    @property
    def handle(self) -> Handle:
        """Return the core's handle."""
        return self._handle


class Holding:
    """`async with client.lock(...)`: the body is cancelled when the lock is lost, and LockLost leaves the block."""

    def __init__(self, acquire: Callable[[], Coroutine[Any, Any, Lock]]) -> None:
        self._acquire = acquire
        self._lock: Lock | None = None
        self._body: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._cancelled = False

    async def __aenter__(self) -> Lock:
        lock = await self._acquire()
        body = asyncio.current_task()
        assert body is not None
        self._lock, self._body, self._cancelling = lock, body, body.cancelling()
        lock.on_lost(self._stop)
        return lock

    def _stop(self, lock: Lock) -> None:
        del lock
        if self._body is not None:
            self._cancelled = True
            self._body.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        lock, body, self._body = self._lock, self._body, None
        assert lock is not None
        assert body is not None
        # Only our own cancellation becomes LockLost: one that the caller asked for goes through.
        outer = body.cancelling() - self._cancelled > self._cancelling
        if self._cancelled:
            body.uncancel()
        # By the clock too: a body that kept the loop busy beyond the deadline ends before `lost` is set.
        if lock.overtaken:
            # The body has ended only now: before, a release would have let the next holder in beside it (L11).
            lock.release_later()
            if (isinstance(error, asyncio.CancelledError) and outer) or isinstance(error, LockLost):
                return
            if error is None or isinstance(error, asyncio.CancelledError):
                raise LockLost(lock.resource, lock.token, lock.why_lost) from None
            if isinstance(error, Exception):
                raise LockLost(lock.resource, lock.token, lock.why_lost) from error
            return
        await asyncio.shield(lock.release())
