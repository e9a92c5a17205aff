"""`python -m bench compare`: the same work on raftlock and on what people use, in interleaved rounds on one machine.

Acquire and release of leases on many names, with the same connections and depth. All systems stay up for the whole
run, and each round measures each of them once, so that noise hits all. Figures are medians; a ratio above 1 means that
raftlock is better. How each system differs is printed with the table: the same work does not give the same promise.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop

from bench.cluster import own_cluster
from bench.peers.base import Peer
from bench.peers.etcd import Etcd
from bench.peers.pysyncobj import PySyncObj
from bench.peers.redis import Redis
from bench.peers.zookeeper import ZooKeeper
from bench.report import add_common, count, machine_line, table, write
from bench.throughput import DEFAULT, WORKLOADS, measure, names_of, summary
from raftlock.client.load import find_leader

HELP = "the same work on raftlock, etcd, ZooKeeper, Redis and PySyncObj, in interleaved rounds"
PEERS: dict[str, Callable[[], Peer]] = {
    "etcd": Etcd,
    "redis": lambda: Redis(aof=True),
    "redis_memory": lambda: Redis(aof=False),
    "zookeeper": ZooKeeper,
    "pysyncobj": PySyncObj,
}
OURS = "raftlock"
CURVE_CONNECTIONS = 8
CURVE_DEPTHS = (1, 4, 16, 64, 256)
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


def ratios(medians: dict[str, float], *, higher_is_better: bool = True) -> dict[str, float]:
    """Return raftlock against each peer; above 1 where raftlock is better. Peers without a figure are left out."""
    ours = medians[OURS]
    found = {}
    for name, theirs in medians.items():
        if name != OURS and ours and theirs:
            found[name] = round(ours / theirs if higher_is_better else theirs / ours, 3)
    return found


def run(options: argparse.Namespace) -> int:
    """Measure all systems, print a table a workload, write JSON."""
    if options.quick:
        options.seconds, options.rounds = 2.0, 1
    names = names_of(options.workloads)
    peers = chosen(options)
    if names is None or peers is None:
        return 2
    shapes = {name: WORKLOADS[name] for name in names}
    if options.curve:
        shapes |= {f"curve_{depth}": (CURVE_CONNECTIONS, depth) for depth in CURVE_DEPTHS}
    rounds: Rounds = {
        name: {system: [] for system in (OURS, *(peer.name for peer in peers))} for name in shapes
    }
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(own_cluster())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raftlock-peers-")))
        running: list[tuple[Peer, Sequence[str]]] = []
        for peer in peers:
            (folder / peer.name).mkdir()
            running.append((peer, stack.enter_context(peer.running(folder / peer.name))))
        for _ in range(options.rounds):
            for name, (connections, depth) in shapes.items():
                load = {"connections": connections, "depth": depth}
                leader = uvloop.run(find_leader(cluster.endpoints))
                ours = uvloop.run(measure(leader, **load, seconds=options.seconds))
                rounds[name][OURS].append(ours)
                for peer, addresses in running:
                    job = peer.measure(addresses, **load, seconds=options.seconds)
                    rounds[name][peer.name].append(uvloop.run(job))
    results = show(rounds, peers, options)
    if options.curve:
        results["curve"] = curve(rounds)
    write(options, results)
    # Errors of a peer are in the table; those of raftlock fail the run.
    bad = any(one["errors"] or one["token_errors"] for r in rounds.values() for one in r[OURS])
    return 1 if bad else 0


def curve(rounds: Rounds) -> dict[str, list[dict[str, Any]]]:
    """Return each system's medians over the depth, for the plot."""
    points: dict[str, list[dict[str, Any]]] = {}
    for depth in CURVE_DEPTHS:
        for system, measured in rounds[f"curve_{depth}"].items():
            points.setdefault(system, []).append({"depth": depth, **summary(measured)})
    return points


def show(rounds: Rounds, peers: list[Peer], options: argparse.Namespace) -> dict[str, Any]:
    """Print the table and what differs. Return what the JSON holds."""
    results: dict[str, Any] = {}
    rows = []
    for name, systems in rounds.items():
        medians = {system: summary(measured) for system, measured in systems.items()}
        figures = {s: float(one["operations_per_second"]) for s, one in medians.items()}
        ratio = ratios(figures)
        results[name] = {**figures, "ratio": ratio}
        for system, one in medians.items():
            each = [m["operations_per_second"] for m in systems[system]]
            spread = (max(each) - min(each)) / statistics.median(each) if any(each) else 0.0
            rows.append((
                name, system, one["operations_per_second"], f"{spread:.0%}", float(one["p50_ms"]),
                float(one["p99_ms"]), ratio.get(system), one["errors"],
            ))  # fmt: skip
    heads = ("workload", "system", "op/s", "spread", "p50 ms", "p99 ms", "raftlock is x", "errors")
    print(table(heads, rows))
    print(
        f"{OURS}: three nodes, fsync on a majority before each answer; fencing tokens, fair queues"
    )
    for peer in peers:
        print(f"{peer.name} {peer.version}: {peer.differs}")
    print(
        f"medians of {options.rounds} interleaved rounds of {options.seconds:g} s; spread is (max - min) / median; "
        f"{machine_line()}"
    )
    results["systems"] = {peer.name: {"version": peer.version, "differs": peer.differs} for peer in peers}  # fmt: skip
    results["rounds"] = rounds
    return results


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_common(parser, seconds=5.0, endpoints=False)
    parser.add_argument("--rounds", type=count, default=3, help="interleaved rounds (default: 3)")
    parser.add_argument(
        "--workloads",
        default=",".join(DEFAULT),
        help=f"of {', '.join(WORKLOADS)} (default: {','.join(DEFAULT)})",
    )
    parser.add_argument("--peers", default=",".join(PEERS), help=f"of {', '.join(PEERS)}")
    parser.add_argument(
        "--allow-missing", action="store_true", help="go on without what is not installed"
    )
    parser.add_argument(
        "--curve",
        action="store_true",
        help=f"also {CURVE_CONNECTIONS} connections with {', '.join(map(str, CURVE_DEPTHS))} in flight, for the plot",
    )
    parser.add_argument(
        "--quick", action="store_true", help="one round of 2 s: for a check, not for a figure"
    )
