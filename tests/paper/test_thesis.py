"""What Ongaro's thesis adds: pre-vote, check-quorum, reads, transfer and membership."""

import pytest

from raftlock.raft import (
    AppendEntries,
    AppendEntriesResult,
    MembershipBusy,
    NotLeader,
    Raft,
    RequestVote,
    RequestVoteResult,
    Role,
    TimeoutNow,
)
from raftlock_wire.entry import EntryKind
from raftlock_wire.ids import NO_NODE, Index, NodeId, Term
from raftlock_wire.invariant import InvariantViolation
from tests.unit.raft.kit import (
    ELECTION_US,
    answer,
    append,
    entry,
    leader,
    members,
    node,
    sent,
    settle,
)

T = ELECTION_US


def request(term: int, *, pre_vote: bool = False, transfer: bool = False) -> RequestVote:
    """Return a RequestVote of a candidate with a long log."""
    return RequestVote(
        term=Term(term),
        last_log_index=Index(99),
        last_log_term=Term(term),
        pre_vote=pre_vote,
        transfer=transfer,
    )


def grants(raft: Raft) -> list[bool]:
    """Return the votes in the next Ready."""
    return [m.granted for m in sent(raft) if isinstance(m, RequestVoteResult)]


# Pre-vote (9.6) and check-quorum (6.2)


def test_a_pre_vote_changes_nothing() -> None:
    """Asking whether votes would be given raises no term, on neither side, and is not written."""
    asking, asked = node(term=1), node(2, term=1)
    asking.tick(T)
    asked.step(NodeId(1), request(2, pre_vote=True), T)
    readies = asking.ready(), asked.ready()

    assert [(r.write, n.term) for r, n in zip(readies, (asking, asked), strict=True)] == [
        (None, 1),
        (None, 1),
    ]


def test_a_refused_pre_vote_says_the_term() -> None:
    """One that fell behind learns the newer term from the refusal, and is not stuck (decision 18)."""
    raft = node(term=1)
    raft.tick(T)
    settle(raft)
    refused = RequestVoteResult(term=Term(7), granted=False, pre_vote=True, asked_term=Term(2))
    raft.step(NodeId(2), refused, T)

    assert (raft.term, raft.role) == (7, Role.FOLLOWER)


def test_who_hears_a_leader_refuses_votes() -> None:
    """Within an election timeout of a leader's message no vote is given, but in a transfer (4.2.3)."""
    votes = []
    for now_us, transfer in ((149_000, False), (149_000, True), (151_000, False)):
        raft = node(term=1)
        raft.step(NodeId(2), append(), 0)
        settle(raft)
        raft.step(NodeId(3), request(2, transfer=transfer), now_us)
        votes += grants(raft)

    assert votes == [False, True, True]


def test_a_lost_link_is_not_having_heard() -> None:
    """A closed link from the leader: pre-vote within 50 ms, and no more refusals (decision 18)."""
    raft = node(term=1)
    raft.step(NodeId(2), append(), 0)
    settle(raft)
    raft.link_lost(NodeId(3), 1_000)
    unmoved = raft.next_deadline_us
    raft.link_lost(NodeId(2), 1_000)
    due = raft.next_deadline_us
    raft.step(NodeId(3), request(2, pre_vote=True), 2_000)

    assert (unmoved >= 150_000, due <= 51_000, grants(raft)) == (True, True, [True])


def test_a_leader_without_a_majority_steps_down() -> None:
    """Unheard by a majority for an election timeout, it leads no more; with one of two others it goes on."""
    alone, with_one = leader(), leader()
    answer(with_one, 2, 1, now_us=T + 140_000)
    for raft in (alone, with_one):
        for now_us in range(T, T + 152_000, 15_000):
            raft.tick(now_us)
        raft.tick(T + 151_000)

    assert (alone.role, with_one.role) == (Role.FOLLOWER, Role.LEADER)


def test_a_leader_that_is_heard_refuses_votes() -> None:
    """A leader in contact with a majority keeps its office, and one without gives it up to a newer term."""
    votes = []
    for now_us in (T + 1_000, T + 151_000):
        raft = leader(term=2)
        raft.step(NodeId(3), request(3), now_us)
        votes += grants(raft)

    assert votes == [False, True]


def test_nobody_campaigns_who_is_no_voter() -> None:
    """A learner, and a node that is not listed, wait for ever."""
    learner = node(3, of=members(1, 2, learners=(3,)))
    stranger = node(4)
    for raft in (learner, stranger):
        raft.tick(10 * T)

    assert [raft.role for raft in (learner, stranger)] == [Role.FOLLOWER] * 2


def test_one_voter_alone_leads_and_commits_by_its_own_disk() -> None:
    """A cluster of one needs no message."""
    raft = node(of=members(1), term=0)
    raft.tick(T)
    ready = raft.ready()
    raft.begin_term(stamp_us=0, wall_us=0)
    settle(raft)

    assert (ready.elected, [e.index for e in raft.ready().committed]) == (True, [1])


# Reads (6.4)


def test_a_round_is_confirmed_by_answers_to_it_and_not_before() -> None:
    """An answer to an earlier round confirms no later one: it says nothing of who leads now."""
    raft = leader()
    number = raft.start_round()
    settle(raft)
    confirmed = []
    for round_ in (number - 1, number):
        answer(raft, 2, 1, round_=round_)
        confirmed.append(raft.ready().round_confirmed)

    assert confirmed == [number - 1, number]


def test_a_round_goes_out_at_once() -> None:
    """It does not wait for the next heartbeat, nor for the disk."""
    raft = leader()
    answer(raft, 2, 1)
    answer(raft, 3, 1)
    settle(raft)
    number = raft.start_round()
    messages = raft.ready().messages

    assert [
        (m.to, m.message.round, m.after_write)
        for m in messages
        if isinstance(m.message, AppendEntries)
    ] == [(2, number, 0), (3, number, 0)]


def test_a_deposed_leader_confirms_nothing() -> None:
    """After a newer term no answer to its rounds counts."""
    raft = leader()
    number = raft.start_round()
    settle(raft)
    raft.step(NodeId(3), append(term=5), T)
    message = AppendEntriesResult(term=Term(1), success=True, match_index=Index(1), round=number)
    raft.step(NodeId(2), message, T)

    assert raft.ready().round_confirmed == 0


# Leadership transfer (3.10)


def test_a_transfer_waits_until_the_target_has_everything() -> None:
    """TimeoutNow goes to a target whose log is complete; meanwhile nothing is proposed."""
    raft = leader()
    raft.transfer(NodeId(2), T)
    raft.tick(T)
    before = [m for m in sent(raft) if isinstance(m, TimeoutNow)]
    answer(raft, 2, 1)
    raft.tick(T)

    assert (before, [m for m in sent(raft, 2) if isinstance(m, TimeoutNow)]) == (
        [],
        [TimeoutNow(term=Term(1))],
    )
    with pytest.raises(NotLeader):
        raft.propose(EntryKind.BATCH, b"x", stamp_us=0, wall_us=0)


def test_a_transfer_is_given_up_after_an_election_timeout() -> None:
    """A target that does not take over costs an election timeout, not the leadership."""
    raft = leader()
    raft.transfer(NodeId(2), T)
    for peer in (2, 3):
        answer(raft, peer, 0, now_us=T + 299_000)
    raft.tick(T + 300_000)

    assert (raft.role, raft.transferring) == (Role.LEADER, False)


def test_the_target_campaigns_at_once_without_a_pre_vote() -> None:
    """TimeoutNow from the leader of the term; from anybody else it is nothing."""
    raft = node(term=1)
    raft.step(NodeId(2), append(), 0)
    settle(raft)
    raft.step(NodeId(3), TimeoutNow(term=Term(1)), 10)
    before = raft.role
    raft.step(NodeId(2), TimeoutNow(term=Term(1)), 10)
    asked = [m for m in sent(raft) if isinstance(m, RequestVote)]

    assert (before, raft.role, [(m.term, m.pre_vote, m.transfer) for m in asked]) == (
        Role.FOLLOWER,
        Role.CANDIDATE,
        [(2, False, True)] * 2,
    )


def test_the_best_target_is_fresh_and_furthest() -> None:
    """Of those heard within an election timeout, the one with the most of the log; none if nobody was."""
    raft = leader()
    answer(raft, 3, 1)
    answer(raft, 2, 0)
    best = raft.transfer_target()
    for peer, when in ((2, T + 200_000), (3, T)):
        answer(raft, peer, 1, now_us=when)
    raft.tick(T + 200_000)
    fresh = raft.transfer_target()
    raft.tick(T + 200_001)

    assert (best, fresh, node().transfer_target()) == (3, 2, NO_NODE)


# Membership (4.1, 4.2)


def committed_leader() -> Raft:
    """Return a leader that has committed an entry of its own term."""
    raft = leader()
    answer(raft, 2, 1)
    settle(raft)
    return raft


def change(raft: Raft, *node_ids: int, learners: tuple[int, ...] = ()) -> Index:
    """Propose a membership."""
    return raft.change_membership(members(*node_ids, learners=learners), stamp_us=0, wall_us=0)


def test_a_change_waits_for_an_entry_of_the_own_term() -> None:
    """Before that the last membership of an older term may not be committed (the bug of 2015)."""
    with pytest.raises(MembershipBusy):
        change(leader(), 1, 2, 3, 4)


def test_one_change_at_a_time() -> None:
    """A second change waits until the first is committed, and a change is of one member."""
    raft = committed_leader()
    change(raft, 1, 2, 3, 4)

    with pytest.raises(MembershipBusy):
        change(raft, 1, 2, 3, 4, 5)
    with pytest.raises(InvariantViolation, match="one member"):
        change(committed_leader(), 1, 2, 4)


def test_a_change_is_in_force_when_appended_and_undone_when_cut() -> None:
    """Nodes use the latest membership in their log, committed or not."""
    data = members(1, 2, 3, 4).encode()
    raft = node(term=1)
    raft.step(NodeId(2), append(entry(1, 1, data, EntryKind.MEMBERSHIP)), 0)
    appended = raft.membership.voters
    raft.step(NodeId(3), append(entry(1, 2), term=2), 0)

    assert (appended, raft.membership.voters) == ({1, 2, 3, 4}, {1, 2, 3})


def test_a_learner_counts_in_no_quorum() -> None:
    """It gets the log, and its answers commit nothing."""
    raft = committed_leader()
    change(raft, 1, 2, 3, learners=(4,))
    settle(raft)
    answer(raft, 4, 2)
    before = raft.commit_index
    answer(raft, 3, 2)

    assert (before, raft.commit_index) == (1, 2)


def test_a_leader_that_is_removed_leads_until_that_is_committed() -> None:
    """It counts itself in no quorum meanwhile, and then steps down (4.2.2)."""
    raft = committed_leader()
    change(raft, 2, 3)
    settle(raft)
    answer(raft, 2, 2)
    raft.tick(T + 1)
    before = raft.role, raft.commit_index
    answer(raft, 3, 2)
    committed = settle(raft).committed
    raft.tick(T + 2)

    assert (before, raft.role, raft.commit_index) == ((Role.LEADER, 1), Role.FOLLOWER, 2)
    assert [e.kind for e in committed] == [EntryKind.MEMBERSHIP]
    # It hands over as it goes (3.10): nobody waits for an election timeout.
    assert [type(m.message) for m in settle(raft).messages] == [TimeoutNow]


def test_a_removed_peer_is_forgotten() -> None:
    """What is sent goes to the members in force."""
    raft = committed_leader()
    change(raft, 1, 2)

    assert {m.to for m in settle(raft).messages} == {2}


# Copies


def test_a_clone_is_independent_and_digests_tell() -> None:
    """A copy goes its own way; equal states have equal digests, and a vote changes them."""
    raft = leader()
    copy = raft.clone()
    before = raft.digest()
    copy.step(NodeId(2), append(term=9), T)

    assert (raft.digest(), copy.digest() == before, raft.role) == (before, False, Role.LEADER)


def test_messages_under_way_that_get_lost_are_sent_again() -> None:
    """Entries without an answer for an election timeout: the leader probes from what is known."""
    raft = leader()
    for peer in (2, 3):
        answer(raft, peer, 1)
    raft.propose(EntryKind.BATCH, b"lost", stamp_us=0, wall_us=0)
    first = [m for m in sent(raft, 2) if isinstance(m, AppendEntries)]
    answer(raft, 2, 1, now_us=T + 140_000)
    answer(raft, 3, 2, now_us=T + 140_000)
    raft.tick(T + 200_000)
    again = [m for m in sent(raft, 2) if isinstance(m, AppendEntries) and m.entries]

    assert [[e.data for e in m.entries] for m in (*first, *again)] == [[b"lost"], [b"lost"]]
