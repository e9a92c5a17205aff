"""A follower's connection that ends right after a request: the leader hears of the end after the request."""

import random

from raftlock.raft import AppendEntries
from raftlock.server import peer_codec
from raftlock.server.config import config_from
from raftlock.server.driver import Driver
from raftlock.server.handshake import BootstrapSet
from raftlock.server.membership_store import open_store
from raftlock.testing.disk import SimDisk
from raftlock_wire.codec import pack
from raftlock_wire.ids import Index, NodeId, Term
from raftlock_wire.membership import Member, membership
from raftlock_wire.messages import Op


def follower_of_node_2() -> Driver:
    disk = SimDisk(rng=random.Random(1))
    store = open_store(disk, node_id=NodeId(1), segment_size=1 << 20, incarnation="a" * 32)
    first = membership(
        Member(NodeId(i), letter * 32, f"h:{i}", f"h:1{i}") for i, letter in ((1, "a"), (2, "b"))
    )
    store.set_cluster(BootstrapSet("c" * 32, first.encode(), 60_000))
    config = config_from({"node_id": 1, "data_dir": "unused"})
    driver = store.make_driver(config, now_us=0, rng=random.Random(1))
    heartbeat = AppendEntries(
        term=Term(1),
        leader_id=NodeId(2),
        prev_log_index=Index(0),
        prev_log_term=Term(0),
        entries=(),
        leader_commit=Index(0),
        round=1,
    )
    driver.peer_frame(NodeId(2), peer_codec.encode(heartbeat))
    driver.turn(1, 1)
    return driver


def test_the_end_of_a_connection_follows_its_requests() -> None:
    """A client that asks and closes at once is forwarded, then reported as gone: else the leader keeps it for ever."""
    driver = follower_of_node_2()
    hello = (int(Op.HELLO), 1, 1, 1, None, None, "")
    get = (int(Op.GET), 2, "r", False)

    driver.client_opened(5, "a:1")
    driver.client_frame(5, pack([hello]))
    driver.client_frame(5, pack([get]))
    driver.client_closed(5)
    effects = driver.turn(2, 2)
    forwarding = [
        peer_codec.decode(payload)
        for _, payload in effects.peer_frames
        if peer_codec.decode(payload)[0] >= peer_codec.FORWARD
    ]

    assert forwarding == [
        (peer_codec.FORWARD, ((5, "", "a:1", pack([get])),)),
        (peer_codec.FORWARD_CLOSED, (5,)),
    ]
