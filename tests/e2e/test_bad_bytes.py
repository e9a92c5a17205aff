"""Bytes that are no protocol: each ends its own connection, with a word, and others are served meanwhile.

docs/faults.md has the table of these tests.
"""

import random
import struct
import time

import pytest

from raftlock_wire import limits
from raftlock_wire.messages import Op
from raftlock_wire.status import Status
from tests.e2e.conftest import Cluster
from tests.e2e.node import events
from tests.e2e.raw import RawClient
from tests.e2e.scrape import grows
from tests.e2e.strangers import SERVED, last_words, log_of, rss, send_frame, serves

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


def test_random_bytes_end_their_connection_alone(steady: Cluster) -> None:
    """Garbage on 40 connections, framed and not: each is closed with a word, and the node serves on."""
    rng = random.Random(7)
    codes = set()
    with grows(
        steady.http(1),
        'raftlock_refusals_total{reason="bad_frame"}',
        'raftlock_client_connections_refused_total{reason="bad_frame"}',
        'raftlock_client_connections_refused_total{reason="frame_too_large"}',
    ):
        for number in range(40):
            with RawClient(steady.endpoint(1), hello=False) as client:
                junk = rng.randbytes(rng.randint(5, 4_096))
                # Half of them are framed properly: what they hold is still no message.
                if number % 2:
                    send_frame(client, junk)
                else:
                    client.send_bytes(b"\xff" + junk)
                codes.add(last_words(client)[0])

    assert (codes, serves(steady.endpoint(1))) == ({"frame_too_large", "bad_frame"}, SERVED)
    assert events(log_of(steady, 1), "client_refused")


@pytest.mark.parametrize(
    ("hello", "size_max"), [(False, limits.HELLO_FRAME_SIZE_MAX), (True, limits.FRAME_SIZE_MAX)]
)
def test_a_huge_frame_is_refused_by_its_header(steady: Cluster, hello: bool, size_max: int) -> None:
    """The announced size is judged, not read; the sender gets the limit in words although it goes on sending."""
    with (
        grows(
            steady.http(1),
            'raftlock_client_connections_refused_total{reason="frame_too_large"}',
        ),
        RawClient(steady.endpoint(1), hello=hello) as client,
    ):
        client.send_bytes(struct.pack(">I", size_max + 1) + bytes(64 << 10))
        words = last_words(client)

    assert words == ("frame_too_large", f"frame of {size_max + 1} bytes exceeds {size_max}")


def stream(client: RawClient, *, seconds: float) -> None:
    """Send zeros until the connection breaks or the time is over."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        client.send_bytes(bytes(1 << 20))


def test_an_endless_frame_costs_no_memory(steady: Cluster) -> None:
    """A stream that never ends its frame is closed; the node holds none of it."""
    before = rss(steady, 1)
    with (
        grows(
            steady.http(1),
            'raftlock_client_connections_refused_total{reason="frame_too_large"}',
        ),
        RawClient(steady.endpoint(1)) as client,
    ):
        client.send_bytes(struct.pack(">I", (1 << 32) - 1))
        with pytest.raises(OSError):
            stream(client, seconds=60)

    assert rss(steady, 1) - before < 32 << 20


def test_a_slow_hello_is_cut_off(steady: Cluster) -> None:
    """A client that says its hello a byte a second is told after 5 s that it took too long."""
    with (
        grows(
            steady.http(1),
            'raftlock_client_connections_refused_total{reason="no_hello"}',
        ),
        RawClient(steady.endpoint(1), hello=False) as client,
    ):
        client.send_bytes(struct.pack(">I", 30))
        for _ in range(2):
            client.send_bytes(b"\x91")
            assert serves(steady.endpoint(1)) == SERVED
            time.sleep(1)
        words = last_words(client)

    assert words == ("hello", f"no hello within {limits.HELLO_TIMEOUT_MS} ms")


def test_an_unknown_version_is_told_the_known_one(steady: Cluster) -> None:
    """A client that speaks only later versions learns which this node speaks."""
    with (
        grows(
            steady.http(1),
            'raftlock_client_connections_refused_total{reason="version"}',
        ),
        RawClient(steady.endpoint(1), hello=False) as client,
    ):
        answer = client.ask(Op.HELLO, 2, 9, None, None, "from the future")
        words = last_words(client)

    assert answer == (Status.UNSUPPORTED_VERSION, False, 1, 1)
    assert words == ("hello", "the hello was refused: this node speaks version 1")


def test_a_client_of_another_cluster_is_turned_away(steady: Cluster) -> None:
    """A client that names a cluster reaches no other one by mistake."""
    with RawClient(steady.endpoint(1)) as client:
        cluster_id = client.hello[3]
    with (
        grows(steady.http(1), 'raftlock_client_connections_refused_total{reason="cluster_id"}'),
        RawClient(steady.endpoint(1), hello=False) as client,
    ):
        answer = client.ask(Op.HELLO, 1, 1, "another", None, "lost")
        words = last_words(client)

    why = f"another is not this cluster, which is {cluster_id}"
    assert answer == (Status.BAD_REQUEST, False, "cluster_id", why)
    assert words == ("hello", f"the hello was refused: cluster_id: {why}")


def test_the_first_frame_is_a_hello(steady: Cluster) -> None:
    """A request before the hello is refused, and the connection closed."""
    with (
        grows(
            steady.http(1),
            'raftlock_client_connections_refused_total{reason="hello"}',
        ),
        RawClient(steady.endpoint(1), hello=False) as client,
    ):
        client.send(Op.GET, "x", False)
        words = last_words(client)

    assert (words[0], "HELLO" in words[1]) == ("hello", True)
