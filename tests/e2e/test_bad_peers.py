"""The port of the nodes: strangers, and callers that are no members.

docs/faults.md has the table of these tests.
"""

import contextlib
import socket
import struct
from typing import Any

import pytest

from raftlock.server import handshake
from raftlock_wire import limits
from raftlock_wire.ids import NodeId
from tests.e2e.conftest import Cluster
from tests.e2e.node import events
from tests.e2e.raw import RawClient
from tests.e2e.scrape import grows
from tests.e2e.strangers import SERVED, log_of, send_frame, serves

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


BAD_PEER_FRAME = 'raftlock_peer_connections_refused_total{reason="bad_frame"}'
LARGE_PEER_FRAME = 'raftlock_peer_connections_refused_total{reason="frame_too_large"}'


@pytest.mark.parametrize(
    ("data", "series"),
    [
        (struct.pack(">I", 5) + b"junk!", BAD_PEER_FRAME),
        (struct.pack(">I", 1 << 20) + bytes(100), LARGE_PEER_FRAME),
        (b"GET / HTTP/1.1\r\n\r\n", LARGE_PEER_FRAME),
        (struct.pack(">I", 1) + b"\x90", BAD_PEER_FRAME),
    ],
    ids=["junk", "a frame over 64 KiB", "http", "an empty array"],
)
def test_a_stranger_on_the_peer_port_is_cut_off(steady: Cluster, data: bytes, series: str) -> None:
    """What is no member's first frame ends the connection; the cluster goes on."""
    with (
        grows(steady.http(1), series),
        RawClient(steady.peer(1), hello=False) as stranger,
    ):
        stranger.send_bytes(data)
        with contextlib.suppress(ConnectionResetError):
            assert stranger.frame() is None

    assert serves(steady.endpoint(1)) == SERVED
    assert events(log_of(steady, 1), "peer_refused")


@pytest.mark.parametrize(
    ("change", "why", "series"),
    [
        (
            {},
            f"node 9 with incarnation {'0' * 32} is not a member",
            'raftlock_peer_connections_refused_total{reason="not_member"}',
        ),
        (
            {"version": 2},
            "version 2 is not 1",
            'raftlock_peer_connections_refused_total{reason="version"}',
        ),
        (
            {"cluster_id": "other"},
            "cluster other is not ",
            'raftlock_peer_connections_refused_total{reason="cluster_id"}',
        ),
        (
            {"to_id": 2},
            "this is node 1, not 2",
            'raftlock_peer_connections_refused_total{reason="node"}',
        ),
    ],
)
def test_a_caller_that_is_no_member_is_told_why(
    steady: Cluster, change: dict[str, Any], why: str, series: str
) -> None:
    """A node that is not listed with its incarnation, is of another version or cluster, or wants another node."""
    with RawClient(steady.endpoint(1)) as client:
        cluster_id = client.hello[3]
    nobody = b"\x90"
    hello = handshake.PeerHello(
        1, NodeId(9), "0" * 32, NodeId(1), cluster_id, nobody, 60_000, 1, nobody
    )
    with (
        grows(steady.http(1), series),
        RawClient(steady.peer(1), hello=False) as stranger,
    ):
        send_frame(stranger, handshake.encode(hello._replace(**change)))
        answer = stranger.frame()

    assert answer is not None
    assert (answer[1], answer[2].startswith(why)) == (False, True)


def test_silent_callers_on_the_peer_port_are_bounded(steady: Cluster) -> None:
    """300 callers that say nothing: some are cut off at once, all within 5 s; the members are not disturbed."""
    host, _, port = steady.peer(1).rpartition(":")
    with grows(
        steady.http(1),
        'raftlock_peer_connections_refused_total{reason="limit"}',
        'raftlock_peer_connections_refused_total{reason="no_hello"}',
        by=300 - limits.PEER_CALLERS_MAX,
    ):
        callers = [socket.create_connection((host, int(port)), timeout=20) for _ in range(300)]
        try:
            assert serves(steady.endpoint(1)) == SERVED
            for caller in callers:
                with contextlib.suppress(ConnectionResetError):
                    assert caller.recv(1) == b""
        finally:
            for caller in callers:
                caller.close()

        assert serves(steady.endpoint(1)) == SERVED
