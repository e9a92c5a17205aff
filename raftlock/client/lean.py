"""A connection of a load: frames, the hello and one session, and nothing that a load does not need.

It owns the bytes and the opening of the session. What is sent, and what is done with the answers, is its subclass's.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgpack

from raftlock.client.arguments import host_and_port
from raftlock_wire.limits import FRAME_HEADER_SIZE, PROTOCOL_VERSION
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

OWN_IDS = 1 << 40
"""Request ids from here on are the connection's own; a load has those below."""
_HELLO, _OPEN, _KEEP_ALIVE, _CLOSE = OWN_IDS, OWN_IDS + 1, OWN_IDS + 2, OWN_IDS + 3
OPENING_TIMEOUT_S = 30.0
REOPEN_AFTER_S = 0.05
"""An election is under way: the same nonce is sent again, so that there is one session however often."""
SESSION_TTL_MS = 60_000
OPENING_AT_ONCE = 100
REPEAT_AFTER_S = 0.02
"""How long a request that was not taken waits: a load must not be what keeps an election from ending."""


class LeanConnection(asyncio.Protocol):
    """One connection with its session. Subclasses fill in `answered` and `lost`."""

    def __init__(self) -> None:
        self.opened: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """The session's id, once it is open."""
        self.session = 0
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._nonce = os.urandom(16)
        self._own_in_flight = 0
        self._to_repeat: list[tuple[Any, ...]] = []
        self._repeated: set[int] = set()

    # for subclasses

    def answered(self, messages: list[tuple[Any, ...]]) -> None:
        """Take answers to what the load sent, and events (their first element is 0)."""

    def lost(self) -> None:
        """Learn that the connection is gone and was not closed from here."""

    def send(self, frame: Sequence[tuple[Any, ...]]) -> None:
        """Send requests in one frame. On a connection that is gone they are gone too."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            payload = msgpack.packb(frame, use_bin_type=True)
            transport.write(len(payload).to_bytes(FRAME_HEADER_SIZE, "big") + payload)

    def repeat(self, request: tuple[Any, ...]) -> None:
        """Send a request again, as it was, after a pause: its answer was not final, and a retry is safe."""
        if not self._to_repeat:
            asyncio.get_running_loop().call_later(REPEAT_AFTER_S, self._send_again)
        self._to_repeat.append(request)
        self._repeated.add(request[1])

    def released_before(self, message: tuple[Any, ...]) -> bool:
        """Return whether this answer says that an earlier attempt of a repeated release had its effect."""
        return message[1] == Status.NOT_HELD and message[0] in self._repeated

    def _send_again(self) -> None:
        requests, self._to_repeat = self._to_repeat, []
        self.send(requests)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello; its answer opens the session."""
        self._transport = transport  # type: ignore[assignment]
        self._send_own(
            (int(Op.HELLO), _HELLO, PROTOCOL_VERSION, PROTOCOL_VERSION, None, None, "load")
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what waits for this connection."""
        if not self.opened.done():
            self.opened.set_exception(
                exc or ConnectionResetError("the server closed the connection")
            )
        transport, self._transport = self._transport, None
        if transport is not None:
            self.lost()

    def data_received(self, data: bytes) -> None:
        """Hand on the answers of all whole frames at once, so that what follows them goes out in one frame a read."""
        buffer = self._buffer
        buffer += data
        messages: list[Any] = []
        start, end = 0, len(buffer)
        while end - start >= FRAME_HEADER_SIZE:
            after = start + 4 + int.from_bytes(buffer[start : start + 4], "big")
            if after > end:
                break
            messages += msgpack.unpackb(buffer[start + 4 : after], use_list=False)[1:]
            start = after
        del buffer[:start]
        # The load's own answers are nearly all there is: those of the connection are looked for only when one is due.
        if self._own_in_flight:
            for message in messages:
                if message[0] >= OWN_IDS:
                    self._own_in_flight -= 1
                    self._own_answer(message)
            messages = [message for message in messages if message[0] < OWN_IDS]
        if messages:
            self.answered(messages)

    # the session

    def keep_alive(self) -> None:
        """Keep the session for another ttl."""
        self._send_own((int(Op.KEEP_ALIVE), _KEEP_ALIVE, self.session))

    def close(self) -> None:
        """Close the session, and the connection."""
        transport = self._transport
        if transport is not None:
            if self.session:
                self._send_own((int(Op.CLOSE_SESSION), _CLOSE, self.session))
            self._transport = None
            transport.close()
        if self.opened.done() and not self.opened.cancelled():
            self.opened.exception()

    def _send_own(self, request: tuple[Any, ...]) -> None:
        self._own_in_flight += 1
        self.send([request])

    def _own_answer(self, message: tuple[Any, ...]) -> None:
        if message[0] == _HELLO:
            if message[1] == Status.OK:
                self._open()
        elif message[0] == _OPEN and not self.opened.done():
            if message[1] == Status.OK:
                self.session = message[3]
                self.opened.set_result(self.session)
            elif message[2]:
                self.opened.set_exception(ConnectionRefusedError(Status(message[1]).name))
            else:
                # Not taken, or not known (NO_QUORUM, UNKNOWN, OVERLOADED): no leader yet. Whoever waits has a limit.
                asyncio.get_running_loop().call_later(REOPEN_AFTER_S, self._open)

    def _open(self) -> None:
        self._send_own((int(Op.OPEN_SESSION), _OPEN, self._nonce, SESSION_TTL_MS))


_Connection = TypeVar("_Connection", bound=LeanConnection)


async def open_all(
    endpoint: str, make: Callable[[int], _Connection], count: int
) -> list[_Connection]:
    """Open `count` connections and their sessions, a hundred at once. Those that are open are closed if one fails."""
    loop = asyncio.get_running_loop()
    host, port = host_and_port(endpoint)
    opened: list[_Connection] = []
    try:
        for start in range(0, count, OPENING_AT_ONCE):
            part: list[_Connection] = []
            for number in range(start, min(start + OPENING_AT_ONCE, count)):
                connection = make(number)
                opened.append(connection)
                part.append(connection)
                await loop.create_connection(lambda made=connection: made, host, port)  # type: ignore[misc]
            async with asyncio.timeout(OPENING_TIMEOUT_S):
                await asyncio.gather(*(connection.opened for connection in part))
    except BaseException:
        for connection in opened:
            connection.close()
        raise
    return opened


async def sleep_and_keep_alive(connections: Sequence[LeanConnection], seconds: float) -> None:
    """Sleep while the sessions of the connections are kept alive."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    every = SESSION_TTL_MS / 3_000
    while (left := until - loop.time()) > 0:
        await asyncio.sleep(min(left, every))
        if left > every:
            for connection in connections:
                connection.keep_alive()
