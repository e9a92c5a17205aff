"""The messages of consensus (Raft figure 2 and figure 13; thesis 3.10, 4.2.3, 6.4, 9.6). The sender comes beside."""

from dataclasses import dataclass

from raftlock_wire.entry import Entry, SnapshotMeta
from raftlock_wire.ids import NO_INDEX, NO_TERM, Index, NodeId, Term


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestVote:
    """A candidate asks for a vote (Raft 5.2). `pre_vote` asks without raising the term (thesis 9.6)."""

    term: Term
    last_log_index: Index
    last_log_term: Term
    pre_vote: bool = False
    transfer: bool = False
    """The leader asked for this election (thesis 3.10): voters do not refuse because they hear a leader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestVoteResult:
    """A voter's answer. A refusal carries the voter's own term, so that nobody is stuck behind (decision 18)."""

    term: Term
    granted: bool
    pre_vote: bool = False
    asked_term: Term = NO_TERM
    """The term of the request that this answers: an answer to an earlier campaign counts in no later one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendEntries:
    """The leader replicates (Raft 5.3); without entries it is a heartbeat. `round` is the newest quorum round."""

    term: Term
    leader_id: NodeId
    prev_log_index: Index
    prev_log_term: Term
    entries: tuple[Entry, ...]
    leader_commit: Index
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendEntriesResult:
    """A follower's answer. On success its log matches the leader's, durably, up to `match_index`."""

    term: Term
    success: bool
    match_index: Index
    conflict_term: Term = NO_TERM
    """On a refusal: the term of the follower's entry at prev_log_index; 0 if it has none there."""
    conflict_index: Index = NO_INDEX
    """On a refusal: the first index of that term, or the one after the follower's last entry (Raft 5.3)."""
    round: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallSnapshot:
    """A chunk of a snapshot (Raft figure 13). `meta` names it whole: chunks of two snapshots are never mixed."""

    term: Term
    leader_id: NodeId
    meta: SnapshotMeta
    offset: int
    data: bytes
    done: bool
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallSnapshotResult:
    """The follower has stored what lies before `next_offset` of the snapshot that `meta_sha256` names."""

    term: Term
    meta_index: Index
    meta_sha256: bytes
    next_offset: int
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutNow:
    """The leader asks its chosen successor to campaign at once (thesis 3.10)."""

    term: Term


Message = (
    RequestVote
    | RequestVoteResult
    | AppendEntries
    | AppendEntriesResult
    | InstallSnapshot
    | InstallSnapshotResult
    | TimeoutNow
)
