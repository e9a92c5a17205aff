"""One connection to a node: frames in and out, on asyncio. It owns bytes. It must not know what they are about."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

from raftlock.client.arguments import host_and_port
from raftlock.client.errors import Unavailable
from raftlock.client.session import ClientSession
from raftlock.client.values import NodeStatus, node_status
from raftlock.transport.dialer import Dialer
from raftlock_wire import limits
from raftlock_wire.codec import pack, unpack
from raftlock_wire.errors import WireError
from raftlock_wire.messages import Op

CONNECT_TIMEOUT_S = 2.0
ANSWER_SIZE_MAX = 64 << 20


class Connection(asyncio.Protocol):
    """A connection. The first answer is the hello's; every later frame goes to `received`."""

    def __init__(self, received: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        self._received = received
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self.hello: asyncio.Future[tuple[Any, ...]] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send([ClientSession.hello("raftlock-python")])

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits."""
        self._transport = None
        if not self.lost.done():
            self.lost.set_result(None)
        if not self.hello.done():
            self.hello.set_exception(exc or ConnectionResetError("the node closed the connection"))

    def data_received(self, data: bytes) -> None:
        """Take whole frames out of what came."""
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
                self._received(payload)
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
        # uvloop raises for a write between the loss of a connection and the news of it.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(framed(messages))

    @property
    def fileno(self) -> int | None:
        """Return the socket's number, or None."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        return None if sock is None else int(sock.fileno())

    def abort(self) -> None:
        """Give the connection up."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()
        if self.hello.done() and not self.hello.cancelled():
            self.hello.exception()


async def fetch_status(address: str, *, timeout: float = CONNECT_TIMEOUT_S) -> NodeStatus:  # noqa: ASYNC109 - its own connection
    """Ask one node, on a connection of its own, how it is. Raise OSError, TimeoutError or Unavailable if it is not."""
    host_and_port(address)
    async with asyncio.timeout(timeout):
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport = await Dialer().connect(lambda: protocol, address)
        writer = asyncio.StreamWriter(cast("asyncio.Transport", transport), protocol, reader, loop)
        try:
            for request in (ClientSession.hello("raftlock-status"), (int(Op.NODE_STATUS), 2)):
                writer.write(framed([request]))
            while True:
                size = int.from_bytes(await reader.readexactly(limits.FRAME_HEADER_SIZE), "big")
                if size > ANSWER_SIZE_MAX:
                    raise Unavailable(f"{address}: what answered is not a raftlock node")
                for message in unpack(await reader.readexactly(size))[1:]:
                    if message[0] == 0:
                        raise Unavailable(f"{address}: {message[3]}")
                    if message[0] == 2:
                        return node_status(message[3])
        except (asyncio.IncompleteReadError, WireError) as error:
            raise Unavailable(f"{address}: {error}") from error
        finally:
            writer.close()


def framed(messages: list[tuple[Any, ...]]) -> bytes:
    """Return the bytes of one frame."""
    payload = pack(messages)
    return len(payload).to_bytes(limits.FRAME_HEADER_SIZE, "big") + payload
