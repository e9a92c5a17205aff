"""Records on their way out, one by one: a table, JSON, lines of JSON, CSV or Parquet. None keeps more than a batch."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import click

from raftlock.audit.names import Row
from raftlock.cli.audit_place import need_extra
from raftlock.cli.common import EXIT_USAGE, fail

FORMATS = ("table", "json", "jsonl", "csv", "parquet")
COLUMNS = (
    "index", "position", "time", "operation", "status", "resource", "owner", "principal", "address", "token",
    "session", "slot", "n", "ttl_ms", "wait_ms", "reason", "when", "held_by", "held_by_token", "problem", "place",
    "repeated", "metadata", "detail",
)  # fmt: skip
AT_ONCE = 100
"""So many of the first records are shown as they are found, whatever stdout is."""
_KNOWN = frozenset(COLUMNS)


class Output(Protocol):
    """Where records go."""

    def write(self, row: Row) -> None:
        """Write the next record."""

    def end(self) -> None:
        """Write what stands at the end."""


class Lines:
    """One JSON object a line."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, row: Row) -> None:
        """See Output."""
        self._file.write(json.dumps(said(row), ensure_ascii=False).encode() + b"\n")

    def end(self) -> None:
        """See Output."""


class Array:
    """One JSON array, an object a line."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._between = b"[\n"

    def write(self, row: Row) -> None:
        """See Output."""
        self._file.write(self._between + json.dumps(said(row), ensure_ascii=False).encode())
        self._between = b",\n"

    def end(self) -> None:
        """See Output."""
        self._file.write(b"[]\n" if self._between == b"[\n" else b"\n]\n")


class Table:
    """Aligned lines for people: widths are fixed, so that the first line need not wait for the last."""

    WIDTHS = (
        ("time", 27),
        ("operation", 13),
        ("status", 9),
        ("resource", 20),
        ("owner", 20),
        ("token", 16),
    )

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._print([name for name, _ in self.WIDTHS], "notes")

    def write(self, row: Row) -> None:
        """See Output."""
        shown = dict(self.WIDTHS)
        notes = [
            str(value) if name == "reason" else f"{name} {value}"
            for name in ("reason", "when", "held_by", "place", "problem", "repeated", "address")
            if (value := row.get(name)) not in (None, "", False)
        ]
        self._print(
            ["" if row.get(name) is None else str(row[name]) for name in shown], "; ".join(notes)
        )

    def _print(self, cells: list[str], notes: str) -> None:
        parts = (cell.ljust(width) for cell, (_, width) in zip(cells, self.WIDTHS, strict=True))
        line = "  ".join((*parts, notes)).rstrip()
        # Names may hold any character, also those that move a terminal's cursor.
        self._file.write("".join(c if c.isprintable() else "\ufffd" for c in line).encode() + b"\n")

    def end(self) -> None:
        """See Output."""


class Csv:
    """CSV with a line of names (RFC 4180)."""

    def __init__(self, file: BinaryIO) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._csv = csv.DictWriter(self._text, COLUMNS)
        self._csv.writeheader()

    def write(self, row: Row) -> None:
        """See Output."""
        self._csv.writerow(flat(row))

    def end(self) -> None:
        """See Output."""
        self._text.detach()


class Parquet:
    """Parquet of the same columns as what is shipped, in the order of the log."""

    BATCH_ROWS = 8_192

    def __init__(self, file: BinaryIO) -> None:
        need_extra()
        import pyarrow as pa
        import pyarrow.parquet as pq

        from raftlock.audit.parquet import SCHEMA, columns_of

        self._make: Callable[[list[Row]], Any] = lambda rows: pa.Table.from_pylist(rows, SCHEMA)
        self._columns: Callable[[Row], Row] = columns_of
        # Not closed by what writes into it.
        self._writer = pq.ParquetWriter(pa.PythonFile(file, mode="w"), SCHEMA, compression="zstd")
        self._rows: list[Row] = []

    def write(self, row: Row) -> None:
        """See Output."""
        self._rows.append(self._columns(row))
        if len(self._rows) == self.BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_table(self._make(self._rows))
        self._rows = []

    def end(self) -> None:
        """See Output."""
        if self._rows:
            self._flush()
        self._writer.close()


_MAKE: dict[str, Callable[[BinaryIO], Output]] = {
    "table": Table, "json": Array, "jsonl": Lines, "csv": Csv, "parquet": Parquet,
}  # fmt: skip


def format_options(*forms: str, default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add --format."""
    return click.option(
        "--format", "form", type=click.Choice(forms), default=default, show_default=True
    )


@contextmanager
def writing(form: str, out: Path | None) -> Iterator[Output]:
    """Write records in a form, to a file or stdout. A file that is not whole is not left behind."""
    if out is None:
        if form == "parquet" and sys.stdout.isatty():
            fail("Parquet is nothing for a terminal: name a file with --out", EXIT_USAGE)
        output = _MAKE[form](sys.stdout.buffer)
        yield output
        output.end()
        sys.stdout.buffer.flush()
        return
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        with temporary.open("wb") as file:
            output = _MAKE[form](file)
            yield output
            output.end()
        temporary.replace(out)
    except OSError as error:
        fail(f"{out}: {error.strerror or error}")
    finally:
        temporary.unlink(missing_ok=True)


def said(row: Row) -> Row:
    """Return a row without the fields that say nothing."""
    return {name: value for name, value in row.items() if value is not None and value != ""}


def flat(row: Row) -> Row:
    """Return a row in the columns of a CSV: what has no column of its own is JSON in `detail`."""
    found = {name: value for name, value in row.items() if name in _KNOWN}
    rest = {name: value for name, value in row.items() if name not in _KNOWN and value is not None}
    if "metadata" in found:
        found["metadata"] = json.dumps(found["metadata"], ensure_ascii=False)
    if rest:
        found["detail"] = json.dumps(rest, ensure_ascii=False, sort_keys=True)
    return found


def write_all(
    rows: Iterable[Row], output: Output, *, limit: int | None, look: Callable[[], None]
) -> None:
    """Write the rows, at most `limit` of them."""
    for count, row in enumerate(rows, 1):
        output.write(row)
        look()
        if count <= AT_ONCE:
            sys.stdout.buffer.flush()
        if count == limit:
            return
