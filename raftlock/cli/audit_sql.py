"""`raftlock audit sql`: DuckDB over what was shipped and what nodes have."""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from raftlock.audit import AuditDamaged
from raftlock.audit.manifest import Shipped
from raftlock.audit.names import Row
from raftlock.audit.question import Cost, Question
from raftlock.audit.tiers import TierRefused, TierUnavailable
from raftlock.cli.audit_formats import format_options, writing
from raftlock.cli.audit_place import need_extra
from raftlock.cli.audit_query import cost_text
from raftlock.cli.audit_sources import (
    Sources,
    open_sources,
    reading,
    source_options,
)
from raftlock.cli.audit_times import moment_or_none, times_options
from raftlock.cli.common import EXIT_USAGE, fail

BATCH_ROWS = 2_048
VIEW = "records"


@click.command(name="sql")
@click.argument("statement")
@source_options
@times_options
@format_options("table", "json", "jsonl", "csv", default="table")
@click.option("--json", "form", flag_value="json", help="The same as --format json.")
@click.option("--cost", is_flag=True, help="Say on stderr how much was read.")
def sql(
    statement: str,
    since: str | None,
    until: str | None,
    form: str,
    cost: bool,
    **flags: Any,
) -> None:
    """Run a SQL STATEMENT of DuckDB's on the table `records`: what was shipped and what nodes have, as one.

    Columns and groups of rows that the statement does not need are not read. What nodes have and no object does is
    first written to a temporary Parquet file. --since and --until leave out whole objects and segments, and are what
    saves most; put the exact times into the statement. Columns are in docs/audit.md.

    \b
    Example: raftlock audit sql "select owner, count(*) n from records where operation = 'expire' group by 1 order by 2 desc"
             raftlock audit sql "select * from records where resource = 'order:7'" --from s3://locks-audit/prod --since 2h
    Exit codes: 0 done; 1 the statement or an object is wrong, or the store refused; 2 a wrong flag, or DuckDB is not
    installed; 69 the store or no node answers.
    """
    if find_spec("duckdb") is None:
        fail("this needs duckdb: pip install 'raftlock[sql]'", EXIT_USAGE)
    need_extra()
    question = Question(since=moment_or_none(since, "since"), until=moment_or_none(until, "until"))
    sources, spent = open_sources(flags), Cost()
    with ExitStack() as stack:
        look = stack.enter_context(reading("asking", spent))
        connection = connect(sources, question, spent, stack, look)
        result = _run(connection, statement)
        if result.description is not None:
            names = [column[0] for column in result.description]
            _print(form, names, _tuples(result))
    sources.say_missing(spent)
    if cost:
        click.echo(cost_text(spent), err=True)


def connect(
    sources: Sources, question: Question, cost: Cost, stack: ExitStack, look: Callable[[], None]
) -> Any:
    """Return a DuckDB connection with the view `records`."""
    import duckdb

    from raftlock.audit.dataset import Readers, dataset_of, dataset_of_file
    from raftlock.audit.query import ShippedRecords

    readers = Readers()
    # Behind the connection's end: the engine gives up its reads then.
    stack.push(lambda _, error, __: readers.leave(error) and False)
    connection = stack.enter_context(duckdb.connect())
    connection.execute("SET TimeZone = 'UTC'")
    parts = []
    archive = None
    if sources.tier is not None:
        archive = ShippedRecords(sources.tier, question, cost)
        connection.register(
            "shipped",
            dataset_of(sources.tier, archive, Cost() if sources.nodes else cost, readers),
        )
        parts.append("shipped")
    if sources.nodes:
        folder = stack.enter_context(TemporaryDirectory(prefix="raftlock-audit-"))
        file = Path(folder) / "nodes.parquet"
        with writing("parquet", file) as output:
            unread = None if archive is None else Unread(archive)
            for row in sources.rows_beside(unread, question, cost):
                output.write(row)
                look()
        connection.register("nodes", dataset_of_file(file))
        parts.append("nodes")
    union = " UNION ALL ".join(f"SELECT * FROM {part}" for part in parts)
    connection.execute(f"CREATE TEMP VIEW {VIEW} AS {union}")
    return connection


class Unread:
    """The objects of an archive, for their seams alone: the engine reads their rows."""

    def __init__(self, archive: Any) -> None:
        self._archive = archive

    def objects(self) -> Iterator[Shipped]:
        """See Archive."""
        yield from self._archive.objects()

    def rows(self, one: Shipped) -> Iterator[Row]:
        """See Archive."""
        del one
        yield from ()


def _run(connection: Any, statement: str) -> Any:
    import duckdb

    try:
        return connection.execute(statement)
    except duckdb.Error as error:
        _failed(error)


def _tuples(result: Any) -> Iterator[tuple[Any, ...]]:
    import duckdb

    try:
        while found := result.fetchmany(BATCH_ROWS):
            yield from found
    except duckdb.Error as error:
        _failed(error)


def _failed(error: Exception) -> Any:
    """End with DuckDB's message, or with what our own reading of an object raised below it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TierUnavailable | TierRefused | AuditDamaged):
            raise cause
        cause = cause.__cause__ or cause.__context__
    fail(str(error))


def _print(form: str, names: list[str], found: Iterator[tuple[Any, ...]]) -> None:
    out = sys.stdout
    if form == "csv":
        writer = csv.writer(out)
        writer.writerow(names)
        writer.writerows(["" if v is None else _plain(v) for v in values] for values in found)
    elif form == "table":
        _table(names, found)
    else:
        between = "[\n" if form == "json" else ""
        for values in found:
            row = dict(zip(names, map(_plain, values), strict=True))
            out.write(between + json.dumps(row, ensure_ascii=False))
            between = ",\n" if form == "json" else "\n"
        if form == "json":
            out.write("[]\n" if between == "[\n" else "\n]\n")
        elif between:
            out.write("\n")


def _table(names: list[str], found: Iterator[tuple[Any, ...]]) -> None:
    """Print aligned lines: widths are those of the first rows, so that the first line need not wait for the last."""
    first = [[_cell(v) for v in values] for _, values in zip(range(100), found, strict=False)]
    widths = [max(map(len, column)) for column in zip(names, *first, strict=True)]

    def line(cells: list[str]) -> str:
        return "  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip()

    click.echo(line(names))
    for cells in first:
        click.echo(line(cells))
    for values in found:
        click.echo(line([_cell(v) for v in values]))


def _cell(value: Any) -> str:
    text = "" if value is None else str(_plain(value))
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
