"""The invariants of a simulated run, checked as it goes: one face for nodes and clients, the checks behind it."""

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from raftlock.client.handles import Handle
from raftlock.server.effects import Effects
from raftlock.testing.history import History
from raftlock.testing.invariants import Violation
from raftlock.testing.lease_checks import LeaseChecks
from raftlock.testing.node import SimNode
from raftlock.testing.promise_checks import PromiseChecks
from raftlock.testing.raft_checks import RaftChecks
from raftlock.testing.table_checks import TableChecks
from raftlock.testing.world import World

if TYPE_CHECKING:
    from raftlock.testing.sim_client import SimClient


class Monitor:
    """What is known of the whole run."""

    def __init__(self, world: World, nodes: Mapping[int, SimNode]) -> None:
        self._nodes = nodes
        self.raft = RaftChecks(world, nodes)
        self.table = TableChecks(world)
        self.leases = LeaseChecks(world, nodes, self._in_office)
        self.promises = PromiseChecks(nodes)
        self.history = History()
        self.granted = 0
        self.outcomes: Counter[str] = Counter()

    def _in_office(self) -> SimNode | None:
        """Return the leader of the newest term, if it still leads and has its deadlines."""
        leaders = self.raft.leaders
        if not leaders:
            return None
        node = self._nodes[leaders[max(leaders)]]
        return node if node.driver is not None and node.driver.serving else None

    # nodes

    def before_frames(self, node: SimNode, effects: Effects) -> None:
        """Check what a turn is about to write and send."""
        self.raft.before_frames(node, effects)

    def started(self, node: SimNode) -> None:
        """Check the disk of a node that is about to take part."""
        self.raft.started(node)

    def wrote(self, node: SimNode) -> None:
        """Check a disk that says that a write is durable."""
        self.raft.wrote(node)

    def after_turn(self, node: SimNode) -> None:
        """Check a node that has just taken a turn."""
        self.raft.after_turn(node)
        self.leases.after_turn(node)

    # clients

    def force(self, token: int) -> None:
        """Learn that an administrator ends a grant at once."""
        self.leases.forced.add(token)
        self.history.forced.add(token)

    def counts_on(self, client: "SimClient") -> None:
        """Check what a client believes."""
        self.leases.counts_on(client)

    def holds(self, client: "SimClient", handle: Handle) -> None:
        """Check a handle that was just made."""
        self.granted += 1
        self.leases.holds(client, handle)

    def refused(self, client: "SimClient", request: tuple[Any, ...], status: str) -> None:
        """Learn that a client was told that one attempt of an acquire was not taken."""
        self.table.refused(request, f"c{client.number}", status)

    def held_by(self, client: "SimClient", resource: str, token: int, low: int) -> None:
        """Check an acquire that was refused because another grant is in the way: there was one, at some moment."""
        shown = self.table.shown_between(resource, low, self.table.highest, within=True)
        if token not in shown:
            raise Violation(
                "linearizable reads",
                f"c{client.number} is told that {token} has {resource}; from index {low} on it was {sorted(shown)}",
            )

    def reads(self, client: "SimClient", resource: str, token: int, low: int, what: str) -> int:
        """Check what a get or a check showed: a state between `low` and now. Return its first index."""
        shown = self.table.shown_between(resource, low, self.table.highest)
        if token not in shown:
            raise Violation(
                "linearizable reads",
                f"c{client.number} {what} {resource} and saw {token}; from index {low} on it was {sorted(shown)}",
            )
        return shown[token]
