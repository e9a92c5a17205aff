"""Where a command's records come from: what was shipped, a node's disk, or both as one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from raftlock.audit import AUDIT_DIRECTORY, AuditDamaged
from raftlock.audit.names import Row
from raftlock.audit.question import Cost, Question
from raftlock.audit.reader import Directory
from raftlock.audit.tiers import Tier, TierRefused, TierUnavailable
from raftlock.audit.union import Archive, Disk, Hot, rows
from raftlock.cli.audit_data import find
from raftlock.cli.audit_place import open_archive
from raftlock.cli.common import EXIT_UNAVAILABLE, EXIT_USAGE, fail
from raftlock.cli.progress import Progress
from raftlock_wire.errors import BadFrame

HERE = Path(".raftlock")


@dataclass(frozen=True, slots=True)
class Sources:
    """What the flags name."""

    tier: Tier | None
    directories: tuple[Directory, ...]

    def rows(self, question: Question, cost: Cost) -> Iterator[Row]:
        """Return the records that fit, in the order of the log, each once."""
        archive: Archive | None = None
        if self.tier is not None:
            from raftlock.audit.query import ShippedRecords

            archive = ShippedRecords(self.tier, question, cost)
        nodes: list[Hot] = [Disk(directory) for directory in self.directories]
        return rows(question, cost, archive=archive, nodes=nodes)


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --from with what reaches it, and --data."""
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
            help="An S3 endpoint that is not AWS's (also RAFTLOCK_AUDIT_ENDPOINT).",
        ),
        click.option("--region", envvar="RAFTLOCK_AUDIT_REGION", help="S3 region."),
        click.option(
            "--data",
            type=click.Path(file_okay=False, path_type=Path),
            envvar="RAFTLOCK_DATA_DIR",
            multiple=True,
            help="A node's data directory, also while it runs (also RAFTLOCK_DATA_DIR); of a `raftlock dev`, its "
            "first node's. Several fill in what one lacks. Alone the default is .raftlock.",
        ),
    )
    for option in reversed(add):
        command = option(command)
    return command


def open_sources(
    url: str | None, endpoint: str | None, region: str | None, data: tuple[Path, ...]
) -> Sources:
    """Return what the flags name, or end with what is wrong with them."""
    if url is None and not data:
        if not any((p / AUDIT_DIRECTORY).is_dir() for p in (HERE, *HERE.glob("node-*"))):
            fail(
                "where are the records? --from takes what was shipped, --data a node's", EXIT_USAGE
            )
        data = (HERE,)
    tier = None if url is None else open_archive(url, endpoint, region)
    return Sources(tier, tuple(find(one) for one in data))


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


def say_missing(cost: Cost) -> None:
    """Say on stderr which records were found nowhere: an answer must not look whole when it is not."""
    for first, last in cost.missing:
        click.echo(f"raftlock: the records {first} to {last} were found nowhere", err=True)
