"""Changes of the members: when they are made, refused, answered, and what a leader that removes itself does."""

from typing import Any

import pytest

from raftlock.raft import PeerView
from raftlock.server.members import Refusal, Seen, planned
from raftlock_wire import limits
from raftlock_wire.ids import Index, NodeId
from raftlock_wire.membership import Member, Membership
from raftlock_wire.messages import Op
from raftlock_wire.status import Status
from tests.unit.server.kit import CLUSTER_ID, Message, Nodes, members_of

MEMBERS, ADD, PROMOTE, REMOVE = (
    int(op) for op in (Op.MEMBERS, Op.ADD_MEMBER, Op.PROMOTE_MEMBER, Op.REMOVE_MEMBER)
)
OK, FINAL = int(Status.OK), True
ELECTION_MIN_MS = 150


def incarnation(node: int) -> str:
    """Return the incarnation of a node of the kit."""
    return f"{node:032x}"


def add(node: int, request_id: int = 7, *, of: str = "") -> Message:
    """Return the request to add a node."""
    return (ADD, request_id, node, of or incarnation(node), f"n{node}:1", f"n{node}:2")


def promote(node: int, request_id: int = 8) -> Message:
    """Return the request to promote a node."""
    return (PROMOTE, request_id, node, incarnation(node))


def remove(node: int, request_id: int = 9, *, of: str = "") -> Message:
    """Return the request to remove a node."""
    return (REMOVE, request_id, node, of or incarnation(node))


def roles(nodes: Nodes, on: int) -> dict[int, bool]:
    """Return the committed members at a node, and whether each votes."""
    return {m.node_id: not m.learner for m in nodes.drivers[on].raft.committed_membership.members}


# what a change comes to

FIRST = members_of(3)
LEARNER = Member(NodeId(4), incarnation(4), "n4:1", "n4:2", learner=True)
GROWN = FIRST.with_member(LEARNER)


def seen(**of: Any) -> Seen:
    """Return what leader 1 knows of 2, 3 and the learner 4: all keep up, but for what is said."""
    views = {}
    for i in (2, 3, 4):
        view = PeerView(NodeId(i), Index(100), behind=0, heard_us=5_000, keeps_up=True)
        views[NodeId(i)] = view._replace(**of.get(f"n{i}", {}))
    return Seen(NodeId(1), views)


DOWN = {"keeps_up": False, "heard_us": 900_000}


@pytest.mark.parametrize(
    ("now", "request_", "views", "comes_to"),
    [
        (FIRST, add(4), {}, GROWN),
        (GROWN, add(4), {}, None),
        (GROWN, add(4, of="f" * 32), {}, "incarnation"),
        (GROWN.without(NodeId(4)), add(4), {}, "removed"),
        (GROWN, (*add(5)[:4], "n4:1", "n5:2"), {}, "address"),
        (GROWN, (*add(5)[:4], "no port", "n5:2"), {}, "address"),
        (
            GROWN,
            (*add(4)[:4], "moved:1", "n4:2"),
            {},
            GROWN.with_member(LEARNER._replace(peer_address="moved:1")),
        ),
        (
            FIRST,
            (*add(2)[:4], "moved:1", "n2:2"),
            {},
            FIRST.with_member(FIRST.members[1]._replace(peer_address="moved:1")),
        ),
        (members_of(limits.MEMBERS_MAX), add(limits.MEMBERS_MAX + 1), {}, "too_many"),
        (GROWN, promote(4), {}, members_of(4)),
        (GROWN, promote(2), {}, None),
        (GROWN, promote(5), {}, "absent"),
        (GROWN, (*promote(4)[:3], "f" * 32), {}, "absent"),
        (GROWN, promote(4), {"n4": {"behind": limits.PROMOTE_BEHIND_MAX}}, members_of(4)),
        (GROWN, promote(4), {"n4": {"behind": limits.PROMOTE_BEHIND_MAX + 1}}, "behind"),
        (GROWN, promote(4), {"n4": DOWN}, "behind"),
        (GROWN, promote(4), {"n4": {"keeps_up": False, "heard_us": None}}, "behind"),
        (GROWN, promote(4), {"n2": DOWN, "n3": DOWN}, "quorum"),
        (FIRST, remove(3), {}, FIRST.without(NodeId(3))),
        (FIRST, remove(4), {}, None),
        (FIRST, remove(3, of="f" * 32), {}, None),
        (FIRST, remove(3), {"n3": DOWN}, FIRST.without(NodeId(3))),
        (FIRST, remove(3), {"n2": DOWN}, "quorum"),
        (FIRST, remove(1), {}, FIRST.without(NodeId(1))),
        (FIRST, remove(1), {"n2": DOWN}, "quorum"),
        (members_of(1), remove(1), {}, "last_voter"),
        (members_of(1).with_member(LEARNER), remove(1), {}, "last_voter"),
        (GROWN, remove(4), {"n2": DOWN, "n3": DOWN}, GROWN.without(NodeId(4))),
    ],
)
def test_what_a_change_comes_to(
    now: Membership, request_: Message, views: dict[str, Any], comes_to: Membership | str | None
) -> None:
    """The next members; nothing to do; or the cause of a refusal. Each names the incarnation that it means."""
    found = planned(now, request_, seen(**views))

    assert (found.cause if isinstance(found, Refusal) else found) == comes_to


def test_removed_incarnations_are_remembered_up_to_a_bound() -> None:
    """The last ones, also through the log's encoding."""
    members = FIRST
    for i in range(limits.REMOVED_KEPT_MAX + 5):
        members = members.with_member(LEARNER._replace(incarnation=str(i))).without(NodeId(4))

    assert members == FIRST._replace(
        removed=tuple(str(i) for i in range(5, limits.REMOVED_KEPT_MAX + 5))
    )


# through a driver


def test_a_node_is_added_catches_up_and_is_promoted() -> None:
    """Asked at a follower: a learner first, then a voter, and its leader says how it is."""
    nodes = Nodes(3)
    leader = nodes.lead()
    conn = nodes.connect(nodes.follower())
    nodes.start(4)
    added = nodes.ask(conn, add(4))
    as_learner = roles(nodes, leader)
    nodes.run(50)
    role = nodes.drivers[4].status()["role"]
    promoted = nodes.ask(conn, promote(4))
    nodes.run(50)
    listed = nodes.ask(conn, (MEMBERS, 11))

    assert (added, as_learner, role, promoted) == (
        (7, OK, FINAL),
        {1: True, 2: True, 3: True, 4: False},
        "learner",
        (8, OK, FINAL),
    )
    assert (roles(nodes, 4), nodes.drivers[4].status()["role"]) == (
        {1: True, 2: True, 3: True, 4: True},
        "follower",
    )
    assert (listed[3:5], [(m[0], m[1], m[4], m[5]) for m in listed[5]]) == (
        (CLUSTER_ID, True),
        [(i, incarnation(i), True, 0) for i in (1, 2, 3, 4)],
    )


def test_a_member_that_never_answered_is_shown_as_that() -> None:
    """All of the log is missing there, and it was never heard."""
    nodes = Nodes(3)
    conn = nodes.connect(nodes.lead())
    nodes.ask(conn, add(4))
    nodes.run(20)
    listed = nodes.ask(conn, (MEMBERS, 11))

    assert listed[5][3] == (
        *(4, incarnation(4), "n4:1", "n4:2", False),
        *(nodes.drivers[nodes.leader()].raft.last_index, None),
    )


def test_a_change_is_answered_when_it_is_committed() -> None:
    """While it is on one disk only nothing is said; a second change is to be asked for again meanwhile."""
    nodes = Nodes(3)
    leader = nodes.lead()
    conn = nodes.connect(leader)
    nodes.run(50)
    nodes.slow_disks = {i for i in nodes.drivers if i != leader}
    nodes.send(conn, add(4))
    nodes.run(100)
    silent = nodes.took(conn)
    in_force = nodes.drivers[leader].raft.membership.get(NodeId(4)) is not None
    busy = nodes.ask(conn, add(5, 10))
    for i in tuple(nodes.slow_disks):
        nodes.disk_goes_on(i)
    nodes.run(20)

    assert (silent, in_force, busy) == (
        [],
        True,
        (10, Status.OVERLOADED, False, limits.MEMBERS_RETRY_MS, "members"),
    )
    assert nodes.took(conn) == [(7, OK, FINAL)]


def test_a_change_in_the_log_of_a_leader_that_steps_down_is_unknown() -> None:
    """It may yet be committed by the next one (R4)."""
    nodes = Nodes(3)
    leader = nodes.lead()
    conn = nodes.connect(leader)
    nodes.run(50)
    nodes.slow_disks = {i for i in nodes.drivers if i != leader}
    nodes.send(conn, add(4))
    nodes.run(20)
    nodes.isolate(leader)
    nodes.until(lambda: not nodes.drivers[leader].is_leader)
    nodes.run(2)

    assert nodes.took(conn) == [(7, Status.UNKNOWN, False)]


def test_a_leader_that_lost_its_majority_begins_no_change() -> None:
    """What was not appended was not taken (R4): a quorum is asked before anything is decided."""
    nodes = Nodes(3)
    leader = nodes.lead()
    conn = nodes.connect(leader)
    nodes.run(50)
    nodes.isolate(leader)
    nodes.send(conn, add(4), remove(2))
    nodes.until(lambda: not nodes.drivers[leader].is_leader)
    nodes.run(2)

    assert [m[:3] for m in nodes.took(conn)] == [
        (7, Status.NO_QUORUM, False),
        (9, Status.NO_QUORUM, False),
    ]
    assert nodes.drivers[leader].raft.membership == members_of(3)


def test_a_learner_that_is_behind_is_not_promoted_until_it_caught_up() -> None:
    """As a voter it would be counted on before it can help."""
    nodes = Nodes(3)
    conn = nodes.connect(nodes.lead())
    nodes.start(4)
    nodes.frozen.add(4)
    nodes.ask(conn, add(4))
    nodes.run(200)
    refused = nodes.ask(conn, promote(4))
    nodes.frozen.clear()
    nodes.run(100)
    promoted = nodes.ask(conn, promote(4))

    assert (refused[:4], promoted) == ((8, Status.REFUSED, FINAL, "behind"), (8, OK, FINAL))


def test_a_removal_that_leaves_no_majority_is_refused() -> None:
    """With one of three down the other must stay; the dead one may go."""
    nodes = Nodes(3)
    leader = nodes.lead()
    conn = nodes.connect(leader)
    dead, alive = (i for i in nodes.drivers if i != leader)
    nodes.frozen.add(dead)
    nodes.run(ELECTION_MIN_MS + 100)
    refused = nodes.ask(conn, remove(alive))
    removed = nodes.ask(conn, remove(dead))

    assert (refused[:4], removed) == ((9, Status.REFUSED, FINAL, "quorum"), (9, OK, FINAL))
    assert refused[4] == "of the 2 voters that it leaves 2 are needed, and 1 keep up"
    assert roles(nodes, leader) == {leader: True, alive: True}


def test_a_leader_that_removes_itself_answers_and_hands_over() -> None:
    """Another one leads before anybody's election timeout; the old one says that it was removed."""
    nodes = Nodes(3)
    old = nodes.lead()
    conn = nodes.connect(old)
    nodes.run(50)
    answer = nodes.ask(conn, remove(old))
    took_ms = nodes.until(lambda: nodes.leader() not in (0, old))

    assert (answer, took_ms < ELECTION_MIN_MS // 3) == ((9, OK, FINAL), True)
    assert [n.event for i, n in nodes.notices if i == old and n.event == "removed"] == ["removed"]
    assert (nodes.drivers[old].status()["role"], nodes.drivers[old].ready) == ("removed", False)
    assert old not in roles(nodes, nodes.leader())


def test_a_voter_that_was_removed_does_not_disturb() -> None:
    """It never learns of it from its leader: it asks for votes that nobody gives, and no term is spent."""
    nodes = Nodes(3)
    leader = nodes.lead()
    gone = nodes.follower()
    nodes.ask(nodes.connect(leader), remove(gone))
    nodes.run(50)
    term = nodes.drivers[leader].raft.term
    nodes.run(2_000)

    assert (nodes.leader(), nodes.drivers[leader].raft.term) == (leader, term)


def test_a_node_that_a_member_calls_removed_says_so_until_it_hears_a_leader() -> None:
    """What one member says may be old: who hears a leader is a member."""
    nodes = Nodes(3)
    leader = nodes.lead()
    node = nodes.follower()
    driver = nodes.drivers[node]
    driver.removal.greeted(NodeId(9), removed=True)
    nodes.run(5)
    with_leader = driver.removal.known
    nodes.isolate(node)
    nodes.run(500)
    without = driver.removal.known, driver.status()["role"], driver.status()["leader"]
    driver.removal.greeted(NodeId(9), removed=False)

    assert (leader != node, with_leader, without, driver.removal.known) == (
        True,
        False,
        (True, "removed", 0),
        False,
    )
    assert [n.event for i, n in nodes.notices if i == node and n.event == "removed"] == ["removed"]
