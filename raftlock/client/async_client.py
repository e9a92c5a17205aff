"""AsyncClient: the client's core on asyncio, with any event loop.

It owns one connection at a time, the clock and the futures. Everything that matters is decided in `ClientSession`.
"""

import asyncio
import contextlib
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Any, cast

from raftlock.client.acquiring import Acquire, AcquireResult
from raftlock.client.errors import (
    LockLost,
    NotAcquired,
    OutcomeUnknown,
    RaftlockError,
    Unavailable,
    refusal,
)
from raftlock.client.handles import Handle, HandleState
from raftlock.client.session import ClientSession
from raftlock.client.values import LockInfo, NodeStatus, lock_info, node_status
from raftlock_wire import limits
from raftlock_wire.codec import pack, unpack
from raftlock_wire.errors import BadField, WireError
from raftlock_wire.messages import ListBy, Op, check_metadata, check_owner, check_resource
from raftlock_wire.status import Status

DEFAULT_ENDPOINTS = ("127.0.0.1:7401", "127.0.0.1:7402", "127.0.0.1:7403")
REQUEST_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 2.0
RECONNECT_MIN_S, RECONNECT_MAX_S = 0.02, 0.5
FOLLOW_LEADER_S = 1.0
"""A connection moves to the leader at most so often."""
GIVE_UP_S = 2.0
"""How long a caller waits for an acquire to be cancelled after its time; then the outcome is unknown to it."""
ANSWER_SIZE_MAX = 64 << 20

_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


def client_now_us() -> int:
    """Return the client's clock: one that goes on while the machine sleeps, where there is one (guarantee 10)."""
    if _CLOCK is not None:
        return time.clock_gettime_ns(_CLOCK) // 1_000
    return time.monotonic_ns() // 1_000


class Lock:
    """A lock that this client holds. It renews by itself until it is released or lost."""

    def __init__(self, client: "AsyncClient", handle: Handle) -> None:
        self._client = client
        self._handle = handle
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
        """Return whether the lock may be believed now."""
        return self._handle.state is HandleState.HELD and self.remaining > 0

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
            raise LockLost(self.resource, self.token, self._handle.why_lost or "it was released")

    async def release(self) -> None:
        """Release the lock. Asked until it is answered or the lease is over; returning early does not stop that."""
        await self._client.release(self)

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
    ) -> None:
        """Know the nodes by their client addresses, host:port.

        `owner` is how people see this client (default: host and pid). Raise ValueError for what is not allowed.
        """
        self._endpoints = [_endpoint(e) for e in endpoints]
        if not self._endpoints:
            raise ValueError("endpoints: at least one host:port is needed")
        low, high = limits.SESSION_TTL_MS_MIN / 1_000, limits.SESSION_TTL_MS_MAX / 1_000
        if not low <= session_ttl <= high:
            raise ValueError(
                f"session_ttl: {session_ttl} is not within {low:g} to {high:g} seconds"
            )
        self._owner = owner or f"{socket.gethostname()}:{os.getpid()}"
        _valid(lambda: check_owner(self._owner))
        self._rng = random.SystemRandom()
        self._core = ClientSession(
            rng=self._rng,
            nonces=lambda: os.urandom(limits.NONCE_SIZE),
            session_ttl_ms=round(session_ttl * 1_000),
        )
        self._pid = os.getpid()
        self._wire: _Wire | None = None
        self._runner: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rng.shuffle(self._endpoints)

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
            self._runner = asyncio.get_running_loop().create_task(self._run())

    async def close(self, *, timeout: float = 2.0) -> None:  # noqa: ASYNC109 - a bound on courtesy, not on the outcome
        """Release all locks and close the session; after `timeout` seconds they are left to run out."""
        self._core.close(client_now_us())
        self._flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._core.busy and self._wire is not None:  # noqa: ASYNC110 - the core tells no one when it is idle
                    await asyncio.sleep(0.005)
        if self._runner is not None:
            self._runner.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._runner
            self._runner = None
        if self._timer is not None:
            self._timer.cancel()

    # locks

    @contextlib.asynccontextmanager
    async def lock(
        self,
        resource: str,
        *,
        ttl: float | None = None,
        wait: float = 0.0,
        owner: str | None = None,
        metadata: dict[str, str] | None = None,
    ) -> AsyncIterator[Lock]:
        """Hold a lock for the body. Raise NotAcquired if it is not to be had within `wait` seconds.

        The body is cancelled when the lock is lost, and LockLost is raised in its place. With `ttl` the lock has a lease
        of its own of that many seconds, renewed by itself; without it, it lives with the client's session.
        """
        result = await self._acquire(resource, ttl=ttl, wait=wait, owner=owner, metadata=metadata)
        if isinstance(result, AcquireResult):
            raise NotAcquired(resource, result.status, result.holder, result.holder_token)
        lock = result
        body = asyncio.current_task()
        assert body is not None
        cancelling = body.cancelling()
        inside = True

        def stop(lost: Lock) -> None:
            del lost
            if inside:
                body.cancel()

        lock.on_lost(stop)
        try:
            yield lock
        except asyncio.CancelledError:
            inside = False
            # Only our own cancellation becomes LockLost: one that the caller asked for goes through.
            if lock.lost.is_set() and body.uncancel() <= cancelling:
                raise LockLost(lock.resource, lock.token, lock.handle.why_lost) from None
            raise
        finally:
            inside = False
            if not lock.lost.is_set():
                await asyncio.shield(self.release(lock))

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
        ttl_ms = (
            0 if ttl is None else _milliseconds("ttl", ttl, limits.TTL_MS_MIN, limits.TTL_MS_MAX)
        )
        wait_ms = _milliseconds("wait", wait, 0, limits.WAIT_MS_MAX)
        name = self._owner if owner is None else owner
        _valid(lambda: check_resource(resource))
        _valid(lambda: check_owner(name))
        _valid(lambda: check_metadata(metadata))
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
            limit_us=now_us + wait_ms * 1_000 + round(REQUEST_TIMEOUT_S * 1e6),
            on_done=_resolver(future),
            renews=renew,
        )
        self._core.acquire(wanted, now_us)
        self._flush()
        try:
            async with asyncio.timeout(wait_ms / 1_000 + REQUEST_TIMEOUT_S + GIVE_UP_S):
                result = await future
        except TimeoutError:
            raise OutcomeUnknown(f"the acquire of {resource!r} was not answered in time") from None
        except asyncio.CancelledError:
            # The caller left: cancel until that is answered, in the background (guarantee 7).
            if future.done() and isinstance(future.result(), AcquireResult):
                handle = cast("AcquireResult", future.result()).handle
                if handle is not None:
                    self._core.release(handle, client_now_us())
            wanted.give_up(client_now_us())
            self._flush()
            raise
        if isinstance(result, RaftlockError):
            raise result
        if result.handle is not None:
            return Lock(self, result.handle)
        return result

    async def release(self, lock: Lock) -> None:
        """Release a lock."""
        await self._call(lambda done: self._core.release(lock.handle, client_now_us(), done))

    async def change_ttl(self, lock: Lock, ttl: float) -> None:
        """Give a lock with a lease of its own another ttl, in seconds. Raise LockLost if it is not held."""
        ttl_ms = _milliseconds("ttl", ttl, limits.TTL_MS_MIN, limits.TTL_MS_MAX)
        if lock.handle.in_session:
            raise ValueError("ttl: a lock that lives in its session has no ttl of its own")
        until_us = client_now_us() + round(REQUEST_TIMEOUT_S * 1e6)
        answer = await self._call(
            lambda done: self._core.change_ttl(lock.handle, ttl_ms, client_now_us(), until_us, done)
        )
        if answer[1] == Status.NOT_HELD:
            raise LockLost(lock.resource, lock.token, "the server says that it is not held")
        if answer[1] != Status.OK:
            raise refusal(Status(answer[1]), tuple(answer[3:]))

    async def release_token(self, resource: str, token: int) -> bool:
        """Release by token a lock that was acquired elsewhere. Return whether it was held under this token."""
        _valid(lambda: check_resource(resource))
        answer = await self._call(
            lambda done: self._core.release_token(resource, token, client_now_us(), done)
        )
        if answer[1] in (Status.OK, Status.NOT_HELD):
            return bool(answer[1] == Status.OK)
        raise refusal(Status(answer[1]), tuple(answer[3:]))

    async def renew_token(self, resource: str, token: int) -> bool:
        """Renew by token a lock that was acquired elsewhere. Return whether it is held under this token."""
        _valid(lambda: check_resource(resource))
        answer = await self._request(lambda i: (int(Op.RENEW), i, [(resource, token)]))
        return bool(answer[3][0][0] == Status.OK)

    async def check(self, resource: str, token: int) -> bool:
        """Return whether `token` is the current grant of `resource`: true at one point between call and return.

        It does not replace comparing tokens where the resource is kept: the answer may be old when it arrives.
        """
        _valid(lambda: check_resource(resource))
        answer = await self._request(lambda i: (int(Op.CHECK), i, resource, token))
        return bool(answer[1] == Status.OK)

    async def get(self, resource: str, *, stale: bool = False) -> LockInfo | None:
        """Return who holds a lock, or None. `stale`: from any node's own table."""
        _valid(lambda: check_resource(resource))
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
        _valid(lambda: check_resource(resource))
        if not 1 <= len(reason.encode()) <= limits.REASON_SIZE_MAX:
            raise ValueError(f"reason: 1 to {limits.REASON_SIZE_MAX} bytes of UTF-8 are needed")
        answer = await self._request(
            lambda i: (int(Op.FORCE_RELEASE), i, resource, token, reason, now)
        )
        return bool(answer[1] == Status.OK)

    def deadline_us(self, handle: Handle) -> int:
        """Return until when a handle may be believed, on the client's clock."""
        return self._core.deadline_us(handle) if handle.state is HandleState.HELD else 0

    # requests

    async def _request(self, build: Callable[[int], tuple[Any, ...]]) -> tuple[Any, ...]:
        until_us = client_now_us() + round(REQUEST_TIMEOUT_S * 1e6)
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
        self._flush()
        result = await future
        if isinstance(result, RaftlockError):
            raise result
        return cast("tuple[Any, ...]", result)

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError(
                "this client belongs to the process that made it: make a new one after a fork"
            )
        if self._runner is None:
            raise RuntimeError("the client is not started: use `async with`, or call start()")

    # the connection

    async def _run(self) -> None:
        """Keep a connection: to the node that leads when it is known, else to the next in turn."""
        loop = asyncio.get_running_loop()
        pause_s = RECONNECT_MIN_S
        position = 0
        wanted: str | None = None
        while True:
            endpoint = wanted or self._endpoints[position % len(self._endpoints)]
            position += wanted is None
            wanted = None
            wire = _Wire(self)
            began = loop.time()
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    host, _, port = endpoint.rpartition(":")
                    await loop.create_connection(lambda wire=wire: wire, host, int(port))  # type: ignore[misc]
                    answer = await wire.hello
                if answer[1] != Status.OK:
                    raise Unavailable(f"{endpoint} refused the hello: {answer[3:]}")
                self._wire = wire
                self._core.connected(answer, client_now_us())
                self._flush()
                wanted = await self._use(wire)
                pause_s = RECONNECT_MIN_S
            except (OSError, TimeoutError, WireError, Unavailable):
                pass
            finally:
                wire.close()
                if self._wire is wire:
                    self._wire = None
                    self._core.disconnected(client_now_us())
            if loop.time() - began < FOLLOW_LEADER_S:
                await asyncio.sleep(pause_s * (0.5 + self._rng.random()))
                pause_s = min(pause_s * 2, RECONNECT_MAX_S)

    async def _use(self, wire: "_Wire") -> str | None:
        """Stay on a connection until it is lost, or another node leads. Return that node's address."""
        while True:
            try:
                async with asyncio.timeout(FOLLOW_LEADER_S):
                    await asyncio.shield(wire.lost)
                return None
            except TimeoutError:
                leader = self._core.wants_node
                if leader is not None and not self._core.busy:
                    return leader

    def received(self, payload: bytes) -> None:
        """Take a frame of the connection in use."""
        leader_id, *messages = unpack(payload, array_count_max=1 << 20)
        self._core.received(leader_id, messages, client_now_us())
        self._flush()

    def _flush(self) -> None:
        """Send what the core wants to say, in one frame, and set the timer for its next deadline."""
        outbox = self._core.asking.outbox
        if outbox and self._wire is not None:
            for start in range(0, len(outbox), limits.FRAME_MESSAGES_MAX):
                self._wire.send(outbox[start : start + limits.FRAME_MESSAGES_MAX])
            outbox.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        next_us = self._core.next_deadline_us()
        if next_us is not None:
            delay_s = max(0.0, (next_us - client_now_us()) / 1e6)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._core.tick(client_now_us())
        self._flush()


class _Wire(asyncio.Protocol):
    """One connection: frames in and out."""

    def __init__(self, client: AsyncClient) -> None:
        loop = asyncio.get_running_loop()
        self._client = client
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self.hello: asyncio.Future[tuple[Any, ...]] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send([ClientSession.hello("raftlock-python")])

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.lost.done():
            self.lost.set_result(None)
        if not self.hello.done():
            self.hello.set_exception(exc or ConnectionResetError("the node closed the connection"))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= limits.FRAME_HEADER_SIZE:
            size = int.from_bytes(buffer[start : start + limits.FRAME_HEADER_SIZE], "big")
            after = start + limits.FRAME_HEADER_SIZE + size
            if size > ANSWER_SIZE_MAX:
                self.close()
                return
            if after > len(buffer):
                break
            self._frame(bytes(buffer[start + limits.FRAME_HEADER_SIZE : after]))
            start = after
        del buffer[:start]

    def _frame(self, payload: bytes) -> None:
        if self.hello.done():
            try:
                self._client.received(payload)
            except WireError:
                self.close()
            return
        try:
            _, answer, *_ = unpack(payload)
        except (WireError, ValueError) as error:
            self.hello.set_exception(Unavailable(f"what answered is not a raftlock node: {error}"))
            return
        if answer[0] == 0 and len(answer) > 3:
            self.hello.set_exception(Unavailable(f"the node closed the connection: {answer[3]}"))
        else:
            self.hello.set_result(answer)

    def send(self, messages: list[tuple[Any, ...]]) -> None:
        """Send messages in one frame. On a connection that is lost they are too: the core asks again."""
        payload = pack(messages)
        # uvloop raises for a write between the loss of a connection and the news of it.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(len(payload).to_bytes(limits.FRAME_HEADER_SIZE, "big") + payload)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()
        if self.hello.done() and not self.hello.cancelled():
            self.hello.exception()


async def fetch_status(endpoint: str, *, timeout: float = CONNECT_TIMEOUT_S) -> NodeStatus:  # noqa: ASYNC109 - its own connection
    """Ask one node, on a connection of its own, how it is. Raise OSError, TimeoutError or Unavailable if it is not."""
    host, _, port = _endpoint(endpoint).rpartition(":")
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            for request in (ClientSession.hello("raftlock-status"), (int(Op.NODE_STATUS), 2)):
                payload = pack([request])
                writer.write(len(payload).to_bytes(limits.FRAME_HEADER_SIZE, "big") + payload)
            while True:
                size = int.from_bytes(await reader.readexactly(limits.FRAME_HEADER_SIZE), "big")
                for message in unpack(await reader.readexactly(size))[1:]:
                    if message[0] == 0:
                        raise Unavailable(f"{endpoint}: {message[3]}")
                    if message[0] == 2:
                        return node_status(message[3])
        except (asyncio.IncompleteReadError, WireError) as error:
            raise Unavailable(f"{endpoint}: {error}") from error
        finally:
            writer.close()


def _endpoint(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        raise ValueError(f"endpoints: {value!r} is not host:port with a port from 1 to 65535")
    return value


def _milliseconds(name: str, seconds: float, low_ms: int, high_ms: int) -> int:
    milliseconds = round(seconds * 1_000)
    if not low_ms <= milliseconds <= high_ms:
        raise ValueError(
            f"{name}: {seconds} is not within {low_ms / 1_000:g} to {high_ms / 1_000:g} seconds"
        )
    return milliseconds


def _resolver(future: "asyncio.Future[Any]") -> Callable[[Any], None]:
    """Return what sets a future that may have been left meanwhile."""

    def resolve(result: Any) -> None:
        if not future.done():
            future.set_result(result)

    return resolve


def _valid(check: Callable[[], object]) -> None:
    try:
        check()
    except (BadField, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from error
