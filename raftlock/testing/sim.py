"""`python -m raftlock.testing.sim --seeds 0-199`: run seeds of the simulated cluster, each with its own faults.

Exit codes: 0 all well, 127 a crash, 128 liveness, 129 safety.
"""

import argparse
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from raftlock.testing.audit import check_audit
from raftlock.testing.cluster import SimCluster
from raftlock.testing.monitor import Violation
from raftlock.testing.network import NetworkFaults
from raftlock.testing.world import World

FAULTS_US = 25_000_000
SETTLE_US = 12_000_000
DRAIN_US = 60_000_000
EXIT_CRASH, EXIT_LIVENESS, EXIT_SAFETY = 127, 128, 129


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedResult:
    """How one seed went."""

    seed: int
    failure: str
    """Empty when nothing was violated."""
    kind: str
    trace_hash: str
    events: int
    elections: int
    granted: int
    crashes: int
    outcomes: dict[str, int]
    recent: tuple[str, ...]
    took_s: float


class Nemesis:
    """What goes wrong in one run, and when: all of it drawn from the seed."""

    def __init__(self, cluster: SimCluster) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self.crashes = 0
        self._world.after(self._world.rng.randint(500_000, 2_000_000), self._strike)

    def _strike(self) -> None:
        world, rng = self._world, self._world.rng
        if world.now_us >= FAULTS_US:
            return
        faults = (
            self._crash_one, self._crash_leader, self._crash_one, self._crash_all, self._cut, self._cut,
            self._cut_leader, self._abandon_leader, self._abandon_leader, self._pause, self._pause_leader, self._lossy, self._client_dies, self._client_pauses,
            self._slow_crash,
        )  # fmt: skip
        rng.choice(faults)()
        world.after(rng.randint(200_000, 2_500_000), self._strike)

    def _crash(self, node_id: int) -> None:
        node = self._cluster.nodes[node_id]
        if not node.up:
            return
        self.crashes += 1
        node.crash()
        self._world.after(
            self._world.rng.randint(1_000, 3_000_000), lambda: None if node.up else node.start()
        )

    def _any(self) -> int:
        return self._world.rng.choice(sorted(self._cluster.nodes))

    def _leader_or_any(self) -> int:
        leader = self._cluster.leader()
        return leader.node_id if leader is not None else self._any()

    def _crash_one(self) -> None:
        self._crash(self._any())

    def _crash_leader(self) -> None:
        self._crash(self._leader_or_any())

    def _crash_all(self) -> None:
        for node_id in self._cluster.nodes:
            self._crash(node_id)

    def _slow_crash(self) -> None:
        """Die between two calls to the disk."""
        node = self._cluster.nodes[self._any()]
        if node.up:
            self.crashes += 1
            disk = self._world.rng.choice((node.disk, node.disk, node.audit_disk))
            disk.crash_after(self._world.rng.randint(0, 30))
            self._world.after(3_000_000, lambda: None if node.up else node.start())

    def _cut_off(self, side: set[int]) -> None:
        rng = self._world.rng
        clients = {c.number for c in self._cluster.clients if rng.random() < 0.4}
        self._cluster.cut(side, both_ways=rng.random() < 0.7, clients=clients)
        self._world.after(rng.randint(100_000, 3_000_000), self._cluster.heal)

    def _cut(self) -> None:
        count = self._world.rng.randint(1, len(self._cluster.nodes) - 1)
        self._cut_off(set(self._world.rng.sample(sorted(self._cluster.nodes), count)))

    def _cut_leader(self) -> None:
        self._cut_off({self._leader_or_any()})

    def _abandon_leader(self) -> None:
        self._cluster.abandon(self._leader_or_any())
        self._world.after(self._world.rng.randint(100_000, 3_000_000), self._cluster.heal)

    def _pause_node(self, node_id: int) -> None:
        node = self._cluster.nodes[node_id]
        if node.up and not node.paused:
            node.pause()
            self._world.after(
                self._world.rng.randint(20_000, 4_000_000),
                lambda: node.resume() if node.paused else None,
            )

    def _pause(self) -> None:
        self._pause_node(self._any())

    def _pause_leader(self) -> None:
        self._pause_node(self._leader_or_any())

    def _lossy(self) -> None:
        rng, network = self._world.rng, self._cluster.network
        network.faults = NetworkFaults(
            loss=rng.choice([0.0, 0.01, 0.1]),
            duplicate=rng.choice([0.0, 0.01, 0.1]),
            delay_max_us=rng.choice([500, 5_000, 30_000]),
            tail=rng.choice([0.0, 0.01]),
        )

    def _client_dies(self) -> None:
        self._world.rng.choice(self._cluster.clients).die()

    def _client_pauses(self) -> None:
        client = self._world.rng.choice(self._cluster.clients)
        if not client.paused:
            client.pause()
            self._world.after(self._world.rng.randint(50_000, 6_000_000), client.resume)


def run_seed(seed: int) -> SeedResult:
    """Run one seed to its end, or to the first violation."""
    began = time.perf_counter()
    world = World(seed)
    failure = kind = ""
    cluster: SimCluster | None = None
    nemesis: Nemesis | None = None
    try:
        cluster = SimCluster(
            world,
            nodes=world.rng.choice([3, 3, 3, 5]),
            clients=world.rng.randint(3, 8),
            logged_renewal_ttl_ms=world.rng.choice([2_000, 60_000]),
        )
        nemesis = Nemesis(cluster)
        world.run(FAULTS_US + 4_000_000)
        cluster.network.faults = NetworkFaults()
        cluster.heal()
        for node in cluster.nodes.values():
            node.disk.crash_after(None)
            node.audit_disk.crash_after(None)
            if not node.up:
                node.start()
            elif node.paused:
                node.resume()
        for client in cluster.clients:
            if client.paused:
                client.resume()
        world.run(FAULTS_US + 4_000_000 + SETTLE_US)
        if cluster.leader() is None:
            raise Violation("liveness: no leader after the faults have stopped")
        for client in cluster.clients:
            client.stop()
        world.run(FAULTS_US + 4_000_000 + SETTLE_US + DRAIN_US)
        for client in cluster.clients:
            if client.core.busy:
                raise Violation(f"liveness: c{client.number} still asks")
        cluster.check_drained()
        check_audit(cluster.nodes)
    except Violation as error:
        failure = str(error)
        kind = "liveness" if failure.startswith("liveness") else "safety"
    except Exception:  # noqa: BLE001 - whatever the production code raises in a run is what the run is for
        failure, kind = traceback.format_exc(), "crash"
    monitor = cluster.monitor if cluster is not None else None
    return SeedResult(
        seed=seed,
        failure=failure,
        kind=kind,
        trace_hash=world.trace_hash(),
        events=world.events,
        elections=len(monitor.leaders) if monitor is not None else 0,
        granted=monitor.granted if monitor is not None else 0,
        crashes=nemesis.crashes if nemesis is not None else 0,
        outcomes=monitor.outcomes if monitor is not None else {},
        recent=tuple(world.recent[-60:]),
        took_s=time.perf_counter() - began,
    )


def main() -> int:
    """Run the seeds that the command line names. Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m raftlock.testing.sim", description=__doc__)
    parser.add_argument("--seeds", default="0-19", help="FIRST-LAST or one seed (default: 0-19)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    began = time.perf_counter()
    with ProcessPoolExecutor(max_workers=options.jobs) as pool:
        results = list(pool.map(run_seed, seeds))
    failed = [result for result in results if result.failure]
    for result in failed:
        print(f"seed {result.seed}: {result.kind}: {result.failure}")
        print("\n".join(f"    {line}" for line in result.recent))
    print(
        f"{len(results)} seeds, {len(failed)} failed, {sum(r.elections for r in results)} terms led, "
        f"{sum(r.crashes for r in results)} crashes, {sum(r.granted for r in results)} locks held, "
        f"{sum(r.events for r in results)} events, {time.perf_counter() - began:.1f} s"
    )
    codes = {"crash": EXIT_CRASH, "liveness": EXIT_LIVENESS, "safety": EXIT_SAFETY}
    return max((codes[result.kind] for result in failed), default=0)


if __name__ == "__main__":
    sys.exit(main())
