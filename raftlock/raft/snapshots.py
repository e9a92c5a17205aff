"""Snapshots for laggards: chunks out, chunks in, with resume (Raft figure 13; decision 4)."""

from raftlock.raft.messages import InstallSnapshot, InstallSnapshotResult
from raftlock.raft.ready import SnapshotChunk, SnapshotWanted
from raftlock.raft.state import Incoming, Mode, Progress, RaftState
from raftlock_wire.entry import SnapshotMeta
from raftlock_wire.ids import Index, NodeId
from raftlock_wire.membership import decode_membership

# The leader's side


def want_chunks(state: RaftState, now_us: int) -> None:
    """Ask the driver for the next part for each peer that needs one; ask again when no answer came."""
    for peer, progress in state.progress.items():
        if progress.mode is not Mode.SNAPSHOT or state.snapshot is None:
            continue
        if progress.snapshot is None:
            progress.snapshot, progress.snapshot_offset, progress.snapshot_asked_us = (
                state.snapshot,
                0,
                0,
            )
        waited = now_us - progress.snapshot_asked_us
        if progress.snapshot_asked_us and waited < state.config.election_max_us:
            continue
        progress.snapshot_asked_us = now_us
        wanted = SnapshotWanted(
            peer, progress.snapshot, progress.snapshot_offset, state.config.snapshot_chunk_size
        )
        state.snapshot_wanted.append(wanted)


def send_chunk(
    state: RaftState, peer: NodeId, meta: SnapshotMeta, offset: int, data: bytes, *, done: bool
) -> None:
    """Send a part that the driver has read, if the peer still waits for it."""
    progress = state.progress.get(peer)
    if progress is None or progress.mode is not Mode.SNAPSHOT or progress.snapshot != meta:
        return
    message = InstallSnapshot(
        term=state.current_term,
        leader_id=state.config.node_id,
        meta=meta,
        offset=offset,
        data=data,
        done=done,
        round=state.round,
    )
    state.send(peer, message, after_write=0)


def restart(state: RaftState, peer: NodeId) -> None:
    """Begin anew with the current snapshot: the file of the one under way is gone."""
    progress = state.progress.get(peer)
    if progress is not None:
        progress.snapshot = None
        progress.snapshot_asked_us = 0


def on_install_result(
    state: RaftState, sender: NodeId, message: InstallSnapshotResult, now_us: int
) -> None:
    """Go on with the next part, or with the log when the peer has it all."""
    progress = state.progress.get(sender)
    if progress is None:
        return
    progress.heard_us = now_us
    progress.round = max(progress.round, message.round)
    meta = progress.snapshot
    if progress.mode is not Mode.SNAPSHOT or meta is None or message.meta_sha256 != meta.sha256:
        return
    if message.next_offset >= meta.size:
        _has_all(progress, meta)
    else:
        progress.snapshot_offset = message.next_offset
        progress.snapshot_asked_us = 0


def _has_all(progress: Progress, meta: SnapshotMeta) -> None:
    progress.match_index = Index(max(progress.match_index, meta.index))
    progress.snapshot = None
    progress.snapshot_asked_us = 0
    progress.probe_from(progress.match_index + 1)


# The follower's side


def on_install(state: RaftState, sender: NodeId, message: InstallSnapshot, now_us: int) -> None:
    """Take a part of a snapshot. The term is the current one."""
    state.leader_id = message.leader_id
    state.leader_heard_us = now_us
    state.reset_election_timer(now_us)
    meta = message.meta
    incoming = state.incoming
    if incoming is not None and incoming.installing:
        return
    if meta.index <= state.commit_index:
        _answer(state, sender, meta, meta.size, message.round)
        return
    if incoming is None or incoming.meta != meta:
        incoming = state.incoming = Incoming(meta=meta)
    incoming.round = message.round
    if incoming.storing:
        return
    if message.offset != incoming.next_offset:
        _answer(state, sender, meta, incoming.next_offset, message.round)
        return
    incoming.storing = True
    incoming.installing = message.done
    incoming.next_offset = message.offset + len(message.data)
    state.chunk_number += 1
    state.snapshot_chunks.append(
        SnapshotChunk(meta, message.offset, message.data, message.done, state.chunk_number)
    )


def chunk_stored(state: RaftState, number: int) -> None:
    """Tell the leader that a part is stored, and what comes next."""
    incoming = state.incoming
    if incoming is None or number != state.chunk_number or not incoming.storing:
        return
    incoming.storing = False
    _answer(state, state.leader_id, incoming.meta, incoming.next_offset, incoming.round)


def installed(state: RaftState, meta: SnapshotMeta) -> None:
    """Go on from an installed snapshot: with the log behind it if it agrees, else with nothing (decision 12)."""
    log = state.log
    if log.term_at(meta.index) != meta.term:
        log.reset(meta)
        state.base_membership = decode_membership(meta.membership)
        state.memberships = []
        state.placed.clear()
        state.unsaved_from = None
        state.durable_index = meta.index
    state.snapshot = meta
    state.commit_to(meta.index)
    state.handed_index = Index(max(state.handed_index, meta.index))
    round_ = state.incoming.round if state.incoming is not None else 0
    state.incoming = None
    _answer(state, state.leader_id, meta, meta.size, round_)


def rejected(state: RaftState, meta: SnapshotMeta) -> None:
    """Ask for the snapshot again from its beginning: what was received is not what its name says."""
    round_ = state.incoming.round if state.incoming is not None else 0
    state.incoming = None
    _answer(state, state.leader_id, meta, 0, round_)


def _answer(
    state: RaftState, to: NodeId, meta: SnapshotMeta, next_offset: int, round_: int
) -> None:
    if not to or to == state.config.node_id:
        return
    result = InstallSnapshotResult(
        term=state.current_term,
        meta_index=meta.index,
        meta_sha256=meta.sha256,
        next_offset=next_offset,
        round=round_,
    )
    state.send(to, result, after_write=state.fence())


def compact(state: RaftState, meta: SnapshotMeta) -> None:
    """Drop log that a durable snapshot of our own covers, but for a tail for peers that are a little late."""
    if state.snapshot is not None and meta.index <= state.snapshot.index:
        return
    state.snapshot = meta
    size = 0
    keep_from = meta.index + 1
    while keep_from - 1 > state.log.base_index and size < state.config.compact_keep_bytes:
        keep_from -= 1
        size += len(state.log.entry(keep_from).data)
    covered = [(index, m) for index, m in state.memberships if index < keep_from]
    if covered:
        state.base_membership = covered[-1][1]
        state.memberships = state.memberships[len(covered) :]
    state.log.compact(meta, keep_from)
