"""`python -m bench soak`: hours at half load, with churn, and whether memory, descriptors and latency stay flat.

Each minute is one line of a file: an open loop at a steady rate over new connections and sessions, whose last locks are
left to expire. A run goes on where the file ends, on a new cluster, so evidence grows over several runs; memory is
judged within a run, since each begins with an empty node.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import uvloop

from bench.arithmetic import latency_summary, slope
from bench.cluster import OwnCluster, own_cluster
from bench.open_loop import OpenTally, open_loop
from bench.process import descriptors, rss, statuses
from bench.report import add_common, count, machine_line, positive, table, write
from raftlock.client.load import find_leader

HELP = "hours at half load with churn: are memory, descriptors and latency flat?"
WARM_UP_MINUTES = 3
"""A node's first minutes fill its log, its audit and its allocator."""
GROWTH_MAX = 0.02
"""Growth over an hour, as a share of the mean, that counts as flat for memory and descriptors."""
LATENCY_GROWTH_MAX = 0.25
"""The same for latency, which a busy machine moves."""
STALL = "raftlock_loop_longest_stall_seconds"


async def minute(
    cluster: OwnCluster, *, number: int, rate: float, connections: int, seconds: float
) -> dict[str, Any]:
    """Run one minute's load on new connections, and look at the nodes after it."""
    tally = OpenTally()
    leader = await find_leader(cluster.endpoints)
    began = time.time()
    await open_loop(leader, rate=rate, connections=connections, seconds=seconds, tally=tally)
    nodes = await statuses(cluster.endpoints)
    pids = [node.pid for node in nodes.values()]
    latency = latency_summary(tally.latencies)
    return {
        "minute": number,
        "began": round(began),
        "operations": len(tally.latencies),
        "rate": rate,
        "seconds": seconds,
        "p50_ms": latency["p50_ms"],
        "p99_ms": latency["p99_ms"],
        "max_ms": latency["max_ms"],
        "rss_bytes": max(rss(pid) for pid in pids),
        "descriptors": max(descriptors(pid) for pid in pids),
        "locks": max(node.locks for node in nodes.values()),
        "sessions": max(node.sessions for node in nodes.values()),
        "term": max(node.term for node in nodes.values()),
        "longest_stall_ms": round(
            max(cluster.metrics(endpoint)[STALL] for endpoint in cluster.endpoints) * 1e3, 1
        ),
        "errors": tally.statuses,
    }


def judge(samples: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return, for each thing that must be flat, its growth in an hour as a share of its mean, and whether it is flat.

    Each run's first minutes are left out. Memory is compared within runs: the mean of their slopes counts.
    """
    runs: dict[int, list[dict[str, Any]]] = {}
    for sample in samples:
        runs.setdefault(sample["run"], []).append(sample)
    settled = [run[WARM_UP_MINUTES:] for run in runs.values() if len(run) >= WARM_UP_MINUTES + 3]
    found: dict[str, dict[str, Any]] = {}
    for key, most in (
        ("rss_bytes", GROWTH_MAX),
        ("descriptors", GROWTH_MAX),
        ("p50_ms", LATENCY_GROWTH_MAX),
        ("p99_ms", LATENCY_GROWTH_MAX),
    ):
        growths, weights = [], []
        for run in settled:
            values = [float(one[key]) for one in run]
            mean = sum(values) / len(values)
            hours = [one["minute_of_run"] * one["seconds"] / 3_600 for one in run]
            growths.append(slope(hours, values) / mean if mean else 0.0)
            weights.append(len(run))
        if not growths:
            found[key] = {"growth_per_hour": None, "flat": None}
            continue
        growth = sum(g * w for g, w in zip(growths, weights, strict=True)) / sum(weights)
        found[key] = {"growth_per_hour": round(growth, 4), "flat": growth <= most}
    return found


def verdict(judged: dict[str, dict[str, Any]]) -> str:
    """Return the judgement in words."""
    if any(one["flat"] is None for one in judged.values()):
        return f"too short to judge: a run needs more than {WARM_UP_MINUTES + 2} minutes"
    growing = [key for key, one in judged.items() if not one["flat"]]
    return f"grows: {', '.join(growing)}" if growing else "flat"


def recorded(file: Path) -> list[dict[str, Any]]:
    """Return the minutes that a file holds; a last line that was cut off is none."""
    if not file.exists():
        return []
    lines = file.read_text().split("\n")
    return [json.loads(line) for line in lines[:-1] if line]


def add(cluster: OwnCluster, file: Path, options: argparse.Namespace) -> None:
    """Add minutes to the file until it has as many as are asked for."""
    before = recorded(file)
    run_number = max((one["run"] for one in before), default=0) + 1
    file.write_text("".join(json.dumps(one) + "\n" for one in before))
    for of_run, number in enumerate(range(len(before), options.minutes)):
        sample = uvloop.run(
            minute(
                cluster,
                number=number,
                rate=options.rate,
                connections=options.connections,
                seconds=options.minute_seconds,
            )
        )
        sample |= {"run": run_number, "minute_of_run": of_run}
        with file.open("a") as lines:
            lines.write(json.dumps(sample) + "\n")
        print(
            f"minute {number}: p50 {sample['p50_ms']:.3g} ms, p99 {sample['p99_ms']:.3g} ms, "
            f"{sample['rss_bytes'] >> 20} MiB, {sample['descriptors']} descriptors, errors {sample['errors'] or 'none'}",
            flush=True,
        )


def run(options: argparse.Namespace) -> int:
    """Soak, judge, print, write JSON. Return 1 if something grows or was refused, 2 if it is too short to say."""
    file = Path(options.samples)
    if len(recorded(file)) < options.minutes:
        with own_cluster() as cluster:
            add(cluster, file, options)
    samples = recorded(file)
    judged = judge(samples)
    said = verdict(judged)
    rows = [
        (
            key,
            samples[0][key],
            samples[-1][key],
            one["growth_per_hour"],
            "yes" if one["flat"] else "no",
        )
        for key, one in judged.items()
    ]
    errors: dict[str, int] = {}
    for sample in samples:
        for name, number in sample["errors"].items():
            errors[name] = errors.get(name, 0) + number
    print(table(("what", "first", "last", "growth an hour", "flat"), rows))
    print(
        f"{said}; {len(samples)} minutes in {samples[-1]['run']} runs, errors {errors or 'none'}; {machine_line()}"
    )
    results = {"rate": options.rate, "verdict": said, "judged": judged, "errors": errors}
    write(options, {**results, "samples": samples})
    if any(one["flat"] is None for one in judged.values()):
        return 2
    return 0 if said == "flat" and not errors else 1


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_common(parser, endpoints=False)
    parser.add_argument("--minutes", type=count, default=30, help="in all, those in the file included (default: 30)")  # fmt: skip
    parser.add_argument("--minute-seconds", type=positive, default=60.0, metavar="S", help="of load in each (default: 60)")  # fmt: skip
    parser.add_argument("--rate", type=positive, default=30_000.0, help="operations a second: half of what the machine does (default: 30000)")  # fmt: skip
    parser.add_argument("--connections", type=count, default=50, help="new ones each minute (default: 50)")  # fmt: skip
    parser.add_argument("--samples", default="soak.jsonl", metavar="FILE", help="a line a minute; a run goes on where it ends (default: soak.jsonl)")  # fmt: skip
