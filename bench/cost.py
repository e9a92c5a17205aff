"""`python -m bench cost`: what the audit and the metrics cost, each against a cluster without it.

Every variant gets a cluster of its own, one after the other, in rounds whose order turns, so that noise hits all alike.
Two figures: operations a second, and processor time of the three nodes an operation, which a busy machine disturbs less.
"""

import argparse
import json
import os
import statistics
import urllib.request
from pathlib import Path
from typing import Any

import uvloop

from bench.cluster import OwnCluster, own_cluster
from bench.report import add_common, count, machine_line, table, write
from bench.throughput import WORKLOADS, measure, names_of
from raftlock.client.load import find_leader

HELP = "what the audit and the metrics cost"
VARIANTS = {
    "all on": {},
    "audit off": {"RAFTLOCK_AUDIT": "off"},
    "metrics off": {"RAFTLOCK_METRICS": "off"},
    "both off": {"RAFTLOCK_AUDIT": "off", "RAFTLOCK_METRICS": "off"},
}
"""Name to the settings of the nodes."""
BASE = "all on"


def node_pids(cluster: OwnCluster) -> list[int]:
    """Return the process of each node."""
    pids = []
    for endpoint in cluster.endpoints:
        port = int(endpoint.rpartition(":")[2]) + 20
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/statusz", timeout=10) as answer:
            pids.append(int(json.load(answer)["pid"]))
    return pids


def processor_s(pids: list[int]) -> float:
    """Return the processor time of some processes so far, in seconds (proc(5): utime and stime)."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure_variant(name: str, workloads: list[str], seconds: float) -> dict[str, dict[str, Any]]:
    """Run the workloads on a cluster with the variant's settings."""
    found = {}
    with own_cluster(VARIANTS[name]) as cluster:
        pids = node_pids(cluster)
        for workload in workloads:
            connections, depth = WORKLOADS[workload]
            leader = uvloop.run(find_leader(cluster.endpoints))
            before_s = processor_s(pids)
            job = measure(leader, connections=connections, depth=depth, seconds=seconds)
            one = uvloop.run(job)
            # Warming up is in the processor's time and not in the operations: the same share for every variant.
            spent_s = processor_s(pids) - before_s
            operations = max(1, one["operations_per_second"] * seconds)
            found[workload] = one | {"nodes_us_per_operation": round(spent_s / operations * 1e6, 2)}
    return found


def compare(rounds: list[dict[str, dict[str, Any]]], workload: str) -> dict[str, dict[str, Any]]:
    """Return each variant's medians, and the median of its ratios to the base in the same round."""
    found = {}
    for name in rounds[0]:
        measured = [(one[name][workload], one[BASE][workload]) for one in rounds]
        rates = [mine["operations_per_second"] for mine, _ in measured]
        found[name] = {
            "operations_per_second": round(statistics.median(rates)),
            "least": min(rates),
            "most": max(rates),
            **{
                f"{key}_ratio": round(statistics.median(m[key] / max(1e-9, b[key]) for m, b in measured), 3)
                for key in ("operations_per_second", "nodes_us_per_operation")
            },
            **{
                key: statistics.median(mine[key] for mine, _ in measured)
                for key in ("p50_ms", "p99_ms", "nodes_us_per_operation")
            },
        }  # fmt: skip
    return found


def show(results: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Return the table of all workloads and variants."""
    keys = ("operations_per_second", "least", "most", "operations_per_second_ratio")
    more = ("p50_ms", "p99_ms", "nodes_us_per_operation", "nodes_us_per_operation_ratio")
    return table(
        ("workload", "variant", "op/s", "least", "most", "ratio", "p50 ms", "p99 ms", "nodes us/op", "ratio"),
        [
            (workload, name, *(one[key] for key in keys), *(float(one[key]) for key in more))
            for workload, variants in results.items()
            for name, one in variants.items()
        ],
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Measure every variant in each round, print the table, and write JSON."""
    workloads = names_of(options.workloads)
    if workloads is None:
        return 2
    order = list(VARIANTS)
    rounds: list[dict[str, dict[str, Any]]] = []
    for number in range(options.rounds):
        turned = order[number % len(order) :] + order[: number % len(order)]
        measured = {name: measure_variant(name, workloads, options.seconds) for name in turned}
        rounds.append({name: measured[name] for name in order})
    results = {workload: compare(rounds, workload) for workload in workloads}
    print(show(results))
    print(
        f"medians of {options.rounds} rounds of {options.seconds:g} s; ratios to all on in the same round; {machine_line()}"
    )
    write(options, {"medians": results, "rounds": rounds})
    wrong = [
        one for measured in rounds for variant in measured.values() for one in variant.values()
    ]
    return 1 if any(one["token_errors"] or one["errors"] for one in wrong) else 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_common(parser, seconds=5.0, endpoints=False)
    parser.add_argument("--rounds", type=count, default=5, help="default: 5")
    parser.add_argument(
        "--workloads",
        default="pipelined",
        help=f"of {', '.join(WORKLOADS)} (default: pipelined)",
    )
