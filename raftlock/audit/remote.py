"""A node's records over the network, as a source of the union, and the last of them. It must not know the protocol."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from raftlock.audit.names import Row
from raftlock.audit.question import Question
from raftlock.audit.union import Span


class RemotePage(Protocol):
    """What a node answers."""

    @property
    def applied_index(self) -> int:
        """The last index that the node had applied when it began to read."""

    @property
    def spans(self) -> Sequence[tuple[int, int]]:
        """First and last index of what it has and looked at."""

    @property
    def next_index(self) -> int:
        """Where the next page begins, ..."""

    @property
    def next_position(self) -> int:
        """... at which record of that entry."""

    @property
    def complete(self) -> bool:
        """Whether there is no more yet."""

    @property
    def records(self) -> Sequence[Row]:
        """Those that fit."""


Ask = Callable[[Question, int, int], RemotePage]
"""Asks for a page: what fits, from which index and position on."""


class Remote:
    """A node that is asked for pages."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def spans(self, question: Question, *, after: int, before: int) -> Iterator[Span]:
        """See Hot. Raise what asking does."""
        index, position = after + 1, 0
        begun: list[Row] = []
        """Records of the entry within which the last page ended."""
        while index < before:
            page = self._ask(question, index, position)
            rows = [*begun, *page.records]
            done = [row for row in rows if row["index"] < page.next_index]
            begun = [row for row in rows if row["index"] >= page.next_index]
            yield from _spans(page.spans, done, before)
            if page.complete:
                return
            index, position = page.next_index, page.next_position


def _spans(found: Sequence[tuple[int, int]], rows: Sequence[Row], before: int) -> Iterator[Span]:
    for first, last in found:
        if first >= before:
            return
        last = min(last, before - 1)
        yield Span(first, last, None, [row for row in rows if first <= row["index"] <= last])


def last_rows(ask: Ask, question: Question, lines: int) -> tuple[list[Row], tuple[int, int]]:
    """Return the last rows that fit, and where the next page begins. Read back as far as it takes, and no further."""
    end = ask(question, 1 << 52, 0).applied_index
    back = 4 * lines + 1
    while True:
        start = max(1, end + 1 - back)
        rows: list[Row] = []
        index, position, complete, reached = start, 0, False, False
        while not complete:
            page = ask(question, index, position)
            reached = reached or bool(page.spans and page.spans[0][0] > start)
            rows = [*rows, *page.records][-lines:] if lines else []
            index, position, complete = page.next_index, page.next_position, page.complete
        if len(rows) >= lines or start == 1 or reached:
            return rows, (index, position)
        back *= 4
