"""`python -m bench scale`: what held locks cost. 10^4 to 10^6 of them, 10^7 with --full, each on a cluster of its own.

The locks have leases of twelve hours, so none ends. Beside them runs the load of `throughput pipelined`. Cost must not
grow with what is idle: op/s should not fall, and memory should grow by a constant a lock.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import uvloop

from bench.cluster import OwnCluster, own_cluster
from bench.leases import filled
from bench.report import add_common, count, machine_line, table, write
from bench.throughput import measure
from raftlock.client import NodeStatus, Unavailable
from raftlock.client.connection import fetch_status
from raftlock.client.load import find_leader

HELP = "op/s, memory, stalls, snapshot and restart over the number of held locks"
SIZES = (10_000, 100_000, 1_000_000)
FULL_SIZE = 10_000_000
TTL_MS = 12 * 3_600_000
RESTART_TIMEOUT_S = 300.0
SETTLE_TIMEOUT_S = 60.0
POLL_S = 0.05
TICKS = os.sysconf("SC_CLK_TCK")
STALL = "raftlock_loop_longest_stall_seconds"
SNAPSHOT = "raftlock_snapshot_duration_seconds"


def rss(pid: int) -> int:
    """Return a process' resident bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1_024
    raise ProcessLookupError(f"{pid} has no VmRSS: it is gone")


def age_s(pid: int) -> float:
    """Return how long ago a process was started."""
    started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]) / TICKS
    return float(Path("/proc/uptime").read_text().split()[0]) - started


async def statuses(cluster: OwnCluster) -> dict[str, NodeStatus]:
    """Return the status of each node that answers."""
    found: dict[str, NodeStatus] = {}
    for endpoint in cluster.endpoints:
        with contextlib.suppress(OSError, TimeoutError, Unavailable):
            found[endpoint] = await fetch_status(endpoint, timeout=5.0)
    return found


async def restart(cluster: OwnCluster) -> float | None:
    """Kill -9 a follower. Return the seconds from its new process' start until it has applied what the leader had."""
    nodes = await statuses(cluster)
    target = max(node.applied_index for node in nodes.values())
    endpoint, victim = next((e, n) for e, n in nodes.items() if n.role != "leader")
    os.kill(victim.pid, signal.SIGKILL)
    until = time.monotonic() + RESTART_TIMEOUT_S
    while time.monotonic() < until:
        node = (await statuses(cluster)).get(endpoint)
        if node and node.pid != victim.pid and node.healthy and node.applied_index >= target:
            return round(age_s(node.pid), 2)
        await asyncio.sleep(POLL_S)
    return None


async def caught_up(cluster: OwnCluster) -> dict[str, NodeStatus]:
    """Wait until all nodes have applied the same, so that their memory can be compared."""
    until = time.monotonic() + SETTLE_TIMEOUT_S
    while True:
        nodes = await statuses(cluster)
        same = len({node.applied_index for node in nodes.values()}) == 1
        if (same and len(nodes) == len(cluster.endpoints)) or time.monotonic() > until:
            return nodes
        await asyncio.sleep(POLL_S)


async def measure_size(cluster: OwnCluster, locks: int, seconds: float) -> dict[str, Any]:
    """Fill a fresh cluster with locks, and measure."""
    empty = {e: rss(node.pid) for e, node in (await caught_up(cluster)).items()}
    fillers, fill_s = await filled(
        await find_leader(cluster.endpoints), locks, ttl_ms=TTL_MS, remember=False
    )
    for filler in fillers:
        filler.close()
    nodes = await caught_up(cluster)
    full = {e: rss(node.pid) for e, node in nodes.items()}
    held = min(node.locks for node in nodes.values())
    leader = await find_leader(cluster.endpoints)
    load = await measure(leader, connections=8, depth=256, seconds=seconds)
    metrics = [cluster.metrics(endpoint) for endpoint in cluster.endpoints]
    snapshots = sum(m.get(f"{SNAPSHOT}_count", 0.0) for m in metrics)
    taken = sum(m.get(f"{SNAPSHOT}_sum", 0.0) for m in metrics)
    return {
        "locks": locks,
        "held": held,
        "fill_per_second": round(locks / fill_s),
        "operations_per_second": load["operations_per_second"],
        "p50_ms": load["p50_ms"],
        "p99_ms": load["p99_ms"],
        "longest_stall_ms": round(max(m[STALL] for m in metrics) * 1e3, 1),
        "rss_bytes": max(full.values()),
        "rss_bytes_per_lock": round(max(full[e] - empty[e] for e in full) / locks),
        "snapshots": round(snapshots),
        "snapshot_s": round(taken / snapshots, 3) if snapshots else None,
        "restart_s": await restart(cluster),
        "errors": load["errors"] | dict(sum((filler.statuses for filler in fillers), Counter())),
    }


def run(options: argparse.Namespace) -> int:
    """Measure each size on a cluster of its own, print a table, write JSON."""
    sizes = [*options.locks, *([FULL_SIZE] if options.full else [])]
    settings = {"RAFTLOCK_SNAPSHOT_LOG_SIZE": str(options.snapshot_log_size)}
    results = []
    for locks in sizes:
        with own_cluster(settings) as cluster:
            results.append(uvloop.run(measure_size(cluster, locks, options.seconds)))
    keys = ("locks", "fill_per_second", "operations_per_second", "p50_ms", "p99_ms", "longest_stall_ms", "rss_bytes_per_lock", "snapshots", "snapshot_s", "restart_s", "errors")  # fmt: skip
    heads = ("locks", "filled/s", "op/s", "p50 ms", "p99 ms", "stall ms", "B/lock", "snapshots", "each s", "restart s", "errors")  # fmt: skip
    print(table(heads, [[one[key] for key in keys] for one in results]))
    print(
        f"op/s: acquire and release, 8 x 256 in flight, {options.seconds:g} s; the longest stall of any node's loop "
        f"since its start; B/lock: growth of the largest node; restart of a killed follower until it has caught up; "
        f"snapshots after {options.snapshot_log_size:,} B of log; {machine_line()}"
    )
    write(options, results)
    bad = any(one["errors"] or one["held"] < one["locks"] or one["restart_s"] is None for one in results)  # fmt: skip
    return 1 if bad else 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_common(parser, seconds=5.0, endpoints=False)
    parser.add_argument(
        "--locks",
        type=count,
        nargs="+",
        default=list(SIZES),
        metavar="N",
        help="how many are held (default: 1e4 1e5 1e6)",
    )
    parser.add_argument("--full", action="store_true", help="also 1e7: some 3 GB a node")
    parser.add_argument(
        "--snapshot-log-size",
        type=count,
        default=32 << 20,
        metavar="BYTES",
        help="log between snapshots: smaller than a node's default, so that there are some (default: 33554432)",
    )
