"""The administrator who changes the membership of a simulated cluster, one member at a time (thesis 4.1).

It drives `raft.change_membership` itself: the driver has no command for it yet.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from raftlock.raft import MembershipBusy, NotLeader
from raftlock.testing.node import SimNode
from raftlock_wire.ids import NodeId
from raftlock_wire.membership import Member, Membership, membership

if TYPE_CHECKING:
    from raftlock.testing.cluster import SimCluster

ATTEMPTS_MAX = 40
PAUSE_US = 50_000
VOTERS_MIN = 2

Change = Callable[[Membership], Membership | None]
"""Returns the next membership, or None when there is nothing to change."""


class MemberChanges:
    """Asks the leader for changes, and again while it is busy."""

    def __init__(self, cluster: "SimCluster") -> None:
        self._cluster = cluster
        self.busy = False
        self.shrank = False
        """Whether a membership of less than three voters was ever begun: then no disk may be lost any more."""

    def add_learner(self, pick: float) -> None:
        """Add a node that is not a member: a spare, or one that was removed."""
        cluster = self._cluster
        members = cluster.members()
        out = [n for n in cluster.nodes.values() if members.get(n.node_id) is None]
        if not out:
            return
        node = out[int(pick * len(out))]
        if not self._join(node):
            return
        member = self._member(node, learner=True)
        self._ask(
            f"add n{node.node_id} as a learner",
            lambda now: (
                membership([*now.members, member]) if now.get(node.node_id) is None else None
            ),
        )

    def promote(self, pick: float) -> None:
        """Make a learner a voter."""

        def change(now: Membership) -> Membership | None:
            learners = sorted(now.learners)
            if not learners:
                return None
            chosen = learners[int(pick * len(learners))]
            return membership(
                m._replace(learner=False) if m.node_id == chosen else m for m in now.members
            )

        self._ask("promote a learner", change)

    def remove(self, node: SimNode) -> None:
        """Remove a member, unless too few voters with their disks would be left."""

        def change(now: Membership) -> Membership | None:
            left = membership(m for m in now.members if m.node_id != node.node_id)
            fit = [v for v in left.voters if not self._cluster.nodes[v].out_of_service]
            enough = len(left.voters) >= VOTERS_MIN and len(fit) * 2 > len(left.voters)
            return left if enough and now.get(node.node_id) is not None else None

        self._ask(f"remove n{node.node_id}", change)

    def replace_lost(self) -> None:
        """Remove a node whose data is lost; its machine may come back as a learner with an empty disk."""
        members = self._cluster.members()
        for node in self._cluster.nodes.values():
            if node.out_of_service and members.get(node.node_id) is not None:
                self.remove(node)
                return

    def begin_on(self, leader: SimNode, pick: float) -> None:
        """Let one node begin a change by itself: a spare as a learner, or the removal of another member."""
        assert leader.driver is not None
        now = leader.driver.raft.membership
        spares = [
            n
            for n in self._cluster.nodes.values()
            if now.get(n.node_id) is None and n.store is not None and n.store.cluster_id is not None
        ]
        others = [m for m in now.members if m.node_id != leader.node_id]
        if spares:
            new = membership([*now.members, self._member(spares[0], learner=True)])
        elif len(others) >= VOTERS_MIN:
            gone = others[int(pick * len(others))]
            new = membership(m for m in now.members if m is not gone)
            fit = [v for v in new.voters if not self._cluster.nodes[v].out_of_service]
            if len(fit) * 2 <= len(new.voters):
                return
        else:
            return
        self._change(leader, new, "a lonely change")

    def _change(self, leader: SimNode, new: Membership, what: str) -> bool:
        """Propose a membership at a leader. Return whether it took it."""
        assert leader.driver is not None
        driver = leader.driver
        try:
            index = driver.raft.change_membership(
                new,
                stamp_us=max(driver.clock.stamp_us, driver.raft.last_stamp_us),
                wall_us=max(leader.wall_us(), driver.raft.last_wall_us),
            )
        except (MembershipBusy, NotLeader):
            return False
        self._cluster.links_are_checked = True
        self.shrank = self.shrank or len(new.voters) < 3
        self._note(what, index, driver.raft.membership, leader.node_id)
        leader.wake()
        return True

    # how

    def _join(self, node: SimNode) -> bool:
        """Let a node run that knows its cluster, and no membership that lists it. Return whether it runs."""
        cluster = self._cluster
        if node.out_of_service and node.store is not None:
            # Its directory is not the member's that it was: it begins anew.
            node.replace_disk()
        if node.store is None or node.store.cluster_id is None or not node.up:
            if not node.up:
                node.disk.kill()
                store = node.open()
                if store.cluster_id is None:
                    store.set_cluster(cluster.bootstrap)
                store.close()
            node.start()
        cluster.links_are_checked = True
        return node.up

    @staticmethod
    def _member(node: SimNode, *, learner: bool) -> Member:
        assert node.store is not None
        i = node.node_id
        return Member(i, node.store.incarnation, f"node{i}:7411", f"node{i}:7401", learner)

    def _ask(self, what: str, change: Change, attempt: int = 0) -> None:
        self.busy = attempt < ATTEMPTS_MAX
        leader = self._cluster.leader()
        if leader is not None and leader.driver is not None:
            new = change(leader.driver.raft.membership)
            if new is None:
                self.busy = False
                return
            if self._change(leader, new, what):
                self.busy = False
                return
        if attempt < ATTEMPTS_MAX:
            self._cluster.world.after(PAUSE_US, lambda: self._ask(what, change, attempt + 1))

    def _note(self, what: str, index: int, now: Membership, leader: NodeId) -> None:
        world = self._cluster.world
        world.note(
            f"{what} at {index}: voters {sorted(now.voters)}, learners {sorted(now.learners)}"
        )
        if what.startswith("promote"):
            world.saw("a learner becomes a voter")
        if leader not in now.voters:
            world.saw("a leader removes itself")
