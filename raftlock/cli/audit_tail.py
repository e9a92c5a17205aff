"""`raftlock audit tail`: the last records, and those that come."""

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from raftlock.audit import AuditDamaged
from raftlock.audit.names import rows_of
from raftlock.audit.question import Question
from raftlock.audit.reader import Directory, Follower
from raftlock.audit.remote import last_rows as last_rows_of_node
from raftlock.cli.audit_data import find, show
from raftlock.cli.audit_nodes import AnyNode, check_question, open_nodes
from raftlock.cli.audit_sources import offline
from raftlock.cli.common import EXIT_UNAVAILABLE, endpoints_option, fail
from raftlock.client import RaftlockError
from raftlock_wire.errors import BadFrame

LOOK_EVERY_S = 0.5


@click.command()
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="RAFTLOCK_DATA_DIR",
    help="Instead of asking nodes: a node's data directory (also RAFTLOCK_DATA_DIR); of a `raftlock dev`, its first "
    "node's.",
)
@endpoints_option
@click.option("-n", "--lines", type=click.IntRange(0), default=10, show_default=True)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--resource", help="Only what is about this resource.")
@click.option(
    "--all", "everything", is_flag=True, help="With --data: also timers that found nothing to end."
)
def tail(
    data: Path | None,
    endpoints: str,
    timeout: float,
    lines: int,
    follow: bool,
    resource: str | None,
    everything: bool,
) -> None:
    """Print the last records, one JSON object a line: of a node (--endpoints), or of a node's disk (--data).

    What a node answered to anybody is told within a second. With -f another node takes over from one that is gone.

    \b
    Example: raftlock audit tail -n 100 --resource order:7 -f
    Exit codes: 0 done; 1 there is no audit, or it is damaged; 2 a wrong flag; 69 no node answers.
    """
    try:
        if data is not None and offline(has_data=True):
            _tail_of_disk(data, lines, resource, follow=follow, everything=everything)
        else:
            if everything:
                raise click.UsageError("--all reads a disk: add --data")
            nodes = AnyNode(open_nodes(endpoints, timeout))
            _tail_of_nodes(nodes, lines, resource, follow=follow)
    except KeyboardInterrupt:
        sys.exit(130)


def _tail_of_disk(
    data: Path, lines: int, resource: str | None, *, follow: bool, everything: bool
) -> None:
    directory = find(data)
    try:
        rows, position = last_rows(directory, lines, resource, everything=everything)
        for row in rows:
            show(row)
        follower = Follower(directory, after=position)
        while follow:
            for row in rows_from(follower, resource, everything=everything):
                show(row)
            sys.stdout.flush()
            time.sleep(LOOK_EVERY_S)
    except (AuditDamaged, BadFrame) as error:
        fail(f"{directory.path}: {error}")


def _tail_of_nodes(nodes: AnyNode, lines: int, resource: str | None, *, follow: bool) -> None:
    question = Question(resource=resource)
    check_question(question)
    try:
        rows, place = last_rows_of_node(nodes.ask, question, lines)
        for row in rows:
            show(row)
        while follow:
            page = nodes.ask(question, *place)
            for row in page.records:
                show(row)
            place = (page.next_index, page.next_position)
            if page.complete:
                sys.stdout.flush()
                time.sleep(LOOK_EVERY_S)
    except RaftlockError as error:
        fail(str(error), EXIT_UNAVAILABLE)


def last_rows(
    directory: Directory, lines: int, resource: str | None, *, everything: bool
) -> tuple[Iterable[dict[str, Any]], int]:
    """Return the last rows that fit, and up to which index was read. Read back as far as it takes, and no further."""
    segments = directory.segments()
    back = 0
    while True:
        start = len(segments) - back
        after = segments[start][0] - 1 if start < len(segments) else 0
        if not back and segments:
            after = segments[-1][1]
        follower = Follower(directory, after=after)
        rows = deque(rows_from(follower, resource, everything=everything), maxlen=lines)
        if len(rows) == lines or back >= len(segments):
            return rows, follower.position
        back = min(len(segments), max(1, 2 * back))


def rows_from(
    follower: Follower, resource: str | None, *, everything: bool
) -> Iterator[dict[str, Any]]:
    """Return the rows of what is new."""
    for record in follower.poll():
        for row in rows_of(record, everything=everything):
            if resource is None or row.get("resource") == resource:
                yield row
