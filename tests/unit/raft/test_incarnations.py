"""A node's id may have been another directory's before: what the log says of that one is not this one's (decision 13)."""

import random

import pytest

from raftlock.raft import Raft, RaftConfig, Role
from raftlock_wire.entry import HardState
from raftlock_wire.ids import NO_NODE, NodeId, Term
from raftlock_wire.membership import Member, membership

T = 1_000_000


@pytest.mark.parametrize(
    ("incarnation", "role"),
    [("old", Role.PRE_CANDIDATE), ("new", Role.FOLLOWER), ("", Role.PRE_CANDIDATE)],
)
def test_a_replaced_disk_does_not_campaign_by_its_ids_old_membership(
    incarnation: str, role: Role
) -> None:
    """It reads in its leader's log that its id was a voter; its own directory never was one."""
    members = membership(Member(NodeId(i), "old", f"n{i}:1", f"n{i}:2") for i in (1, 2, 3))
    raft = Raft(
        config=RaftConfig(node_id=NodeId(3), incarnation=incarnation),
        hard_state=HardState(Term(1), NO_NODE),
        membership=members,
        snapshot=None,
        entries=[],
        rng=random.Random(1),
        now_us=0,
    )
    raft.tick(T)

    assert (raft.role, bool(raft.ready().messages)) == (role, role is not Role.FOLLOWER)
