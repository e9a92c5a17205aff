"""All records as one, in the log's order and each once: what was shipped, and what nodes still have.

What was shipped is asked first, since it can be asked with little reading; nodes fill in what is not there, one what
another lacks. It must not know Parquet, S3 or files.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from raftlock.audit.format import Header, Record
from raftlock.audit.manifest import Shipped
from raftlock.audit.names import Row, rows_of
from raftlock.audit.question import Cost, Question
from raftlock.audit.reader import Directory, Follower

LOOKS_MAX = 3
"""A segment that is finished while it is read is found under its new name by the next look."""
INDEX_MAX = (1 << 63) - 1


class Span(NamedTuple):
    """Some indexes that a node has: one record, a segment that was passed over, or what a node far away looked at."""

    first: int
    last: int
    record: Record | None
    rows: Sequence[Row] = ()
    """Where somebody else decoded the records: the rows of these indexes that fit, and nothing else."""


class Archive(Protocol):
    """What was shipped."""

    def objects(self) -> Iterator[Shipped]:
        """Return the objects that may have a record that fits, and perhaps others, in the order of the log."""

    def rows(self, one: Shipped) -> Iterator[Row]:
        """Return the rows of an object that fit, in the order of the log."""


class Hot(Protocol):
    """What a node has."""

    def spans(self, question: Question, *, after: int, before: int) -> Iterator[Span]:
        """Return what it has between two indexes, in order. What cannot fit may be passed over."""


class Disk:
    """A node's audit directory."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def spans(self, question: Question, *, after: int, before: int) -> Iterator[Span]:
        """See Hot. Raise AuditDamaged for a finished segment that is not whole."""
        passed: list[Header] = []

        def wanted(header: Header) -> bool:
            fits = header.first < before and question.may_fit_segment(header)
            if not fits:
                passed.append(header)
            return fits

        follower = Follower(self._directory, after=after)
        for _ in range(LOOKS_MAX):
            position = follower.position
            for record in follower.poll(wanted):
                yield from _passed(passed, before)
                if record.entry.index >= before:
                    return
                yield Span(record.entry.index, record.entry.index, record)
            yield from _passed(passed, before)
            if follower.position == position:
                return


def _passed(headers: list[Header], before: int) -> Iterator[Span]:
    while headers:
        header = headers.pop(0)
        if header.first < before:
            yield Span(header.first, min(header.last, before - 1), None)


def rows(
    question: Question, cost: Cost, *, archive: Archive | None, nodes: Sequence[Hot]
) -> Iterator[Row]:
    """Return the records that fit, in the order of the log, each once. `cost` is counted as it goes.

    Memory is bounded by what fits of one object, and one segment of a node. Raise AuditDamaged, or what the sources do.
    """
    behind = 0
    for one in archive.objects() if archive is not None else ():
        if one.last <= behind:
            continue
        if one.first > behind + 1:
            yield from _hot_rows(nodes, question, cost, behind, one.first)
        for row in archive.rows(one) if archive is not None else ():
            # Where two objects overlap, which `verify` reports, the seam is told once.
            if row["index"] > behind:
                yield row
        behind = cost.index = one.last
    yield from _hot_rows(nodes, question, cost, behind, INDEX_MAX)


def records(question: Question, nodes: Sequence[Hot], *, after: int, before: int) -> Iterator[Span]:
    """Return what the nodes have between two indexes, each once: a later one fills in what those before it lack."""
    if not nodes:
        return
    position = after
    for span in nodes[0].spans(question, after=after, before=before):
        if span.first > position + 1:
            yield from records(question, nodes[1:], after=position, before=span.first)
        if span.last > position:
            position = span.last
            yield span
    if position + 1 < before:
        yield from records(question, nodes[1:], after=position, before=before)


def _hot_rows(
    nodes: Sequence[Hot], question: Question, cost: Cost, after: int, before: int
) -> Iterator[Row]:
    position = after
    for span in records(question, nodes, after=after, before=before):
        # What is gone before the first record that there is, is no hole: it is older than what is kept.
        if 0 < position < span.first - 1:
            cost.missing.append((position + 1, span.first - 1))
        position = cost.index = span.last
        if span.record is None:
            yield from span.rows
            continue
        cost.records += 1
        if question.may_fit(span.record):
            for number, row in enumerate(rows_of(span.record)):
                if question.fits(row):
                    said = {name: value for name, value in row.items() if value is not None}
                    yield {"index": row["index"], "position": number, **said}
    if 0 < position < before - 1 and before != INDEX_MAX:
        cost.missing.append((position + 1, before - 1))
