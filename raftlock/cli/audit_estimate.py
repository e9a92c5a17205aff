"""`raftlock audit estimate`: bytes and dollars a month, before there is a cluster."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from raftlock.audit.estimate import (
    PRICES,
    STUDY,
    BadPrices,
    Estimate,
    Prices,
    Retention,
    batch_at,
    estimate,
    read_measured,
)
from raftlock.cli.common import EXIT_USAGE, emit, fail, json_option

_FORM = "nodes=7d,warm=90d,cold=275d"


class Kept(click.ParamType[Retention]):
    """Days in each tier."""

    name = "retention"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Retention:
        """Parse it, or fail with what is allowed."""
        if isinstance(value, Retention):
            return value
        days: dict[str, float] = {}
        for part in str(value).split(","):
            match = re.fullmatch(r"(nodes|warm|cold)=(\d+(?:\.\d+)?)(h|d|y)", part.strip())
            if match is None:
                self.fail(f"{part!r}: use {_FORM}, with h, d or y", param, ctx)
            days[match[1]] = float(match[2]) * {"h": 1 / 24, "d": 1, "y": 365}[match[3]]
        base = Retention()
        return Retention(
            node_days=days.get("nodes", base.node_days),
            warm_days=days.get("warm", base.warm_days),
            cold_days=days.get("cold", base.cold_days),
        )


@click.command(name="estimate")
@click.option(
    "--ops-per-second",
    "rate",
    type=click.FloatRange(0, 10_000_000, min_open=True),
    required=True,
    help="Acquires and releases, as the mean over a day.",
)
@click.option(
    "--retention",
    type=Kept(),
    default=_FORM,
    show_default=True,
    help="How long each tier keeps records.",
)
@click.option("--nodes", type=click.IntRange(1, 7), default=3, show_default=True)
@click.option(
    "--prices",
    "prices_file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=PRICES,
    help="A TOML file of prices; without it those of raftlock/audit/prices.toml.",
)
@json_option
def estimate_command(
    rate: float, retention: Retention, nodes: int, prices_file: Path, as_json: bool
) -> None:
    """Say what the audit takes and costs a month, when its tiers are full.

    Bytes an operation were measured on a generated mix (`python -m bench audit-bytes`): yours depend on the lengths of
    your names. Beside it stands the arithmetic of a capacity study of such a service, which takes 300 bytes.

    \b
    Example: raftlock audit estimate --ops-per-second 66667
             raftlock audit estimate --ops-per-second 500 --retention nodes=48h,warm=30d,cold=7y --prices mine.toml
    Exit codes: 0 done; 2 a wrong flag or file of prices.
    """
    try:
        prices = Prices.of(prices_file)
    except BadPrices as error:
        fail(str(error), EXIT_USAGE)
    except OSError as error:
        fail(f"--prices: {prices_file}: {error.strerror or error}", EXIT_USAGE)
    measured = batch_at(rate, read_measured())
    ours = estimate(rate=rate, measured=measured, prices=prices, retention=retention, nodes=nodes)
    study = STUDY.at(rate)
    values = {
        "ours": {**asdict(ours), "dollars": round(ours.dollars, 2)},
        "study": {**asdict(study), "dollars": round(study.dollars, 2)},
        "prices": asdict(prices),
    }
    emit(as_json, values, as_text(ours, study))


def as_text(ours: Estimate, study: Estimate) -> str:
    """Return both for people."""
    head = f"{ours.operations_a_day:,.0f} operations a day, {ours.batch} in an entry of the log: {size(ours.size_a_day)} shipped a day"
    lines = [head, "", *_table(ours.tiers)]
    each = ours.tiers[0].size / int(ours.tiers[0].tier.split()[0])
    lines.append(
        f"A node keeps {size(each)} of it: set audit_size and audit_hours so (10 GiB and 168 h by default)."
    )
    lines.append(f"requests  {_dollars(ours.requests_dollars)} a month")
    lines.append(f"in all    {_dollars(ours.dollars)} a month")
    lines += [
        "",
        f"The study, by its own assumptions: {size(study.size_a_day)} a day",
        "",
        *_table(study.tiers),
    ]
    lines.append(f"in all    {_dollars(study.dollars)} a month")
    parquet = ours.tiers[1].bytes_an_operation
    times = study.tiers[1].bytes_an_operation / parquet
    lines += [
        "",
        "Where they differ:",
        f"- {study.tiers[1].bytes_an_operation:g} bytes an operation are its guess; {parquet:g} were measured in "
        f"Parquet, {times:.1f} times less. Rows of one lock lie together, and columns compress.",
        f"- Its plan keeps the hot days in a database of {STUDY.database_replicas} replicas with "
        f"{STUDY.database_disk_tb:g} TB each ({_dollars(STUDY.database_replicas * STUDY.database_disk_tb * 1e3 * STUDY.hot_gb_month)} "
        "a month of disk at its rate). Here they are on the nodes' own disks, and counted once a node.",
        "- Its warm tier holds the hot days once more, and its cold tier all of the first year. Here a record is warm "
        "and then cold, never both.",
    ]
    return "\n".join(lines)


def _table(tiers: Sequence[Any]) -> list[str]:
    rows = [("tier", "days", "bytes an operation", "holds", "a month")]
    rows += [
        (t.tier, f"{t.days:g}", f"{t.bytes_an_operation:g}", size(t.size), _dollars(t.dollars))
        for t in tiers
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _dollars(value: float) -> str:
    return f"${value:,.2f}" if value < 100 else f"${value:,.0f}"


def size(value: float) -> str:
    """Return bytes for people, in powers of a thousand as they are sold."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1_000:
            return f"{value:.3g} {unit}"
        value /= 1_000
    return f"{value:.3g} PB"
