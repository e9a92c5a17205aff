"""Replication: AppendEntries both ways, the window, commitment, and the quorum rounds (Raft 5.3, 5.4; thesis 6.4)."""

from raftlock.raft.messages import AppendEntries, AppendEntriesResult
from raftlock.raft.quorum import quorum_value
from raftlock.raft.state import Mode, Progress, RaftState, Role
from raftlock_wire.entry import Entry, EntryKind
from raftlock_wire.ids import Index, NodeId, Term

# The leader's side


def replicate(state: RaftState, now_us: int) -> None:
    """Send what is new to every peer, and heartbeats and rounds that are due."""
    heartbeat = now_us >= state.heartbeat_due_us
    if heartbeat:
        state.heartbeat_due_us = now_us + state.config.heartbeat_us
    for peer, progress in state.progress.items():
        _check_lost(state, progress, now_us)
        if progress.mode is Mode.REPLICATE:
            sent = _send_window(state, peer, progress, now_us)
        elif progress.mode is Mode.PROBE:
            sent = _send_probe(state, peer, progress, again=heartbeat)
        else:
            sent = False
        if not sent and (heartbeat or (state.round_wanted and progress.round_sent < state.round)):
            _send_heartbeat(state, peer, progress)
    state.round_wanted = False


def _check_lost(state: RaftState, progress: Progress, now_us: int) -> None:
    if progress.inflight and now_us - progress.acked_us > state.config.election_min_us:
        progress.probe_from(progress.match_index + 1)
        progress.acked_us = now_us


def _send_window(state: RaftState, peer: NodeId, progress: Progress, now_us: int) -> bool:
    config, last = state.config, state.log.last_index
    sent = False
    while (
        progress.next_index <= last
        and len(progress.inflight) < config.inflight_messages_max
        and progress.inflight_bytes < config.inflight_bytes_max
    ):
        message = _append(state, progress, with_entries=True)
        if message is None:
            progress.mode = Mode.SNAPSHOT
            return sent
        size = sum(len(entry.data) for entry in message.entries)
        if not progress.inflight:
            progress.acked_us = now_us
        progress.inflight.append((message.entries[-1].index, size))
        progress.inflight_bytes += size
        progress.next_index = Index(message.entries[-1].index + 1)
        progress.round_sent = state.round
        # The leader's own disk write runs beside this (decision 3): no fence.
        state.send(peer, message, after_write=0)
        sent = True
    return sent


def _send_probe(state: RaftState, peer: NodeId, progress: Progress, *, again: bool) -> bool:
    if progress.probe_sent and not again:
        return False
    # Entries once; then empty probes only, so that a peer that hangs is not sent the same megabyte again and again.
    message = _append(state, progress, with_entries=not progress.probe_sent)
    if message is None:
        progress.mode = Mode.SNAPSHOT
        return False
    progress.probe_sent = True
    progress.round_sent = state.round
    state.send(peer, message, after_write=0)
    return True


def _send_heartbeat(state: RaftState, peer: NodeId, progress: Progress) -> None:
    # It names what is known to match, so that it says nothing of what is under way; a peer that needs a snapshot
    # will refuse it, and has heard its leader all the same.
    log = state.log
    prev = max(progress.match_index, log.base_index)
    progress.round_sent = state.round
    message = AppendEntries(
        term=state.current_term,
        leader_id=state.config.node_id,
        prev_log_index=Index(prev),
        prev_log_term=log.term_at(prev) or state.current_term,
        entries=(),
        leader_commit=state.commit_index,
        round=state.round,
    )
    state.send(peer, message, after_write=0)


def _append(state: RaftState, progress: Progress, *, with_entries: bool) -> AppendEntries | None:
    """Return the next message for a peer; None if the entry before it is compacted."""
    config, log = state.config, state.log
    prev = Index(progress.next_index - 1)
    prev_term = log.term_at(prev)
    if prev_term is None:
        return None
    entries: tuple[Entry, ...] = ()
    if with_entries:
        entries = log.slice(progress.next_index, config.append_entries_max, config.append_bytes_max)
    return AppendEntries(
        term=state.current_term,
        leader_id=config.node_id,
        prev_log_index=prev,
        prev_log_term=prev_term,
        entries=entries,
        leader_commit=state.commit_index,
        round=state.round,
    )


def on_append_entries_result(
    state: RaftState, sender: NodeId, message: AppendEntriesResult, now_us: int
) -> None:
    """Move a peer's progress on, or back to where the logs agree."""
    progress = state.progress.get(sender)
    if progress is None:
        return
    progress.heard_us = now_us
    progress.round = max(progress.round, message.round)
    if not message.success:
        _refused(state, progress, message)
        return
    if message.match_index > progress.match_index:
        progress.match_index = message.match_index
        progress.acked_us = now_us
    while progress.inflight and progress.inflight[0][0] <= message.match_index:
        progress.inflight_bytes -= progress.inflight.popleft()[1]
    progress.next_index = Index(max(progress.next_index, progress.match_index + 1))
    if progress.mode is Mode.PROBE and progress.match_index + 1 >= progress.next_index:
        progress.mode = Mode.REPLICATE
        progress.probe_sent = False
    advance_commit(state)


def _refused(state: RaftState, progress: Progress, message: AppendEntriesResult) -> None:
    # In SNAPSHOT mode heartbeats are refused by the way. A refusal at or below what is known to match is an old one.
    if progress.mode is Mode.SNAPSHOT or message.conflict_index <= progress.match_index:
        return
    next_index = message.conflict_index
    if message.conflict_term:
        # Skip the follower's whole run of that term unless we have entries of it (Raft 5.3).
        ours = state.log.last_index_of_term(message.conflict_term, progress.next_index - 1)
        if state.log.term_at(ours) == message.conflict_term:
            next_index = Index(ours + 1)
    progress.probe_from(min(next_index, state.log.last_index + 1))


def advance_commit(state: RaftState) -> None:
    """Commit what a majority holds durably, if it is of this term (Raft 5.4.2, figure 8)."""
    if state.role is not Role.LEADER:
        return
    matched: dict[NodeId, int] = {peer: p.match_index for peer, p in state.progress.items()}
    matched[state.config.node_id] = state.durable_index
    index = Index(min(quorum_value(state.voters, matched), state.log.last_index))
    if index > state.commit_index and state.log.term_at(index) == state.current_term:
        state.commit_to(index)


def confirmed_round(state: RaftState) -> int:
    """Return the newest round that a majority has answered in this term, this node counted."""
    if state.role is not Role.LEADER:
        return 0
    rounds: dict[NodeId, int] = {peer: p.round for peer, p in state.progress.items()}
    rounds[state.config.node_id] = state.round
    return quorum_value(state.voters, rounds)


# The follower's side


def on_append_entries(
    state: RaftState, sender: NodeId, message: AppendEntries, now_us: int
) -> None:
    """Take a leader's entries. The term is the current one."""
    log = state.log
    state.leader_id = message.leader_id
    state.leader_heard_us = now_us
    state.reset_election_timer(now_us)
    if state.incoming is not None and state.incoming.installing:
        # The log may be dropped by the snapshot that is being installed: nothing is added to it now. The leader hears
        # this all the same: with another node down it would lose its majority for as long as the installation takes.
        _refuse(state, sender, message)
        return
    prev, entries = message.prev_log_index, message.entries
    if prev < log.base_index:
        # What lies before the base is committed and in the snapshot: it agrees.
        skip = log.base_index - prev
        entries = entries[skip:]
        prev = Index(min(prev + len(message.entries), log.base_index))
    elif log.term_at(prev) != message.prev_log_term:
        _refuse(state, sender, message)
        return
    match_index = Index(prev + len(entries))
    for position, entry in enumerate(entries):
        term = log.term_at(entry.index)
        if term == entry.term:
            continue
        if term is not None:
            # Only a conflict truncates: an old message, shorter than the log, must not cut off what came after it.
            state.truncate(entry.index)
        for new in entries[position:]:
            state.append(new)
        break
    state.commit_to(Index(min(message.leader_commit, match_index)))
    result = AppendEntriesResult(
        term=state.current_term, success=True, match_index=match_index, round=message.round
    )
    # Also a repeated message is answered only when the write that last placed its entries is durable.
    state.send(sender, result, after_write=state.fence_for(match_index))


def _refuse(state: RaftState, sender: NodeId, message: AppendEntries) -> None:
    log = state.log
    term = log.term_at(message.prev_log_index)
    if term is None:
        conflict_term, conflict_index = Term(0), Index(log.last_index + 1)
    else:
        conflict_term, conflict_index = term, log.first_index_of_term(message.prev_log_index)
    result = AppendEntriesResult(
        term=state.current_term,
        success=False,
        match_index=Index(0),
        conflict_term=conflict_term,
        conflict_index=conflict_index,
        round=message.round,
    )
    state.send(sender, result, after_write=state.fence())


def stale_append(state: RaftState, sender: NodeId) -> None:
    """Tell a leader of an older term that it is over."""
    result = AppendEntriesResult(term=state.current_term, success=False, match_index=Index(0))
    state.send(sender, result, after_write=state.fence())


def take_committed(state: RaftState) -> list[Entry]:
    """Return committed entries that were not handed out yet, and put an own removal into effect."""
    if state.incoming is not None and state.incoming.installing:
        return []
    entries = state.log.between(Index(state.handed_index + 1), state.commit_index)
    state.handed_index = state.commit_index
    return entries


def left_cluster(state: RaftState) -> bool:
    """Return whether a committed membership does not list this leader as a voter any more (thesis 4.2.2).

    Only once that entry was handed out: its results are answered by who was asked.
    """
    if state.role is not Role.LEADER or state.is_voter or not state.memberships:
        return False
    index = state.memberships[-1][0]
    return index <= state.handed_index and state.log.entry(index).kind is EntryKind.MEMBERSHIP
