"""Snapshots to laggards with resume and restart, transfer, membership: the interleavings beside the straight way."""

from typing import Any

import pytest

from raftlock.raft import (
    AppendEntries,
    AppendEntriesResult,
    InstallSnapshot,
    InstallSnapshotResult,
    Raft,
    RaftConfig,
    RequestVote,
    RequestVoteResult,
    Role,
    TimeoutNow,
)
from raftlock_wire.entry import EntryKind, SnapshotMeta
from raftlock_wire.ids import NO_NODE, Index, NodeId, Term
from raftlock_wire.invariant import InvariantViolation
from raftlock_wire.membership import Membership
from tests.unit.raft.kit import (
    ELECTION_US,
    append,
    elect,
    entry,
    leader,
    log_of,
    members,
    node,
    sent,
    settle,
)

T = ELECTION_US


def meta(index: int, *, sha: bytes = b"h" * 32, size: int = 10) -> SnapshotMeta:
    """Name a snapshot of ten bytes."""
    return SnapshotMeta(Index(index), Term(1), 0, 0, members(1, 2, 3).encode(), size, sha)


def lagging_leader() -> Raft:
    """Return a leader whose log begins behind a snapshot at 4, and peer 2 that needs it."""
    config = RaftConfig(node_id=NodeId(1), snapshot_chunk_size=4, compact_keep_bytes=0)
    raft = node(term=1, log=[entry(5, 1)], snapshot=meta(4), config=config)
    elect(raft)
    raft.ready()
    raft.begin_term(stamp_us=0, wall_us=0)
    settle(raft)
    refuse(raft, 2)
    return raft


def refuse(raft: Raft, sender: int) -> None:
    """Let a follower say that it has nothing."""
    message = AppendEntriesResult(
        term=raft.term, success=False, match_index=Index(0), conflict_index=Index(1)
    )
    raft.step(NodeId(sender), message, T)


def answer(raft: Raft, sender: int, match: int, *, now_us: int = T) -> None:
    """Let a follower say that it has everything up to `match`."""
    message = AppendEntriesResult(term=raft.term, success=True, match_index=Index(match))
    raft.step(NodeId(sender), message, now_us)


def stored(raft: Raft, offset: int, *, sha: bytes = b"h" * 32, sender: int = 2) -> None:
    """Let a follower say what it has stored of a snapshot."""
    message = InstallSnapshotResult(
        term=raft.term, meta_index=Index(4), meta_sha256=sha, next_offset=offset, round=0
    )
    raft.step(NodeId(sender), message, T)


def chunk(
    offset: int, data: bytes, *, of: SnapshotMeta | None = None, done: bool = False, term: int = 1
) -> InstallSnapshot:
    """Return a chunk from leader 2."""
    return InstallSnapshot(
        term=Term(term),
        leader_id=NodeId(2),
        meta=of or meta(4),
        offset=offset,
        data=data,
        done=done,
        round=3,
    )


# snapshots, the leader's side


def test_a_transfer_of_a_snapshot_resumes_where_the_follower_is() -> None:
    """After a lost link the leader goes on at the offset that the follower asks for, not at its beginning."""
    raft = lagging_leader()
    settle(raft)
    stored(raft, 4)
    settle(raft)
    raft.link_lost(NodeId(2), T)
    refuse(raft, 2)
    again = settle(raft).snapshot_wanted
    stored(raft, 8)

    assert ([w.offset for w in again][-1], [w.offset for w in settle(raft).snapshot_wanted]) == (
        4,
        [8],
    )


def test_an_answer_about_another_snapshot_is_none() -> None:
    """Size and hash are part of the name: offsets of another file mean nothing for this one (decision 4)."""
    raft = lagging_leader()
    settle(raft)

    stored(raft, 8, sha=b"z" * 32)

    assert settle(raft).snapshot_wanted == []


def test_a_snapshot_under_way_is_not_changed_by_a_newer_one() -> None:
    """Chunks of two snapshots are never mixed: the one that was begun is finished, or begun anew as the newer one."""
    raft = lagging_leader()
    settle(raft)
    stored(raft, 4)
    answer(raft, 3, 6)
    settle(raft)
    newer = meta(6, sha=b"n" * 32)._replace(term=raft.term)
    raft.compact(newer)
    stored(raft, 8)
    going_on = settle(raft).snapshot_wanted
    raft.snapshot_unavailable(NodeId(2))

    assert ([(w.meta.index, w.offset) for w in going_on], settle(raft).snapshot_wanted) == (
        [(4, 8)],
        [(NodeId(2), newer, 0, 4)],
    )


def test_a_part_that_was_read_too_late_is_not_sent() -> None:
    """The peer has it all, is gone, or is sent another snapshot by the time that the disk has read the part."""
    raft = lagging_leader()
    settle(raft)
    raft.send_snapshot_chunk(NodeId(2), meta(3), 0, b"abcd", False)
    raft.send_snapshot_chunk(NodeId(3), meta(4), 0, b"abcd", False)
    raft.send_snapshot_chunk(NodeId(9), meta(4), 0, b"abcd", False)
    raft.snapshot_unavailable(NodeId(9))

    assert [m for m in sent(raft) if isinstance(m, InstallSnapshot)] == []


def test_a_peer_that_is_sent_a_snapshot_hears_its_leader() -> None:
    """Heartbeats and rounds reach it beside the chunks, and its refusals of them change nothing."""
    raft = lagging_leader()
    settle(raft)
    raft.tick(T + 40_000)
    raft.start_round()
    heartbeats = [m for m in sent(raft, 2) if isinstance(m, AppendEntries)]
    refuse(raft, 2)

    assert (
        [(m.prev_log_index, m.entries, m.round) for m in heartbeats],
        settle(raft).messages,
    ) == (
        [(4, (), 1)],
        [],
    )


def test_a_window_that_falls_behind_the_log_turns_to_a_snapshot() -> None:
    """Entries that were compacted before they were sent are in the snapshot."""
    raft = leader(log=log_of(1))
    raft.state.config = RaftConfig(
        node_id=NodeId(1), compact_keep_bytes=0, inflight_messages_max=1, append_entries_max=1
    )
    answer(raft, 2, 2)
    for _ in range(3):
        raft.propose(EntryKind.BATCH, b"x", stamp_us=0, wall_us=0)
    settle(raft)
    answer(raft, 3, 5)
    settle(raft)
    raft.compact(meta(5)._replace(term=raft.term))
    answer(raft, 2, 3)

    assert [w.meta.index for w in settle(raft).snapshot_wanted] == [5]


# snapshots, the follower's side


def test_a_snapshot_of_an_older_term_is_refused() -> None:
    """Its leader is over and is told so."""
    raft = node(term=5)
    raft.step(NodeId(2), chunk(0, b"abcd", term=4), 0)
    ready = settle(raft)

    assert ([m.message for m in ready.messages], ready.snapshot_chunks) == (
        [AppendEntriesResult(term=Term(5), success=False, match_index=Index(0))],
        [],
    )


def test_a_chunk_while_one_is_being_stored_waits_for_the_leader_to_repeat_it() -> None:
    """One part is under way to the disk at a time; a doubled message stores nothing twice."""
    raft = node(term=1)
    seen = []
    for _ in range(2):
        raft.step(NodeId(2), chunk(0, b"abcd"), 0)
        ready = settle(raft)
        seen.append(([c.offset for c in ready.snapshot_chunks], ready.messages))

    assert seen == [([0], []), ([], [])]


def test_a_part_of_a_snapshot_that_was_given_up_is_not_answered() -> None:
    """Its number is not the latest: the answer would name an offset of the other snapshot."""
    raft = node(term=1)
    raft.step(NodeId(2), chunk(0, b"abcd"), 0)
    old = settle(raft).snapshot_chunks[0]
    raft.step(NodeId(2), chunk(0, b"zz", of=meta(5, sha=b"z" * 32)), 0)
    new = settle(raft).snapshot_chunks[0]
    raft.chunk_stored(old.number)
    none = sent(raft)
    raft.chunk_stored(new.number)
    raft.chunk_stored(new.number)

    assert (
        none,
        [(m.meta_index, m.next_offset) for m in sent(raft) if isinstance(m, InstallSnapshotResult)],
    ) == (
        [],
        [(5, 2)],
    )


def test_nothing_is_taken_while_a_snapshot_is_installed() -> None:
    """Neither entries nor chunks nor commits: the log may be dropped whole (decision 12)."""
    raft = node(term=1, log=log_of(1, 1))
    raft.step(NodeId(2), chunk(0, b"0123456789", done=True), 0)
    settle(raft)
    raft.step(NodeId(2), append(prev=(2, 1), commit=2), 0)
    raft.step(NodeId(2), chunk(0, b"0123", of=meta(9)), 0)
    ready = settle(raft)

    # It answers the leader, without having taken anything: otherwise a majority could be lost meanwhile.
    answers = [m.message for m in ready.messages if isinstance(m.message, AppendEntriesResult)]
    assert [answer.success for answer in answers] == [False]
    assert (list(ready.committed), ready.snapshot_chunks, raft.commit_index) == (
        [],
        [],
        0,
    )


def test_a_snapshot_installed_under_another_leader_is_told_to_that_one() -> None:
    """Who leads by then wants to know; if nobody does, nobody is told."""
    told = []
    for new_leader in (3, 0):
        raft = node(term=1)
        raft.step(NodeId(2), chunk(0, b"0123456789", done=True), 0)
        settle(raft)
        if new_leader:
            raft.step(NodeId(3), _append_of(3, term=2), 0)
        else:
            raft.tick(T)
        settle(raft)
        raft.snapshot_installed(meta(4))
        told.append([(m.to, m.message.next_offset) for m in settle(raft).messages if isinstance(m.message, InstallSnapshotResult)])  # fmt: skip

    assert told == [[(3, 10)], []]


def _append_of(leader_id: int, *, term: int) -> AppendEntries:
    return AppendEntries(
        term=Term(term),
        leader_id=NodeId(leader_id),
        prev_log_index=Index(0),
        prev_log_term=Term(0),
        entries=(),
        leader_commit=Index(0),
        round=0,
    )


def test_an_installed_snapshot_brings_its_membership() -> None:
    """A log that is dropped takes its membership entries with it (thesis 4.1)."""
    raft = node(term=1, log=[entry(1, 1, members(1, 2).encode(), EntryKind.MEMBERSHIP)])
    raft.step(NodeId(2), chunk(0, b"0123456789", done=True), 0)
    settle(raft)

    raft.snapshot_installed(meta(4))

    assert (raft.membership, raft.commit_index, raft.last_index) == (members(1, 2, 3), 4, 4)


def test_writes_under_way_from_before_an_installed_snapshot_make_nothing_durable() -> None:
    """Their entries are gone: durable is what the snapshot holds (decision 11)."""
    raft = node(term=1)
    raft.step(NodeId(2), append(*log_of(1, 1)), 0)
    write = raft.ready().write
    raft.step(NodeId(2), chunk(0, b"0123456789", done=True), 0)
    raft.ready()
    raft.snapshot_installed(meta(4))
    assert write is not None
    raft.durable(write.number)

    assert raft.state.durable_index == 4


def test_compaction_does_nothing_for_an_older_snapshot() -> None:
    """A snapshot of our own that ends after a newer one was installed cuts nothing."""
    raft = node(term=1, log=[entry(5, 1)], snapshot=meta(4))

    raft.compact(meta(3))

    assert (raft.state.snapshot, raft.state.log.base_index) == (meta(4), 4)


# transfer


def test_a_transfer_to_who_is_removed_meanwhile_is_given_up() -> None:
    """Proposals go on: a leader that waits for nobody is no leader."""
    raft = leader()
    raft.transfer(NodeId(2), T)
    raft.state.progress.pop(NodeId(2))

    raft.tick(T + 1)

    assert raft.transferring is False


@pytest.mark.parametrize("target", [1, 9])
def test_leadership_goes_to_another_voter_only(target: int) -> None:
    """Not to itself, and not to one that cannot be elected."""
    with pytest.raises(InvariantViolation, match="another voter"):
        leader().transfer(NodeId(target), T)


def test_one_that_is_no_voter_does_not_campaign_when_it_is_asked() -> None:
    """A learner that is told to lead would only raise the term."""
    raft = node(term=1, of=members(2, 3, learners=[1]))
    raft.step(NodeId(2), append(), 0)

    raft.step(NodeId(2), TimeoutNow(term=Term(1)), 0)

    assert (raft.role, raft.term) == (Role.FOLLOWER, 1)


def test_timeout_now_is_sent_once() -> None:
    """A second one would start a second election against the first."""
    raft = leader()
    answer(raft, 2, 1)
    raft.transfer(NodeId(2), T)
    sent_now = []
    for tick in range(3):
        raft.tick(T + tick)
        sent_now += [m for m in sent(raft, 2) if isinstance(m, TimeoutNow)]

    assert sent_now == [TimeoutNow(term=Term(1))]


# elections


def test_a_lost_election_ends_the_candidacy() -> None:
    """A majority of refusals: a follower again, with a new timeout, in the same term."""
    raft = node(term=1)
    raft.tick(T)
    settle(raft)
    deadline_us = raft.next_deadline_us
    for voter in (2, 3):
        refusal = RequestVoteResult(term=Term(1), granted=False, pre_vote=True, asked_term=Term(2))
        raft.step(NodeId(voter), refusal, T + 1_000)

    assert (raft.role, raft.term, raft.next_deadline_us != deadline_us) == (Role.FOLLOWER, 1, True)


def test_votes_of_who_is_no_voter_elect_nobody() -> None:
    """A learner's answer, or that of a removed member, is not counted."""
    raft = node(term=1, of=members(1, 2, 3, learners=[4]))
    raft.tick(T)
    settle(raft)
    for voter in (4, 9):
        vote = RequestVoteResult(term=Term(1), granted=True, pre_vote=True, asked_term=Term(2))
        raft.step(NodeId(voter), vote, T)

    assert raft.role is Role.PRE_CANDIDATE


def test_a_leader_sends_its_next_heartbeat_on_time() -> None:
    """The driver wakes for it: a heartbeat interval after the last."""
    raft = leader()

    assert raft.next_deadline_us == T + RaftConfig(node_id=NodeId(1)).heartbeat_us


def test_a_learner_is_asked_for_no_vote() -> None:
    """Votes are asked of voters only."""
    raft = node(term=1, of=members(1, 2, learners=[3]))
    raft.tick(T)

    assert [m.to for m in settle(raft).messages if isinstance(m.message, RequestVote)] == [2]


# membership (decision 18)


def settled_leader(of: Membership) -> Raft:
    """Return a leader that has committed an entry of its own term."""
    raft = leader(of=of)
    for voter in of.voters - {1}:
        answer(raft, voter, 1)
    settle(raft)
    return raft


def change(raft: Raft, new: Membership) -> Index:
    """Propose a membership."""
    return raft.change_membership(new, stamp_us=0, wall_us=0)


def test_a_learner_becomes_a_voter_by_the_next_change() -> None:
    """It is sent the log as a learner, then counts: with it, two of four are no majority any more."""
    raft = settled_leader(members(1, 2, 3))
    change(raft, members(1, 2, 3, learners=[4]))
    as_learner = [m.message for m in settle(raft).messages if m.to == 4]
    answer(raft, 2, 2)
    settle(raft)
    change(raft, members(1, 2, 3, 4))
    settle(raft)
    answer(raft, 2, 3)
    two_of_four = raft.commit_index
    answer(raft, 4, 3)

    assert (len(as_learner) > 0, two_of_four, raft.commit_index) == (True, 2, 3)


def test_the_last_other_voter_is_removed() -> None:
    """A cluster of two becomes one that commits by its own disk."""
    raft = settled_leader(members(1, 2))
    change(raft, members(1))
    raft.durable(_number(raft))
    settle(raft)

    assert (raft.commit_index, raft.state.progress, raft.membership.voters) == (2, {}, {1})


def _number(raft: Raft) -> int:
    write = raft.ready().write
    assert write is not None
    return write.number


def test_a_change_that_is_cut_off_is_undone_on_a_follower() -> None:
    """The membership in force is again the one before, and the quorums with it (thesis 4.1)."""
    raft = node(1, term=1)
    grown = entry(1, 1, members(1, 2, 3, 4).encode(), EntryKind.MEMBERSHIP)
    raft.step(NodeId(2), append(grown), 0)
    seen = [raft.membership.voters]
    raft.step(NodeId(3), _replacing(term=2), 0)
    seen.append(raft.membership.voters)

    assert seen == [{1, 2, 3, 4}, {1, 2, 3}]


def _replacing(*, term: int) -> AppendEntries:
    message: Any = _append_of(3, term=term)
    return AppendEntries(
        term=message.term,
        leader_id=message.leader_id,
        prev_log_index=Index(0),
        prev_log_term=Term(0),
        entries=(entry(1, term),),
        leader_commit=Index(0),
        round=0,
    )


def test_nobody_leads_a_cluster_without_voters() -> None:
    """A node that waits to be listed has no quorum to win or to keep."""
    raft = node(term=0, of=Membership())
    raft.tick(T)

    assert (raft.role, raft.leader_id, raft.transfer_target()) == (Role.FOLLOWER, NO_NODE, NO_NODE)
