"""The invariants of a simulated run, checked as it goes (semantics: guarantees 1, 2, 3, 8; Raft figure 3).

It sees all nodes and all clients at once, which nobody in the system does.
"""

from typing import TYPE_CHECKING
from zlib import crc32

from raftlock.client.handles import Handle
from raftlock.raft import Role
from raftlock.testing.node import SimNode

if TYPE_CHECKING:
    from raftlock.testing.sim_client import SimClient


class Violation(AssertionError):
    """A promise was broken. The text says which, by whom and when."""


class Monitor:
    """What is known of the whole run."""

    def __init__(self) -> None:
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

    # the clients' side

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
