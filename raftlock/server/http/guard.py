"""HTTP connections before their requests are whole: how many there may be, and how long each may dawdle.

aiohttp waits for ever for the rest of a request's headers. A guard stands between the socket and aiohttp's protocol
and ends a connection whose request does not become whole in time. It must not know what a request says.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from raftlock.transport.connections import is_silence, tune
from raftlock_wire.limits import (
    CLIENT_SILENCE_MS,
    HTTP_CONNECTIONS_MAX,
    HTTP_HEADER_TIMEOUT_S,
    HTTP_IDLE_TIMEOUT_S,
)


class Guards:
    """The guards of all open connections, by their transports."""

    def __init__(
        self, make_protocol: Callable[[], asyncio.Protocol], refused: dict[str, int]
    ) -> None:
        self._make_protocol = make_protocol
        self._refused = refused
        """What is turned away or given up, by reason."""
        self._open: dict[asyncio.BaseTransport, Guard] = {}

    def __len__(self) -> int:
        return len(self._open)

    def incoming(self) -> asyncio.Protocol:
        """Make the protocol of a new connection."""
        return Guard(self, self._make_protocol())

    def opened(self, transport: asyncio.BaseTransport, guard: "Guard") -> bool:
        """Know a connection. Return whether it may stay."""
        if len(self._open) >= HTTP_CONNECTIONS_MAX:
            self.refused("limit")
            return False
        self._open[transport] = guard
        return True

    def closed(self, transport: asyncio.BaseTransport) -> None:
        """Forget a connection."""
        self._open.pop(transport, None)

    def refused(self, reason: str) -> None:
        """Count a connection that is turned away or given up."""
        self._refused[reason] += 1

    def request_begins(self, transport: asyncio.BaseTransport | None) -> None:
        """Learn that a connection's request has all its headers: its handler watches the rest."""
        guard = self._open.get(transport) if transport is not None else None
        if guard is not None:
            guard.request_begins()

    def request_ends(self, transport: asyncio.BaseTransport | None) -> None:
        """Learn that a request was answered: the next one may come."""
        guard = self._open.get(transport) if transport is not None else None
        if guard is not None:
            guard.request_ends()


class Guard(asyncio.Protocol):
    """Hands everything on to aiohttp's protocol, and watches the time until a request is whole."""

    def __init__(self, guards: Guards, inner: asyncio.Protocol) -> None:
        self._guards = guards
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._busy = 0
        self._begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.BaseProtocol."""
        if not self._guards.opened(transport, self):
            cast("asyncio.Transport", transport).abort()
            return
        self._transport = cast("asyncio.Transport", transport)
        self._inner.connection_made(transport)
        # A caller whose host vanished waits for nothing: his wait is withdrawn like that of one who hangs up.
        tune(transport, silence_ms=CLIENT_SILENCE_MS)
        self._arm(HTTP_HEADER_TIMEOUT_S, self._too_slow)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol. The first byte of a request starts its time; later ones do not prolong it."""
        if not self._begun and not self._busy:
            self._begun = True
            self._arm(HTTP_HEADER_TIMEOUT_S, self._too_slow)
        self._inner.data_received(data)

    def request_begins(self) -> None:
        """Stop the clock: the headers are there."""
        self._busy += 1
        self._begun = False
        self._disarm()

    def request_ends(self) -> None:
        """Give the connection time for another request."""
        self._busy -= 1
        if not self._busy:
            self._arm(HTTP_IDLE_TIMEOUT_S, self._abort)

    def eof_received(self) -> bool | None:
        """See asyncio.Protocol."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """See asyncio.BaseProtocol."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.BaseProtocol."""
        self._disarm()
        if self._transport is not None:
            self._guards.closed(self._transport)
            self._transport = None
            if is_silence(exc):
                self._guards.refused("silent")
            self._inner.connection_lost(exc)

    def _arm(self, after_s: float, then: Callable[[], None]) -> None:
        self._disarm()
        if self._transport is not None and not self._transport.is_closing():
            self._timer = asyncio.get_running_loop().call_later(after_s, then)

    def _too_slow(self) -> None:
        self._guards.refused("slow")
        self._abort()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
