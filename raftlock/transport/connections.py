"""TCP connections as the node uses them: a client's, a peer's that came in, and a link that this node keeps up.

It owns sockets, their options, back-pressure and reconnecting. It must not know what a payload says.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Protocol, cast

from raftlock.transport.frames import FramedProtocol, frame
from raftlock_wire import limits
from raftlock_wire.errors import FrameTooLarge

RECONNECT_MIN_S = 0.01
RECONNECT_MAX_S = 0.2
CONNECT_TIMEOUT_S = 1.0


def tune(transport: asyncio.BaseTransport) -> None:
    """Send small frames at once, and notice a host that vanished."""
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def address_text(transport: asyncio.BaseTransport) -> str:
    """Return the other side as host:port."""
    peer = transport.get_extra_info("peername")
    return f"{peer[0]}:{peer[1]}" if peer else "unknown"


class ConnectionHandler(Protocol):
    """Who is told of a connection's life."""

    def connected(self, connection: "Connection") -> None:
        """Learn of a new connection."""

    def received(self, connection: "Connection", payload: bytes) -> None:
        """Take a frame."""

    def refused(self, connection: "Connection", error: FrameTooLarge) -> None:
        """Learn that the other side announced a frame over the limit; close it with a word."""

    def disconnected(self, connection: "Connection") -> None:
        """Learn that the connection is gone."""


class Connection(FramedProtocol):
    """A connection that came in, or that a Link made."""

    def __init__(
        self, handler: ConnectionHandler, *, frame_size_max: int, close_backlog_size: int
    ) -> None:
        super().__init__()
        self.frame_size_max = frame_size_max
        self._close_backlog_size = close_backlog_size
        self._handler = handler
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self._wanted = True
        self.address = "unknown"
        self.tag: int = 0
        """The handler's own: the id of the client connection, or of the peer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tune the socket and tell the handler (asyncio.BaseProtocol)."""
        tune(transport)
        # uvloop's transport is one by its methods, not by its class.
        transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=limits.WRITE_BUFFER_PAUSE_SIZE)
        self._transport = transport
        self.address = address_text(transport)
        self._handler.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the handler (asyncio.BaseProtocol)."""
        del exc
        self._transport = None
        self._handler.disconnected(self)

    def frame_received(self, payload: bytes) -> None:
        """Hand a frame on."""
        if self._transport is not None:
            self._handler.received(self, payload)

    def frame_refused(self, error: FrameTooLarge) -> None:
        """Let the handler say why, and read nothing more."""
        if self._transport is not None:
            self._transport.pause_reading()
            self._handler.refused(self, error)

    def pause_writing(self) -> None:
        """Stop reading from one who does not read (decision 16; asyncio.BaseProtocol)."""
        self._writable = False
        self._reading()

    def resume_writing(self) -> None:
        """Read again (asyncio.BaseProtocol)."""
        self._writable = True
        self._reading()

    def want_input(self, wanted: bool) -> None:
        """Say whether more requests are welcome: false while too many are without an answer."""
        if wanted != self._wanted:
            self._wanted = wanted
            self._reading()

    def _reading(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._writable and self._wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def send(self, payload: bytes) -> None:
        """Send one frame. One whose backlog is too large is disconnected: it does not read (decision 16)."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(frame(payload))
        if transport.get_write_buffer_size() > self._close_backlog_size:
            transport.abort()

    def close(self) -> None:
        """Close after what was sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


class Link:
    """Keeps one connection to a peer, and makes it anew with backoff when it is lost."""

    def __init__(
        self,
        address: Callable[[], str],
        handler: ConnectionHandler,
        *,
        tag: int,
        jitter: Callable[[], float],
    ) -> None:
        self._address = address
        self._handler = handler
        self._tag = tag
        self._jitter = jitter
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Stop connecting; the handler closes what is open."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s = RECONNECT_MIN_S
        while True:
            # The name is resolved anew each time: a container may come back with another address.
            host, _, port = self._address().rpartition(":")
            lost = loop.create_future()
            connection = _LinkConnection(self._handler, lost)
            connection.tag = self._tag
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await loop.create_connection(lambda made=connection: made, host, int(port))  # type: ignore[misc]
            except (OSError, TimeoutError):
                await asyncio.sleep(pause_s * (0.5 + self._jitter()))
                pause_s = min(pause_s * 2, RECONNECT_MAX_S)
                continue
            began = loop.time()
            try:
                await lost
            finally:
                connection.abort()
            # A connection that lived was no failure; one that was closed at once was refused.
            pause_s = (
                RECONNECT_MIN_S if loop.time() - began > 1 else min(pause_s * 2, RECONNECT_MAX_S)
            )
            await asyncio.sleep(pause_s * (0.5 + self._jitter()))


class _LinkConnection(Connection):
    """A Link's connection: its loss wakes the Link."""

    def __init__(self, handler: ConnectionHandler, lost: "asyncio.Future[None]") -> None:
        super().__init__(
            handler,
            frame_size_max=limits.PEER_FRAME_SIZE_MAX,
            close_backlog_size=4 * limits.PEER_FRAME_SIZE_MAX,
        )
        self._lost = lost

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the handler, then the Link."""
        super().connection_lost(exc)
        if not self._lost.done():
            self._lost.set_result(None)
