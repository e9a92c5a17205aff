"""The invariants of consensus and its disk, each state against the state before (Raft figure 3; decisions 3, 11, 13).

It sees all nodes at once, which nobody in the system does.
"""

from collections.abc import Mapping
from zlib import crc32

from raftlock.raft import Role
from raftlock.server.effects import Effects
from raftlock.server.jobs import WriteJob
from raftlock.server.peer_codec import (
    REQUEST_VOTE,
    REQUEST_VOTE_RESULT,
)
from raftlock.server.peer_codec import decode as decode_peer
from raftlock.testing.invariants import Violation
from raftlock.testing.node import SimNode
from raftlock.testing.world import World
from raftlock_wire.entry import Entry
from raftlock_wire.ids import NodeId


class RaftChecks:
    """What is known of terms, entries and commits of the whole run."""

    def __init__(self, world: World, nodes: Mapping[int, SimNode]) -> None:
        self._world = world
        self._nodes = nodes
        self.leaders: dict[int, int] = {}
        """Term to the node that led it."""
        self.committed: dict[int, tuple[int, int]] = {}
        """Index to (term, checksum of the data) of committed entries."""
        self.highest = 0
        self._entries: dict[tuple[int, int], tuple[int, int | None]] = {}
        """(index, term) to (checksum of the data, term of the entry before)."""
        self._commit: dict[tuple[int, int], int] = {}
        self._leading: dict[int, tuple[int, int]] = {}
        """Node to (term, life) that it led at its last turn."""
        self._voters: dict[int, frozenset[NodeId]] = {}
        """Node to the voters of its membership, as its last turn left it."""

    # before a turn's frames leave

    def before_frames(self, node: SimNode, effects: Effects) -> None:
        """Check what a turn writes and sends."""
        for job in effects.jobs:
            if isinstance(job, WriteJob):
                for write in job.writes:
                    self._placed(node, write.entries)
        for peer, payload in effects.peer_frames:
            if payload[1] in (REQUEST_VOTE, REQUEST_VOTE_RESULT):
                self._vote_leaves(node, peer, payload)

    def _placed(self, node: SimNode, entries: tuple[Entry, ...]) -> None:
        before: int | None = None
        for entry in entries:
            key = (entry.index, entry.term)
            crc = crc32(entry.data)
            known = self._entries.get(key)
            if known is None:
                self._entries[key] = (crc, before)
            elif known[0] != crc or (None not in (known[1], before) and known[1] != before):
                raise Violation("log matching", f"node {node.node_id} has another entry {key}")
            elif known[1] is None and before is not None:
                self._entries[key] = (crc, before)
            before = entry.term

    def _vote_leaves(self, node: SimNode, peer: int, payload: bytes) -> None:
        message = decode_peer(payload)
        pre_vote, granted = getattr(message, "pre_vote", False), getattr(message, "granted", None)
        term = int(getattr(message, "term", 0))
        if pre_vote:
            if granted is False:
                self._world.saw("a pre-vote is refused by a voter that hears a leader")
            return
        if granted is False:
            self._world.saw("a vote is refused to a log that is behind")
            return
        voted_for = node.node_id if granted is None else peer
        copies = [
            (int.from_bytes(data[16:24], "big"), int.from_bytes(data[24:32], "big"))
            for data in node.disk.durable_vote()
        ]
        wrong = [c for c in copies if not (c == (term, voted_for) or c[0] > term)]
        if wrong or len(copies) != 2:
            raise Violation(
                "votes durable before sent",
                f"node {node.node_id} votes for {voted_for} in term {term}, and its disk says {copies}",
            )

    def started(self, node: SimNode) -> None:
        """Check the disk of a node that has read its data and is about to take part."""
        open_files = node.disk.unsynced()
        if open_files:
            raise Violation(
                "durable again",
                f"node {node.node_id} starts, and what it has read of {open_files} is in its page cache only",
            )

    def wrote(self, node: SimNode) -> None:
        """Check a disk that has just said that a write is durable."""
        open_files = node.disk.unsynced()
        if open_files:
            raise Violation(
                "synced before acknowledged",
                f"node {node.node_id} says durable, and has unsynced {open_files}",
            )

    # after a turn

    def after_turn(self, node: SimNode) -> None:
        """Check a node that has just taken a turn."""
        driver = node.driver
        if driver is None:
            return
        raft = driver.raft
        led = self._leading.get(node.node_id) == (raft.term, node.life)
        if raft.role is Role.LEADER:
            leader = self.leaders.setdefault(raft.term, node.node_id)
            if leader != node.node_id:
                raise Violation(
                    "election safety",
                    f"nodes {leader} and {node.node_id} both lead term {raft.term}",
                )
            if self._leading.get(node.node_id) != (raft.term, node.life):
                self._elected(node)
            elif led:
                self._check_leads(node)
        self._check_commit(node)
        self._voters[node.node_id] = raft.state.voters

    def _check_leads(self, node: SimNode) -> None:
        """Check a leader that led at its last turn already."""
        assert node.driver is not None
        raft = node.driver.raft
        log, commit = raft.state.log, raft.commit_index
        before = self._commit.get((node.node_id, node.life), 0)
        if commit > before and log.term_at(commit) not in (raft.term, None):
            raise Violation(
                "own term committed",
                f"node {node.node_id} leads term {raft.term} and commits {commit} of term {log.term_at(commit)}",
            )
        pending = [index for index, _ in raft.state.memberships if index > commit]
        # What it has from leaders before it may be committed long since: a new leader only does not know so yet.
        own = [index for index in pending if log.term_at(index) == raft.term]
        if own and len(pending) > 1:
            raise Violation(
                "one change at a time",
                f"node {node.node_id} has memberships {pending} in its log, and has committed {commit}",
            )

    def _elected(self, node: SimNode) -> None:
        assert node.driver is not None
        raft = node.driver.raft
        self._leading[node.node_id] = (raft.term, node.life)
        terms = [term for term in self.leaders if term < raft.term]
        if terms and raft.term > max(terms) + 1:
            self._world.saw("a term passes without a leader")
        if node.led:
            node.led = False
            self._world.saw("a node that crashed as leader leads again")
        if raft.state.own_first_index - 1 > self.highest:
            self._world.saw("a leader is elected with entries that are not committed yet")
        log = raft.state.log
        if log.last_index < self.highest:
            raise Violation(
                "leader completeness",
                f"node {node.node_id} leads term {raft.term} with {log.last_index} of {self.highest} entries",
            )
        for index in range(log.base_index + 1, self.highest + 1):
            known = self.committed.get(index)
            if known is not None and log.term_at(index) != known[0]:
                raise Violation(
                    "leader completeness",
                    f"node {node.node_id} leads term {raft.term} with another entry {index}",
                )

    def _check_commit(self, node: SimNode) -> None:
        assert node.driver is not None
        raft = node.driver.raft
        key = (node.node_id, node.life)
        before = self._commit.get(key, 0)
        now = raft.commit_index
        if now == before:
            return
        if now < before:
            raise Violation(
                "commit never back",
                f"the commit index of node {node.node_id} went from {before} to {now}",
            )
        self._commit[key] = now
        log = raft.state.log
        for index in range(max(before, log.base_index) + 1, now + 1):
            entry = log.entry(index)
            seen = (entry.term, crc32(entry.data))
            if self.committed.setdefault(index, seen) != seen:
                raise Violation(
                    "state machine safety",
                    f"node {node.node_id} committed another entry {index}: {seen}",
                )
        self.highest = max(self.highest, now)
        if raft.role is Role.LEADER:
            self._check_durable(node, now)

    def _check_durable(self, leader: SimNode, index: int) -> None:
        assert leader.driver is not None
        # A turn commits, and then may append a change of the members: what it committed was by those before.
        voters_now = leader.driver.raft.state.voters
        before = self._voters.get(leader.node_id, voters_now)
        have = self._have(leader, index, voters_now | before)
        if all(2 * len(have & voters) <= len(voters) for voters in (voters_now, before)):
            raise Violation(
                "durable on a majority",
                f"node {leader.node_id} committed {index}, which is durable on {sorted(have)} of {sorted(voters_now)} only",
            )

    def _have(self, leader: SimNode, index: int, voters: frozenset[NodeId]) -> set[NodeId]:
        """Return which of these have an entry of this leader on their disks."""
        assert leader.driver is not None
        term = leader.driver.raft.state.log.term_at(index)
        assert term is not None
        have: set[NodeId] = set()
        for voter in voters:
            durable_index, durable_term = self._nodes[voter].durable
            # A disk whose last entry is of an older term holds another entry at this index, if any.
            if durable_index >= index and durable_term >= term:
                have.add(voter)
        return have
