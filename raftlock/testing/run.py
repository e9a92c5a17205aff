"""One seed from its beginning to its end: faults, then rest, then nothing left.

It owns the phases of a run and what is asked of each. `run_seed` is what the command, the tests, shrinking and the
hunt for planted bugs call.
"""

import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from raftlock.client.handles import Handle
from raftlock.testing.audit import check_audit
from raftlock.testing.bounds import small_bounds
from raftlock.testing.cluster import SimCluster
from raftlock.testing.invariants import Violation
from raftlock.testing.nemesis import Nemesis
from raftlock.testing.probes import watching
from raftlock.testing.profiles import FAULTS_US, Fault, draw
from raftlock.testing.world import World

UNDO_US = 4_000_000
"""The last fault is undone by then."""
LEADER_US = 4_000_000
REST_US = 2_000_000
DRAIN_US = 40_000_000
LATE_US = 300_000
"""Guarantee 4's 250 ms, and the way of the last renewal to the leader."""
TTL_US_MAX = 5_000_000
"""The longest of a lease or a session that the workload asks for."""
SHOWN_MAX = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedResult:
    """How one seed went."""

    seed: int
    profile: str
    failure: str
    """Empty when nothing was violated."""
    invariant: str
    """The name of the invariant that was violated; "crash" when production code raised."""
    kind: str
    """safety, liveness, crash, or empty."""
    trace_hash: str
    events: int
    simulated_us: int
    elections: int
    granted: int
    crashes: int
    outcomes: dict[str, int]
    situations: dict[str, int]
    faults: tuple[Fault, ...]
    recent: tuple[str, ...]
    took_s: float
    history: list[dict[str, Any]] = field(default_factory=list)
    """Only when the trace is kept."""


def run_seed(
    seed: int,
    profile: str = "default",
    *,
    faults: Sequence[Fault] | None = None,
    keep_trace: bool = False,
) -> SeedResult:
    """Run one seed to its end, or to the first violation. `faults` replaces the schedule that the seed draws."""
    began = time.perf_counter()
    world = World(seed, keep_all=keep_trace)
    setup = draw(profile, world.stream("setup"))
    schedule = setup.faults if faults is None else tuple(faults)
    failure = invariant = kind = ""
    cluster: SimCluster | None = None
    nemesis: Nemesis | None = None
    try:
        with small_bounds(
            world.stream("bounds"), small=setup.bounds_small, busy=setup.busy
        ) as bounds:
            world.note(
                f"seed {seed} {profile}: {setup.nodes} nodes, {len(setup.client_rates)} clients, {bounds}"
            )
            cluster = SimCluster(world, setup)
            with watching(cluster):
                nemesis = Nemesis(cluster, schedule)
                _phases(cluster, nemesis)
    except Violation as error:
        failure, invariant, kind = str(error), error.invariant, error.kind
    except Exception:  # noqa: BLE001 - whatever the production code raises in a run is what the run is for
        failure, invariant, kind = traceback.format_exc(), "crash", "crash"
    monitor = cluster.monitor if cluster is not None else None
    return SeedResult(
        seed=seed,
        profile=profile,
        failure=failure,
        invariant=invariant,
        kind=kind,
        trace_hash=world.trace_hash(),
        events=world.events,
        simulated_us=world.now_us,
        elections=len(monitor.raft.leaders) if monitor is not None else 0,
        granted=monitor.granted if monitor is not None else 0,
        crashes=nemesis.crashes if nemesis is not None else 0,
        outcomes=dict(monitor.outcomes) if monitor is not None else {},
        situations=dict(world.situations.counts),
        faults=schedule,
        recent=tuple(world.recent if keep_trace else world.recent[-SHOWN_MAX:]),
        took_s=time.perf_counter() - began,
        history=monitor.history.as_json() if monitor is not None and keep_trace else [],
    )


def _phases(cluster: SimCluster, nemesis: Nemesis) -> None:
    world = cluster.world
    world.run(FAULTS_US + UNDO_US)
    nemesis.end()
    if not world.run_until(lambda: _settled(cluster), limit_us=LEADER_US, step_us=50_000):
        raise Violation(
            "leader within bounded time",
            f"none serves {LEADER_US} us after the faults have stopped",
        )
    world.run(world.now_us + REST_US)
    _end_clients(cluster)
    if not world.run_until(lambda: not _busy(cluster), limit_us=DRAIN_US, step_us=200_000):
        raise Violation("all answered", f"clients {_busy(cluster)} still ask")
    if not world.run_until(lambda: not _left(cluster), limit_us=DRAIN_US, step_us=200_000):
        raise Violation("all drained", f"{_left(cluster)} when nobody wants any")
    _check_end(cluster)


def _settled(cluster: SimCluster) -> bool:
    leader = cluster.leader()
    if leader is None or leader.driver is None:
        return False
    raft = leader.driver.raft
    return all(
        raft.term >= other.driver.raft.term
        for other in cluster.nodes.values()
        if other.driver is not None
    )


def _end_clients(cluster: SimCluster) -> None:
    """Let a third of the clients die with what they hold, and the others stop in good order."""
    rng = cluster.world.stream("end")
    term = max(cluster.monitor.raft.leaders)
    for client in cluster.clients:
        if rng.random() < 0.33:
            for handle in client.die_for_good():
                _expect_end(cluster, handle, term)
        else:
            client.stop()


def _expect_end(cluster: SimCluster, handle: Handle, term: int) -> None:
    """The lease of a dead holder ends in bounded time, if nothing else happens meanwhile (guarantee 4)."""
    # Its client may count with a shorter ttl than the lease has (L8): the longest of the workload counts here.
    late_us = cluster.world.now_us + TTL_US_MAX + TTL_US_MAX // 100 + LATE_US

    def look() -> None:
        leader = cluster.leader()
        if leader is None or leader.driver is None or max(cluster.monitor.raft.leaders) != term:
            return
        grant = leader.driver.table.lookup(handle.resource)
        if grant is not None and grant.token == handle.token:
            raise Violation(
                "bounded late",
                f"{handle.resource} {handle.token} is held by a client that died long ago",
            )

    cluster.world.at(late_us, look)


def _busy(cluster: SimCluster) -> list[int]:
    return [client.number for client in cluster.clients if client.core.busy and not client.dead]


def _left(cluster: SimCluster) -> str:
    """Return what is left in the table; empty when nothing is."""
    leader = cluster.leader()
    if leader is None or leader.driver is None:
        return "no leader although nothing is wrong any more"
    table = leader.driver.table
    counts = (table.lock_count, table.waiter_count, table.session_count)
    if any(counts) or table.handing_on or table.ending:
        return f"{counts} locks, waiters and sessions are left"
    return ""


def _check_end(cluster: SimCluster) -> None:
    """Look at the whole once more: states, budgets and histories."""
    cluster.world.run(cluster.world.now_us + 500_000)
    monitor = cluster.monitor
    for node in cluster.nodes.values():
        if node.driver is not None:
            monitor.table.same_digest(node.driver.table, node.driver.table.applied_index)
    leader = cluster.leader()
    if leader is not None:
        monitor.leases.check_budgets(leader)
    monitor.history.check()
    check_audit(cluster.nodes)
