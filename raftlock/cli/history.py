"""`raftlock history`: the life of one lock in words."""

import json
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from raftlock.audit.question import Cost, Question
from raftlock.audit.story import (
    CANCELLED,
    EXPIRED,
    FORCED,
    GIVEN_UP,
    NOT_TAKEN_UP,
    OPEN,
    RELEASED,
    SESSION_ENDED,
    TIMED_OUT,
    UNKNOWN,
    Chapter,
    Force,
    Holding,
    Story,
    Waiting,
    milliseconds,
)
from raftlock.cli.audit_sources import open_sources, reading, source_options
from raftlock.cli.audit_times import moment_or_none, times_options
from raftlock.cli.common import EXIT_NOT_HELD

_HELD = {
    RELEASED: "released",
    EXPIRED: "its time passed without a renewal",
    CANCELLED: "its client cancelled the acquire",
    SESSION_ENDED: "its session ended",
    NOT_TAKEN_UP: "it was not taken up in time",
    UNKNOWN: "how it ended is not recorded: records are missing, or the cluster was restored",
}
_WAITED = {
    TIMED_OUT: "its wait was over",
    CANCELLED: "its client cancelled the acquire",
    SESSION_ENDED: "its session ended",
    GIVEN_UP: "its client sent a later acquire instead",
    UNKNOWN: "why is not recorded",
}


@click.command()
@click.argument("resource")
@source_options
@times_options
@click.option(
    "--format", "form", type=click.Choice(("text", "json")), default="text", show_default=True
)
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
def history(
    resource: str,
    since: str | None,
    until: str | None,
    form: str,
    **flags: Any,
) -> None:
    """Tell the life of the lock RESOURCE: who held it from when to when, who waited, and why each of these ended.

    It is told from the audit: by the nodes (--endpoints), from a node's disk (--data), from what was shipped (--from), or
    from several of these as one. A line comes when its end is known, so
    lines are in the order of their ends. Memory is that of one lock's holder and waiters.

    \b
    Example: raftlock history order:7
             raftlock history order:7 --from s3://locks-audit/prod --since 7d --format json
    Exit codes: 0 told; 1 the store refused, or records are damaged; 2 a wrong flag; 3 nothing is recorded of it; 69 the
    store or no node answers.
    """
    question = Question(
        resource=resource,
        since=moment_or_none(since, "since"),
        until=moment_or_none(until, "until"),
    )
    sources = open_sources(flags)
    cost, count = Cost(), 0
    with reading(f"reading of {resource!r}", cost) as look:
        for chapter in Story().tell(sources.rows(question, cost)):
            look()
            if form == "json":
                head = "[\n" if not count else ",\n"
                click.echo(head + json.dumps(as_values(chapter), ensure_ascii=False), nl=False)
            else:
                click.echo(in_words(chapter))
            count += 1
    if form == "json":
        click.echo("\n]" if count else "[]")
    sources.say_missing(cost)
    if not count:
        click.echo(f"raftlock: nothing is recorded of {resource!r}", err=True)
        click.get_current_context().exit(EXIT_NOT_HELD)


def as_values(chapter: Chapter) -> dict[str, object]:
    """Return a chapter in plain values, without what says nothing."""
    kind = "held" if isinstance(chapter, Holding) else "waited"
    values = asdict(chapter)
    if isinstance(chapter, Holding):
        del values["taken_up"]
        kind = "held" if chapter.taken_up else "offered"
    values["end"] = chapter.end or "open"
    return {"what": kind, **{name: v for name, v in values.items() if v is not None and v != ""}}


def in_words(chapter: Chapter) -> str:
    """Return a chapter as a line for people."""
    line = _holding(chapter) if isinstance(chapter, Holding) else _waiting(chapter)
    return "".join(c if c.isprintable() else "\ufffd" for c in line)


def _holding(holding: Holding) -> str:
    began = holding.since if holding.taken_up else holding.offered
    who = holding.owner or "somebody"
    verb = "held it" if holding.taken_up else "was offered it"
    parts = [f"{_clock(began)}  {who} {verb}{_how_long(began, holding.until, holding.end)}"]
    if holding.end == FORCED:
        parts.append(_forced(holding.forced))
    elif holding.end != OPEN:
        parts.append(_HELD[holding.end])
        if holding.forced is not None:
            parts.append(f"no renewal was taken since: {_forced(holding.forced)}")
    if holding.waited_ms is not None:
        parts.append(f"it had waited {duration(holding.waited_ms)} for it")
    if holding.refused:
        parts.append(f"{holding.refused} acquire{'s' * (holding.refused > 1)} refused meanwhile")
    parts.append(f"token {holding.token}")
    return "; ".join(parts)


def _waiting(waiting: Waiting) -> str:
    how_long = _how_long(waiting.since, waiting.until, waiting.end)
    line = f"{_clock(waiting.since)}  {waiting.owner or 'somebody'} waited for it{how_long}"
    return line if waiting.end == OPEN else f"{line}; {_WAITED[waiting.end]}"


def _forced(forced: Force | None) -> str:
    if forced is None:
        return "forced"
    who = forced.by or "an administrator"
    who += f" at {forced.address}" if forced.address else ""
    return f"forced by {who} ({forced.when}): {forced.reason!r}"


def _how_long(since: str | None, until: str | None, end: str) -> str:
    if end == OPEN:
        return ", and this is not over at the last record"
    if until is None:
        return ""
    if since is None:
        return f" since before the first record, until {_clock(until)}"
    return f" for {duration(milliseconds(since, until))}, until {_clock(until)}"


def _clock(time: str | None) -> str:
    if time is None:
        return "(before the first record)"
    return f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M:%S.%f}"[:-3]


def duration(ms: float) -> str:
    """Return a time for people."""
    steps: tuple[tuple[float, float, str], ...] = (
        (1_000, 1, "ms"), (120_000, 1_000, "s"), (7_200_000, 60_000, "min"), (172_800_000, 3_600_000, "h"),
    )  # fmt: skip
    for below, unit, name in steps:
        if ms < below:
            return f"{ms / unit:.3g} {name}"
    return f"{ms / 86_400_000:.3g} days"
