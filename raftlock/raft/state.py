"""The one state of a consensus core, and the few operations that every concern needs.

It owns all mutable state. The handlers of election, replication, snapshots, transfer and membership work on it.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Protocol

from raftlock.raft.log import Log
from raftlock.raft.messages import Message
from raftlock.raft.ready import Outgoing, SnapshotChunk, SnapshotWanted
from raftlock_wire.entry import Entry, EntryKind, HardState, SnapshotMeta, Write
from raftlock_wire.ids import NO_INDEX, NO_NODE, Index, NodeId, Term
from raftlock_wire.invariant import check
from raftlock_wire.membership import Membership, decode_membership

ELECTION_BACKOFF_MAX = 3
"""How often election timeouts double, at the most: eight times their length."""
LINK_LOST_PAUSE_US = 50_000
"""A follower whose leader's link closed campaigns after a random part of this (decision 18)."""


class Rng(Protocol):
    """Where randomness comes from."""

    def randrange(self, start: int, stop: int) -> int:
        """Return an integer from start to stop - 1."""


class Role(Enum):
    """What a node is in its term."""

    FOLLOWER = auto()
    PRE_CANDIDATE = auto()
    CANDIDATE = auto()
    LEADER = auto()


class Mode(Enum):
    """How a leader sends to a peer."""

    PROBE = auto()
    """One message at a time, until it is known where the logs agree."""
    REPLICATE = auto()
    """Pipelined within the window."""
    SNAPSHOT = auto()
    """The peer needs entries that are gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftConfig:
    """Times in microseconds, sizes in bytes. The defaults are for one local network."""

    node_id: NodeId
    heartbeat_us: int = 30_000
    election_min_us: int = 150_000
    election_max_us: int = 300_000
    inflight_messages_max: int = 64
    inflight_bytes_max: int = 4 << 20
    append_entries_max: int = 256
    append_bytes_max: int = 1 << 20
    snapshot_chunk_size: int = 256 << 10
    incarnation: str = ""
    """Of this node's directory; empty: it is not looked at. Under another incarnation the same id was another node."""
    compact_keep_bytes: int = 16 << 20
    """Log kept behind a snapshot, so that a follower that is a little late needs no snapshot."""


@dataclass(slots=True)
class Progress:
    """What a leader knows of one peer."""

    next_index: Index
    match_index: Index = NO_INDEX
    mode: Mode = Mode.PROBE
    probe_sent: bool = False
    inflight: deque[tuple[Index, int]] = field(default_factory=deque)
    """Last index and bytes of each message under way."""
    inflight_bytes: int = 0
    heard_us: int = 0
    acked_us: int = 0
    """When the oldest message under way became the oldest: too long ago means that it was lost."""
    round: int = 0
    round_sent: int = 0
    snapshot: SnapshotMeta | None = None
    snapshot_offset: int = 0
    snapshot_asked_us: int = 0

    def probe_from(self, index: int) -> None:
        """Send one message at a time from `index` on."""
        self.mode = Mode.PROBE
        self.next_index = Index(max(index, self.match_index + 1))
        self.probe_sent = False
        self.inflight.clear()
        self.inflight_bytes = 0


@dataclass(slots=True)
class Incoming:
    """A snapshot on its way to this node."""

    meta: SnapshotMeta
    next_offset: int = 0
    storing: bool = False
    installing: bool = False
    round: int = 0


@dataclass(slots=True)
class PlacedBy:
    """One write that is not durable yet, and the entries it placed (decision 11)."""

    number: int
    first: Index
    last: Index


class RaftState:
    """All state of one core."""

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
        self.config = config
        self.rng = rng
        self.current_term = hard_state.term
        self.voted_for = hard_state.voted_for
        self.log = Log(snapshot, entries)
        self.snapshot = snapshot
        self.base_membership = membership
        self._voters_of = membership
        self._voters = membership.voters
        self.memberships: list[tuple[Index, Membership]] = []
        for entry in self.log.entries:
            self.note_membership(entry)
        self.commit_index = self.log.base_index
        self.handed_index = self.log.base_index
        """The last entry handed out to be applied."""
        self.role = Role.FOLLOWER
        self.leader_id = NO_NODE
        self.leader_heard_us: int | None = None
        self.votes: dict[NodeId, bool] = {}
        self.elections = 0
        """Elections that this node took part in since anything was committed."""
        self.progress: dict[NodeId, Progress] = {}
        self.election_deadline_us = 0
        self.heartbeat_due_us = 0
        self.ticked_us = 0
        """When a leader's timers ran last."""
        self.term_begun = False
        self.own_first_index = Index(0)
        self.round = 0
        self.round_wanted = False
        self.transfer_to = NO_NODE
        self.transfer_deadline_us = 0
        self.transfer_sent = False
        self.leaving = False
        """Whether this leader hands over because it is no voter any more: it tries once."""
        self.incoming: Incoming | None = None
        self.chunk_number = 0
        self.elected = False
        self.stepped_down = False
        self.messages: list[Outgoing] = []
        self.snapshot_wanted: list[SnapshotWanted] = []
        self.snapshot_chunks: list[SnapshotChunk] = []
        # The disk (decision 11). What was recovered is durable.
        self.write_number = 0
        self.durable_number = 0
        self.durable_index = self.log.last_index
        self.unsaved_from: Index | None = None
        self.hard_state_unsaved = False
        self.hard_state_number = 0
        """The last write that holds a term and vote."""
        self.placed: deque[PlacedBy] = deque()
        self.reset_election_timer(now_us)

    # membership

    @property
    def membership(self) -> Membership:
        """Return the members in force: of the last membership entry, committed or not (thesis 4.1)."""
        return self.memberships[-1][1] if self.memberships else self.base_membership

    @property
    def committed_membership(self) -> Membership:
        """Return the last membership that is known to be committed: nothing undoes it."""
        for index, members in reversed(self.memberships):
            if index <= self.commit_index:
                return members
        return self.base_membership

    def note_membership(self, entry: Entry) -> None:
        """Put a membership in force when its entry is appended."""
        if entry.kind is EntryKind.MEMBERSHIP:
            self.memberships.append((entry.index, decode_membership(entry.data)))

    @property
    def voters(self) -> frozenset[NodeId]:
        """Return who counts in quorums."""
        members = self.membership
        if members is not self._voters_of:
            self._voters_of, self._voters = members, members.voters
        return self._voters

    @property
    def is_voter(self) -> bool:
        """Return whether this node may vote for itself."""
        config = self.config
        if config.node_id not in self.voters:
            return False
        # A replaced disk reads in its leader's log that its id was a voter: that was the directory before it.
        return not config.incarnation or self.membership.lists(config.node_id, config.incarnation)

    # time

    def reset_election_timer(self, now_us: int) -> None:
        """Draw a new election timeout (Raft 5.2)."""
        config = self.config
        timeout_us = self.rng.randrange(config.election_min_us, config.election_max_us)
        self.election_deadline_us = now_us + self.patience * timeout_us

    @property
    def patience(self) -> int:
        """Return how many times longer than configured this node waits, for votes and for answers.

        Where a vote takes longer than a timeout, because disks or processors are busy, each candidate is overtaken by
        the next one before its votes are there, and no term ever has a leader (chaos, seed 1: 300 terms in a minute).
        From the second election without a commit on, everybody who takes part waits twice as long as before.
        """
        return 1 << min(max(self.elections - 1, 0), ELECTION_BACKOFF_MAX)

    # the disk

    def fence(self) -> int:
        """Return the number of the write that makes everything decided so far durable."""
        if self.hard_state_unsaved or self.unsaved_from is not None:
            return self.write_number + 1
        return self.write_number

    def fence_for(self, match_index: Index) -> int:
        """Return the number of the write after which an answer to AppendEntries is true; 0 if it is true now.

        A heartbeat names what is durable long since, and must not wait for a disk that is busy with other entries:
        the leader would take a slow disk for a lost majority.
        """
        if (
            self.hard_state_unsaved
            or self.unsaved_from is not None
            or match_index > self.durable_index
        ):
            return self.fence()
        return self.hard_state_number

    def take_write(self) -> Write | None:
        """Return what must be persisted since the last call."""
        if not self.hard_state_unsaved and self.unsaved_from is None:
            return None
        self.write_number += 1
        entries: tuple[Entry, ...] = ()
        if self.unsaved_from is not None:
            entries = tuple(self.log.between(self.unsaved_from, self.log.last_index))
            self.placed.append(PlacedBy(self.write_number, self.unsaved_from, self.log.last_index))
        hard_state = None
        if self.hard_state_unsaved:
            hard_state = HardState(self.current_term, self.voted_for)
            # An answer that names old entries only says the term all the same: it waits for this write.
            self.hard_state_number = self.write_number
        self.hard_state_unsaved = False
        self.unsaved_from = None
        return Write(self.write_number, hard_state, entries)

    def note_durable(self, number: int) -> None:
        """Learn that all writes up to `number` are durable.

        An entry is durable when the write that last placed it is (decision 11): a write whose entries a later one
        replaces makes durable only what lies before those.
        """
        check(number <= self.write_number, "only writes that were handed out become durable")
        self.durable_number = max(self.durable_number, number)
        while self.placed and self.placed[0].number <= number:
            done = self.placed.popleft()
            last = done.last
            for later in self.placed:
                last = min(last, Index(later.first - 1))
            if self.unsaved_from is not None:
                last = min(last, Index(self.unsaved_from - 1))
            self.durable_index = Index(max(self.durable_index, last))

    # the log

    def append(self, entry: Entry) -> None:
        """Append one entry at the end."""
        log = self.log
        check(entry.index == log.last_index + 1, "entries are appended without a gap")
        check(
            entry.stamp_us >= log.last_stamp_us and entry.wall_us >= log.last_wall_us,
            "stamps and wall times in the log never go back (L7, decision 10)",
        )
        log.entries.append(entry)
        if self.unsaved_from is None:
            self.unsaved_from = entry.index
        self.note_membership(entry)

    def truncate(self, from_index: Index) -> None:
        """Remove entries that conflict with the leader's. What is committed is never removed."""
        check(
            from_index > self.commit_index,
            "a committed entry is never removed (leader completeness)",
        )
        self.log.truncate(from_index)
        self.durable_index = Index(min(self.durable_index, from_index - 1))
        self.unsaved_from = (
            from_index if self.unsaved_from is None else min(self.unsaved_from, from_index)
        )
        while self.memberships and self.memberships[-1][0] >= from_index:
            self.memberships.pop()

    def commit_to(self, index: Index) -> None:
        """Advance the commit index; it never goes back."""
        if index > self.commit_index:
            check(index <= self.log.last_index, "only entries that the log holds are committed")
            self.commit_index = index
            self.elections = 0

    # messages and roles

    def send(self, to: NodeId, message: Message, *, after_write: int) -> None:
        """Queue a message."""
        self.messages.append(Outgoing(to, message, after_write))

    def become_follower(self, term: Term, leader_id: NodeId, now_us: int) -> None:
        """Follow, in `term`, which is not below the current one."""
        if term > self.current_term:
            self.current_term = term
            self.voted_for = NO_NODE
            self.hard_state_unsaved = True
        if self.role is Role.LEADER:
            self.stepped_down = True
            self.elected = False
            self.term_begun = False
            self.round_wanted = False
            self.progress.clear()
            self.transfer_to = NO_NODE
            self.transfer_sent = self.leaving = False
        if self.role is not Role.FOLLOWER:
            self.reset_election_timer(now_us)
            self.leader_heard_us = None
        self.role = Role.FOLLOWER
        self.leader_id = leader_id
        self.votes = {}

    def peers(self) -> list[NodeId]:
        """Return the other members, learners too, in order of their ids."""
        return [m.node_id for m in self.membership.members if m.node_id != self.config.node_id]
