"""Each rule of Raft's figure 2, and figure 8."""

from dataclasses import replace

import pytest

from raftlock.raft import (
    AppendEntries,
    AppendEntriesResult,
    NotLeader,
    RequestVote,
    RequestVoteResult,
    Role,
)
from raftlock_wire.entry import EntryKind, HardState
from raftlock_wire.ids import Index, NodeId, Term
from raftlock_wire.invariant import InvariantViolation
from tests.unit.raft.kit import append, elect, entry, leader, log_of, node, sent, settle, terms


def ask(term: int, last: tuple[int, int] = (0, 0), *, pre_vote: bool = False) -> RequestVote:
    """Return a RequestVote; `last` is (index, term)."""
    return RequestVote(
        term=Term(term),
        last_log_index=Index(last[0]),
        last_log_term=Term(last[1]),
        pre_vote=pre_vote,
    )


def result(term: int, match: int, *, success: bool = True, round_: int = 0) -> AppendEntriesResult:
    """Return a follower's answer."""
    return AppendEntriesResult(
        term=Term(term), success=success, match_index=Index(match), round=round_
    )


# RequestVote


def test_a_vote_is_refused_to_an_older_term() -> None:
    """Reply false if term < currentTerm, and say the own term."""
    raft = node(term=5)
    raft.step(NodeId(2), ask(4), 0)

    assert sent(raft) == [RequestVoteResult(term=Term(5), granted=False, asked_term=Term(4))]


def test_a_vote_goes_to_the_first_who_asks() -> None:
    """At most one vote a term, and again to the same candidate: its answer may have been lost."""
    raft = node(term=1)
    answers = []
    for candidate in (2, 3, 2):
        raft.step(NodeId(candidate), ask(2), 0)
        answers.append([m.granted for m in sent(raft) if isinstance(m, RequestVoteResult)])

    assert answers == [[True], [False], [True]]


@pytest.mark.parametrize(
    ("last", "granted"),
    [((3, 2), True), ((2, 2), False), ((9, 1), False), ((1, 3), True), ((4, 2), True)],
)
def test_a_vote_needs_a_log_at_least_as_up_to_date(last: tuple[int, int], granted: bool) -> None:
    """The later last term wins; with equal terms the longer log (5.4.1)."""
    raft = node(term=3, log=log_of(1, 2, 2))
    raft.step(NodeId(2), ask(4, last), 0)

    assert [m.granted for m in sent(raft) if isinstance(m, RequestVoteResult)] == [granted]


def test_a_vote_is_durable_before_its_answer() -> None:
    """Term and vote are on disk before the answer leaves: the answer names their write."""
    raft = node(term=1)
    raft.step(NodeId(3), ask(2), 0)
    ready = raft.ready()

    assert ready.write is not None
    assert (ready.write.hard_state, ready.messages[0].after_write) == (
        HardState(Term(2), NodeId(3)),
        ready.write.number,
    )


def test_a_vote_survives_a_restart() -> None:
    """What was voted before a crash is not voted again for another."""
    raft = node(term=2, voted_for=3)
    raft.step(NodeId(2), ask(2), 0)

    assert [m.granted for m in sent(raft) if isinstance(m, RequestVoteResult)] == [False]


# Candidates


def test_a_candidate_votes_for_itself_durably_before_it_asks() -> None:
    """On conversion to candidate: the next term, a vote for itself, RequestVote to all others, after the disk."""
    raft = node(term=1, log=log_of(1))
    raft.tick(300_000)
    settle(raft)
    raft.step(
        NodeId(2),
        RequestVoteResult(term=Term(1), granted=True, pre_vote=True, asked_term=Term(2)),
        300_000,
    )
    ready = raft.ready()

    assert ready.write is not None
    assert ready.write.hard_state == HardState(Term(2), NodeId(1))
    assert [(m.to, m.message, m.after_write) for m in ready.messages] == [
        (NodeId(to), ask(2, (1, 1)), ready.write.number) for to in (2, 3)
    ]


def test_a_duplicated_vote_elects_nobody() -> None:
    """Votes are counted by voter: one of five that answers twice is one vote."""
    raft = node(of=None)
    raft.tick(300_000)
    settle(raft)
    refused = RequestVoteResult(term=Term(1), granted=False, pre_vote=True, asked_term=Term(2))
    for _ in range(3):
        raft.step(NodeId(2), refused, 300_000)

    assert (raft.role, raft.term) == (Role.PRE_CANDIDATE, 1)


def test_an_answer_to_an_earlier_campaign_does_not_count() -> None:
    """A vote of term 2 that arrives in the campaign of term 3 says nothing."""
    raft = node(term=2)
    raft.tick(300_000)
    settle(raft)
    granted = RequestVoteResult(term=Term(2), granted=True, pre_vote=True, asked_term=Term(3))
    raft.step(NodeId(2), granted, 300_000)
    settle(raft)
    raft.step(NodeId(2), RequestVoteResult(term=Term(2), granted=True, asked_term=Term(2)), 300_000)

    assert (raft.role, raft.term) == (Role.CANDIDATE, 3)


def test_a_candidate_follows_a_leader_of_its_term() -> None:
    """AppendEntries from a new leader: convert to follower."""
    raft = node(term=1)
    elect(raft, voters=())
    raft.tick(300_000)
    raft.step(NodeId(2), append(term=2), 300_000)

    assert (raft.role, raft.leader_id, raft.term) == (Role.FOLLOWER, 2, 2)


# AppendEntries


def test_entries_of_an_older_term_are_refused() -> None:
    """Reply false if term < currentTerm; the old leader learns the term."""
    raft = node(term=5)
    raft.step(NodeId(2), append(entry(1, 4), term=4), 0)

    assert (sent(raft), terms(raft)) == ([result(5, 0, success=False)], [])


@pytest.mark.parametrize(
    ("prev", "conflict"),
    [((4, 2), (0, 4)), ((3, 3), (2, 2)), ((2, 3), (2, 2))],
)
def test_entries_need_a_matching_predecessor(
    prev: tuple[int, int], conflict: tuple[int, int]
) -> None:
    """Reply false if the log has no entry at prevLogIndex with prevLogTerm, and hint where to look (5.3)."""
    raft = node(term=3, log=log_of(1, 2, 2))
    raft.step(NodeId(2), append(entry(5, 3), term=3, prev=prev), 0)
    answer = sent(raft)[0]

    assert isinstance(answer, AppendEntriesResult)
    assert (answer.success, answer.conflict_term, answer.conflict_index) == (False, *conflict)


def test_a_conflict_cuts_off_what_follows() -> None:
    """An entry that conflicts with a new one is deleted, and all that follow it."""
    raft = node(term=3, log=log_of(1, 2, 2, 2))
    raft.step(NodeId(2), append(entry(2, 3), term=3, prev=(1, 1)), 0)
    ready = raft.ready()

    assert ready.write is not None
    assert (terms(raft), ready.write.entries) == ([1, 3], (entry(2, 3),))


def test_an_old_message_cuts_off_nothing() -> None:
    """A shorter message that agrees leaves what came after it: it may be an old one, overtaken."""
    log = log_of(1, 1, 1)
    raft = node(term=1, log=log)
    raft.step(NodeId(2), append(log[0], prev=(0, 0)), 0)

    assert (terms(raft), sent(raft)) == ([1, 1, 1], [result(1, 1)])


def test_commit_goes_no_further_than_the_last_new_entry() -> None:
    """commitIndex = min(leaderCommit, index of the last new entry): what lies behind it may not be the leader's."""
    log = log_of(1, 1, 1)
    raft = node(term=1, log=log)
    raft.step(NodeId(2), append(log[0], prev=(0, 0), commit=3), 0)

    assert raft.commit_index == 1


def test_entries_are_durable_before_they_are_acknowledged() -> None:
    """An answer to entries names the write that holds them, also when they come a second time before it is done."""
    raft = node(term=1)
    fences = []
    for _ in range(2):
        raft.step(NodeId(2), append(entry(1, 1)), 0)
        fences += [m.after_write for m in raft.ready().messages]
    raft.durable(1)
    raft.step(NodeId(2), append(entry(1, 1)), 0)
    fences += [m.after_write <= raft.state.durable_number for m in raft.ready().messages]

    assert fences == [1, 1, True]


def test_a_committed_entry_is_never_cut() -> None:
    """A leader that wants it cut is none: the process stops."""
    log = log_of(1, 1)
    raft = node(term=1, log=log)
    raft.step(NodeId(2), append(prev=(2, 1), commit=2), 0)

    with pytest.raises(InvariantViolation, match="leader completeness"):
        raft.step(NodeId(3), append(entry(2, 2), term=2, prev=(1, 1)), 0)


# Leaders


def test_a_leader_tries_lower_until_the_logs_agree() -> None:
    """After a refusal the leader goes back by the hint, and then sends everything from there on."""
    raft = leader(term=4, log=log_of(1, 2, 2, 3))
    hint = AppendEntriesResult(
        term=Term(4),
        success=False,
        match_index=Index(0),
        conflict_term=Term(2),
        conflict_index=Index(2),
    )
    raft.step(NodeId(2), hint, 300_000)
    message = sent(raft, 2)[0]

    assert isinstance(message, AppendEntries)
    assert (message.prev_log_index, [e.index for e in message.entries]) == (3, [4, 5])


def test_a_leader_commits_what_a_majority_has() -> None:
    """An entry of its own term on two of three disks is committed."""
    raft = leader(term=1)
    raft.step(NodeId(2), result(1, 1), 300_000)
    ready = settle(raft)

    assert (raft.commit_index, [e.index for e in ready.committed]) == (1, [1])


def test_a_leader_counts_its_own_disk_only_when_it_has_written() -> None:
    """The leader's vote counts when its entry is durable, not when it is appended (decision 3)."""
    raft = leader(term=1)
    raft.propose(EntryKind.BATCH, b"x", stamp_us=0, wall_us=0)
    ready = raft.ready()
    raft.step(NodeId(2), result(1, 2), 300_000)
    before = raft.commit_index
    assert ready.write is not None
    raft.durable(ready.write.number)

    assert (before, raft.commit_index) == (1, 2)


def test_a_leader_commits_only_its_own_term() -> None:
    """A majority on an older term's entry does not commit it (5.4.2, figure 8); one of the own term does, with it."""
    raft = leader(term=4, log=log_of(1, 2))
    commits = []
    for match in (2, 3):
        raft.step(NodeId(2), result(4, match), 300_000)
        commits.append(raft.commit_index)

    assert commits == [0, 3]


def test_a_leader_steps_down_for_a_newer_term() -> None:
    """A term greater than the own one in any answer: convert to follower, with that term on disk."""
    raft = leader(term=1)
    raft.step(NodeId(2), result(3, 0, success=False), 300_000)
    ready = raft.ready()

    assert ready.write is not None
    assert (raft.role, ready.stepped_down, ready.write.hard_state) == (
        Role.FOLLOWER,
        True,
        HardState(Term(3), NodeId(0)),
    )


def test_only_a_leader_takes_proposals() -> None:
    """A follower refuses."""
    with pytest.raises(NotLeader):
        node().propose(EntryKind.BATCH, b"x", stamp_us=0, wall_us=0)


def test_a_second_leader_of_a_term_is_not_followed() -> None:
    """Election safety: who claims the term of the leader is not believed, and the leader says who it was."""
    raft = leader(term=1)

    raft.step(NodeId(2), append(term=1), 300_000)

    assert (raft.role, raft.term, raft.contradicted_by) == (Role.LEADER, Term(1), NodeId(2))


def test_a_follower_keeps_the_leader_of_its_term() -> None:
    """A term has one leader: a second claim to it changes nothing, whatever it carries."""
    raft = node()
    raft.step(NodeId(2), append(term=3), 100_000)

    raft.step(NodeId(3), replace(append(term=3, commit=9), leader_id=NodeId(3)), 200_000)

    assert (raft.leader_id, raft.commit_index, raft.contradicted_by) == (NodeId(2), 0, NodeId(3))


def test_an_absurd_term_is_not_taken_over() -> None:
    """A term so far ahead is no member's that keeps to the protocol; after it there would be no next one."""
    raft = node()

    raft.step(
        NodeId(2),
        RequestVote(term=Term(1 << 52), last_log_index=Index(9), last_log_term=Term(9)),
        300_000,
    )

    assert (raft.term, raft.contradicted_by) == (Term(1), NodeId(2))


# Decision 11


def test_an_entry_is_durable_by_the_write_that_placed_it_last() -> None:
    """An entry cut off and placed again by a later write is not durable by the first: index and term are not enough."""
    raft = node(term=1)
    raft.step(NodeId(2), append(entry(1, 1), entry(2, 1)), 0)
    first = raft.ready().write
    raft.step(NodeId(3), append(entry(2, 2), term=2, prev=(1, 1)), 0)
    second = raft.ready().write
    assert first is not None
    assert second is not None
    raft.durable(first.number)
    after_first = raft.state.durable_index
    raft.durable(second.number)

    assert (after_first, raft.state.durable_index) == (1, 2)
