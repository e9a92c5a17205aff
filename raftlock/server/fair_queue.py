"""What waits for its turn, a line for each source: deficit round robin (Shreedhar and Varghese, SIGCOMM 1995).

It owns the order in which sources are served, and nothing else: who sends a thousand items waits for itself, not the
others for it. It must not know what an item is.
"""

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

Source = TypeVar("Source", bound=Hashable)
Item = TypeVar("Item")


class _Line(Generic[Source, Item]):
    __slots__ = ("credit", "items", "source")

    def __init__(self, source: Source, credit: int) -> None:
        self.source = source
        self.credit = credit
        self.items: deque[Item] = deque()


class FairQueue(Generic[Source, Item]):
    """Lines of items. Within a line the order is that of arrival; each line gets the same share of the work."""

    def __init__(self) -> None:
        self._lines: dict[Source, _Line[Source, Item]] = {}
        self._turns: deque[_Line[Source, Item]] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, source: Source, item: Item, share: int) -> None:
        """Let an item wait. A new line goes behind all others, with a whole share to begin with."""
        line = self._lines.get(source)
        if line is None:
            self._lines[source] = line = _Line(source, share)
            self._turns.append(line)
        line.items.append(item)
        self._count += 1

    def take(self, share: int) -> tuple[Source, Item]:
        """Remove and return the next item. A line is served until its credit is used up, then the next one.

        Raise IndexError when nothing waits. A line that is empty is forgotten, with its credit and its debt: who asks
        for one thing at a time never waits for what it asked before.
        """
        line = self._turns[0]
        while line.credit <= 0:
            line.credit += share
            self._turns.rotate(-1)
            line = self._turns[0]
        item = line.items.popleft()
        self._count -= 1
        if not line.items:
            self._turns.popleft()
            del self._lines[line.source]
        return line.source, item

    def charge(self, source: Source, cost: int) -> None:
        """Take what an item of a line has cost off its credit, before the next is taken."""
        line = self._lines.get(source)
        if line is not None:
            line.credit -= cost

    def drop(self, source: Source) -> list[Item]:
        """Remove a line and return what was in it."""
        line = self._lines.pop(source, None)
        if line is None:
            return []
        self._turns.remove(line)
        self._count -= len(line.items)
        return list(line.items)

    def heads(self) -> list[Item]:
        """Return the first item of each line: nothing that waits is older than the oldest of them."""
        return [line.items[0] for line in self._turns]
