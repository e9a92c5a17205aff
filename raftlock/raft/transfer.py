"""Leadership transfer (thesis 3.10): stop proposing, let the successor catch up, then ask it to campaign at once."""

from raftlock.raft import election
from raftlock.raft.messages import TimeoutNow
from raftlock.raft.state import Progress, RaftState
from raftlock_wire.ids import NO_NODE, NodeId
from raftlock_wire.invariant import check


def begin(state: RaftState, target: NodeId, now_us: int) -> None:
    """Begin to hand leadership to another voter. It is given up after an election timeout."""
    check(
        target in state.voters and target != state.config.node_id,
        "leadership goes to another voter",
    )
    state.transfer_to = target
    state.transfer_deadline_us = now_us + state.config.election_max_us
    state.transfer_sent = False


def advance(state: RaftState, now_us: int) -> None:
    """Send TimeoutNow once the target has the whole log; give up when it takes too long."""
    if state.transfer_to == NO_NODE:
        return
    progress = state.progress.get(state.transfer_to)
    if progress is None or now_us >= state.transfer_deadline_us:
        state.transfer_to = NO_NODE
    elif not state.transfer_sent and progress.match_index == state.log.last_index:
        # A laggard would only raise the term and lose.
        state.transfer_sent = True
        state.send(state.transfer_to, TimeoutNow(term=state.current_term), after_write=0)


def leave(state: RaftState, now_us: int) -> None:
    """End the leadership of who is no voter any more, handing it over first where somebody can take it.

    The others would notice by their election timeouts alone: the links of a leader that steps down stay open.
    """
    target = best_target(state, now_us)
    if state.transfer_to == NO_NODE and not state.leaving and target != NO_NODE:
        state.leaving = True
        begin(state, target, now_us)
    advance(state, now_us)
    if state.transfer_sent or state.transfer_to == NO_NODE:
        state.become_follower(state.current_term, NO_NODE, now_us)


def on_timeout_now(state: RaftState, now_us: int) -> None:
    """Campaign at once, without asking first whether votes would be given."""
    if state.is_voter:
        election.campaign(state, now_us, pre_vote=False, transfer=True)


def best_target(state: RaftState, now_us: int) -> NodeId:
    """Return the voter that was heard of late and has the most of the log, or NO_NODE."""
    fresh = [(progress.match_index, -peer) for peer, progress in _fresh(state, now_us)]
    return NodeId(-max(fresh)[1]) if fresh else NO_NODE


def disk_lags(state: RaftState, now_us: int) -> bool:
    """Return whether a voter that was heard of late has made durable what this node's disk has not."""
    return any(p.match_index > state.durable_index for _, p in _fresh(state, now_us))


def _fresh(state: RaftState, now_us: int) -> list[tuple[NodeId, Progress]]:
    since = now_us - state.config.election_min_us
    return [
        (peer, progress)
        for peer, progress in state.progress.items()
        if peer in state.voters and progress.heard_us >= since
    ]
