"""Bugs of changes of the members: who is asked for, let in, counted, and when it is said (thesis 4, decision 13)."""

from raftlock.testing.mutants.planting import Edit, Mutant

_MEMBERS = "raftlock.server.members"
_DIRECTED = "unit/server/test_driver_members.py::"

BUGS: tuple[Mutant, ...] = (
    Mutant(
        name="a change of the members answered when it is appended",
        breaks="what the next leader cuts off was said to be done (R4)",
        edits=(
            Edit(
                f"{_MEMBERS}:Members._change",
                "self._pending = (index, read)\n    return None",
                "return (request[1], int(Status.OK), True)",
            ),
        ),
        profiles=("membership",),
        directed=f"{_DIRECTED}test_a_change_is_answered_when_it_is_committed",
    ),
    Mutant(
        name="a change of the members decided without a quorum",
        breaks="a leader that lost its majority begins a change, or says that there is none to make (L4)",
        edits=(
            Edit(
                "raftlock.server.leading:Leading._other",
                "self.reads.add(Read(origin, request, receipt_us))",
                "(self.of_members.append if code in OF_MEMBERS else self.reads.add)(Read(origin, request, receipt_us))",
            ),
        ),
        directed=f"{_DIRECTED}test_a_leader_that_lost_its_majority_begins_no_change",
    ),
    Mutant(
        name="a laggard promoted",
        breaks="a voter that lacks the log counts in the majority long before it can help",
        edits=(
            Edit(
                f"{_MEMBERS}:_promoted",
                "view is None or not view.keeps_up or view.behind > limits.PROMOTE_BEHIND_MAX",
                "view is None",
            ),
        ),
        directed=f"{_DIRECTED}test_a_learner_that_is_behind_is_not_promoted_until_it_caught_up",
    ),
    Mutant(
        name="a removal that leaves no majority",
        breaks="nothing can be committed afterwards, the way back neither",
        edits=(Edit(f"{_MEMBERS}:_with_majority", "if there < need:", "if there < 0:"),),
        directed=f"{_DIRECTED}test_a_removal_that_leaves_no_majority_is_refused",
    ),
    Mutant(
        name="a leader that leaves before it answers",
        breaks="it steps down when its removal is committed, and answers UNKNOWN for what it has just done",
        edits=(
            Edit(
                "raftlock.raft.replication:left_cluster",
                "index <= state.handed_index",
                "index <= state.commit_index",
            ),
            Edit(
                "raftlock.raft.transfer:leave",
                "if state.transfer_sent or state.transfer_to == NO_NODE:",
                "if True:",
            ),
        ),
        directed=f"{_DIRECTED}test_a_leader_that_removes_itself_answers_and_hands_over",
    ),
    Mutant(
        name="a replaced disk that takes its id's old vote for its own",
        breaks="it campaigns by a membership that listed the directory before it (decision 13)",
        edits=(
            Edit(
                "raftlock.raft.state:RaftState.is_voter",
                "return not config.incarnation or self.membership.lists(config.node_id, config.incarnation)",
                "return True",
            ),
        ),
        directed="unit/raft/test_incarnations.py::test_a_replaced_disk_does_not_campaign_by_its_ids_old_membership",
    ),
    Mutant(
        name="a removed node let in by what it remembers",
        breaks="its old members list both ends: it is let in again, and never learns that it is out",
        edits=(
            Edit(
                "raftlock.server.handshake:judge_hello",
                "if hello.from_incarnation in callee.committed.removed:",
                "if False:",
            ),
        ),
        directed="unit/server/test_handshake.py::test_who_was_removed_is_told_so_once_that_is_committed",
    ),
)
