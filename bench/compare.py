"""`python -m bench compare`: the same work on raftlock and on what people use, in interleaved rounds on one machine.

Acquire and release of leases on many names, with the same connections and depth; one lock that many want; the leader
killed. All systems stay up for the whole run, and each round measures each of them once, so that noise hits all.
Figures are medians; a ratio above 1 means that raftlock is better. How each system differs is printed with the table:
the same work does not give the same promise.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import uvloop

from bench import failover, goals, latency, native, one_lock
from bench.faults import Kill
from bench.open_loop import OpenTally
from bench.peers.base import Peer, Replicated, Running
from bench.peers.etcd import Etcd
from bench.peers.pysyncobj import PySyncObj
from bench.peers.raftlock import Raftlock
from bench.peers.redis import Redis
from bench.peers.redis_open import open_loop_on_redis
from bench.peers.zookeeper import ZooKeeper
from bench.ratios import OURS, QUICK_KEYS, figure, keys_of
from bench.report import add_common, count, document, machine_line, table, write
from bench.singles import SINGLES, run_single
from bench.throughput import WORKLOADS, summary

HELP = "the same work on raftlock, etcd, ZooKeeper, Redis and PySyncObj, in interleaved rounds"
PEERS: dict[str, Callable[[], Peer]] = {
    "etcd": Etcd,
    "redis": lambda: Redis(aof=True),
    "redis_memory": lambda: Redis(aof=False),
    "zookeeper": ZooKeeper,
    "pysyncobj": PySyncObj,
}
QUICK_PEERS = "etcd,redis,zookeeper,pysyncobj"
MORE = ("failover_ms", "contended", "after_release_ms", "native")
"""On the systems of the run; what else there is are commands of their own (`bench.singles`)."""
ALL = (*WORKLOADS, *MORE, *SINGLES)
KILLS, QUICK_KILLS = 5, 3
QUICK_S, QUICK_LIMIT_S = 1.5, 110.0
"""After that a quick run begins no further kill: it has three minutes with its ending."""
OPEN = "open_67000"
OPEN_S, OPEN_CONNECTIONS = 60.0, 8
CURVE_CONNECTIONS = 8
CURVE_DEPTHS = (1, 4, 16, 64, 256)
NO_FAILOVER = "one node, nothing replicated: with it the service is gone until it is back"
Systems = list[tuple[Peer, Running]]
Rounds = dict[str, dict[str, list[dict[str, Any]]]]
"""Workload to system to its measurements, one a round."""


def chosen(options: argparse.Namespace) -> list[Peer] | None:
    """Return the peers that are there. None, after naming them, if one is missing and that is not allowed."""
    found: list[Peer] = []
    missing: list[str] = []
    for name in options.peers.split(","):
        if name not in PEERS:
            print(f"--peers: {name!r} is none of {', '.join(PEERS)}", file=sys.stderr)
            return None
        peer = PEERS[name]()
        problem = peer.missing()
        if problem is None:
            found.append(peer)
        else:
            missing.append(f"{name}: {problem}")
    for line in missing:
        print(f"missing: {line}", file=sys.stderr)
    if missing and not options.allow_missing:
        print("--allow-missing goes on without them", file=sys.stderr)
        return None
    return found


def names_of(text: str) -> list[str] | None:
    """Return the workloads that are asked for; None, after saying what is allowed, if one is not known."""
    names = list(ALL) if text == "all" else text.split(",")
    for name in names:
        if name not in ALL:
            print(f"--workloads: {name!r} is none of {', '.join(ALL)}, all", file=sys.stderr)
            return None
    return names


def run(options: argparse.Namespace) -> int:
    """Measure all systems, print a table a workload and the goals, write JSON."""
    began = time.monotonic()
    names = names_of(options.workloads)
    if options.peers is None:
        options.peers = QUICK_PEERS if options.quick else ",".join(PEERS)
    if options.quick:
        options.seconds, options.rounds, options.kills = QUICK_S, 1, QUICK_KILLS
    peers = chosen(options)
    if names is None or peers is None:
        return 2
    until = began + QUICK_LIMIT_S if options.quick else None
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raftlock-peers-")))
        systems: Systems = []
        for peer in (Raftlock(), *peers):
            (folder / peer.name).mkdir()
            systems.append((peer, stack.enter_context(peer.running(folder / peer.name))))
        results, bad = closed(names, systems, options)
        bad |= together(names, systems, options, until, results)
    for name in SINGLES:
        if name in names:
            results[name] = run_single(name)
            bad |= "failed" in results[name]
    results["systems"] = {peer.name: {"version": peer.version, "differs": peer.differs} for peer, _ in systems}  # fmt: skip
    documents = [document("compare", options, results), *(results[n] for n in SINGLES if n in names)]  # fmt: skip
    print(goals.show(documents, all_of_them=options.workloads == "all"))
    write(options, results, keys_of(results, (*WORKLOADS, *MORE, *SINGLES)))
    return 1 if bad else 0


def closed(
    names: Iterable[str], systems: Systems, options: argparse.Namespace
) -> tuple[dict[str, Any], bool]:
    """Measure the closed loops round by round. Return the results, and whether raftlock made an error."""
    shapes = {name: WORKLOADS[name] for name in names if name in WORKLOADS}
    if options.curve:
        shapes |= {f"curve_{depth}": (CURVE_CONNECTIONS, depth) for depth in CURVE_DEPTHS}
    rounds: Rounds = {name: {peer.name: [] for peer, _ in systems} for name in shapes}
    for _ in range(options.rounds):
        for name, (connections, depth) in shapes.items():
            for peer, running in systems:
                job = peer.measure(
                    running.addresses, connections=connections, depth=depth, seconds=options.seconds
                )
                rounds[name][peer.name].append(uvloop.run(job))
    results = show(rounds, [peer for peer, _ in systems], options) if shapes else {}
    if options.curve:
        results["curve"] = curve(rounds)
    # Errors of a peer are in the table; those of raftlock fail the run.
    bad = any(one["errors"] or one["token_errors"] for r in rounds.values() for one in r[OURS])
    return results, bad


def curve(rounds: Rounds) -> dict[str, list[dict[str, Any]]]:
    """Return each system's medians over the depth, for the plot."""
    points: dict[str, list[dict[str, Any]]] = {}
    for depth in CURVE_DEPTHS:
        for system, measured in rounds[f"curve_{depth}"].items():
            points.setdefault(system, []).append({"depth": depth, **summary(measured)})
    return points


def show(rounds: Rounds, peers: list[Peer], options: argparse.Namespace) -> dict[str, Any]:
    """Print the table of the closed loops and what differs. Return what the JSON holds."""
    results: dict[str, Any] = {"latency": {}}
    rows = []
    for name, systems in rounds.items():
        medians = {system: summary(measured) for system, measured in systems.items()}
        results[name] = figure(name, {s: float(one["operations_per_second"]) for s, one in medians.items()})  # fmt: skip
        results["latency"][name] = medians
        for system, one in medians.items():
            each = [m["operations_per_second"] for m in systems[system]]
            spread = (max(each) - min(each)) / statistics.median(each) if any(each) else 0.0
            rows.append((
                name, system, one["operations_per_second"], f"{spread:.0%}", float(one["p50_ms"]),
                float(one["p99_ms"]), results[name]["ratio"].get(system), one["errors"],
            ))  # fmt: skip
    heads = ("workload", "system", "op/s", "spread", "p50 ms", "p99 ms", "raftlock is x", "errors")
    print(table(heads, rows))
    for peer in peers:
        print(f"{peer.name} {peer.version}: {peer.differs}")
    print(
        f"medians of {options.rounds} interleaved rounds of {options.seconds:g} s; spread is (max - min) / median; "
        f"{machine_line()}",
        flush=True,
    )
    results["rounds"] = rounds
    return results


def together(
    names: Iterable[str],
    systems: Systems,
    options: argparse.Namespace,
    until: float | None,
    results: dict[str, Any],
) -> bool:
    """Measure what else is asked for of the running systems; the kills come last. Return whether something is wrong."""
    bad = False
    if "contended" in names or "after_release_ms" in names:
        bad |= one_lock.measure(names, systems, results)
    if OPEN in names:
        results[f"{OPEN}_peers"] = open_on_peers(systems, results)
    if "native" in names:
        results["native"] = found = {}
        for peer, running in systems:
            if isinstance(peer, Redis):
                found[peer.name] = native.redis_benchmark(running.addresses[0])
            elif isinstance(peer, Etcd):
                found[peer.name] = native.etcd_check_perf(running.addresses)
        rows = [(name, key, value) for name, one in found.items() for key, value in one.items() if key != "said"]  # fmt: skip
        print(table(("own load generator", "figure", "value"), rows), flush=True)
    if "failover_ms" in names:
        bad |= kills(systems, options, until, results)
    return bad


def open_on_peers(systems: Systems, results: dict[str, Any]) -> dict[str, Any]:
    """Offer the open loop to a peer that can carry it. Return its figures, or the most that a peer did in this run."""
    found: dict[str, Any] = {}
    measured = []
    for peer, running in systems:
        rates = [results[name][peer.name] for name in WORKLOADS if name in results]
        if isinstance(peer, Redis):
            found[peer.name] = uvloop.run(_open(running.addresses[0]))
            print(f"{peer.name}, open loop:")
            measured.append(found[peer.name])
        elif not isinstance(peer, Raftlock):
            most = f"{max(rates):,.0f}/s" if rates else "not measured in this run"
            found[peer.name] = {"not_carried": f"the most of its closed loops: {most}"}
            print(f"{peer.name}, open loop: not offered; the most of its closed loops: {most}")
    if measured:
        print(latency.show(measured), flush=True)
    return found


async def _open(address: str) -> dict[str, Any]:
    tally, rate = OpenTally(), goals.OPEN_RATE
    await open_loop_on_redis(
        address,
        rate=rate,
        connections=OPEN_CONNECTIONS,
        seconds=OPEN_S + latency.WARM_UP_S,
        tally=tally,
    )
    return latency.figures(tally, rate=rate, connections=OPEN_CONNECTIONS, seconds=OPEN_S)


def kills(
    systems: Systems, options: argparse.Namespace, until: float | None, results: dict[str, Any]
) -> bool:
    """Kill each leader some times. Return whether raftlock broke a promise."""
    medians: dict[str, float] = {}
    measured: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    broken: list[str] = []
    for peer, running in systems:
        if not hasattr(peer, "acquire_all_the_time"):
            left_out[peer.name] = NO_FAILOVER
            continue
        job = failover.struck(
            cast("Replicated", peer), running, Kill(), times=options.kills, until=until
        )
        try:
            measured[peer.name] = uvloop.run(job)
        except TimeoutError as error:
            # A peer that does not come back has no figure; raftlock's fails the run.
            if isinstance(peer, Raftlock):
                raise
            left_out[peer.name] = str(error)
            continue
        medians[peer.name] = measured[peer.name]["gap_median_ms"]
        if isinstance(peer, Raftlock):
            broken = uvloop.run(peer.broken(running))
    results["failover_ms"] = figure("failover_ms", medians)
    results["failover"] = {"systems": {s: {"kill": one} for s, one in measured.items()}, "violations": broken, "left_out": left_out}  # fmt: skip
    print(failover.show(results["failover"]["systems"], ("kill",)))
    print(f"raftlock's gap is so many times shorter: {results['failover_ms']['ratio']}")
    for name, why in left_out.items():
        print(f"{name}: no figure of a failover: {why}")
    for violation in broken[:20]:
        print(f"VIOLATION: {violation}")
    return bool(broken)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_common(parser, seconds=5.0, endpoints=False)
    parser.add_argument("--rounds", type=count, default=3, help="interleaved rounds (default: 3)")
    parser.add_argument(
        "--workloads",
        default=",".join(QUICK_KEYS),
        help=f"of {', '.join(ALL)}, or all (default: {','.join(QUICK_KEYS)})",
    )
    parser.add_argument("--peers", help=f"of {', '.join(PEERS)} (default: all; with --quick {QUICK_PEERS})")  # fmt: skip
    parser.add_argument(
        "--kills", type=count, default=KILLS, help=f"of each leader (default: {KILLS})"
    )
    parser.add_argument(
        "--allow-missing", action="store_true", help="go on without what is not installed"
    )
    parser.add_argument(
        "--curve",
        action="store_true",
        help=f"also {CURVE_CONNECTIONS} connections with {', '.join(map(str, CURVE_DEPTHS))} in flight, for the plot",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one round of 1.5 s and up to 3 kills, under 3 minutes: for a check, not for a figure",
    )
