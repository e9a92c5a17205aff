"""`raftlock audit report`: what the records add up to, as tables and as one page."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from raftlock.audit.question import Cost, Question
from raftlock.audit.tally import Tally
from raftlock.cli.audit_sources import open_sources, reading, source_options
from raftlock.cli.audit_times import moment_or_none, times_options
from raftlock.cli.common import emit, fail, json_option
from raftlock.cli.history import duration
from raftlock.cli.report_page import page


@click.command()
@source_options
@times_options
@click.option("--prefix", help="Only locks whose names begin so.")
@click.option(
    "--top",
    type=click.IntRange(1, 1_000),
    default=10,
    show_default=True,
    help="Lines of each table.",
)
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), help="Write one page with plots too."
)
@json_option
def report(
    since: str | None,
    until: str | None,
    prefix: str | None,
    top: int,
    html: Path | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Add up the records: hot locks, contention, longest holds and waits, expiries by owner, forced releases, denials.

    --html writes one page that needs no other file and no network. Memory is bounded: beyond 40,000 names the locks
    with the least are forgotten, and the report says so.

    \b
    Example: raftlock audit report --since 24h --html report.html
             raftlock audit report --from s3://locks-audit/prod --since 7d --prefix order: --json
    Exit codes: 0 done; 1 the store refused, or records are damaged; 2 a wrong flag; 69 the store or no node
    answers.
    """
    question = Question(
        prefix=prefix, since=moment_or_none(since, "since"), until=moment_or_none(until, "until")
    )
    sources, cost, tally = open_sources(flags), Cost(), Tally()
    with reading("adding up", cost) as look:
        for row in sources.rows(question, cost):
            tally.add((row,))
            look()
    if html is not None:
        try:
            html.write_text(
                page(tally, source=sources.words, missing=cost.missing), encoding="utf-8"
            )
        except OSError as error:
            fail(f"--html: {html}: {error.strerror or error}")
    emit(as_json, as_values(tally, top), as_text(tally, top))
    sources.say_missing(cost)


def as_values(tally: Tally, top: int) -> dict[str, Any]:
    """Return the report in plain values."""
    return {
        "records": tally.rows,
        "first": tally.first or None,
        "last": tally.last or None,
        "names_forgotten": tally.uses.cut,
        "operations": [
            {"operation": operation, "status": status, "count": count}
            for (operation, status), count in tally.operations.most_common()
        ],
        "hot": [{"resource": name, **asdict(use)} for name, use in tally.uses.top(top)],
        "contended": [
            {"resource": name, **asdict(use)}
            for name, use in tally.uses.top(top, by=lambda use: use.waited_ms)
        ],
        "longest_holds": [asdict(one) for one in sorted(tally.holds, reverse=True)[:top]],
        "longest_waits": [asdict(one) for one in sorted(tally.waits, reverse=True)[:top]],
        "expired_by_owner": [
            {"owner": owner, "count": count[0]} for owner, count in tally.expired_owners.top(top)
        ],
        "forced_count": tally.forced_count,
        "forced": tally.forced[-top:],
        "denied": [
            {"operation": operation, "status": status, "who": who, "host": host, "count": count[0]}
            for (operation, status, who, host), count in tally.denied.top(top)
        ],
        "still_held": tally.still_held,
    }


def as_text(tally: Tally, top: int) -> str:
    """Return the report for people."""
    if not tally.rows:
        return "no records"
    lines = [f"{tally.rows} records, {tally.first} to {tally.last}"]
    if tally.uses.cut:
        lines.append("there were more names than are kept: numbers of single locks may be too low")
    hot = [
        (
            name,
            use.granted,
            use.refused,
            use.queued,
            use.expired,
            duration(use.held_ms),
            duration(use.held_max_ms),
        )
        for name, use in tally.uses.top(top)
    ]
    lines += _table(
        "hot locks", ("granted", "refused", "queued", "expired", "held", "longest"), hot
    )
    contended = [
        (name, use.queued, duration(use.waited_ms), duration(use.waited_max_ms))
        for name, use in tally.uses.top(top, by=lambda use: use.waited_ms)
    ]
    lines += _table("contention", ("queued", "waited", "longest"), contended)
    for title, found in (("longest holds", tally.holds), ("longest waits", tally.waits)):
        longest = [
            (o.resource, duration(o.ms), o.owner, o.since, o.end)
            for o in sorted(found, reverse=True)[:top]
        ]
        lines += _table(title, ("for", "owner", "since", "and then"), longest)
    expired = [(owner, count[0]) for owner, count in tally.expired_owners.top(top)]
    lines += _table("expired, by owner", ("times",), expired)
    forced = [
        (r["resource"], r.get("owner", ""), r.get("when", ""), r["time"], r.get("reason", ""))
        for r in tally.forced[-top:]
    ]
    lines += _table("forced", ("holder", "when", "time", "reason"), forced)
    denied = [
        (f"{op} {status}", who, host, n[0]) for (op, status, who, host), n in tally.denied.top(top)
    ]
    lines += _table("denied", ("who", "host", "times"), denied)
    return "\n".join(lines)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    cells = [[title, *head], *([str(cell) for cell in row] for row in rows)]
    if not rows:
        return ["", f"{title}: none"]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return ["", *("".join(c if c.isprintable() else "\ufffd" for c in line) for line in lines)]
