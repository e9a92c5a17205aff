"""A smaller schedule of faults that breaks the same invariant: delta debugging by leaving faults out.

It owns the search. What fails is asked of a function.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def shrink(
    items: Sequence[Item], fails: Callable[[Sequence[Item]], bool], *, runs_max: int
) -> tuple[list[Item], int]:
    """Return a part of `items` that still fails, and how often `fails` was asked.

    Zeller's ddmin: leave out halves, then quarters, down to single items, and begin again after each success. At the
    end no single item can be left out, unless `runs_max` came first.
    """
    kept = list(items)
    runs = 0
    parts = 2
    while kept and runs < runs_max:
        size = max(1, len(kept) // parts)
        for start in range(0, len(kept), size):
            if runs >= runs_max:
                break
            less = kept[:start] + kept[start + size :]
            runs += 1
            if fails(less):
                kept, parts = less, max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(kept), parts * 2)
    return kept, runs
