"""Why a hello is refused: a reason that is counted, and words for the one who reads them."""

from typing import Any

import pytest

from raftlock.server import handshake
from raftlock.server.clients import Clients, refused_hello
from raftlock.server.origin import Origin
from raftlock.server.outbox import Outbox
from raftlock.telemetry.metrics import CLIENT_REASONS, PEER_REASONS
from raftlock_wire.ids import NO_NODE, NodeId
from raftlock_wire.messages import Op
from tests.unit.server.kit import CLUSTER_ID, members_of
from tests.unit.server.test_handshake import CALLEE, CLUSTER, HELLO


@pytest.mark.parametrize(
    ("requests", "reason", "words"),
    [
        (((int(Op.HELLO), 1, 2, 9, None, None, "x"),), "version", "this node speaks version 1"),
        (
            ((int(Op.HELLO), 1, 1, 1, "other", None, "x"),),
            "cluster_id",
            f"cluster_id: other is not this cluster, which is {CLUSTER_ID}",
        ),
        (
            ((int(Op.GET), 1, "r", False),),
            "hello",
            "request: the first frame of a connection is one HELLO, alone",
        ),
        (((99, 1),), "hello", "code: 99 is not a known request"),
    ],
)
def test_a_refused_hello_is_told_in_words(
    requests: tuple[Any, ...], reason: str, words: str
) -> None:
    """No tuple of Python's, and a reason of the table."""
    clients = Clients(node_id=NodeId(1), cluster_id=CLUSTER_ID, outbox=Outbox())
    origin = Origin(node=NO_NODE, conn_id=1, principal="", address="a:1")
    answer = clients.hello(origin, requests, members_of(3))

    assert refused_hello(answer) == (reason, f"the hello was refused: {words}")
    assert reason in CLIENT_REASONS


@pytest.mark.parametrize(
    ("change", "of_cluster", "reason"),
    [
        ({"version": 2}, CLUSTER, "version"),
        ({"to_id": NodeId(3)}, CLUSTER, "node"),
        ({"cluster_id": "d" * 32}, CLUSTER, "cluster_id"),
        ({"from_id": NodeId(9)}, CLUSTER, "not_member"),
        ({"first_membership": b"\xc1"}, None, "membership"),
    ],
)
def test_a_refused_member_is_counted_by_reason(
    change: dict[str, Any], of_cluster: str | None, reason: str
) -> None:
    """Each way to be no member has its reason in the table."""
    callee = CALLEE._replace(cluster_id=of_cluster)
    refusal = handshake.judge_hello(HELLO._replace(**change), callee)

    assert refusal is not None
    assert (refusal.reason, refusal.reason in PEER_REASONS) == (reason, True)
