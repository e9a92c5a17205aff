"""Connections on real loopback sockets: who is silent, who does not read, and last words."""

import asyncio
import socket

import pytest

from raftlock.transport.connections import Connection
from raftlock_wire import limits
from raftlock_wire.errors import FrameTooLarge


class Recorder:
    """A handler that notes what it is told."""

    def __init__(self) -> None:
        self.made: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self.lost = asyncio.Event()
        self.events: list[str] = []

    def connected(self, connection: Connection) -> None:
        self.made.set_result(connection)

    def received(self, connection: Connection, payload: bytes) -> None:
        self.events.append(f"received {len(payload)}")

    def refused(self, connection: Connection, error: FrameTooLarge) -> None:
        self.events.append("refused")
        connection.send(b"too large")
        connection.close()

    def unread(self, connection: Connection) -> None:
        self.events.append("unread")

    def disconnected(self, connection: Connection) -> None:
        self.lost.set()


async def pair(recorder: Recorder, *, read_size_max: int = 0) -> tuple[Connection, socket.socket]:
    """Return a connection that came in, and the blocking socket at its other end."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(
            recorder,
            frame_size_max=100,
            close_backlog_size=64 << 20,
            silence_ms=3_000,
            read_size_max=read_size_max,
        ),
        "127.0.0.1",
        0,
    )
    other = socket.create_connection(server.sockets[0].getsockname(), timeout=20)
    connection = await recorder.made
    server.close()
    return connection, other


async def test_the_kernel_gives_a_silent_host_up_in_time() -> None:
    """A host that vanished closes nothing: probes and unacknowledged data end the connection after `silence_ms`."""
    recorder = Recorder()
    connection, other = await pair(recorder)
    sock = connection._transport.get_extra_info("socket")  # type: ignore[union-attr]
    tcp = socket.IPPROTO_TCP
    options = (
        socket.TCP_KEEPIDLE,
        socket.TCP_KEEPINTVL,
        socket.TCP_KEEPCNT,
        socket.TCP_USER_TIMEOUT,
    )
    values = [sock.getsockopt(tcp, option) for option in options]
    kept_alive = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    connection.abort()
    other.close()

    assert (values, kept_alive) == ([1, 1, 3, 3_000], 1)


async def test_last_words_arrive_although_input_is_left() -> None:
    """One that goes on sending after its frame was refused still reads why, and then the end."""
    recorder = Recorder()
    _, other = await pair(recorder)

    def send_and_read() -> bytes:
        other.sendall((101).to_bytes(4, "big") + bytes(300_000))
        heard = b""
        while part := other.recv(100):
            heard += part
        return heard

    heard = await asyncio.to_thread(send_and_read)
    other.close()

    assert (recorder.events, heard) == (
        ["refused"],
        len(b"too large").to_bytes(4, "big") + b"too large",
    )


async def test_one_that_sends_without_end_lets_the_others_have_their_turn() -> None:
    """A read takes so much and no more of one; all of it comes in the end, and in order."""
    one = (5).to_bytes(4, "big") + b"count"
    greedy, modest = Recorder(), Recorder()
    first, sends_much = await pair(greedy, read_size_max=900)
    second, sends_little = await pair(modest, read_size_max=900)
    sends_much.sendall(one * 5_000)
    sends_little.sendall(one)
    while not modest.events:
        await asyncio.sleep(0)
    meanwhile = len(greedy.events)
    while len(greedy.events) < 5_000:
        await asyncio.sleep(0)
    first.abort()
    second.abort()
    sends_much.close()
    sends_little.close()

    assert (meanwhile <= 200, set(greedy.events)) == (True, {"received 5"})


async def test_an_answer_after_the_last_words_is_dropped() -> None:
    """What was under way when a connection was closed goes nowhere, and ends nothing else in the same turn."""
    recorder = Recorder()
    connection, other = await pair(recorder)
    connection.send(b"goodbye")
    connection.close()
    connection.send(b"too late")
    connection.close()

    def read() -> bytes:
        heard = b""
        while part := other.recv(100):
            heard += part
        return heard

    heard = await asyncio.to_thread(read)
    connection.abort()
    other.close()

    assert heard == len(b"goodbye").to_bytes(4, "big") + b"goodbye"


@pytest.mark.parametrize("reads", [False, True])
async def test_one_that_reads_nothing_is_disconnected(
    monkeypatch: pytest.MonkeyPatch, reads: bool
) -> None:
    """A backlog that does not shrink ends the connection; who reads slowly is waited for."""
    monkeypatch.setattr(limits, "UNREAD_MS", 200)
    recorder = Recorder()
    connection, other = await pair(recorder)
    size = 0
    while connection._writable:
        connection.send(bytes(256 << 10))
        size += (256 << 10) + 4

    def read_all() -> int:
        left = size
        while left:
            left -= len(other.recv(min(left, 1 << 20)))
        return left

    if reads:
        assert await asyncio.to_thread(read_all) == 0
        connection.abort()
    async with asyncio.timeout(30):
        await recorder.lost.wait()
    other.close()

    assert recorder.events == ([] if reads else ["unread"])
