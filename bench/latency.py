"""`python -m bench latency`: an open loop at a fixed rate, with coordinated omission handled.

Each operation (an acquire or a release) has its time beforehand. Its latency counts from that time, also when it was
sent late because everything before it was slow.
"""

import argparse
from typing import Any

import uvloop

from bench.arithmetic import latency_summary
from bench.cluster import own_or
from bench.open_loop import OpenTally, open_loop
from bench.report import add_common, count, machine_line, positive, table, write
from raftlock.client.load import find_leader

HELP = "open loop at a fixed rate: latency from the intended time of sending"
WARM_UP_S = 1.0


async def measure(
    endpoint: str, *, rate: float, connections: int, seconds: float, warmup: float = WARM_UP_S
) -> dict[str, Any]:
    """Run one open loop; what was intended in the first second is left out."""
    tally = OpenTally()
    await open_loop(
        endpoint, rate=rate, connections=connections, seconds=warmup + seconds, tally=tally
    )
    return figures(tally, rate=rate, connections=connections, seconds=seconds, warmup=warmup)


def figures(
    tally: OpenTally, *, rate: float, connections: int, seconds: float, warmup: float = WARM_UP_S
) -> dict[str, Any]:
    """Return what an open loop's result holds."""
    first = min(tally.intended, default=0.0) + warmup
    counted = [
        latency
        for intended, latency in zip(tally.intended, tally.latencies, strict=True)
        if intended >= first
    ]
    return {
        "rate": rate,
        "connections": connections,
        "operations_per_second": round(len(counted) / seconds),
        **latency_summary(counted),
        "sent_late_max_ms": round(tally.late_max * 1e3, 3),
        "errors": tally.statuses,
        "overflowed": tally.overflowed,
    }


def show(results: list[dict[str, Any]]) -> str:
    """Return the table of some rates."""
    keys = ("p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms", "sent_late_max_ms")
    return table(
        ("rate/s", "answered/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", "sent late ms", "errors"),
        [
            (
                round(one["rate"]),
                one["operations_per_second"],
                *(float(one[key]) for key in keys),
                {**one["errors"], **({"backlog overflowed": 1} if one["overflowed"] else {})},
            )
            for one in results
        ],
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Measure each rate, print a table, write JSON. Return 1 if an operation had no OK."""
    results = []
    with own_or(options.endpoints) as endpoints:
        for rate in options.rate:
            leader = uvloop.run(find_leader(endpoints))
            measured = measure(
                leader, rate=rate, connections=options.connections, seconds=options.seconds
            )
            results.append(uvloop.run(measured))
    print(show(results))
    print(
        f"{options.connections} connections, {options.seconds:g} s each, latency from the intended time of sending; "
        f"{machine_line()}"
    )
    write(options, results)
    return 1 if any(one["errors"] or one["overflowed"] for one in results) else 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--rate",
        type=positive,
        nargs="+",
        default=[10_000.0],
        metavar="N",
        help="operations a second; several are measured one after the other (default: 10000)",
    )
    parser.add_argument("--connections", type=count, default=8, help="default: 8")
    add_common(parser, seconds=10.0)
