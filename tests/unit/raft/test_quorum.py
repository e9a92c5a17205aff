"""Quorums against a twin that counts in the most simple-minded way."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from raftlock.raft.quorum import VoteResult, majority, quorum_value, vote_result
from raftlock_wire.ids import NodeId

ids = st.integers(1, 9).map(NodeId)
voters_of = st.frozensets(ids, max_size=7)


@settings(max_examples=2_000)
@given(voters=voters_of, values=st.dictionaries(ids, st.integers(0, 20)))
def test_quorum_value_is_what_some_majority_has_reached(
    voters: frozenset[NodeId], values: dict[NodeId, int]
) -> None:
    """The largest value for which a subset of more than half has at least that much."""
    expected = 0
    for size in range(len(voters) // 2 + 1, len(voters) + 1):
        for group in combinations(voters, size):
            if group:
                expected = max(expected, min(values.get(v, 0) for v in group))

    assert quorum_value(voters, values) == expected


@settings(max_examples=2_000)
@given(voters=voters_of.filter(bool), votes=st.dictionaries(ids, st.booleans()))
def test_an_election_is_won_lost_or_open(
    voters: frozenset[NodeId], votes: dict[NodeId, bool]
) -> None:
    """Won when a majority said yes, lost when no majority can any more, else pending."""
    yes = [v for v in voters if votes.get(v) is True]
    maybe = [v for v in voters if v not in votes]
    expected = VoteResult.LOST
    if 2 * len(yes) > len(voters):
        expected = VoteResult.WON
    elif 2 * (len(yes) + len(maybe)) > len(voters):
        expected = VoteResult.PENDING

    assert vote_result(voters, votes) is expected


@given(voters=voters_of.filter(bool))
def test_two_majorities_meet(voters: frozenset[NodeId]) -> None:
    """Any two quorums share a voter: that is what they are for."""
    size = majority(voters)
    groups = [set(group) for group in combinations(sorted(voters), size)]

    assert all(a & b for a in groups for b in groups)
