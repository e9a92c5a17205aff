"""`raftlock audit query`, and `verify --from`: what was shipped."""

import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from raftlock.audit import AuditDamaged
from raftlock.audit.reader import Directory
from raftlock.audit.tiers import Tier, TierRefused, TierUnavailable
from raftlock.cli.audit_data import show
from raftlock.cli.audit_place import open_archive, tier_options
from raftlock.cli.common import EXIT_UNAVAILABLE, EXIT_USAGE, emit, fail
from raftlock.cli.progress import Progress

if TYPE_CHECKING:
    from raftlock.audit.archive import ArchiveReport
    from raftlock.audit.query import Cost


def verify_shipped(
    tier: Tier, directory: Directory | None, *, since: str | None, anchor: str | None, as_json: bool
) -> None:
    """Check what was shipped, and print it. End with a message if it is not whole."""
    from raftlock.audit.archive import compare_with_node, verify_archive

    if since is not None and re.fullmatch(r"\d{4}-\d\d-\d\d", since) is None:
        fail(f"--since: {since!r} is no day: use 2026-11-25", EXIT_USAGE)
    try:
        with Progress("verifying") as progress:

            def look(key: str) -> None:
                progress.detail = key

            report = verify_archive(tier, since=since or "", anchor=anchor or "", look=look)
            if directory is not None:
                compare_with_node(tier, directory, report)
    except TierUnavailable as error:
        fail(str(error), EXIT_UNAVAILABLE)
    except (TierRefused, FileNotFoundError) as error:
        fail(str(error))
    values = asdict(report) | {
        "ok": not report.problems,
        "problems": [{"key": key, "problem": problem} for key, problem in report.problems],
    }
    emit(as_json, values, _report_text(report))
    if report.problems:
        key, problem = report.problems[0]
        fail(f"{tier.url.rstrip('/')}/{key}: {problem}")


def _report_text(report: "ArchiveReport") -> str:
    lines = ["nothing was shipped yet"]
    if report.objects:
        lines = [
            f"{report.objects} objects, {report.size} bytes, index {report.first} to {report.last}"
        ]
    if report.first > 1:
        lines.append(f"it begins at index {report.first}")
    if report.manifests:
        closed = f"{report.manifests} manifests, closed until {report.closed_until}"
        lines += [closed, f"digest {report.digest} of the newest"]
    if report.open_objects:
        lines.append(f"{report.open_objects} objects are of days without a manifest yet")
    if report.compared:
        lines.append(f"{report.compared} segments of this node give the same")
    lines += [f"WRONG {key}: {problem}" for key, problem in report.problems]
    return "\n".join(lines)


@click.command()
@tier_options("--from")
@click.option("--resource", help="Records of this resource.")
@click.option("--prefix", help="Records of resources that begin so.")
@click.option("--owner", help="Records with this owner.")
@click.option("--token", type=click.IntRange(1), help="Records with this fencing token.")
@click.option("--operation", help="Records of this operation: acquire, release, expire, …")
@click.option("--since", help="From this moment on: 2h, 7d, 2026-11-25 or 2026-11-25T13:00:00Z.")
@click.option("--until", help="Up to this moment, in the same forms.")
@click.option("--limit", type=click.IntRange(1), help="End after so many records.")
@click.option("--cost", is_flag=True, help="Say on stderr how much was read.")
def query(
    url: str,
    endpoint: str | None,
    region: str | None,
    since: str | None,
    until: str | None,
    limit: int | None,
    cost: bool,
    **wanted: Any,
) -> None:
    """Print the records in what was shipped that fit, one JSON object a line, the oldest first.

    What was not shipped yet is on the nodes: `raftlock audit tail`.

    \b
    Example: raftlock audit query --from s3://locks-audit/prod --resource order:7 --since 2h
    Exit codes: 0 done, also when nothing fits; 1 the store refused, or an object is damaged; 69 it does not answer.
    """
    wanted["since"] = None if since is None else moment(since, "since")
    wanted["until"] = None if until is None else moment(until, "until")
    tier = open_archive(url, endpoint, region)
    from raftlock.audit.query import Cost, Question, answer

    spent = Cost()
    try:
        for count, row in enumerate(answer(tier, Question(**wanted), spent), 1):
            show(row)
            if count == limit:
                break
    except TierUnavailable as error:
        fail(str(error), EXIT_UNAVAILABLE)
    except (TierRefused, AuditDamaged) as error:
        fail(str(error))
    if cost:
        click.echo(cost_text(spent), err=True)


def cost_text(spent: "Cost") -> str:
    """Return what an answer took, for people."""
    opened = f"{spent.objects_opened} of {spent.objects} objects opened"
    groups = f"{spent.groups_read} of {spent.groups} groups of rows read"
    asked = f"{spent.read_size} of {spent.size} bytes in {spent.requests} requests"
    return f"{opened}; {groups}; {asked}"


def moment(text: str, name: str) -> datetime:
    """Parse a moment, or end with what is allowed."""
    match = re.fullmatch(r"(\d+)(m|h|d)", text)
    if match is not None:
        unit = {"m": "minutes", "h": "hours", "d": "days"}[match[2]]
        return datetime.now(UTC) - timedelta(**{unit: int(match[1])})
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        fail(
            f"--{name}: {text!r} is no moment: use 2h, 7d, 2026-11-25 or 2026-11-25T13:00:00Z",
            EXIT_USAGE,
        )
    return found if found.tzinfo else found.replace(tzinfo=UTC)
