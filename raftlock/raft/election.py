"""Elections: timeouts, pre-vote, votes, and the leader that lost its majority (Raft 5.2, 5.4.1; thesis 6.2, 9.6)."""

from raftlock.raft.messages import RequestVote, RequestVoteResult
from raftlock.raft.quorum import VoteResult, majority, vote_result
from raftlock.raft.state import LINK_LOST_PAUSE_US, Progress, RaftState, Role
from raftlock_wire.ids import NO_NODE, Index, NodeId, Term


def tick(state: RaftState, now_us: int) -> None:
    """Campaign when the election timeout has passed; step down when a majority has not been heard for one."""
    if state.role is Role.LEADER:
        _leave_out_stall(state, now_us)
        if not has_quorum_contact(state, now_us):
            state.become_follower(state.current_term, NO_NODE, now_us)
    elif now_us >= state.election_deadline_us:
        state.leader_id = NO_NODE
        state.leader_heard_us = None
        state.reset_election_timer(now_us)
        if state.is_voter:
            campaign(state, now_us, pre_vote=True)


def _leave_out_stall(state: RaftState, now_us: int) -> None:
    """Count at most a quarter of an election timeout between two ticks as time in which peers were not heard.

    A leader that was not running has sent nothing that they could have answered: stepping down for that, often right
    after the election, would only cost another one.
    """
    missed_us = now_us - state.ticked_us - state.config.election_min_us // 4
    state.ticked_us = now_us
    if missed_us > 0:
        for progress in state.progress.values():
            progress.heard_us = min(now_us, progress.heard_us + missed_us)


def has_quorum_contact(state: RaftState, now_us: int) -> bool:
    """Return whether a majority, this node counted, was heard within an election timeout (check-quorum)."""
    since = now_us - state.patience * state.config.election_min_us
    heard = int(state.is_voter)
    for voter in state.voters:
        progress = state.progress.get(voter)
        heard += progress is not None and progress.heard_us >= since
    return heard >= majority(state.voters)


def campaign(state: RaftState, now_us: int, *, pre_vote: bool, transfer: bool = False) -> None:
    """Ask for votes: first whether they would be given, then for the votes themselves."""
    own = state.config.node_id
    state.votes = {own: True}
    state.leader_id = NO_NODE
    if pre_vote:
        state.role = Role.PRE_CANDIDATE
        term = Term(state.current_term + 1)
    else:
        state.role = Role.CANDIDATE
        state.current_term = term = Term(state.current_term + 1)
        state.voted_for = own
        state.hard_state_unsaved = True
        state.elections += 1
        state.reset_election_timer(now_us)
    request = RequestVote(
        term=term,
        last_log_index=state.log.last_index,
        last_log_term=state.log.last_term,
        pre_vote=pre_vote,
        transfer=transfer,
    )
    # A candidate's own vote is durable before it asks for others: after a crash it must not vote again in this term.
    fence = 0 if pre_vote else state.fence()
    for voter in sorted(state.voters):
        if voter != own:
            state.send(voter, request, after_write=fence)
    _count(state, now_us)


def on_request_vote(state: RaftState, sender: NodeId, message: RequestVote, now_us: int) -> None:
    """Answer a candidate."""
    if message.term < state.current_term or (_hears_leader(state, now_us) and not message.transfer):
        # A voter that hears a leader keeps it (thesis 4.2.3), and says its term so that nobody is stuck behind.
        _answer(state, sender, message, granted=False)
        return
    up_to_date = (message.last_log_term, message.last_log_index) >= (
        state.log.last_term,
        state.log.last_index,
    )
    if message.pre_vote:
        _answer(state, sender, message, granted=up_to_date and message.term > state.current_term)
        return
    if message.term > state.current_term:
        state.become_follower(message.term, NO_NODE, now_us)
    granted = up_to_date and state.voted_for in (NO_NODE, sender) and state.role is Role.FOLLOWER
    if granted:
        if state.voted_for != sender:
            state.voted_for = sender
            state.hard_state_unsaved = True
            state.elections += 1
        state.reset_election_timer(now_us)
    _answer(state, sender, message, granted=granted)


def _hears_leader(state: RaftState, now_us: int) -> bool:
    if state.role is Role.LEADER:
        return has_quorum_contact(state, now_us)
    heard = state.leader_heard_us
    return heard is not None and now_us - heard < state.config.election_min_us


def _answer(state: RaftState, sender: NodeId, message: RequestVote, *, granted: bool) -> None:
    result = RequestVoteResult(
        term=state.current_term, granted=granted, pre_vote=message.pre_vote, asked_term=message.term
    )
    # The vote and the term are durable before the answer (Raft figure 2, decision 13).
    state.send(sender, result, after_write=state.fence())


def on_request_vote_result(
    state: RaftState, sender: NodeId, message: RequestVoteResult, now_us: int
) -> None:
    """Count a vote of the campaign that is on."""
    if message.term > state.current_term and not message.granted:
        state.become_follower(message.term, NO_NODE, now_us)
        return
    if message.pre_vote:
        current = state.role is Role.PRE_CANDIDATE and message.asked_term == state.current_term + 1
    else:
        current = state.role is Role.CANDIDATE and message.asked_term == state.current_term
    if current:
        # Votes are kept by voter, not counted: a duplicated answer must not elect a second leader in this term.
        state.votes[sender] = message.granted
        _count(state, now_us)


def _count(state: RaftState, now_us: int) -> None:
    match vote_result(state.voters, state.votes):
        case VoteResult.WON if state.role is Role.PRE_CANDIDATE:
            campaign(state, now_us, pre_vote=False)
        case VoteResult.WON if state.role is Role.CANDIDATE:
            _lead(state, now_us)
        case VoteResult.LOST:
            state.become_follower(state.current_term, NO_NODE, now_us)
        case _:
            pass


def _lead(state: RaftState, now_us: int) -> None:
    state.role = Role.LEADER
    state.leader_id = state.config.node_id
    state.elected = True
    state.term_begun = False
    state.own_first_index = Index(0)
    state.heartbeat_due_us = now_us
    state.ticked_us = now_us
    state.progress = {peer: new_progress(state, now_us) for peer in state.peers()}


def new_progress(state: RaftState, now_us: int) -> Progress:
    """Return what a leader assumes of a peer: it may have everything, and was heard just now."""
    return Progress(next_index=Index(state.log.last_index + 1), heard_us=now_us, acked_us=now_us)


def on_link_lost(state: RaftState, peer: NodeId, now_us: int) -> None:
    """Count a closed or reset link from the leader as not having heard it (decision 18)."""
    if state.role is Role.LEADER:
        progress = state.progress.get(peer)
        if progress is not None:
            progress.probe_from(progress.match_index + 1)
            progress.snapshot_asked_us = 0
    elif peer == state.leader_id:
        state.leader_heard_us = None
        state.election_deadline_us = min(
            state.election_deadline_us, now_us + state.rng.randrange(0, LINK_LOST_PAUSE_US)
        )
