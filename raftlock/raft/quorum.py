"""Quorums as pure functions of who said what."""

from collections.abc import Mapping
from enum import Enum, auto

from raftlock_wire.ids import NodeId


class VoteResult(Enum):
    """How an election stands."""

    PENDING = auto()
    WON = auto()
    LOST = auto()


def majority(voters: frozenset[NodeId]) -> int:
    """Return how many voters make a quorum."""
    return len(voters) // 2 + 1


def vote_result(voters: frozenset[NodeId], votes: Mapping[NodeId, bool]) -> VoteResult:
    """Return how an election stands; only voters count, each once."""
    granted = sum(votes.get(voter, False) for voter in voters)
    missing = sum(voter not in votes for voter in voters)
    need = majority(voters)
    if granted >= need:
        return VoteResult.WON
    return VoteResult.PENDING if granted + missing >= need else VoteResult.LOST


def quorum_value(voters: frozenset[NodeId], values: Mapping[NodeId, int]) -> int:
    """Return the largest value that a majority of the voters has reached; a voter that is missing has reached 0."""
    if not voters:
        return 0
    reached = sorted((values.get(voter, 0) for voter in voters), reverse=True)
    return reached[majority(voters) - 1]
