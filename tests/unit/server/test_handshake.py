"""The first frames on a peer port: who is let in, and what an empty node takes (decision 13)."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlock.server import handshake
from raftlock.server.handshake import (
    BootstrapDone,
    BootstrapSet,
    BootstrapTell,
    Callee,
    FirstFrame,
    HelloAnswer,
    PeerHello,
    Refusal,
)
from raftlock_wire.codec import pack
from raftlock_wire.errors import BadFrame
from raftlock_wire.ids import NodeId
from raftlock_wire.membership import Member, cluster_id_of
from tests.unit.server.kit import members_of

FIRST = members_of(3)
CLUSTER = cluster_id_of(FIRST)
HELLO = PeerHello(
    1, NodeId(2), f"{2:032x}", NodeId(1), CLUSTER, FIRST.encode(), 60_000, 1, FIRST.encode()
)


@pytest.mark.parametrize(
    "message",
    [
        None,
        HELLO,
        HelloAnswer(False, "why", "i", 1, removed=True),
        BootstrapTell(NodeId(1), "i", "", "p:1", "c:1"),
        BootstrapSet(CLUSTER, FIRST.encode(), 60_000),
        BootstrapDone(False, "why"),
    ],
)
def test_a_first_frame_comes_out_as_it_went_in(message: FirstFrame) -> None:
    """Each kind, and the question who a node is."""
    assert handshake.decode(handshake.encode(message)) == message


odd = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(60, 75), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=9), st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=10,
)


@settings(max_examples=500, deadline=None)
@given(payload=st.one_of(st.binary(max_size=30), odd.map(pack)))
def test_anything_else_is_a_bad_frame(payload: bytes) -> None:
    """Anybody may connect to the port: no bytes do more than close their own connection."""
    try:
        message = handshake.decode(payload)
    except BadFrame:
        return
    assert handshake.decode(handshake.encode(message)) == message


@pytest.mark.parametrize(
    "payload",
    [pack(({},)), pack((64,)), pack((64.0, 1)), pack((69, 1, "")), pack((66, 1)), pack({}), b""],
)
def test_a_frame_of_another_shape_is_refused(payload: bytes) -> None:
    """An unknown code, a missing field, a field of another type."""
    with pytest.raises(BadFrame):
        handshake.decode(payload)


CALLEE = Callee(NodeId(1), f"{1:032x}", CLUSTER, FIRST, FIRST)


def refused(hello: PeerHello, **of: Any) -> str:
    """Return why node 1 refuses a hello; empty if it does not."""
    refusal = handshake.judge_hello(hello, CALLEE._replace(**of))
    return "" if refusal is None else refusal.why


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, ""),
        ({"version": 2}, "version 2 is not 1"),
        ({"to_id": NodeId(3)}, "this is node 1, not 3"),
        ({"cluster_id": "d" * 32}, f"cluster {'d' * 32} is not {CLUSTER}"),
        ({"from_id": NodeId(9)}, f"node 9 with incarnation {2:032x} is not a member"),
        ({"from_incarnation": "new disk"}, "node 2 with incarnation new disk is not a member"),
    ],
)
def test_who_is_let_in(change: dict[str, Any], why: str) -> None:
    """A member by id and incarnation, of this cluster, that wants this node: a replaced disk is no member."""
    assert refused(HELLO._replace(**change)) == why


@pytest.mark.parametrize(
    ("change", "of", "why"),
    [
        ({}, {}, ""),
        ({"cluster_id": "d" * 32}, {}, "the cluster id is not that of the membership"),
        ({"first_membership": b"\xc1"}, {}, "not msgpack"),
        ({"first_membership": pack(5)}, {}, "not a membership"),
        ({}, {"incarnation": "other"}, "node 1 with incarnation other is not in the membership"),
    ],
)
def test_an_empty_node_takes_a_membership_that_lists_it(
    change: dict[str, Any], of: dict[str, Any], why: str
) -> None:
    """From a member that lists it with its incarnation, and whose cluster id is the hash of the list."""
    found = refused(HELLO._replace(**change), cluster_id=None, **of)

    assert (found[: len(why)], bool(found)) == (why, bool(why))


NEW = Member(NodeId(4), f"{4:032x}", "n4:1", "n4:2", learner=True)
GROWN = FIRST.with_member(NEW)
BY_NEW = HELLO._replace(from_id=NodeId(4), from_incarnation=NEW.incarnation)


@pytest.mark.parametrize(
    ("hello", "callee", "why"),
    [
        # Who was down while 4 was added knows it by what it brings; by 4's own old knowledge it does not.
        (BY_NEW._replace(membership=GROWN.encode()), CALLEE, ""),
        (BY_NEW, CALLEE, f"node 4 with incarnation {4:032x} is not a member"),
        (BY_NEW, CALLEE._replace(membership=GROWN), ""),
        # What a caller brings must list the one that it calls, with its incarnation.
        (
            BY_NEW._replace(membership=GROWN.encode()),
            CALLEE._replace(incarnation="new disk"),
            f"node 4 with incarnation {4:032x} is not a member",
        ),
    ],
)
def test_who_knows_of_fewer_members_lets_in_a_caller_that_lists_both(
    hello: PeerHello, callee: Callee, why: str
) -> None:
    """A node that was down while the members changed, and one that is new, know the first members only."""
    refusal = handshake.judge_hello(hello, callee)

    assert refusal == (Refusal("not_member", why) if why else None)


def test_an_empty_node_takes_the_cluster_of_a_member_that_lists_it_now() -> None:
    """The first membership proves the cluster id; the one of now lists the new node, and the caller."""
    empty = Callee(NodeId(4), NEW.incarnation, None)
    hello = HELLO._replace(to_id=NodeId(4), membership=GROWN.encode())
    whys = [
        handshake.judge_hello(said, empty)
        for said in (
            hello,
            hello._replace(membership=FIRST.encode()),
            hello._replace(cluster_id="d" * 32),
            hello._replace(from_incarnation="new disk"),
        )
    ]

    not_in = f"node 4 with incarnation {4:032x} is not in the membership"
    assert [refusal and refusal.why for refusal in whys] == [
        None,
        not_in,
        "the cluster id is not that of the membership",
        not_in,
    ]


def test_who_was_removed_is_told_so_once_that_is_committed() -> None:
    """What it brings lists both, but is old. An uncommitted removal may be undone: until then it is let in."""
    shrunk = FIRST.without(NodeId(2))
    judged = [
        handshake.judge_hello(HELLO, CALLEE._replace(membership=shrunk, committed=committed))
        for committed in (FIRST, shrunk)
    ]

    why = f"node 2 with incarnation {2:032x} was removed"
    assert judged == [None, Refusal("removed", why)]


def test_a_node_of_another_cluster_takes_no_first_membership() -> None:
    """Bootstrapping over a cluster that exists is refused; the same command again is not."""
    whys = [
        handshake.refuse_first(
            FIRST.encode(),
            CLUSTER,
            node_id=NodeId(1),
            incarnation=f"{1:032x}",
            cluster_id=cluster_id,
        )
        for cluster_id in ("e" * 32, CLUSTER, None)
    ]

    assert whys == [f"this node is of cluster {'e' * 32} already", "", ""]
