"""`python -m bench scale`: what is held and idle, and what it costs those who work. Each size on a cluster of its own.

locks: leases of twelve hours, so none ends. waiters: in queues of many locks, or of one (those in tens of thousands).
connections: attached and silent, each with its session. sessions: many of one connection. Beside what is held runs the
load of `throughput pipelined`, once before and once after on the same cluster: cost must not grow with what is idle.

With --json FILE a run goes on where one was cut off: a size that the file has is not measured again.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from bench.cluster import OwnCluster, own_cluster
from bench.hold import HOLD, Held
from bench.process import age_s, available, cpu_s, rss, statuses
from bench.report import add_common, count, machine_line, table, write
from bench.throughput import measure
from raftlock.client import NodeStatus
from raftlock.client.load import find_leader

HELP = "op/s, memory, stalls, snapshot and restart over what is held"
SIZES = {
    "locks": (10_000, 100_000, 1_000_000),
    "waiters": (100, 10_000, 100_000),
    "waiters-of-one": (100, 10_000),
    "connections": (10, 1_000),
    "sessions": (1_000, 100_000),
}
FULL = {
    "locks": (10_000_000,),
    "waiters": (1_000_000,),
    "connections": (10_000,),
}
"""Only with --full: gigabytes, or more open files than many machines allow."""
BYTES_PER_ITEM = 1_000
"""What three nodes are expected to need for each, to stop before the machine is out of memory."""
RESTART_TIMEOUT_S = 300.0
SETTLE_TIMEOUT_S = 120.0
POLL_S = 0.05
IDLE_S = 5.0
STALL = "raftlock_loop_longest_stall_seconds"
SNAPSHOT = "raftlock_snapshot_duration_seconds"


async def restart(cluster: OwnCluster) -> float | None:
    """Kill -9 a follower. Return the seconds from its new process' start until it has applied what the leader had."""
    nodes = await statuses(cluster.endpoints)
    target = max(node.applied_index for node in nodes.values())
    endpoint, victim = next((e, n) for e, n in nodes.items() if n.role != "leader")
    os.kill(victim.pid, signal.SIGKILL)
    until = time.monotonic() + RESTART_TIMEOUT_S
    while time.monotonic() < until:
        node = (await statuses([endpoint])).get(endpoint)
        if node and node.pid != victim.pid and node.healthy and node.applied_index >= target:
            return round(age_s(node.pid), 2)
        await asyncio.sleep(POLL_S)
    return None


async def caught_up(cluster: OwnCluster) -> dict[str, NodeStatus]:
    """Wait until all nodes have applied the same, so that their memory can be compared."""
    until = time.monotonic() + SETTLE_TIMEOUT_S
    while True:
        nodes = await statuses(cluster.endpoints)
        same = len({node.applied_index for node in nodes.values()}) == 1
        if (same and len(nodes) == len(cluster.endpoints)) or time.monotonic() > until:
            return nodes
        await asyncio.sleep(POLL_S)


async def idle_share(nodes: dict[str, NodeStatus]) -> float:
    """Return how much of one core all nodes take while nothing is asked."""
    before = sum(cpu_s(node.pid) for node in nodes.values())
    await asyncio.sleep(IDLE_S)
    return round((sum(cpu_s(node.pid) for node in nodes.values()) - before) / IDLE_S, 4)


async def measure_size(cluster: OwnCluster, what: str, size: int, seconds: float) -> dict[str, Any]:
    """Fill a fresh cluster, and measure."""
    first = await measure(
        await find_leader(cluster.endpoints), connections=8, depth=256, seconds=seconds
    )
    empty = {e: rss(node.pid) for e, node in (await caught_up(cluster)).items()}
    began = time.perf_counter()
    held: Held = await HOLD[what](await find_leader(cluster.endpoints), size)
    fill_s = time.perf_counter() - began
    try:
        nodes = await caught_up(cluster)
        full = {e: rss(node.pid) for e, node in nodes.items()}
        idle = await idle_share(nodes)
        load = await measure(
            await find_leader(cluster.endpoints), connections=8, depth=256, seconds=seconds
        )
        nodes = await statuses(cluster.endpoints)
        metrics = [cluster.metrics(endpoint) for endpoint in nodes]
        snapshots = sum(m.get(f"{SNAPSHOT}_count", 0.0) for m in metrics)
        taken = sum(m.get(f"{SNAPSHOT}_sum", 0.0) for m in metrics)
        return {
            "size": size,
            "fill_per_second": round(size / fill_s),
            "empty_operations_per_second": first["operations_per_second"],
            "operations_per_second": load["operations_per_second"],
            "p50_ms": load["p50_ms"],
            "p99_ms": load["p99_ms"],
            "idle_cores": idle,
            "longest_stall_ms": round(max(m[STALL] for m in metrics) * 1e3, 1),
            "rss_bytes": max(full.values()),
            "rss_bytes_per_item": round(max(full[e] - empty[e] for e in full) / size),
            "snapshots": round(snapshots),
            "snapshot_s": round(taken / snapshots, 3) if snapshots else None,
            "restart_s": await restart(cluster),
            "counted": {
                "locks": min(node.locks for node in nodes.values()),
                "waiters": min(node.waiters for node in nodes.values()),
                "sessions": min(node.sessions for node in nodes.values()),
            },
            "errors": dict(held.errors) | load["errors"],
        }
    finally:
        held.close()


def missing(one: dict[str, Any], what: str) -> int:
    """Return how many of the items the nodes do not count."""
    kind = {"waiters-of-one": "waiters", "connections": "sessions"}.get(what, what)
    return max(0, int(one["size"] - one["counted"][kind]))


def known(options: argparse.Namespace) -> dict[str, dict[str, dict[str, Any]]]:
    """Return what an earlier run has written to the file: by kind, by size."""
    file = Path(options.json) if options.json else None
    if file is None or not file.exists():
        return {}
    found: dict[str, dict[str, dict[str, Any]]] = json.loads(file.read_text())["results"]
    return found


def show(what: str, rows: list[dict[str, Any]]) -> str:
    """Return the table of one kind."""
    keys = ("size", "fill_per_second", "empty_operations_per_second", "operations_per_second", "p50_ms", "p99_ms", "idle_cores", "longest_stall_ms", "rss_bytes_per_item", "snapshots", "snapshot_s", "restart_s", "errors")  # fmt: skip
    heads = (what, "made/s", "op/s empty", "op/s", "p50 ms", "p99 ms", "idle cores", "stall ms", "B/item", "snapshots", "each s", "restart s", "errors")  # fmt: skip
    return table(heads, [[one[key] for key in keys] for one in rows])


def run(options: argparse.Namespace) -> int:
    """Measure each size that is not known yet on a cluster of its own, write it at once, and print tables."""
    settings = {"RAFTLOCK_SNAPSHOT_LOG_SIZE": str(options.snapshot_log_size)}
    results = known(options)
    for what in options.hold:
        wanted = options.sizes or [*SIZES[what], *(FULL.get(what, ()) if options.full else ())]
        done = results.setdefault(what, {})
        for size in wanted:
            if str(size) in done:
                continue
            need = size * BYTES_PER_ITEM + options.memory_left
            if available() < need:
                print(f"{what} {size:,}: left out: it needs {need >> 20:,} MiB, and {available() >> 20:,} are free", file=sys.stderr)  # fmt: skip
                continue
            with own_cluster(settings) as cluster:
                done[str(size)] = uvloop.run(measure_size(cluster, what, size, options.seconds))
            write(options, results)
    bad = False
    for what, done in results.items():
        rows = sorted(done.values(), key=lambda one: one["size"])
        if rows:
            print(show(what, rows))
        bad |= any(one["errors"] or missing(one, what) or one["restart_s"] is None for one in rows)
    print(
        f"op/s: acquire and release, 8 x 256 in flight, {options.seconds:g} s, before and beside what is held; idle cores: "
        f"what all nodes take of one core meanwhile; the longest stall of any node's loop since its start; B/item: growth of "
        f"the largest node; restart of a killed follower until it has caught up; snapshots after "
        f"{options.snapshot_log_size:,} B of log; {machine_line()}"
    )
    return 1 if bad else 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_common(parser, seconds=5.0, endpoints=False)
    parser.add_argument("--hold", nargs="+", choices=HOLD, default=["locks"], metavar="WHAT", help=f"of {', '.join(HOLD)} (default: locks)")  # fmt: skip
    parser.add_argument("--sizes", type=count, nargs="+", metavar="N", help="how many of each (default: some for each kind)")  # fmt: skip
    parser.add_argument("--full", action="store_true", help="also the largest sizes: 1e7 locks, 1e6 waiters, 10,000 connections")  # fmt: skip
    parser.add_argument("--memory-left", type=count, default=4 << 30, metavar="BYTES", help="a size that would leave less is left out (default: 4294967296)")  # fmt: skip
    parser.add_argument(
        "--snapshot-log-size",
        type=count,
        default=32 << 20,
        metavar="BYTES",
        help="log between snapshots: smaller than a node's default, so that there are some (default: 33554432)",
    )
