"""Where a command's records come from: nodes, their disks, what was shipped, or several of these as one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from raftlock.audit import AuditDamaged
from raftlock.audit.names import Row
from raftlock.audit.question import Cost, Question
from raftlock.audit.reader import Directory
from raftlock.audit.tiers import Tier, TierRefused, TierUnavailable
from raftlock.audit.union import Archive, Disk, Hot, rows
from raftlock.cli.audit_data import find
from raftlock.cli.audit_nodes import AskedNode, check_question, open_nodes, say_trouble
from raftlock.cli.audit_place import cluster_of, open_archive
from raftlock.cli.common import EXIT_UNAVAILABLE, endpoints_option, fail
from raftlock.cli.progress import Progress
from raftlock_wire.errors import BadFrame


@dataclass(frozen=True, slots=True)
class Sources:
    """What the flags name."""

    tier: Tier | None
    directories: tuple[Directory, ...] = ()
    asked: tuple[AskedNode, ...] = ()
    words: str = ""
    """The same for people."""

    @property
    def nodes(self) -> list[Hot]:
        """Return what nodes have, on their disks or over the network."""
        return [*map(Disk, self.directories), *self.asked]

    def rows(self, question: Question, cost: Cost) -> Iterator[Row]:
        """Return the records that fit, in the order of the log, each once."""
        archive: Archive | None = None
        if self.tier is not None:
            from raftlock.audit.query import ShippedRecords

            archive = ShippedRecords(self.tier, question, cost)
        return self.rows_beside(archive, question, cost)

    def rows_beside(self, archive: Archive | None, question: Question, cost: Cost) -> Iterator[Row]:
        """Return them with another view of what was shipped."""
        if self.asked:
            check_question(question)
        return rows(question, cost, archive=archive, nodes=self.nodes)

    def say_missing(self, cost: Cost) -> None:
        """Say on stderr what no source told: an answer must not look whole when it is not. End if no node told any."""
        for first, last in cost.missing:
            click.echo(f"raftlock: the records {first} to {last} were found nowhere", err=True)
        say_trouble(self.asked)


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --from with what reaches it, --endpoints with --timeout, and --data."""
    add = (
        click.option(
            "--from",
            "url",
            envvar="RAFTLOCK_AUDIT_TIER",
            metavar="URL",
            help="What was shipped: s3://BUCKET/PREFIX or file:///DIRECTORY (also RAFTLOCK_AUDIT_TIER).",
        ),
        click.option(
            "--endpoint",
            envvar="RAFTLOCK_AUDIT_ENDPOINT",
            metavar="URL",
            help="For --from: an S3 endpoint that is not AWS's (also RAFTLOCK_AUDIT_ENDPOINT).",
        ),
        click.option("--region", envvar="RAFTLOCK_AUDIT_REGION", help="For --from: S3 region."),
        endpoints_option,
        click.option(
            "--data",
            type=click.Path(file_okay=False, path_type=Path),
            envvar="RAFTLOCK_DATA_DIR",
            multiple=True,
            help="Instead of asking nodes: a node's data directory, also while it runs (also RAFTLOCK_DATA_DIR); of a "
            "`raftlock dev`, its first node's. Several fill in what one lacks.",
        ),
    )
    for option in reversed(add):
        command = option(command)
    return command


def open_sources(flags: dict[str, Any]) -> Sources:
    """Return what the flags of `source_options` name, which are taken out, or end with what is wrong with them.

    Nodes are asked unless --data names a disk. With --from alone none is: the default addresses may be those of
    another cluster than the one that shipped.
    """
    url, endpoint, region = (flags.pop(name) for name in ("url", "endpoint", "region"))
    data, endpoints, timeout = (flags.pop(name) for name in ("data", "endpoints", "timeout"))
    tier = None if url is None else open_archive(url, endpoint, region)
    if offline(bool(data)):
        words = ", ".join([*([url] if url else []), *map(str, data)])
        return Sources(tier, directories=tuple(find(one) for one in data), words=words)
    if tier is not None and not _given("endpoints"):
        return Sources(tier, words=url)
    cluster_id = None if tier is None else cluster_of(tier)
    nodes = open_nodes(endpoints, timeout, cluster_id)
    return Sources(tier, asked=tuple(nodes), words=", ".join([*([url] if url else []), endpoints]))


def offline(has_data: bool) -> bool:
    """Return whether disks are read instead of asking nodes: what the command line says counts before variables."""
    on_line = ParameterSource.COMMANDLINE
    context = click.get_current_context()
    data, endpoints = (context.get_parameter_source(name) for name in ("data", "endpoints"))
    if data is on_line and endpoints is on_line:
        raise click.UsageError("--data reads a disk and --endpoints asks nodes: give one of them")
    return has_data and endpoints is not on_line


def _given(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


@contextmanager
def reading(what: str, cost: Cost) -> Iterator[Callable[[], None]]:
    """Show how far a long read is, and turn what sources raise into a message and an exit code.

    What it gives is called for each row: it keeps the line on a terminal current.
    """
    with Progress(what) as progress:

        def look() -> None:
            progress.detail = f"index {cost.index}, {cost.objects_opened} objects, {cost.records} entries of nodes"

        try:
            yield look
        except TierUnavailable as error:
            fail(str(error), EXIT_UNAVAILABLE)
        except (TierRefused, AuditDamaged, BadFrame) as error:
            fail(str(error))
