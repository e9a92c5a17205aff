"""The consensus core: what goes in, and the dispatch to the handlers. It holds no logic of its own."""

import copy
import hashlib
from collections.abc import Sequence

from raftlock.raft import election, replication, snapshots, transfer
from raftlock.raft.messages import (
    AppendEntries,
    AppendEntriesResult,
    InstallSnapshot,
    InstallSnapshotResult,
    Message,
    RequestVote,
    RequestVoteResult,
    TimeoutNow,
)
from raftlock.raft.peer_view import PeerView, peer_views
from raftlock.raft.ready import Ready
from raftlock.raft.state import RaftConfig, RaftState, Rng, Role
from raftlock_wire.entry import Entry, EntryKind, HardState, SnapshotMeta
from raftlock_wire.ids import NO_NODE, Index, NodeId, Term
from raftlock_wire.invariant import check
from raftlock_wire.membership import Membership

TERM_JUMP_MAX = 1 << 32
"""How far a member's term may be ahead: a hundred elections a second for a year. Beyond it the member lies, or is broken.

One message with the largest number there is would otherwise be the end of the cluster: it is taken over, made durable,
and there is no next term.
"""


class NotLeader(Exception):
    """Only a leader whose term has begun, and that is not handing over, takes proposals."""


class MembershipBusy(Exception):
    """A membership change must wait: for an entry of the own term, or for the change before it (decision 18)."""


class Raft:
    """One member's consensus. The driver calls `step` for all input of a turn, then `tick`, then `ready`."""

    def __init__(
        self,
        *,
        config: RaftConfig,
        hard_state: HardState,
        membership: Membership,
        snapshot: SnapshotMeta | None,
        entries: Sequence[Entry],
        rng: Rng,
        now_us: int,
    ) -> None:
        """Start from what was recovered and made durable again (decision 12).

        `membership` is that of the snapshot, or the first one; an entry in the log may replace it.
        """
        self._state = RaftState(
            config=config,
            hard_state=hard_state,
            membership=membership,
            snapshot=snapshot,
            entries=entries,
            rng=rng,
            now_us=now_us,
        )
        self._now_us = now_us
        self.contradicted_by = NO_NODE
        """Who said last what no member can say that keeps to the protocol; the driver's owner sets it back."""

    # input

    def step(self, sender: NodeId, message: Message, now_us: int) -> None:
        """Take a message of a member."""
        state = self._state
        self._now_us = now_us
        if self._contradicts(sender, message):
            self.contradicted_by = sender
            return
        match message:
            case RequestVote():
                election.on_request_vote(state, sender, message, now_us)
            case RequestVoteResult():
                election.on_request_vote_result(state, sender, message, now_us)
            case AppendEntries():
                if self._follow(message.term, sender, now_us):
                    replication.on_append_entries(state, sender, message, now_us)
                else:
                    replication.stale_append(state, sender)
            case InstallSnapshot():
                if self._follow(message.term, sender, now_us):
                    snapshots.on_install(state, sender, message, now_us)
                else:
                    replication.stale_append(state, sender)
            case AppendEntriesResult():
                if self._leads(message.term, now_us):
                    replication.on_append_entries_result(state, sender, message, now_us)
            case InstallSnapshotResult():
                if self._leads(message.term, now_us):
                    snapshots.on_install_result(state, sender, message, now_us)
            case TimeoutNow():
                if message.term == state.current_term and sender == state.leader_id:
                    transfer.on_timeout_now(state, now_us)

    def _contradicts(self, sender: NodeId, message: Message) -> bool:
        """Return whether a message breaks what every member keeps to: it is not taken, whoever is at fault.

        A term has one leader (election safety): who claims a term in which this node knows another one is not followed.
        """
        state = self._state
        if message.term > state.current_term + TERM_JUMP_MAX:
            return True
        if not isinstance(message, AppendEntries | InstallSnapshot):
            return False
        known = state.leader_id if message.term == state.current_term else NO_NODE
        return known not in (NO_NODE, sender)

    def _follow(self, term: Term, leader_id: NodeId, now_us: int) -> bool:
        """Follow the leader of a term that is not old. Return whether it is not."""
        state = self._state
        if term < state.current_term:
            return False
        if term > state.current_term or state.role is not Role.FOLLOWER:
            state.become_follower(term, leader_id, now_us)
        return True

    def _leads(self, term: Term, now_us: int) -> bool:
        """Step down for a newer term. Return whether this node leads in `term`."""
        state = self._state
        if term > state.current_term:
            state.become_follower(term, NO_NODE, now_us)
        return state.role is Role.LEADER and term == state.current_term

    def link_lost(self, peer: NodeId, now_us: int) -> None:
        """Learn that the link with a member is closed or reset (decision 18)."""
        self._now_us = now_us
        election.on_link_lost(self._state, peer, now_us)

    def tick(self, now_us: int) -> None:
        """Let timers run, after all input of the turn (decision 17)."""
        self._now_us = now_us
        state = self._state
        election.tick(state, now_us)
        if replication.left_cluster(state):
            transfer.leave(state, now_us)
        transfer.advance(state, now_us)

    def begin_term(self, *, stamp_us: int, wall_us: int) -> Index:
        """Append the leader's first entry of its term (Raft 8). Return its index."""
        state = self._state
        check(
            state.role is Role.LEADER and not state.term_begun,
            "a term begins once, after the election",
        )
        state.term_begun = True
        index = self._append(EntryKind.NOOP, b"", stamp_us, wall_us)
        state.own_first_index = index
        return index

    def propose(self, kind: EntryKind, data: bytes, *, stamp_us: int, wall_us: int) -> Index:
        """Append an entry and return its index. Raise NotLeader when this node cannot."""
        state = self._state
        if state.role is not Role.LEADER or not state.term_begun or state.transfer_to != NO_NODE:
            raise NotLeader
        return self._append(kind, data, stamp_us, wall_us)

    def _append(self, kind: EntryKind, data: bytes, stamp_us: int, wall_us: int) -> Index:
        state = self._state
        index = Index(state.log.last_index + 1)
        state.append(Entry(index, state.current_term, kind, stamp_us, wall_us, data))
        return index

    def start_round(self) -> int:
        """Begin the next quorum round: the coming Ready sends it to every member. Return its number."""
        state = self._state
        check(state.role is Role.LEADER, "only a leader asks for a quorum")
        state.round += 1
        state.round_wanted = True
        return state.round

    def transfer(self, target: NodeId, now_us: int) -> None:
        """Hand leadership to `target`; proposals are refused until that is done or given up."""
        transfer.begin(self._state, target, now_us)

    def transfer_target(self) -> NodeId:
        """Return who could lead best, or NO_NODE."""
        return transfer.best_target(self._state, self._now_us)

    def change_membership(self, new: Membership, *, stamp_us: int, wall_us: int) -> Index:
        """Propose a membership that differs by one member (thesis 4.1). Raise MembershipBusy or NotLeader."""
        state = self._state
        pending = state.memberships and state.memberships[-1][0] > state.commit_index
        if pending or not self.own_term_committed:
            raise MembershipBusy
        old, coming = set(state.membership.members), set(new.members)
        check(len({m.node_id for m in old ^ coming}) == 1, "one member changes at a time")
        index = self.propose(EntryKind.MEMBERSHIP, new.encode(), stamp_us=stamp_us, wall_us=wall_us)
        progress = state.progress
        for peer in state.peers():
            if peer not in progress:
                progress[peer] = election.new_progress(state, self._now_us)
        for peer in [peer for peer in progress if new.get(peer) is None]:
            del progress[peer]
        return index

    @property
    def disk_lags(self) -> bool:
        """Return whether a voter that was heard of late has made durable what this node's disk has not."""
        return transfer.disk_lags(self._state, self._now_us)

    # the disk

    def durable(self, write_number: int) -> None:
        """Learn that all writes up to this number are durable."""
        self._state.note_durable(write_number)
        replication.advance_commit(self._state)

    def compact(self, meta: SnapshotMeta) -> None:
        """Learn that a snapshot of our own is durable: drop the log that it covers."""
        snapshots.compact(self._state, meta)

    def send_snapshot_chunk(
        self, peer: NodeId, meta: SnapshotMeta, offset: int, data: bytes, done: bool
    ) -> None:
        """Send a part of a snapshot that a Ready wanted."""
        snapshots.send_chunk(self._state, peer, meta, offset, data, done=done)

    def snapshot_unavailable(self, peer: NodeId) -> None:
        """Learn that the snapshot's file is gone."""
        snapshots.restart(self._state, peer)

    def chunk_stored(self, chunk_number: int) -> None:
        """Learn that a part of a received snapshot is stored."""
        snapshots.chunk_stored(self._state, chunk_number)

    def snapshot_installed(self, meta: SnapshotMeta) -> None:
        """Learn that a received snapshot is durable and its state loaded."""
        snapshots.installed(self._state, meta)

    def snapshot_rejected(self, meta: SnapshotMeta) -> None:
        """Learn that what was received is not the snapshot that was named."""
        snapshots.rejected(self._state, meta)

    # output

    def ready(self) -> Ready:
        """Return everything to do since the last call."""
        state = self._state
        if state.role is Role.LEADER and state.term_begun:
            # One voter alone commits by its own disk, which no message tells of.
            replication.advance_commit(state)
            replication.replicate(state, self._now_us)
            snapshots.want_chunks(state, self._now_us)
        ready = Ready(
            write=state.take_write(),
            messages=state.messages,
            committed=replication.take_committed(state),
            round_confirmed=replication.confirmed_round(state),
            snapshot_wanted=state.snapshot_wanted,
            snapshot_chunks=state.snapshot_chunks,
            elected=state.elected,
            stepped_down=state.stepped_down,
        )
        state.messages = []
        state.snapshot_wanted = []
        state.snapshot_chunks = []
        state.elected = state.stepped_down = False
        return ready

    @property
    def next_deadline_us(self) -> int:
        """Return the time at which `tick` has something to do."""
        state = self._state
        if state.role is Role.LEADER:
            return state.heartbeat_due_us
        return state.election_deadline_us

    # for the driver, and for people

    @property
    def role(self) -> Role:
        """Return what this node is."""
        return self._state.role

    @property
    def term(self) -> Term:
        """Return the current term."""
        return self._state.current_term

    @property
    def leader_id(self) -> NodeId:
        """Return who leads, as far as this node knows; NO_NODE otherwise."""
        return self._state.leader_id

    @property
    def commit_index(self) -> Index:
        """Return the highest index known to be committed."""
        return self._state.commit_index

    @property
    def last_index(self) -> Index:
        """Return the index of the last entry."""
        return self._state.log.last_index

    @property
    def last_stamp_us(self) -> int:
        """Return the highest stamp in the log."""
        return self._state.log.last_stamp_us

    @property
    def last_wall_us(self) -> int:
        """Return the highest wall time in the log."""
        return self._state.log.last_wall_us

    @property
    def membership(self) -> Membership:
        """Return the members in force."""
        return self._state.membership

    @property
    def committed_membership(self) -> Membership:
        """Return the last membership that is known to be committed."""
        return self._state.committed_membership

    @property
    def membership_settled(self) -> bool:
        """Return whether the members in force are committed."""
        memberships = self._state.memberships
        return not memberships or memberships[-1][0] <= self._state.commit_index

    def peer_views(self) -> list[PeerView]:
        """Return what this leader knows of each other member."""
        return peer_views(self._state, self._now_us)

    @property
    def transferring(self) -> bool:
        """Return whether leadership is being handed over."""
        return self._state.transfer_to != NO_NODE

    @property
    def own_term_committed(self) -> bool:
        """Return whether this leader has committed an entry of its own term."""
        state = self._state
        return state.role is Role.LEADER and 0 < state.own_first_index <= state.commit_index

    def entry(self, index: Index) -> Entry:
        """Return an entry that the log holds."""
        return self._state.log.entry(index)

    @property
    def state(self) -> RaftState:
        """Return the state, for checkers. Nobody else may touch it."""
        return self._state

    def clone(self) -> "Raft":
        """Return an independent copy."""
        return copy.deepcopy(self)

    def digest(self) -> bytes:
        """Return a hash of what consensus must not lose, and of what it has decided: 16 bytes."""
        state = self._state
        parts = (
            state.current_term,
            state.voted_for,
            state.role.name,
            state.commit_index,
            state.log.base_index,
            state.log.base_term,
            [(e.index, e.term, e.kind, e.data) for e in state.log.entries],
        )
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()
