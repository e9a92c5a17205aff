"""Connections whose requests do not become whole in time are ended, and there are only so many."""

import asyncio
import errno
from typing import Any
from unittest.mock import Mock

from raftlock.server.http.guard import Guards
from raftlock.telemetry.metrics import HTTP_REASONS
from raftlock_wire.limits import HTTP_CONNECTIONS_MAX, HTTP_HEADER_TIMEOUT_S, HTTP_IDLE_TIMEOUT_S
from tests.unit.server.simulated import run


class FakeTransport:
    """A socket that remembers when it was ended."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self.protocol = protocol
        self.ended_s: float | None = None

    def is_closing(self) -> bool:
        return self.ended_s is not None

    def abort(self) -> None:
        loop = asyncio.get_running_loop()
        self.ended_s = loop.time()
        loop.call_soon(self.protocol.connection_lost, None)

    def get_extra_info(self, name: str) -> Any:
        del name
        return self

    def setsockopt(self, *option: int) -> None:
        """Take any option."""


def refusals() -> dict[str, int]:
    return dict.fromkeys(HTTP_REASONS, 0)


def connect(guards: Guards) -> Any:
    protocol = guards.incoming()
    transport = FakeTransport(protocol)
    protocol.connection_made(transport)  # type: ignore[arg-type]
    return transport


def test_a_dribble_of_headers_is_ended() -> None:
    """Bytes that keep coming do not prolong the time that a request's headers have."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        counted = refusals()
        guards = Guards(Mock, counted)
        transport = connect(guards)
        began_s = loop.time()
        while transport.ended_s is None:
            transport.protocol.data_received(b"x")
            await asyncio.sleep(1)

        assert transport.ended_s == began_s + HTTP_HEADER_TIMEOUT_S
        assert (len(guards), counted) == (0, {**refusals(), "slow": 1})

    run(main)


def test_a_request_under_way_has_all_the_time_it_wants() -> None:
    """Once its headers are there a request may wait for hours; afterwards the connection may idle for a while."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        guards = Guards(Mock, refusals())
        transport = connect(guards)
        transport.protocol.data_received(b"x")
        guards.request_begins(transport)
        await asyncio.sleep(3_600)
        alive = transport.ended_s is None
        guards.request_ends(transport)
        ended_s = loop.time()
        await asyncio.sleep(2 * HTTP_IDLE_TIMEOUT_S)

        assert (alive, transport.ended_s) == (True, ended_s + HTTP_IDLE_TIMEOUT_S)

    run(main)


def test_the_second_request_of_a_connection_is_timed_too() -> None:
    """A kept-alive connection that begins a request and does not finish its headers is ended."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        guards = Guards(Mock, refusals())
        transport = connect(guards)
        transport.protocol.data_received(b"x")
        guards.request_begins(transport)
        guards.request_ends(transport)
        await asyncio.sleep(30)
        transport.protocol.data_received(b"x")
        began_s = loop.time()
        await asyncio.sleep(2 * HTTP_IDLE_TIMEOUT_S)

        assert transport.ended_s == began_s + HTTP_HEADER_TIMEOUT_S

    run(main)


def test_there_are_only_so_many_connections() -> None:
    """Beyond the bound a connection is ended at once, and its protocol never hears of it."""

    async def main() -> None:
        inner: list[Mock] = []

        def make() -> Any:
            inner.append(Mock())
            return inner[-1]

        counted = refusals()
        guards = Guards(make, counted)
        for _ in range(HTTP_CONNECTIONS_MAX):
            connect(guards)
        refused = connect(guards)
        await asyncio.sleep(0)

        assert refused.ended_s is not None
        assert inner[-1].mock_calls == []
        assert len(guards) == HTTP_CONNECTIONS_MAX
        assert counted == {**refusals(), "limit": 1}

    run(main)


def test_a_silent_host_is_counted() -> None:
    """A connection that the system gave up, for its host answers no probe, is told from one that was closed."""

    async def main() -> None:
        counted = refusals()
        guards = Guards(Mock, counted)
        for lost in (None, TimeoutError(errno.ETIMEDOUT, "timed out"), ConnectionResetError()):
            connect(guards).protocol.connection_lost(lost)

        assert (len(guards), counted) == (0, {**refusals(), "silent": 1})

    run(main)
