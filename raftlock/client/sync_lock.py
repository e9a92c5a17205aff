"""A lock as the user of Client holds it, and the body of `with` that learns at its end whether it was overtaken."""

import contextlib
import os
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, Protocol

from raftlock.client.errors import ClientClosed, LockLost
from raftlock.client.handles import HandleState
from raftlock.client.lock import Lock
from raftlock.client.loop_thread import Callbacks


class Engine(Protocol):
    """What a lock needs of its client's thread."""

    callbacks: Callbacks

    def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine on the thread's loop and wait for it."""

    def post(self, function: Callable[[], None]) -> None:
        """Call a function on the thread's loop soon."""


class SyncLock:
    """A lock that this client holds. It renews by itself until it is released or lost. Safe for threads."""

    def __init__(self, engine: Engine, lock: Lock) -> None:
        """Listen for the end of `lock`; called on the loop."""
        self._engine = engine
        self._lock = lock
        self._pid = os.getpid()
        self._mutex = threading.Lock()
        self._lost = threading.Event()
        self._callbacks: list[Callable[[SyncLock], None]] = []
        lock.on_lost(self._on_lost)

    def __repr__(self) -> str:
        state = "held" if self.held else "over"
        return f"<SyncLock {self.resource!r} token {self.token}, {state}>"

    @property
    def resource(self) -> str:
        """Return the name of what is locked."""
        return self._lock.resource

    @property
    def token(self) -> int:
        """Return the fencing token: hand it to whatever the lock guards."""
        return self._lock.token

    @property
    def held(self) -> bool:
        """Return whether the lock may be believed now. It is the clock that says so, whatever the client's thread does."""
        return self._lock.held

    @property
    def remaining(self) -> float:
        """Return the seconds until the deadline, as it stands; renewals move it."""
        return 0.0 if self._elsewhere else self._lock.remaining

    @property
    def lost(self) -> threading.Event:
        """Return what is set when the lock is over or can no longer be known to be held. In a forked child it is."""
        if self._elsewhere:
            # Not the parent's event: a thread that does not exist here may have held its mutex at the fork.
            over = threading.Event()
            over.set()
            return over
        return self._lost

    @property
    def _elsewhere(self) -> bool:
        return os.getpid() != self._pid

    def on_lost(self, callback: "Callable[[SyncLock], None]") -> None:
        """Call `callback` when the lock is lost, in a thread of the client's; at once, here, if it is lost already."""
        if not self._elsewhere:
            with self._mutex:
                if not self._lost.is_set():
                    self._callbacks.append(callback)
                    return
        callback(self)

    def raise_if_lost(self) -> None:
        """Raise LockLost if the lock is over."""
        if not self.held:
            raise LockLost(self.resource, self.token, self.why_lost)

    @property
    def overtaken(self) -> bool:
        """Return whether the lock ended without being released."""
        return self._elsewhere or self._lock.overtaken

    @property
    def why_lost(self) -> str:
        """Return why the lock is over; for one that is held, why it would be."""
        return (
            "it is its parent's: this process was forked"
            if self._elsewhere
            else self._lock.why_lost
        )

    def release(self) -> None:
        """Release the lock. Asked until it is answered or the lease is over; returning early does not stop that.

        In a forked child it does nothing: the lock is the parent's.
        """
        if not self._elsewhere and self._lock.handle.state is HandleState.HELD:
            self._engine.run(self._lock.release)

    def leave(self) -> None:
        """Release what was lost at the client's own deadline, without waiting. Not in a forked child: it is the parent's."""
        if not self._elsewhere:
            with contextlib.suppress(ClientClosed):
                self._engine.post(self._lock.release_later)

    def release_later(self) -> None:
        """Release the lock without waiting; called on the loop."""
        self._lock.release_later()

    def change_ttl(self, ttl: float) -> None:
        """Give a lock with a lease of its own another ttl, in seconds. It counts from now."""
        if self._elsewhere:
            self.raise_if_lost()
        self._engine.run(partial(self._lock.change_ttl, ttl))

    def _on_lost(self, lock: Lock) -> None:
        del lock
        with self._mutex:
            self._lost.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self._engine.callbacks.call(partial(callback, self))


class SyncHolding:
    """`with client.lock(...)`: LockLost leaves the block if the lock was lost before its end."""

    def __init__(self, acquire: Callable[[], SyncLock]) -> None:
        self._acquire = acquire
        self._lock: SyncLock | None = None

    def __enter__(self) -> SyncLock:
        if self._lock is not None:
            raise RuntimeError("locks are not re-entrant: call client.lock() again for another one")
        self._lock = self._acquire()
        return self._lock

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        lock, self._lock = self._lock, None
        assert lock is not None
        if not lock.overtaken:
            lock.release()
            return
        why = lock.why_lost
        # The body has ended only now: before, a release would have let the next holder in beside it (L11).
        lock.leave()
        if error is None or (isinstance(error, Exception) and not isinstance(error, LockLost)):
            raise LockLost(lock.resource, lock.token, why) from error
