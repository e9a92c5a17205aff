"""`raftlock audit ship`: a node's finished segments, to a store."""

import os
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from raftlock.audit.tiers import TierRefused, TierUnavailable
from raftlock.cli.audit_data import data_option, find
from raftlock.cli.audit_place import open_place, tier_options
from raftlock.cli.common import EXIT_UNAVAILABLE, Duration, emit, fail, json_option

if TYPE_CHECKING:
    from raftlock.audit.shipper import Found, Lag

EXIT_CONFLICT = 4
"""The store holds something else than this node: nothing was overwritten, and somebody has to look."""
ATTEMPTS_ONCE = 6


@click.command()
@data_option
@tier_options("--to")
@click.option("--once", is_flag=True, help="Ship what is there and end.")
@click.option("--status", is_flag=True, help="Say what the store lacks, and ship nothing.")
@click.option("--every", type=Duration("1s", "1h"), default="10s", show_default=True)
@click.option(
    "--metrics",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file for node_exporter's textfile collector, rewritten after each pass.",
)
@click.option("--nice", type=click.IntRange(0, 19), default=10, show_default=True)
@json_option
def ship(
    data: Path,
    url: str,
    endpoint: str | None,
    region: str | None,
    once: bool,
    status: bool,
    every: float,
    metrics: Path | None,
    nice: int,
    as_json: bool,
) -> None:
    """Copy finished segments to S3 or a directory, as Parquet, each once; go on until Ctrl-C.

    It runs beside the server and may be killed at any moment. Several may run at once, for one node or for all. It
    deletes nothing. Credentials are found as boto3 finds them.

    \b
    Example: raftlock audit ship --data /var/lib/raftlock --to s3://locks-audit/prod
    Exit codes: 0 done; 1 the store refused, or a segment is damaged; 2 a wrong address; 4 the store holds something
    else (nothing was overwritten); 69 the store does not answer (--once).
    """
    directory = find(data)
    tier = open_place(url, endpoint, region)
    from raftlock.audit.backoff import Backoff
    from raftlock.audit.ship_metrics import ShipMetrics
    from raftlock.audit.shipper import AuditConflict, Shipper, run_with_patience

    os.nice(nice)
    shipper, counts = Shipper(directory, tier), ShipMetrics()
    backoff = Backoff(random.Random())

    def complain(error: TierUnavailable, wait_s: float) -> None:
        counts.failures += 1
        report_metrics()
        click.echo(f"raftlock: {error}; again in {wait_s:.1f} s", err=True)

    def report_metrics(lag: "Lag | None" = None) -> None:
        if metrics is not None:
            counts.write(metrics, lag, now_s=time.time())

    try:
        if status:
            show_lag(as_json, shipper.lag(), time.time())
            return
        while True:
            found = run_with_patience(
                shipper,
                backoff=backoff,
                attempts_max=ATTEMPTS_ONCE if once else None,
                complain=complain,
            )
            counts.shipped += len(found.shipped)
            counts.passed_s = time.time()
            report_metrics(shipper.lag() if metrics is not None else None)
            if once or found.shipped or found.closed:
                show_found(as_json, found)
            for damage in found.damages:
                click.echo(f"raftlock: {directory.path}: {damage}", err=True)
            if once:
                sys.exit(1 if found.damages else 0)
            time.sleep(every)
    except AuditConflict as error:
        counts.conflicts += 1
        report_metrics()
        fail(str(error), EXIT_CONFLICT)
    except TierUnavailable as error:
        fail(str(error), EXIT_UNAVAILABLE)
    except TierRefused as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def show_lag(as_json: bool, lag: "Lag", now_s: float) -> None:
    """Print what the store lacks."""
    behind_s = max(0.0, now_s - lag.since_us / 1e6) if lag.segments else 0.0
    values = {"segments": lag.segments, "bytes": lag.size, "seconds": round(behind_s, 3)}
    text = "the store has every finished segment of this node"
    if lag.segments:
        text = (
            f"{lag.segments} segments, {lag.size} bytes wait; the oldest ended {behind_s:.0f} s ago"
        )
    emit(as_json, values, text)


def show_found(as_json: bool, found: "Found") -> None:
    """Print what a pass did."""
    values: dict[str, Any] = {
        "shipped": found.shipped,
        "there": found.there,
        "closed": found.closed,
        "older": found.older,
        "missing": [{"first": m.first, "last": m.last, "day": m.day} for m in found.missing],
        "damages": [str(damage) for damage in found.damages],
    }
    lines = [f"shipped {key}" for key in found.shipped]
    lines += [f"closed {day}" for day in found.closed]
    lines += [
        f"{m.day} stays open: {m.first} to {m.last} are not there; ship from a node that has them"
        for m in found.missing
    ]
    if found.older:
        lines.append(f"{found.older} segments are older than what the store begins with")
    emit(as_json, values, "\n".join(lines) or f"nothing new; {found.there} segments are there")
