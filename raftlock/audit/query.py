"""Finds records in what was shipped, reading little: days and hours by name, then statistics, then columns.

An object's footer is read first; a group of rows is passed over when its statistics exclude it, and all its columns are
read only when those that are asked about have a match. It must not know where objects are kept.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raftlock.audit import union
from raftlock.audit.format import AuditDamaged
from raftlock.audit.manifest import RECORDS, Shipped, shipped
from raftlock.audit.names import Row
from raftlock.audit.parquet import rows_from_table
from raftlock.audit.question import Cost, Question
from raftlock.audit.tiers import Tier


class ShippedRecords:
    """See union.Archive. Raise AuditDamaged, TierUnavailable or TierRefused."""

    def __init__(self, tier: Tier, question: Question, cost: Cost) -> None:
        self._tier, self._question, self._cost = tier, question, cost

    def objects(self) -> Iterator[Shipped]:
        """See Archive: those of the days before are not even listed."""
        after = f"{RECORDS}day={_day(self._question.since)}" if self._question.since else ""
        for one in shipped(self._tier.list(RECORDS, after=after)):
            self._cost.objects += 1
            yield one

    def hour_fits(self, one: Shipped) -> bool:
        """Return whether an object's hour has a moment that is asked about."""
        return _hour_fits(one, self._question)

    def rows(self, one: Shipped) -> Iterator[Row]:
        """See Archive."""
        if not self.hour_fits(one):
            return
        self._cost.size += one.size
        yield from _rows(self._tier, one, self._question, self._cost)


def answer(tier: Tier, question: Question, cost: Cost) -> Iterator[Row]:
    """Return the records in what was shipped that fit, in the order of the log, each once."""
    return union.rows(question, cost, archive=ShippedRecords(tier, question, cost), nodes=())


class RangeFile(io.RawIOBase):
    """An object as a file that is read in parts."""

    def __init__(self, tier: Tier, one: Shipped, cost: Cost) -> None:
        super().__init__()
        self._tier, self._one, self._cost = tier, one, cost
        self._at = 0
        self._ahead = (0, b"")

    def read_ahead(self, start: int, size: int) -> None:
        """Read a part at once, in one request: what lies in it is then served from memory."""
        self._at, self._ahead = start, (0, b"")
        self._ahead = (start, self.read(size))

    def readable(self) -> bool:
        """See io."""
        return True

    def seekable(self) -> bool:
        """See io."""
        return True

    def tell(self) -> int:
        """See io."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """See io."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._one.size}[whence]
        self._at = base + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """See io. One request to the store."""
        left = max(0, self._one.size - self._at)
        size = left if size is None or size < 0 else min(size, left)
        if not size:
            return b""
        start, ahead = self._ahead
        if start <= self._at and self._at + size <= start + len(ahead):
            data = ahead[self._at - start : self._at - start + size]
            self._at += size
            return data
        data = self._tier.read(self._one.key, start=self._at, size=size)
        self._cost.requests += 1
        self._cost.read_size += len(data)
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """See io."""
        view = memoryview(buffer)
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


def _rows(tier: Tier, one: Shipped, question: Question, cost: Cost) -> Iterator[Row]:
    cost.objects_opened += 1
    try:
        source = RangeFile(tier, one, cost)
        # No reading ahead by pyarrow's threads: one that still holds a Python file when the process ends aborts it.
        file = pq.ParquetFile(pa.PythonFile(source, mode="r"), pre_buffer=False)
        wanted = _conditions(question)
        groups = [g for g in range(file.num_row_groups) if _may_match(file.metadata, g, wanted)]
        cost.groups += file.num_row_groups
        found = [t for t in (_matches(file, source, g, wanted) for g in groups) if t.num_rows]
    except FileNotFoundError:
        # It expired between the listing and this.
        return
    except (pa.ArrowException, OSError, ValueError) as error:
        raise AuditDamaged(file=one.key, offset=0, problem=str(error)) from error
    cost.groups_read += len(found)
    if found:
        order = [("index", "ascending"), ("position", "ascending")]
        yield from rows_from_table(pa.concat_tables(found).sort_by(order))


@dataclass(frozen=True, slots=True)
class _Condition:
    column: str
    excludes: Callable[[Any, Any], bool]
    """Whether a column whose values lie between these two has no match."""
    holds: Callable[[Any], Any]
    """The mask of a column."""


def _equal(column: str, value: Any) -> _Condition:
    return _Condition(
        column, lambda low, high: value < low or value > high, lambda c: pc.equal(c, value)
    )


def _conditions(question: Question) -> list[_Condition]:
    found = [
        _equal(name, value)
        for name in ("resource", "token", "owner", "operation")
        if (value := getattr(question, name)) is not None
    ]
    prefix, since, until = question.prefix, question.since, question.until
    if prefix is not None:
        found.append(
            _Condition(
                "resource",
                # Between two names that do not begin so, others may.
                lambda low, high: high < prefix or low[: len(prefix)] > prefix,
                lambda c: pc.starts_with(c, prefix),
            )
        )
    if since is not None:
        found.append(
            _Condition("time", lambda _, high: high < since, lambda c: pc.greater_equal(c, since))
        )
    if until is not None:
        found.append(_Condition("time", lambda low, _: low >= until, lambda c: pc.less(c, until)))
    return found


def _may_match(metadata: Any, group: int, wanted: Sequence[_Condition]) -> bool:
    row_group = metadata.row_group(group)
    columns = {
        row_group.column(i).path_in_schema: row_group.column(i)
        for i in range(row_group.num_columns)
    }
    for condition in wanted:
        statistics = columns[condition.column].statistics
        if statistics is None:
            continue
        if statistics.has_null_count and statistics.null_count == row_group.num_rows:
            return False
        if statistics.has_min_max and condition.excludes(statistics.min, statistics.max):
            return False
    return True


def _matches(
    file: pq.ParquetFile, source: RangeFile, group: int, wanted: Sequence[_Condition]
) -> pa.Table:
    """Return the rows of a group that fit. The other columns are read only if there are any."""
    if not wanted:
        return _group(file, source, group, None)
    asked = _group(file, source, group, sorted({c.column for c in wanted}))
    mask = None
    for condition in wanted:
        holds = pc.fill_null(condition.holds(asked[condition.column]), False)
        mask = holds if mask is None else pc.and_(mask, holds)
    if not pc.any(mask).as_py():
        return asked.slice(0, 0)
    return _group(file, source, group, None).filter(mask)


def _group(
    file: pq.ParquetFile, source: RangeFile, group: int, columns: Sequence[str] | None
) -> pa.Table:
    """Read a group in this thread: all of its columns lie side by side, and are one request."""
    if columns is None:
        row_group = file.metadata.row_group(group)
        chunks = [row_group.column(i) for i in range(row_group.num_columns)]
        starts = [
            min(c.data_page_offset, c.dictionary_page_offset or c.data_page_offset) for c in chunks
        ]
        end = max(
            start + chunk.total_compressed_size for start, chunk in zip(starts, chunks, strict=True)
        )
        source.read_ahead(min(starts), end - min(starts))
    return file.read_row_group(group, columns=columns, use_threads=False)


def _day(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d}"


def _hour_fits(one: Shipped, question: Question) -> bool:
    """Return whether an object's hour has a moment that fits. A segment never goes over an hour's end."""
    hour = f"{one.day}T{one.hour:02d}"
    if question.since and hour < f"{question.since.astimezone(UTC):%Y-%m-%dT%H}":
        return False
    return not (question.until and hour > f"{question.until.astimezone(UTC):%Y-%m-%dT%H}")


__all__ = ["Cost", "Question", "RangeFile", "ShippedRecords", "answer"]
