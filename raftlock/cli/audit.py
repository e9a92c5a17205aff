"""`raftlock audit`: the commands about the audit, and `verify`."""

from pathlib import Path
from typing import Any

import click

from raftlock.audit.verify import Report, verify
from raftlock.cli.audit_archive import verify_shipped
from raftlock.cli.audit_bucket import init_bucket
from raftlock.cli.audit_data import data_option, find
from raftlock.cli.audit_estimate import estimate_command
from raftlock.cli.audit_place import open_archive, tier_options
from raftlock.cli.audit_query import query
from raftlock.cli.audit_report import report
from raftlock.cli.audit_restore import diff, restore
from raftlock.cli.audit_ship import ship
from raftlock.cli.audit_sql import sql
from raftlock.cli.audit_tail import tail
from raftlock.cli.common import EXIT_USAGE, emit, fail, json_option


@click.group(name="audit")
def audit() -> None:
    """Read the audit that a node keeps: every command of the log with its result, in a chain of hashes.

    tail, query, report and sql ask the nodes, or read a disk with --data; the others read a disk. docs/audit.md says what is recorded and what is not.

    \b
    Example: raftlock audit verify --data /var/lib/raftlock
    """


@audit.command(name="verify")
@data_option
@tier_options("--from", required=False)
@click.option(
    "--compare", is_flag=True, help="With --from: compare with the segments in --data too."
)
@click.option("--since", metavar="DAY", help="With --from: records of days before it expired.")
@click.option("--anchor", help="With --from: a digest that was printed before and noted elsewhere.")
@json_option
def verify_command(
    data: Path,
    url: str | None,
    endpoint: str | None,
    region: str | None,
    compare: bool,
    since: str | None,
    anchor: str | None,
    as_json: bool,
) -> None:
    """Check every hash, and that each segment follows the one before; with --from, of what was shipped.

    The digest that it prints stands for everything up to that index: it is the same on every node of the cluster. With
    --from it is that of the newest day's manifest.

    \b
    Example: raftlock audit verify --data /var/lib/raftlock
             raftlock audit verify --from s3://locks-audit/prod --compare --data /var/lib/raftlock
    Exit codes: 0 all is whole (gaps that the node noted are listed); 1 damaged, with file and offset, or no audit; 69
    the store does not answer.
    """
    if url is not None:
        where = find(data) if compare else None
        verify_shipped(
            open_archive(url, endpoint, region), where, since=since, anchor=anchor, as_json=as_json
        )
        return
    if compare or since or anchor:
        fail("--compare, --since and --anchor are about what was shipped: add --from", EXIT_USAGE)
    directory = find(data)
    report = verify(directory)
    emit(as_json, as_values(report), as_text(report))
    if report.damages:
        fail(f"{directory.path}: {report.damages[0]}")


for _command in (ship, tail, query, report, sql, restore, diff, estimate_command, init_bucket):
    audit.add_command(_command)


def as_values(report: Report) -> dict[str, Any]:
    """Return the report in plain values."""
    return {
        "ok": not report.damages,
        "segments": report.segments,
        "first": report.first,
        "last": report.last,
        "entries": report.entries,
        "commands": report.commands,
        "digest": report.digest.hex(),
        "open_last": report.open_last,
        "gaps": [{"first": a, "last": b, "reason": why} for a, b, why in report.gaps],
        "damages": [
            {"file": d.file, "offset": d.offset, "problem": d.problem} for d in report.damages
        ],
    }


def as_text(report: Report) -> str:
    """Return the report for people."""
    lines = []
    if report.segments:
        whole = f"{report.segments} segments, index {report.first} to {report.last}"
        lines.append(f"{whole}: {report.entries} entries, {report.commands} commands")
        lines.append(f"digest {report.digest.hex()} at index {report.last}")
    else:
        lines.append("no finished segment yet")
    if report.first > 1:
        lines.append(f"it begins at index {report.first}: older segments were deleted, or removed")
    if report.open_last:
        lines.append(f"the segment under way shows up to index {report.open_last}")
    lines += [f"gap {a} to {b}: {why}" for a, b, why in report.gaps]
    lines += [f"DAMAGED {damage}" for damage in report.damages]
    return "\n".join(lines)
