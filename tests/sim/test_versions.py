"""A cluster of two builds, upgraded node by node: production's switch of the state machine's version (decision 7)."""

from dataclasses import replace

import pytest

from raftlock.testing.bounds import small_bounds
from raftlock.testing.cluster import SimCluster
from raftlock.testing.next_version import NEXT, WITH_NEXT
from raftlock.testing.node import SimNode
from raftlock.testing.probes import watching
from raftlock.testing.profiles import VERSIONS as VERSION_FAULTS
from raftlock.testing.profiles import draw
from raftlock.testing.run import run_seed
from raftlock.testing.world import World

SECOND_US = 1_000_000


class Upgrade:
    """Three nodes without faults, of which some have the next release's build."""

    def __init__(self, *new: int) -> None:
        self.world = World(1)
        setup = replace(
            draw("versions", self.world.stream("setup")),
            nodes=3, spares=0, faults=(), next_build=tuple(i in new for i in (1, 2, 3)),
            snapshot_log_size=1 << 17, compact_keep_size=0,
        )  # fmt: skip
        self.cluster = SimCluster(self.world, setup)
        self.nodes = self.cluster.nodes

    def run(self, seconds: float) -> None:
        """Let time pass, with clients at work and every invariant looked at."""
        large = small_bounds(self.world.stream("bounds"), small=False, busy=False)
        with large, watching(self.cluster):
            self.world.run(self.world.now_us + int(seconds * SECOND_US))

    def upgrade(self, node_id: int) -> None:
        """Restart a node with the next build."""
        node = self.nodes[node_id]
        node.kill()
        node.versions = WITH_NEXT
        node.start()

    @property
    def versions(self) -> list[int]:
        """Return the version in force on each node that runs, 0 for one that does not."""
        return [n.driver.table.version if n.driver else 0 for n in self.nodes.values()]

    def same_state(self) -> bool:
        """Return whether all nodes that applied the same index hold the same, two of them at least."""
        digests: dict[int, set[bytes]] = {}
        tables = [n.driver.table for n in self.nodes.values() if n.driver is not None]
        for table in tables:
            digests.setdefault(table.applied_index, set()).add(table.digest())
        return len(digests) < len(tables) and all(len(found) == 1 for found in digests.values())

    def lines(self, node: SimNode) -> list[str]:
        """Return what the trace says of a node's ends."""
        return [line for line in self.world.recent if f"n{node.node_id} ends: " in line]


def test_the_last_upgrade_switches_all_nodes_at_one_index() -> None:
    """Two of three do not; the third does, without a word from anyone; the states are one before and after."""
    upgrade = Upgrade(1)
    upgrade.run(3)
    upgrade.upgrade(2)
    upgrade.run(3)
    before = (upgrade.versions, upgrade.same_state())
    upgrade.upgrade(3)
    upgrade.run(3)

    after = (upgrade.versions, upgrade.same_state())
    assert (before, after) == (([1, 1, 1], True), ([NEXT, NEXT, NEXT], True))


def test_a_node_may_go_back_before_the_switch() -> None:
    """Nothing of the next version is in its log; the others wait for it again."""
    upgrade = Upgrade(1, 2)
    upgrade.run(2)
    node = upgrade.nodes[1]
    node.kill()
    node.versions = upgrade.nodes[3].versions
    node.start()
    upgrade.upgrade(3)
    upgrade.run(4)

    assert (upgrade.versions, upgrade.same_state()) == ([1, 1, 1], True)


@pytest.mark.parametrize("compacted", [False, True])
def test_a_node_that_went_back_after_the_switch_ends_and_says_why(compacted: bool) -> None:
    """From its log it ends when the command is applied; from a snapshot it does not even start. The next build goes on."""
    upgrade = Upgrade(1, 2, 3)
    upgrade.run(3)
    node = upgrade.nodes[2]
    if compacted:
        assert node.driver is not None
        node.driver.snapshots._log_size = 1 << 40
        node.wake()
        upgrade.run(1)
    node.kill()
    node.versions = {1: WITH_NEXT[1]}
    started = node.start()
    upgrade.run(1)
    said = upgrade.lines(node)
    upgrade.run(4)

    why = "version 2 of the state machine is in force from index"
    assert (started, [why in line for line in said], upgrade.versions, upgrade.same_state()) == (
        not compacted,
        [True],
        [NEXT, NEXT, NEXT],
        True,
    )


def test_everything_mixes_builds_in_a_share_of_its_seeds() -> None:
    """About a quarter of them, with each kind of change; the others draw none."""
    setups = [draw("everything", World(seed).stream("setup")) for seed in range(80)]
    mixed = [setup for setup in setups if setup.next_build]
    kinds = {f.kind for setup in mixed for f in setup.faults} & set(VERSION_FAULTS)
    elsewhere = {f.kind for s in setups if not s.next_build for f in s.faults} & set(VERSION_FAULTS)

    assert (10 <= len(mixed) <= 30, kinds, elsewhere) == (True, set(VERSION_FAULTS), set())


def test_a_run_of_mixed_builds_meets_the_switch() -> None:
    """The profile is about what its name says: most of its seeds switch, under faults."""
    seen = [run_seed(seed, "versions").situations for seed in (1, 2)]

    assert [found.get("the state machine's version is raised") for found in seen] == [1, 1]
