"""`raftlock audit verify --from`: whether what was shipped is whole."""

import re
from dataclasses import asdict
from typing import TYPE_CHECKING

from raftlock.audit.reader import Directory
from raftlock.audit.tiers import Tier, TierRefused, TierUnavailable
from raftlock.cli.common import EXIT_UNAVAILABLE, EXIT_USAGE, emit, fail
from raftlock.cli.progress import Progress

if TYPE_CHECKING:
    from raftlock.audit.archive import ArchiveReport


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
