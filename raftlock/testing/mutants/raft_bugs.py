"""Bugs of consensus: votes, terms, logs, commitment, membership (Raft; decisions 3, 11, 18)."""

from raftlock.testing.mutants.planting import Edit, Mutant

_ELECTION = "raftlock.raft.election"
_REPLICATION = "raftlock.raft.replication"
_STATE = "raftlock.raft.state:RaftState"
_CORE = "raftlock.raft.core:Raft"

BUGS: tuple[Mutant, ...] = (
    Mutant(
        name="a vote that is not persisted",
        breaks="the term is on the disk and the vote is not: after a crash a node votes twice (Raft 5.2, decision 13)",
        edits=(
            Edit(
                f"{_STATE}.take_write",
                "HardState(self.current_term, self.voted_for)",
                "HardState(self.current_term, NO_NODE)",
            ),
        ),
    ),
    Mutant(
        name="a vote sent before it is durable",
        breaks="the answer to a candidate does not wait for the disk (decision 13)",
        edits=(Edit(f"{_ELECTION}:_answer", "after_write=state.fence()", "after_write=0"),),
    ),
    Mutant(
        name="a candidate that asks before its own vote is durable",
        breaks="after a crash it votes for another one in the same term (Raft 5.2)",
        edits=(Edit(f"{_ELECTION}:campaign", "0 if pre_vote else state.fence()", "0"),),
    ),
    Mutant(
        name="a vote counted twice",
        breaks="answers are counted and not voters: a duplicated one elects a second leader (Raft 5.2)",
        edits=(
            Edit(
                f"{_ELECTION}:on_request_vote_result",
                "state.votes[sender] = message.granted",
                "state.votes[next((v for v in state.voters if v not in state.votes), sender)] = message.granted",
            ),
        ),
        directed="paper/test_figure_2.py::test_a_duplicated_vote_elects_nobody",
    ),
    Mutant(
        name="a vote of an earlier campaign counted",
        breaks="an old candidate's votes come late and elect it in a term in which nobody gave them (Raft 5.2)",
        edits=(
            Edit(
                f"{_ELECTION}:on_request_vote_result",
                "state.role is Role.CANDIDATE and message.asked_term == state.current_term",
                "state.role is Role.CANDIDATE",
            ),
        ),
        directed="paper/test_figure_2.py::test_an_answer_to_an_earlier_campaign_does_not_count",
    ),
    Mutant(
        name="votes for anybody",
        breaks="a voter does not compare logs: who lacks committed entries is elected (Raft 5.4.1)",
        edits=(
            Edit(
                f"{_ELECTION}:on_request_vote",
                "up_to_date and state.voted_for in",
                "state.voted_for in",
            ),
            Edit(
                f"{_ELECTION}:on_request_vote",
                "granted=up_to_date and message.term > state.current_term",
                "granted=message.term > state.current_term",
            ),
        ),
    ),
    Mutant(
        name="two votes in one term",
        breaks="a voter forgets whom it voted for as soon as another one asks (Raft 5.2)",
        edits=(
            Edit(
                f"{_ELECTION}:on_request_vote",
                "up_to_date and state.voted_for in (NO_NODE, sender) and state.role is Role.FOLLOWER",
                "up_to_date and state.role is Role.FOLLOWER",
            ),
        ),
        directed="paper/test_figure_2.py::test_a_vote_goes_to_the_first_who_asks",
    ),
    Mutant(
        name="an older term's entry committed by counting",
        breaks="figure 8: a later leader may still replace it (Raft 5.4.2)",
        edits=(
            Edit(
                f"{_REPLICATION}:advance_commit",
                " and state.log.term_at(index) == state.current_term",
                "",
            ),
        ),
        profiles=("disk", "everything"),
    ),
    Mutant(
        name="truncation without a conflict",
        breaks="an old message, shorter than the log, cuts off what came after it (Raft 5.3)",
        edits=(
            Edit(
                f"{_REPLICATION}:on_append_entries",
                "if term == entry.term:",
                "if term == entry.term and entry.index <= state.commit_index:",
            ),
        ),
        profiles=("network", "everything"),
    ),
    Mutant(
        name="entries acknowledged before they are durable",
        breaks="a follower's answer does not wait for its disk (decision 3)",
        edits=(
            Edit(
                f"{_REPLICATION}:on_append_entries",
                "after_write=state.fence_for(match_index)",
                "after_write=0",
            ),
        ),
    ),
    Mutant(
        name="a leader that counts its own disk too early",
        breaks="what it has only appended counts as durable (decision 3)",
        edits=(
            Edit(
                f"{_REPLICATION}:advance_commit",
                "= state.durable_index",
                "= state.log.last_index",
            ),
        ),
    ),
    Mutant(
        name="a notice for a replaced entry counted",
        breaks="the write of an entry that was cut off makes its successor durable (decision 11)",
        edits=(
            Edit(
                f"{_STATE}.note_durable",
                "last = min(last, Index(later.first - 1))",
                "pass",
            ),
            Edit(
                f"{_STATE}.note_durable",
                "last = min(last, Index(self.unsaved_from - 1))",
                "pass",
            ),
        ),
        directed="paper/test_figure_2.py::test_an_entry_is_durable_by_the_write_that_placed_it_last",
    ),
    Mutant(
        name="success for a gap",
        breaks="a follower says that it has what lies behind its log's end (Raft 5.3)",
        edits=(
            Edit(
                f"{_REPLICATION}:_refuse",
                "        success=False,\n        match_index=Index(0),",
                "        success=term is None,\n        match_index=message.prev_log_index if term is None else Index(0),",
            ),
        ),
        profiles=("network", "everything"),
    ),
    Mutant(
        name="entries of an older leader taken",
        breaks="a deposed leader still writes into the logs of others (Raft 5.1)",
        edits=(Edit(f"{_CORE}._follow", "if term < state.current_term:", "if term < 0:"),),
        profiles=("network", "everything"),
    ),
    Mutant(
        name="a term that is not taken over",
        breaks="a follower takes a newer leader's entries and keeps its own term (Raft 5.1)",
        edits=(
            Edit(
                f"{_CORE}._follow",
                "if term > state.current_term or state.role is not Role.FOLLOWER:",
                "if state.role is not Role.FOLLOWER:",
            ),
        ),
        directed="sim/test_directed.py::test_a_follower_takes_over_the_term_of_who_leads_it",
    ),
    Mutant(
        name="a commit index beyond what is known to match",
        breaks="a follower commits an entry of its own that the leader does not have (Raft figure 2)",
        edits=(
            Edit(
                f"{_REPLICATION}:on_append_entries",
                "min(message.leader_commit, match_index)",
                "min(message.leader_commit, log.last_index)",
            ),
        ),
        profiles=("network", "everything"),
    ),
    Mutant(
        name="a membership change before the one before it committed",
        breaks="two majorities that do not meet (thesis 4.1, decision 18)",
        edits=(
            Edit(
                f"{_CORE}.change_membership",
                "if pending or not self.own_term_committed:",
                "if not self.own_term_committed:",
            ),
        ),
        directed="paper/test_thesis.py::test_one_change_at_a_time",
    ),
    # TimeoutNow to a laggard alone is harmless: voters compare logs in a transfer too, so the laggard raises the term,
    # loses, and leadership comes back after one election. With voters that trust a transfer it is not.
    Mutant(
        name="a transfer to a laggard that voters trust",
        breaks="TimeoutNow goes to who lacks entries, and voters do not compare logs in a transfer (thesis 3.10)",
        edits=(
            Edit(
                "raftlock.raft.transfer:advance",
                "not state.transfer_sent and progress.match_index == state.log.last_index",
                "not state.transfer_sent",
            ),
            Edit(
                f"{_ELECTION}:on_request_vote",
                "granted = up_to_date and",
                "granted = (up_to_date or message.transfer) and",
            ),
        ),
        profiles=("default", "everything"),
    ),
    Mutant(
        name="a read without a quorum round",
        breaks="a deposed leader answers reads and renewals by itself (L4)",
        edits=(
            Edit(
                f"{_REPLICATION}:confirmed_round",
                "return quorum_value(state.voters, rounds)",
                "return state.round",
            ),
        ),
        directed="unit/server/test_driver_leases.py::test_a_renewal_is_answered_by_a_quorum_only",
    ),
)
