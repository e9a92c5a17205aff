"""`python -m bench throughput`: acquire and release on many resources, closed loop, in interleaved rounds."""

import argparse
import statistics
import sys
from typing import Any

import uvloop

from bench.cluster import own_or
from bench.report import add_common, count, machine_line, table, write
from raftlock.client.load import find_leader, run_load

HELP = "acquire and release on many resources, as fast as it goes"
WORKLOADS = {
    "pipelined": (8, 256),
    "closed_1000": (1_000, 1),
    "closed_64": (64, 1),
    "closed_1": (1, 1),
}
"""Name to (connections, requests in flight on each)."""
DEFAULT = ("pipelined", "closed_1000", "closed_1")
WARM_UP_S = 0.5


async def measure(endpoint: str, *, connections: int, depth: int, seconds: float) -> dict[str, Any]:
    """Run one workload once."""
    tally, took = await run_load(
        endpoint, connections=connections, depth=depth, seconds=seconds, warmup=WARM_UP_S
    )
    p50_ms, p99_ms, max_ms = tally.percentiles_ms(0.5, 0.99, 1.0)
    return {
        "operations_per_second": round(tally.operations / took),
        "p50_ms": p50_ms,
        "p99_ms": p99_ms,
        "max_ms": max_ms,
        "errors": tally.statuses,
        "token_errors": tally.token_errors,
    }


def summary(measured: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of several rounds, and all errors."""
    errors: dict[str, int] = {}
    for one in measured:
        for name, number in one["errors"].items():
            errors[name] = errors.get(name, 0) + number
    keys = ("operations_per_second", "p50_ms", "p99_ms", "max_ms")
    values: dict[str, Any] = {key: statistics.median(one[key] for one in measured) for key in keys}
    values["operations_per_second"] = round(values["operations_per_second"])
    return {
        **values,
        "errors": errors,
        "token_errors": sum(one["token_errors"] for one in measured),
    }


def names_of(text: str) -> list[str] | None:
    """Return the workloads that are asked for; None, after saying what is allowed, if one is not known."""
    names = text.split(",")
    for name in names:
        if name not in WORKLOADS:
            print(f"--workloads: {name!r} is none of {', '.join(WORKLOADS)}", file=sys.stderr)
            return None
    return names


def show(results: dict[str, dict[str, Any]]) -> str:
    """Return the table of some workloads."""
    return table(
        ("workload", "conns", "depth", "op/s", "p50 ms", "p99 ms", "max ms", "errors"),
        [
            (
                name,
                *WORKLOADS[name],
                result["operations_per_second"],
                *(float(result[key]) for key in ("p50_ms", "p99_ms", "max_ms")),
                result["errors"],
            )
            for name, result in results.items()
        ],
    )


def run(options: argparse.Namespace) -> int:
    """Measure each workload in interleaved rounds, print a table of medians, and write JSON."""
    names = names_of(options.workloads)
    if names is None:
        return 2
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with own_or(options.endpoints) as endpoints:
        for _ in range(options.rounds):
            for name in names:
                leader = uvloop.run(find_leader(endpoints))
                connections, depth = WORKLOADS[name]
                job = measure(leader, connections=connections, depth=depth, seconds=options.seconds)
                rounds[name].append(uvloop.run(job))
    results = {name: summary(measured) for name, measured in rounds.items()}
    print(show(results))
    print(f"medians of {options.rounds} rounds of {options.seconds:g} s; {machine_line()}")
    write(options, {"medians": results, "rounds": rounds})
    wrong = sum(r["token_errors"] for r in results.values())
    return 1 if wrong or any(r["errors"] for r in results.values()) else 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_common(parser, seconds=8.0)
    parser.add_argument("--rounds", type=count, default=3, help="interleaved rounds (default: 3)")
    parser.add_argument(
        "--workloads",
        default=",".join(DEFAULT),
        help=f"of {', '.join(WORKLOADS)} (default: {','.join(DEFAULT)})",
    )
