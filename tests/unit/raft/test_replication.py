"""Replication between two sides: the window, probes, hints, rounds, and whom a leader does not listen to."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlock.raft import (
    AppendEntries,
    AppendEntriesResult,
    InstallSnapshotResult,
    Raft,
    RaftConfig,
    Role,
)
from raftlock_wire.entry import EntryKind, SnapshotMeta
from raftlock_wire.ids import Index, NodeId, Term
from raftlock_wire.invariant import InvariantViolation
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
    terms,
)

T = ELECTION_US


def answer(raft: Raft, sender: int, match: int, *, round_: int = 0, now_us: int = T) -> None:
    """Let a follower say that it has everything up to `match`."""
    message = AppendEntriesResult(
        term=raft.term, success=True, match_index=Index(match), round=round_
    )
    raft.step(NodeId(sender), message, now_us)


def windowed(**bounds: int) -> Raft:
    """Return a leader with bounds of its own, in pipelined replication with peer 2; its log is one entry."""
    raft = node(term=0, config=RaftConfig(node_id=NodeId(1), **bounds))
    elect(raft)
    raft.ready()
    raft.begin_term(stamp_us=0, wall_us=0)
    settle(raft)
    answer(raft, 2, 1)
    settle(raft)
    return raft


def entries_sent(raft: Raft, to: int) -> list[list[int]]:
    """Return the indexes in each message with entries of the next Ready."""
    messages = [m for m in sent(raft, to) if isinstance(m, AppendEntries)]
    return [[e.index for e in m.entries] for m in messages if m.entries]


# the window (decision 4)


def test_a_window_is_bounded_in_messages() -> None:
    """Beyond the bound nothing is sent until an answer makes room."""
    raft = windowed(inflight_messages_max=2, append_entries_max=1)
    for _ in range(4):
        raft.propose(EntryKind.BATCH, b"x", stamp_us=0, wall_us=0)
    first, none = entries_sent(raft, 2), entries_sent(raft, 2)
    answer(raft, 2, 2)

    assert (first, none, entries_sent(raft, 2)) == ([[2], [3]], [], [[4]])


def test_a_window_is_bounded_in_bytes() -> None:
    """An answer to half of what is under way makes room for the next message."""
    raft = windowed(inflight_bytes_max=10, append_entries_max=1)
    for _ in range(4):
        raft.propose(EntryKind.BATCH, b"5 byt", stamp_us=0, wall_us=0)
    first = entries_sent(raft, 2)
    answer(raft, 2, 2)

    assert (first, entries_sent(raft, 2)) == ([[2], [3]], [[4]])


def test_an_answer_takes_all_before_it_off_the_window() -> None:
    """Answers may be lost or overtake each other: the furthest counts for all messages up to it."""
    raft = windowed(inflight_messages_max=3, append_entries_max=1)
    for _ in range(6):
        raft.propose(EntryKind.BATCH, b"x", stamp_us=0, wall_us=0)
    settle(raft)
    answer(raft, 2, 4)
    more = entries_sent(raft, 2)
    answer(raft, 2, 3)

    assert (more, entries_sent(raft, 2), raft.state.progress[NodeId(2)].match_index) == (
        [[5], [6], [7]],
        [],
        4,
    )


def test_a_message_has_at_least_one_entry_and_then_fits() -> None:
    """An entry larger than the bound goes alone; small ones go together up to it."""
    raft = windowed(append_bytes_max=10)
    for size in (20, 4, 6, 1):
        raft.propose(EntryKind.BATCH, b"x" * size, stamp_us=0, wall_us=0)

    assert entries_sent(raft, 2) == [[2], [3, 4], [5]]


# probes


def test_a_probe_sends_entries_once_and_then_asks_empty_handed() -> None:
    """A peer that hangs is not sent the same megabyte with each heartbeat."""
    raft = leader()
    raft.propose(EntryKind.BATCH, b"x", stamp_us=0, wall_us=0)
    raft.link_lost(NodeId(2), T)
    probes = []
    for tick in range(3):
        raft.tick(T + tick * 30_000)
        probes.append([len(m.entries) for m in sent(raft, 2) if isinstance(m, AppendEntries)])

    assert probes == [[2], [0], [0]]


def test_a_lost_link_forgets_what_was_under_way() -> None:
    """What was in the socket is gone: the leader sends it again as soon as the link is back."""
    raft = windowed()
    raft.propose(EntryKind.BATCH, b"x", stamp_us=0, wall_us=0)
    first = entries_sent(raft, 2)
    raft.link_lost(NodeId(2), T)
    raft.link_lost(NodeId(9), T)

    assert (first, entries_sent(raft, 2), raft.role) == ([[2]], [[2]], Role.LEADER)


def test_a_lost_link_to_anybody_but_the_leader_changes_nothing() -> None:
    """A follower whose leader is heard does not campaign because another follower is gone (decision 18)."""
    raft = node(term=1)
    raft.step(NodeId(2), append(), 0)
    before = raft.next_deadline_us

    raft.link_lost(NodeId(3), 0)

    assert (raft.next_deadline_us, raft.leader_id) == (before, 2)


evens, odds = st.sampled_from([2, 4, 6, 8]), st.sampled_from([1, 3, 5, 7, 9])


@settings(max_examples=300, deadline=None)
@given(
    ours=st.lists(evens, max_size=25).map(sorted),
    beyond=st.lists(odds, max_size=25).map(sorted),
    shared=st.integers(0, 25),
)
def test_two_logs_are_made_equal_in_a_few_refusals(
    ours: list[int], beyond: list[int], shared: int
) -> None:
    """The hint skips a whole term a refusal (Raft 5.3): at most one refusal a term of either log, and one more."""
    common = ours[:shared]
    theirs = [*common, *(t for t in beyond if not common or t > common[-1])]
    one = node(1, term=9, log=log_of(*ours))
    elect(one)
    one.ready()
    one.begin_term(stamp_us=0, wall_us=0)
    other = node(2, term=9, log=log_of(*theirs))
    refusals = 0
    for _ in range(60):
        for message in sent(one, 2):
            other.step(NodeId(1), message, T)
        for message in sent(other, 1):
            refusals += isinstance(message, AppendEntriesResult) and not message.success
            one.step(NodeId(2), message, T)
        if one.state.progress[NodeId(2)].match_index == one.last_index:
            break

    assert other.state.log.entries == one.state.log.entries
    assert refusals <= len({*theirs, *ours}) + 1


def test_a_hint_at_a_term_that_the_leader_knows_leads_to_its_end() -> None:
    """The leader has entries of the follower's term: it goes on behind its own last one of that term."""
    raft = leader(term=5, log=log_of(1, 1, 2, 4, 4))
    sent(raft, 2)
    refusal = AppendEntriesResult(
        term=Term(5),
        success=False,
        match_index=Index(0),
        conflict_term=Term(2),
        conflict_index=Index(2),
    )
    raft.step(NodeId(2), refusal, T)

    assert [m.prev_log_index for m in sent(raft, 2) if isinstance(m, AppendEntries)] == [3]


def test_an_old_refusal_moves_nothing_back() -> None:
    """A refusal at or below what is known to match was overtaken by the answer that made it known."""
    raft = windowed()
    late = AppendEntriesResult(
        term=raft.term, success=False, match_index=Index(0), conflict_index=Index(1)
    )
    raft.step(NodeId(2), late, T)
    raft.propose(EntryKind.BATCH, b"x", stamp_us=0, wall_us=0)

    assert entries_sent(raft, 2) == [[2]]


# what a follower's answer waits for (decisions 3, 11)


def test_an_answer_to_a_heartbeat_does_not_wait_for_entries_under_way() -> None:
    """It names what is durable long since: a slow disk must not look like a lost majority."""
    raft = node(term=1)
    raft.step(NodeId(2), append(entry(1, 1)), 0)
    raft.durable(_write(raft))
    raft.step(NodeId(2), append(entry(2, 1), prev=(1, 1)), 0)
    pending = raft.ready()
    raft.step(NodeId(2), append(prev=(1, 1)), 0)
    heartbeat = raft.ready()
    assert pending.write is not None

    assert (
        [m.after_write for m in pending.messages],
        [m.after_write for m in heartbeat.messages],
    ) == ([pending.write.number], [0])


def test_an_answer_to_a_heartbeat_waits_for_the_term() -> None:
    """The first answer in a new term is true only when the term is on disk, entries or not."""
    raft = node(term=1, log=log_of(1))
    raft.step(NodeId(2), append(term=2, prev=(1, 1)), 0)
    first = raft.ready()
    assert first.write is not None
    raft.step(NodeId(2), append(term=2, prev=(1, 1)), 0)
    again = raft.ready()
    raft.durable(first.write.number)

    assert [m.after_write for m in (*first.messages, *again.messages)] == [first.write.number] * 2


def _write(raft: Raft) -> int:
    write = raft.ready().write
    assert write is not None
    return write.number


def test_only_writes_that_were_handed_out_become_durable() -> None:
    """A disk that tells of a write that nobody asked for is broken."""
    raft = node()

    with pytest.raises(InvariantViolation, match="handed out"):
        raft.durable(1)


# who does not count


def test_answers_of_a_removed_member_count_for_nothing() -> None:
    """It may be heard long after: nothing is sent to it, and nothing is committed by it."""
    raft = leader(of=members(1, 2, 3))
    raft.propose(EntryKind.BATCH, b"x", stamp_us=0, wall_us=0)
    settle(raft)
    answer(raft, 7, 2)
    raft.step(
        NodeId(7),
        InstallSnapshotResult(
            term=raft.term, meta_index=Index(2), meta_sha256=b"", next_offset=9, round=9
        ),
        T,
    )

    assert (raft.commit_index, settle(raft).round_confirmed, sent(raft, 7)) == (0, 0, [])


def test_a_leader_of_an_older_term_is_told_so_by_every_answer() -> None:
    """Entries and snapshots of an older term are refused with the newer one; the term is on disk before that."""
    raft = node(term=5)
    raft.step(NodeId(2), append(entry(1, 4), term=4), 0)

    assert sent(raft, 2) == [AppendEntriesResult(term=Term(5), success=False, match_index=Index(0))]


# the log


def test_a_log_with_a_gap_is_none() -> None:
    """What was recovered has every index: else the node does not start."""
    with pytest.raises(InvariantViolation, match="no gap"):
        node(log=[entry(1, 1), entry(3, 1)])


def test_stamps_in_the_log_never_go_back() -> None:
    """A leader that proposes an older stamp would let leases end early on another (L7)."""
    raft = leader()
    raft.propose(EntryKind.BATCH, b"x", stamp_us=9, wall_us=9)

    with pytest.raises(InvariantViolation, match="never go back"):
        raft.propose(EntryKind.BATCH, b"x", stamp_us=8, wall_us=9)


@pytest.mark.parametrize("size", [3, 5])
def test_a_follower_takes_entries_in_any_order_and_number(size: int) -> None:
    """Doubled, overlapping and late messages leave the log as the leader's (Raft figure 3)."""
    log = log_of(1, 1, 1, 1, 1)
    raft = node(term=1)
    for first, last in ((0, 2), (1, 4), (0, 1), (3, 5), (2, 3), (0, size)):
        prev = (first, 1) if first else (0, 0)
        raft.step(NodeId(2), append(*log[first:last], prev=prev), 0)
        settle(raft)

    assert terms(raft) == [1] * 5


@pytest.mark.parametrize(("first", "last", "match"), [(1, 2, 2), (1, 4, 4), (2, 6, 6), (1, 3, 3)])
def test_entries_before_the_snapshot_agree_and_are_skipped(
    first: int, last: int, match: int
) -> None:
    """What lies before the base is committed: of a message that reaches across it only the rest is appended."""
    meta = SnapshotMeta(Index(3), Term(1), 0, 0, members(1, 2, 3).encode(), 10, b"h" * 32)
    raft = node(term=1, snapshot=meta)
    raft.step(NodeId(2), append(*log_of(1, 1, 1, 1, 1, 1)[first:last], prev=(first, 1)), 0)
    answers = [m.match_index for m in sent(raft) if isinstance(m, AppendEntriesResult)]

    assert (answers, raft.last_index) == ([match], max(last, 3))


def test_what_was_replaced_before_its_write_was_done_is_not_durable_by_it() -> None:
    """The entries that take the place of those under way are not even handed to the disk yet (decision 11)."""
    raft = node(term=1)
    raft.step(NodeId(2), append(*log_of(1, 1, 1)), 0)
    first = _write(raft)
    raft.step(NodeId(2), append(entry(2, 2), term=2, prev=(1, 1)), 0)

    raft.durable(first)

    assert (raft.state.durable_index, terms(raft)) == (1, [1, 2])
