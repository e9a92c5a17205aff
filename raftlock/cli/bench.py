"""`raftlock bench`: how many locks a running cluster takes, from where this command stands."""

import time
from typing import Any

import click

from raftlock.cli.common import (
    Duration,
    emit,
    endpoints_option,
    fail,
    json_option,
    parse_endpoints,
    run,
)
from raftlock.cli.progress import Progress
from raftlock.client.load import Tally, find_leader, run_load
from raftlock_wire.limits import ORDINARY_REQUESTS_MAX, SLOTS_MAX

CONNECTIONS_MAX = 1_000
IN_FLIGHT_MAX = ORDINARY_REQUESTS_MAX // 2
"""Half of what a node takes at all: the cluster's own users are served meanwhile."""
WARM_UP_S = 0.5


@click.command()
@click.option(
    "--connections",
    type=click.IntRange(1, CONNECTIONS_MAX),
    default=8,
    show_default=True,
    help="How many connections, each with a session of its own.",
)
@click.option(
    "--depth",
    type=click.IntRange(1, SLOTS_MAX),
    default=64,
    show_default=True,
    help="How many requests in flight on each.",
)
@click.option(
    "--seconds",
    "seconds",
    type=Duration("100ms", "1m"),
    default="5s",
    show_default=True,
    help="How long to measure, after half a second to warm up.",
)
@json_option
@endpoints_option
def bench(
    connections: int, depth: int, seconds: float, as_json: bool, endpoints: str, timeout: float
) -> None:
    """Measure a running cluster: acquire a lock, release it, and so on, on many names at once.

    Each slot has a name of its own (`bench:…`), so that nobody waits for anybody: what is measured is the log. Every
    operation is fsynced on a majority, as always. A change of leader meanwhile shows as answers that are not OK. The load is real; run it where that does no harm. What is left at the
    end is released or runs out within ten seconds.

    \b
    One client that waits for each answer, and as much as it takes:
    Example: raftlock bench --connections 1 --depth 1 --seconds 10s
             raftlock bench --connections 16 --depth 256 --json
    Exit codes: 0; 1 nothing succeeded, or a token did not grow; 69 no node leads.
    """
    if connections * depth > IN_FLIGHT_MAX:
        raise click.UsageError(
            f"--connections times --depth: {connections * depth} is more than {IN_FLIGHT_MAX}"
        )
    addresses = parse_endpoints(endpoints)

    async def main() -> tuple[str, Tally, float]:
        leader = await find_leader(addresses, timeout=timeout)
        tally, took = await run_load(
            leader, connections=connections, depth=depth, seconds=seconds, warmup=WARM_UP_S
        )
        return leader, tally, took

    began = time.monotonic()
    try:
        with Progress("measuring", of_s=seconds + WARM_UP_S):
            leader, tally, took = run(main())
    except OSError as error:
        fail(f"the load broke off after {time.monotonic() - began:.1f} s: {error}")
    p50_ms, p90_ms, p99_ms, max_ms = tally.percentiles_ms(0.5, 0.9, 0.99, 1.0)
    values: dict[str, Any] = {
        "leader": leader,
        "connections": connections,
        "depth": depth,
        "seconds": round(took, 3),
        "operations": tally.operations,
        "operations_per_second": round(tally.operations / took),
        "p50_ms": p50_ms,
        "p90_ms": p90_ms,
        "p99_ms": p99_ms,
        "max_ms": max_ms,
        "errors": tally.statuses,
        "token_errors": tally.token_errors,
    }
    emit(as_json, values, table(values))
    if tally.token_errors or not tally.operations:
        fail(
            f"{tally.operations} operations succeeded; tokens that did not grow: {tally.token_errors}"
        )


def table(values: dict[str, Any]) -> str:
    """Return the figures as aligned lines."""
    names = {
        "operations_per_second": "op/s",
        "p50_ms": "p50 ms",
        "p90_ms": "p90 ms",
        "p99_ms": "p99 ms",
        "max_ms": "max ms",
    }
    head = f"{'connections':>11}{'depth':>7}" + "".join(f"{n:>10}" for n in names.values())
    row = f"{values['connections']:>11}{values['depth']:>7}{values['operations_per_second']:>10,}"
    row += "".join(f"{values[key]:>10.2f}" for key in list(names)[1:])
    about = (
        f"{values['operations']:,} operations (acquire or release, each durable on a majority) in "
        f"{values['seconds']:.1f} s on the leader, {values['leader']}"
    )
    refused = ", ".join(f"{count} {name}" for name, count in values["errors"].items())
    return f"{head}\n{row}\n{about}" + (f"\nnot OK: {refused}" if refused else "")
