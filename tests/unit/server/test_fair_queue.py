"""The fair queue: each line in its own order, each line its share (deficit round robin)."""

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlock.server.fair_queue import FairQueue

SHARE = 10
Costs = dict[str, list[int]]
costs_of_lines = st.dictionaries(
    st.sampled_from("abcdef"), st.lists(st.integers(1, 35), min_size=1, max_size=30), min_size=1
)


def filled(lines: Costs) -> FairQueue[str, tuple[int, int]]:
    """Return a queue that holds (number, cost) of each line."""
    queue: FairQueue[str, tuple[int, int]] = FairQueue()
    for source, costs in lines.items():
        for number, cost in enumerate(costs):
            queue.add(source, (number, cost), SHARE)
    return queue


def taken(queue: FairQueue[str, tuple[int, int]]) -> list[tuple[str, int, int]]:
    """Take everything out, and pay for it. Return (line, number, cost)."""
    found = []
    while queue:
        source, (number, cost) = queue.take(SHARE)
        queue.charge(source, cost)
        found.append((source, number, cost))
    return found


@settings(max_examples=200, deadline=None)
@given(lines=costs_of_lines)
def test_everything_comes_out_once_and_each_line_in_its_order(lines: Costs) -> None:
    """Nothing is lost, doubled or overtaken by what came later on the same connection."""
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for source, number, cost in taken(filled(lines)):
        found[source].append((number, cost))

    assert found == {source: list(enumerate(costs)) for source, costs in lines.items()}


@settings(max_examples=200, deadline=None)
@given(lines=costs_of_lines)
def test_no_line_gets_ahead_of_another_by_more_than_a_share_and_an_item(lines: Costs) -> None:
    """While two lines both have something, the work done for them differs by one share and one item at most."""
    order = taken(filled(lines))
    ends = {
        source: max(i for i, (of, _, _) in enumerate(order) if of == source) for source in lines
    }
    done = dict.fromkeys(lines, 0)
    for position, (source, _, cost) in enumerate(order):
        done[source] += cost
        there = [done[of] for of in lines if ends[of] > position]
        if len(there) > 1:
            assert max(there) - min(there) <= SHARE + 2 * 35


def test_one_small_item_waits_for_one_share_of_each_other_line() -> None:
    """However much a neighbour has sent before."""
    queue = filled({"flood": [1] * 1_000})
    queue.add("one", (0, 1), SHARE)

    assert [source for source, _, _ in taken(queue)].index("one") == SHARE


def test_what_an_item_costs_is_paid_before_the_next() -> None:
    """A line with items of five shares gets one of them while a line of small ones gets five shares of those."""
    queue = filled({"big": [5 * SHARE] * 2, "small": [1] * 200})
    order = [source for source, _, _ in taken(queue)]
    first, second = (i for i, source in enumerate(order) if source == "big")

    assert (first, second - first - 1) == (0, 5 * SHARE)


def test_a_line_that_was_empty_owes_nothing() -> None:
    """Who asks for one thing at a time never waits for what it asked before."""
    queue = filled({"seldom": [100 * SHARE]})
    order = [queue.take(SHARE)[0]]
    queue.charge("seldom", 100 * SHARE)
    queue.add("seldom", (1, 1), SHARE)
    queue.add("other", (0, 1), SHARE)
    order += [source for source, _, _ in taken(queue)]

    assert order == ["seldom", "seldom", "other"]


def test_a_line_can_be_dropped() -> None:
    """A connection is gone: its items are given back, the others stay, and so does who is next."""
    queue = filled({"a": [1], "b": [1, 2], "c": [1]})
    dropped = queue.drop("b"), queue.drop("b"), queue.drop("nobody")

    assert (dropped, len(queue), queue.heads(), [s for s, _, _ in taken(queue)]) == (
        ([(0, 1), (1, 2)], [], []),
        2,
        [(0, 1), (0, 1)],
        ["a", "c"],
    )


def test_nothing_can_be_taken_out_of_an_empty_queue() -> None:
    """It is asked with `len` before."""
    with pytest.raises(IndexError):
        filled({}).take(SHARE)
