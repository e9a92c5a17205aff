"""The proxies between nodes: who calls, what is held, what is reset."""

import contextlib
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "jepsen-style"))

from chaos.proxies import CLIENTS, ProxyNetwork, _caller


def frame(*message: object) -> bytes:
    """Return a frame."""
    payload = msgpack.packb(message)
    return struct.pack(">I", len(payload)) + payload


def exactly(sock: socket.socket, size: int) -> bytes:
    """Return so many bytes."""
    heard = b""
    while len(heard) < size and (part := sock.recv(size - len(heard))):
        heard += part
    return heard


HELLO_OF_2 = frame(64, 1, 2, "incarnation", 1)


@pytest.fixture
def network() -> Iterator[ProxyNetwork]:
    """Run the proxies of two nodes."""
    running = ProxyNetwork([1, 2])
    running.up()
    yield running
    running.down()


@contextlib.contextmanager
def connected(
    network: ProxyNetwork, kind: str, first: bytes
) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Call node 1 through its proxy with these bytes: (the caller's end, the node's end). The bytes have arrived."""
    where = network.addresses(1)
    port = int(getattr(where, kind).rpartition(":")[2])
    with (
        socket.create_server((where.listen_host, port)) as node,
        socket.create_connection(("127.0.0.1", port), timeout=20) as caller,
    ):
        node.settimeout(20)
        caller.sendall(first)
        inside, _ = node.accept()
        inside.settimeout(20)
        assert exactly(inside, len(first)) == first
        with inside:
            yield caller, inside


def test_a_member_is_known_by_its_hello() -> None:
    """Whoever says anything else is a client, or somebody who asks."""
    frames = [
        HELLO_OF_2,
        frame(66),
        frame("x", 1, 2),
        frame(64),
        struct.pack(">I", 3) + b"\xc1\xc1\xc1",
        b"",
    ]

    assert [_caller(one) for one in frames] == [2, CLIENTS, CLIENTS, CLIENTS, CLIENTS, CLIENTS]  # fmt: skip


def test_what_is_cut_one_way_arrives_when_it_is_healed(network: ProxyNetwork) -> None:
    """The other way goes on; nothing of the stream is lost or out of order."""
    with connected(network, "peer", HELLO_OF_2) as (caller, node):
        network.drop([(2, 1)])
        caller.sendall(b"held")
        node.sendall(b"goes on")
        other_way = exactly(caller, 7)
        node.setblocking(False)
        with pytest.raises(BlockingIOError):
            node.recv(1)
        node.settimeout(20)
        network.heal()

        assert (other_way, exactly(node, 4)) == (b"goes on", b"held")


def test_a_cut_between_members_does_not_touch_clients(network: ProxyNetwork) -> None:
    """Each ordered pair is a link of its own."""
    network.drop([(2, 1), (1, 2)])
    with connected(network, "client", b"hello") as (caller, node):
        node.sendall(b"welcome")

        assert exactly(caller, 7) == b"welcome"


@pytest.mark.parametrize("fault", ["reset", "lose_tails"])
def test_both_ends_feel_a_reset(network: ProxyNetwork, fault: str) -> None:
    """They are not told the end of the stream: what was under way may be lost."""
    with connected(network, "peer", HELLO_OF_2) as (caller, node):
        if fault == "reset":
            network.reset([(1, 2)])
        else:
            network.lose_tails([1])
        for end in (caller, node):
            with pytest.raises(ConnectionResetError):
                end.recv(1)


def test_a_limited_rate_and_a_delay_lose_nothing(network: ProxyNetwork) -> None:
    """A stream that goes through slowly is the same stream."""
    sent = bytes(range(256)) * 64
    network.slow(2, 10_000)
    network.delay([(2, 1)], 1, 3)
    with connected(network, "peer", HELLO_OF_2) as (caller, node):
        caller.sendall(sent)

        assert exactly(node, len(sent)) == sent
