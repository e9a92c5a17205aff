"""`raftlock audit query`: the records that fit, wherever they are."""

from pathlib import Path
from typing import Any

import click

from raftlock.audit.question import Cost, Question
from raftlock.cli.audit_formats import FORMATS, format_options, write_all, writing
from raftlock.cli.audit_sources import open_sources, reading, source_options
from raftlock.cli.audit_times import moment_or_none, times_options


@click.command()
@source_options
@click.option("--resource", help="Records of this resource.")
@click.option("--prefix", help="Records of resources that begin so.")
@click.option("--owner", help="Records with this owner.")
@click.option("--token", type=click.IntRange(1), help="Records with this fencing token.")
@click.option("--operation", help="Records of this operation: acquire, release, expire, …")
@times_options
@format_options(*FORMATS, default="table")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file, whole or not at all.",
)
@click.option("--limit", type=click.IntRange(1), help="End after so many records.")
@click.option("--cost", is_flag=True, help="Say on stderr how much was read.")
def query(
    since: str | None,
    until: str | None,
    form: str,
    out: Path | None,
    limit: int | None,
    cost: bool,
    **flags: Any,
) -> None:
    """Print the records that fit, the oldest first, each once: what was shipped and what nodes have, as one.

    The first are printed at once. `json` is one array, `jsonl` one object a line; both leave out what says nothing.
    Records that are on no node and in no object are named on stderr. Nodes are asked (--endpoints) unless --data
    names the disk of one; with --from alone only what was shipped is read.

    \b
    Example: raftlock audit query --resource order:7 --since 2h
             raftlock audit query --from s3://locks-audit/prod --endpoints n1:7401,n2:7401 --format csv --out all.csv
    Exit codes: 0 done, also when nothing fits; 1 the store refused, or an object or segment is damaged; 2 a wrong flag;
    69 the store or no node answers.
    """
    began, ended = moment_or_none(since, "since"), moment_or_none(until, "until")
    sources = open_sources(flags)
    question = Question(**flags, since=began, until=ended)
    spent = Cost()
    with writing(form, out) as output, reading("asking", spent) as look:
        write_all(sources.rows(question, spent), output, limit=limit, look=look)
    sources.say_missing(spent)
    if cost:
        click.echo(cost_text(spent), err=True)


def cost_text(spent: Cost) -> str:
    """Return what an answer took, for people."""
    opened = f"{spent.objects_opened} of {spent.objects} objects opened"
    groups = f"{spent.groups_read} of {spent.groups} groups of rows read"
    asked = f"{spent.read_size} of {spent.size} bytes in {spent.requests} requests"
    return f"{opened}; {groups}; {asked}; {spent.records} entries read from nodes"
