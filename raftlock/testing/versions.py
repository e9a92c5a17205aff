"""Nodes of two builds in one simulated cluster: who runs which, what they say of it, and what a switch must be (decision 7).

It owns upgrades, the way back, and the hellos that tell of them. When they happen is drawn before (profiles).
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from raftlock.locks import VERSIONS, LockTable
from raftlock.server.versions import MemberVersions
from raftlock.testing.invariants import Violation
from raftlock.testing.next_version import NEXT, PASS_OVER, WITH_NEXT
from raftlock.testing.node import SimNode

if TYPE_CHECKING:
    from raftlock.testing.cluster import SimCluster

HELLO_EVERY_US = 50_000
"""Links that are lost are made again by then."""
LOST_US_MAX = 5_000
"""By then every member that runs knows of the end of a process."""


class MixedVersions:
    """The builds of one run, where they may differ."""

    def __init__(self, cluster: "SimCluster", new: Iterable[bool]) -> None:
        """`new`: for each node, whether it starts with the next release's build."""
        self._cluster = cluster
        self._world = cluster.world
        self._rng = cluster.world.stream("versions")
        self.raised_at = 0
        """The index from which on the next version is in force, 0 while it is not."""
        self._proposed = False
        self.when_proposed: Callable[[], None] | None = None
        """What strikes when a switch is on its way: once."""
        for node, is_new in zip(cluster.nodes.values(), new, strict=True):
            node.versions = WITH_NEXT if is_new else VERSIONS

    def start(self) -> None:
        """Let links say hello, for the whole run."""
        for source in self._cluster.nodes.values():
            for target in self._cluster.nodes.values():
                if source is not target and self._cluster.linked(source, target):
                    target.when_running(partial(self._say, source, source.life, target))
        self._world.after(HELLO_EVERY_US, self.start)

    @staticmethod
    def _say(source: SimNode, life: int, target: SimNode) -> None:
        # One that waited while its reader was paused is of a process that may be gone: the loss of its link comes next.
        if target.driver is not None and source.life == life and source.driver is not None:
            target.driver.versions.said(source.node_id, source.driver.versions.version_max)

    # what happens to nodes

    def upgrade(self, pick: float) -> SimNode | None:
        """Return a node that now has the next release's build, from its next start on; None if all have."""
        return self._change(pick, old=True)

    def downgrade(self, pick: float) -> SimNode | None:
        """Return a node that now has this release's build again, from its next start on; None if none had another."""
        node = self._change(pick, old=False)
        if node is not None and not self.raised_at:
            self._world.saw("a node goes back to the older build before the switch")
        return node

    def _change(self, pick: float, *, old: bool) -> SimNode | None:
        nodes = [n for n in self._cluster.nodes.values() if (NEXT not in n.versions) is old]
        if not nodes:
            return None
        node = nodes[int(pick * len(nodes))]
        node.versions = WITH_NEXT if old else VERSIONS
        self._world.note(f"n{node.node_id} gets the {'next' if old else 'older'} build")
        return node

    def refused(self, node: SimNode) -> None:
        """A node of the older build has met the next version and ended: whoever runs it upgrades it."""
        # One that leads may be the first that would apply it.
        if not self._proposed:
            raise Violation("raised by all", f"n{node.node_id} meets a version that nobody raised")
        self._world.saw("a node of the older build ends after the switch")
        node.versions = WITH_NEXT

    def use_new_command(self) -> None:
        """Let the leader use what the next version adds, if it is in force where the leader has applied."""
        leader = self._cluster.leader()
        if leader is None or leader.driver is None or leader.driver.table.version < NEXT:
            return
        self._world.saw("a command of the next version is used")
        leader.driver.leading.batcher.command((PASS_OVER, 0))
        leader.wake()

    # what is checked

    def proposed(
        self,
        inner: Callable[..., int],
        said: MemberVersions,
        members: Iterable[int],
        active: int,
    ) -> int:
        """Check a version that a leader is about to propose: every member's process knows it."""
        members = tuple(members)
        version = inner(said, members, active)
        if version:
            self._proposed = True
            self._check_proposed(members, version)
            if self.when_proposed is not None:
                strike, self.when_proposed = self.when_proposed, None
                self._world.after(self._rng.randint(0, 1_500), strike)
        return version

    def _check_proposed(self, members: Iterable[int], version: int) -> None:
        for member in members:
            node = self._cluster.nodes[member]
            if node.ran_max < version and self._world.now_us - node.started_us > LOST_US_MAX:
                raise Violation(
                    "raised by all",
                    f"version {version} is proposed, and n{member} runs a build that ends at {node.ran_max}",
                )

    def applied(self, table: LockTable) -> None:
        """Look at a table that has just applied an entry."""
        if table.version == NEXT and not self.raised_at:
            self.raised_at = table.applied_index + 1
            self._world.note(f"version {NEXT} is in force from {self.raised_at} on")
            self._world.saw("the state machine's version is raised")
            members = self._cluster.members().members
            if not all(self._cluster.nodes[m.node_id].up for m in members):
                self._world.saw("the version is raised while a member is down")
