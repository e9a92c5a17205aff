"""TCP connections as the node uses them: a client's, a peer's that came in, and a link that this node keeps up.

It owns sockets, their options, back-pressure and reconnecting. It must not know what a payload says.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from typing import Protocol, cast

from raftlock.transport.dialer import Dialer
from raftlock.transport.frames import FramedProtocol, frame, read_view
from raftlock_wire import limits
from raftlock_wire.errors import FrameTooLarge

RECONNECT_MIN_S = 0.01
RECONNECT_MAX_S = 0.2
CONNECT_TIMEOUT_S = 1.0
LINGER_S = 1.0
"""A connection that is finished with a last word is kept so long for the other side to read it."""


def tune(transport: asyncio.BaseTransport, *, silence_ms: int) -> None:
    """Send small frames at once, and lose the connection with a host that was silent for `silence_ms`.

    A host that vanished, or came back with another address, closes nothing. Without this the kernel goes on sending to
    it for a quarter of an hour, and no new link is made meanwhile.
    """
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Probes for a connection on which nothing is under way; the timeout for one on which data is not acknowledged.
    probe_s = max(1, silence_ms // 3_000)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, probe_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, probe_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, silence_ms)


def is_silence(error: Exception | None) -> bool:
    """Return whether a connection ended because the other host answered nothing, or none is there any more."""
    return isinstance(error, OSError) and error.errno in (
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
    )


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

    def unread(self, connection: "Connection") -> None:
        """Learn that the other side is disconnected because it does not read."""

    def disconnected(self, connection: "Connection") -> None:
        """Learn that the connection is gone."""


class Connection(FramedProtocol):
    """A connection that came in, or that a Link made."""

    def __init__(
        self,
        handler: ConnectionHandler,
        *,
        frame_size_max: int,
        close_backlog_size: int,
        silence_ms: int,
        read_size_max: int = 0,
        send_buffer_size: int = 0,
    ) -> None:
        """`read_size_max`: what is read before all others had their turn; 0: what there is.

        `send_buffer_size`: what the system may keep for one that does not read; 0: what it thinks best.
        """
        super().__init__()
        self._send_buffer_size = send_buffer_size
        self.frame_size_max = frame_size_max
        self._read_size_max = read_size_max
        if read_size_max:
            self.read_view = read_view(read_size_max)
        self._rests = False
        self._close_backlog_size = close_backlog_size
        self._silence_ms = silence_ms
        self._handler = handler
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self._wanted = True
        self._sent = 0
        self._ended = False
        self.address = "unknown"
        self.timed_out = False
        """Whether the connection was lost because the other side's host was silent."""
        self.tag: int = 0
        """The handler's own: the id of the client connection, or of the peer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tune the socket and tell the handler (asyncio.BaseProtocol)."""
        tune(transport, silence_ms=self._silence_ms)
        if self._send_buffer_size:
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer_size)
        # uvloop's transport is one by its methods, not by its class.
        transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=limits.WRITE_BUFFER_PAUSE_SIZE)
        self._transport = transport
        self.address = address_text(transport)
        self._handler.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the handler (asyncio.BaseProtocol)."""
        self.timed_out = is_silence(exc)
        self._transport = None
        self._handler.disconnected(self)

    def buffer_updated(self, nbytes: int) -> None:
        """Parse what one read brought; one that has more to say waits for the others (asyncio.BufferedProtocol).

        The loop would go on reading from it, up to 32 buffers, and a turn of the node would have all of it: a few
        connections with millions of small requests were enough to keep a leader from its peers.
        """
        super().buffer_updated(nbytes)
        if nbytes == self._read_size_max and not self._rests:
            self._rests = True
            self._reading()
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._rests = False
        self._reading()

    def frame_received(self, payload: bytes) -> None:
        """Hand a frame on."""
        if self._transport is not None:
            self._handler.received(self, payload)

    def frame_refused(self, error: FrameTooLarge) -> None:
        """Let the handler say why, and parse nothing more."""
        self.discard_input()
        if self._transport is not None:
            self._handler.refused(self, error)

    def pause_writing(self) -> None:
        """Stop reading from one who does not read (decision 16; asyncio.BaseProtocol)."""
        self._writable = False
        self._reading()
        self._watch_backlog()

    def _watch_backlog(self) -> None:
        drained = self._drained()
        asyncio.get_running_loop().call_later(
            limits.UNREAD_MS / 1_000, self._check_backlog, drained
        )

    def _drained(self) -> int:
        """Return how many of the bytes that were sent the system has taken."""
        return self._sent - (self._transport.get_write_buffer_size() if self._transport else 0)

    def _check_backlog(self, drained: int) -> None:
        """Disconnect one that read nothing at all; who is only slow is waited for."""
        if self._transport is None or self._writable:
            return
        if self._drained() > drained:
            self._watch_backlog()
        else:
            self._handler.unread(self)
            self._transport.abort()

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
        if self._transport is None or self._transport.is_closing() or self.discarding:
            return
        if self._writable and self._wanted and not self._rests:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def send(self, payload: bytes) -> None:
        """Send one frame. One whose backlog is too large is disconnected: it does not read (decision 16)."""
        transport = self._transport
        # After `close` there may still be answers under way: an end of file was sent, and writing raises.
        if transport is None or self._ended or transport.is_closing():
            return
        data = frame(payload)
        self._sent += len(data)
        transport.write(data)
        if transport.get_write_buffer_size() > self._close_backlog_size:
            self._handler.unread(self)
            transport.abort()

    def close(self) -> None:
        """Close after what was sent, once the other side has had the time to read it.

        Closing with unread input resets the connection, and the reset overtakes the last words.
        """
        transport = self._transport
        if transport is None or self._ended or transport.is_closing():
            return
        self._ended = True
        self.discard_input()
        transport.resume_reading()
        transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, self.abort)

    def hang_up(self) -> None:
        """Close after what was sent, without waiting for the other side to read it."""
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
        self._dialer = Dialer()
        self._task: asyncio.Task[None] | None = None
        self.pause_min_s = 0.0
        """The least pause before the next attempt: for a peer that has said that it wants no call."""

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.get_running_loop().create_task(self._keep())

    def end(self) -> None:
        """Stop connecting and close what is open, soon."""
        if self._task is not None:
            self._task.cancel()

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
            lost: asyncio.Future[None] = loop.create_future()
            connection = _LinkConnection(self._handler, lost)
            connection.tag = self._tag
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await self._dialer.connect(lambda made=connection: made, self._address())  # type: ignore[misc]
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
            await asyncio.sleep(max(pause_s, self.pause_min_s) * (0.5 + self._jitter()))


class _LinkConnection(Connection):
    """A Link's connection: its loss wakes the Link."""

    def __init__(self, handler: ConnectionHandler, lost: "asyncio.Future[None]") -> None:
        super().__init__(
            handler,
            frame_size_max=limits.PEER_FRAME_SIZE_MAX,
            close_backlog_size=4 * limits.PEER_FRAME_SIZE_MAX,
            silence_ms=limits.PEER_SILENCE_MS,
        )
        self._lost = lost

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the handler, then the Link."""
        super().connection_lost(exc)
        if not self._lost.done():
            self._lost.set_result(None)
