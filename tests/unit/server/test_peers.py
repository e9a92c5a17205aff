"""The links between members, without sockets."""

from types import SimpleNamespace
from typing import Any, cast

from raftlock.server import handshake
from raftlock.server.peers import Peers
from raftlock.transport.connections import Connection
from raftlock_wire.ids import NO_NODE, NodeId
from raftlock_wire.membership import Member, cluster_id_of, membership

MEMBERS = membership(Member(NodeId(i), str(i) * 32, f"n{i}:7411", f"n{i}:7401") for i in (1, 2, 3))


class Caller:
    """A connection that somebody opened: what it is sent, and whether it is cut off."""

    def __init__(self) -> None:
        self.tag = int(NO_NODE)
        self.sent: list[bytes] = []
        self.aborted = False

    def send(self, payload: bytes) -> None:
        """See Connection."""
        self.sent.append(payload)

    def abort(self) -> None:
        """See Connection."""
        self.aborted = True


def test_who_calls_while_a_node_starts_is_cut_off() -> None:
    """Its port listens before it takes part: a member's hello gets no answer, and the member calls again."""
    store = SimpleNamespace(cluster_id=cluster_id_of(MEMBERS), incarnation="2" * 32, node_id=2)
    peers = Peers(cast(Any, SimpleNamespace(driver=None)), cast(Any, store), jitter=lambda: 0.5)
    hello = handshake.PeerHello(
        1, NodeId(1), "1" * 32, NodeId(2), store.cluster_id, MEMBERS.encode(), 60_000, 1, MEMBERS.encode()
    )  # fmt: skip
    caller = Caller()

    peers.received(cast(Connection, caller), handshake.encode(hello))

    assert (caller.sent, caller.aborted, caller.tag) == ([], True, NO_NODE)
