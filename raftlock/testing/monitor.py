"""The invariants of a simulated run, checked as it goes (semantics: guarantees 1, 2, 3, 8; Raft figure 3).

It sees all nodes and all clients at once, which nobody in the system does.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING
from zlib import crc32

from raftlock.client.handles import Handle
from raftlock.raft import Role
from raftlock.testing.node import SimNode

if TYPE_CHECKING:
    from raftlock.testing.sim_client import SimClient


ROUNDING_US = 10
"""Clocks of different rates are compared in whole microseconds."""


class Violation(AssertionError):
    """A promise was broken. The text says which, by whom and when."""


class Monitor:
    """What is known of the whole run."""

    def __init__(self, nodes: Mapping[int, SimNode]) -> None:
        self._nodes = nodes
        self.leaders: dict[int, int] = {}
        """Term to the node that led it."""
        self.committed: dict[int, tuple[int, int]] = {}
        """Index to (term, checksum of the data) of committed entries."""
        self.digests: dict[int, bytes] = {}
        """Index to the digest of the table after it."""
        self._commit: dict[tuple[int, int], int] = {}
        self._turns = 0
        self.handles: list[tuple[SimClient, Handle]] = []
        self._highest: dict[str, int] = {}
        self.forced: set[int] = set()
        """Tokens that an administrator ended at once: their holders may believe them a little longer (guarantee 3)."""
        self.granted = 0
        self.outcomes: dict[str, int] = {}
        self.looked_at = 0
        """How often a client's deadline was compared with the leader's."""

    # the clients' side

    def counts_on(self, client: "SimClient") -> None:
        """Check that no handle is believed for longer than the leader in office waits (guarantees 3 and 10).

        A lease that is ended under its holder is seen only when it ends, which takes another fault at that very
        moment. This sees the wrong deadline itself.
        """
        leader = self._in_office()
        if leader is None or leader.driver is None:
            return
        leases = leader.driver.leading.leases
        for handle in client.core.handles:
            if handle.token in self.forced or not client.believes(handle):
                continue
            timers = leases.sessions if handle.in_session and not handle.frozen else leases.locks
            key = handle.session if timers is leases.sessions else handle.token
            due_us = timers.deadlines.get(key)
            if due_us is None:
                continue
            believed_us = client.real_us_until(client.core.deadline_us(handle))
            waited_us = leader.real_us_until_lease_clock(due_us)
            self.looked_at += 1
            if believed_us > waited_us + ROUNDING_US:
                raise Violation(
                    f"c{client.number} counts on {handle.resource} {handle.token} for {believed_us} us, "
                    f"node {leader.node_id} ends it in {waited_us} us"
                )

    def _in_office(self) -> SimNode | None:
        """Return the leader of the newest term, if it still leads and has its deadlines."""
        if not self.leaders:
            return None
        node = self._nodes[self.leaders[max(self.leaders)]]
        leads = node.driver is not None and node.driver.serving
        return node if leads else None

    def holds(self, client: "SimClient", handle: Handle) -> None:
        """Check a handle that was just made."""
        self.granted += 1
        for other, known in self.handles:
            same = known.resource == handle.resource and known.token not in self.forced
            if same and other.believes(known):
                raise Violation(
                    f"two holders of {handle.resource}: c{other.number} with {known.token} "
                    f"and c{client.number} with {handle.token}"
                )
        highest = self._highest.get(handle.resource, 0)
        if handle.token <= highest:
            raise Violation(f"token {handle.token} of {handle.resource} is not above {highest}")
        self._highest[handle.resource] = handle.token
        self.handles = [(c, h) for c, h in self.handles if c.believes(h)]
        self.handles.append((client, handle))

    # the nodes' side

    def after_turn(self, node: SimNode) -> None:
        """Check a node that has just taken a turn."""
        driver = node.driver
        if driver is None:
            return
        raft = driver.raft
        if raft.role is Role.LEADER:
            leader = self.leaders.setdefault(raft.term, node.node_id)
            if leader != node.node_id:
                raise Violation(f"nodes {leader} and {node.node_id} both lead term {raft.term}")
        self._check_commit(node)
        self._check_holders(node)
        self._turns += 1
        if self._turns % 16 == 0:
            self._check_digest(node)

    def _check_commit(self, node: SimNode) -> None:
        assert node.driver is not None
        raft = node.driver.raft
        key = (node.node_id, node.life)
        before = self._commit.get(key, 0)
        now = raft.commit_index
        if now < before:
            raise Violation(
                f"the commit index of node {node.node_id} went from {before} back to {now}"
            )
        self._commit[key] = now
        log = raft.state.log
        for index in range(max(before, log.base_index) + 1, now + 1):
            entry = log.entry(index)
            seen = (entry.term, crc32(entry.data))
            if self.committed.setdefault(index, seen) != seen:
                raise Violation(f"node {node.node_id} committed another entry {index}: {seen}")
        if now > before and raft.role is Role.LEADER:
            self._check_durable(node, now)

    def _check_durable(self, leader: SimNode, index: int) -> None:
        """What a leader commits is on the disks of a majority at that moment (decision 3, guarantee 8)."""
        assert leader.driver is not None
        voters = leader.driver.raft.state.voters
        have = sorted(v for v in voters if self._nodes[v].durable_index >= index)
        if len(have) * 2 <= len(voters):
            raise Violation(
                f"node {leader.node_id} committed {index}, which is durable on {have} of {sorted(voters)} only"
            )

    def _check_holders(self, node: SimNode) -> None:
        """No end of a lease takes effect before its holder's own deadline (guarantees 3 and 10)."""
        assert node.driver is not None
        table = node.driver.table
        for client, handle in self.handles:
            if handle.token in self.forced or table.applied_index < handle.rev:
                continue
            if not client.believes(handle):
                continue
            current = table.lookup(handle.resource)
            if current is None or current.token != handle.token:
                raise Violation(
                    f"node {node.node_id} at index {table.applied_index} ended {handle.resource} {handle.token} "
                    f"while c{client.number} still counts on it"
                )

    def _check_digest(self, node: SimNode) -> None:
        assert node.driver is not None
        table = node.driver.table
        digest = table.digest()
        if self.digests.setdefault(table.applied_index, digest) != digest:
            raise Violation(f"node {node.node_id} has another state at index {table.applied_index}")
