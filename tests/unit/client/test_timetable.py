"""What is due, and the free slots: against the plain way to find them."""

import random

from hypothesis import given
from hypothesis import strategies as st

from raftlock.client.slots import Slots
from raftlock.client.timetable import DEAD_MIN, Timetable
from raftlock_wire.limits import SLOTS_MAX
from tests.unit.client.scripted import Wanted

THINGS = 3
KEEP = st.tuples(st.just("keep"), st.integers(0, THINGS - 1), st.none() | st.integers(0, 5))
DROP = st.tuples(st.just("drop"), st.integers(0, THINGS - 1), st.none())
TAKE = st.tuples(st.just("take"), st.integers(0, 5), st.none())


class Plain:
    """A timetable that looks at everything every time."""

    def __init__(self) -> None:
        self.times: dict[int, int | None] = {}

    def take_due(self, now_us: int) -> list[int]:
        due = [t for t, at in self.times.items() if at is not None and at <= now_us]
        self.times.update(dict.fromkeys(due))
        return due

    def next_us(self) -> int | None:
        return min((at for at in self.times.values() if at is not None), default=None)


@given(steps=st.lists(KEEP | DROP | TAKE, max_size=60))
def test_a_timetable_says_what_looking_at_everything_says(
    steps: list[tuple[str, int, int | None]],
) -> None:
    """After any steps the earliest time is the same, and what is due comes in the same order."""
    table: Timetable[int] = Timetable()
    plain = Plain()
    said, expected = [], []
    for what, thing, at in steps:
        if what == "keep":
            table.keep(thing, at)
            plain.times[thing] = at
        elif what == "drop":
            table.drop(thing)
            plain.times.pop(thing, None)
        else:
            said.append(table.take_due(thing))
            expected.append(plain.take_due(thing))
        said.append([table.next_us(), len(table)])
        expected.append([plain.next_us(), len(plain.times)])

    assert said == expected


def test_what_was_kept_once_and_let_go_leaves_no_more_than_the_living() -> None:
    """Of a hundred thousand locks that came and went, most long before their time, hardly a trace is left."""
    table: Timetable[int] = Timetable()
    rng = random.Random(1)
    most = 0
    for thing in range(100_000):
        table.keep(thing, rng.randrange(10**9))
        table.drop(thing - 10)
        most = max(most, table.heap_size)

    assert (len(table), most <= 2 * 11 + DEAD_MIN) == (10, True)


@given(moves=st.lists(st.just(-1) | st.integers(0, 5), min_size=10, max_size=80))
def test_the_lowest_free_slot_is_taken_with_its_next_n(moves: list[int]) -> None:
    """-1 takes a slot, another number gives one back: the slot and n are those that a search from 0 finds."""
    slots = Slots()
    plain: dict[int, Wanted] = {}
    last_n: dict[int, int] = {}
    said, expected = [], []
    for move in moves:
        if move < 0:
            wanted = Wanted(0)
            slot = next(s for s in range(SLOTS_MAX) if s not in plain)
            plain[slot] = wanted
            last_n[slot] = last_n.get(slot, 0) + 1
            said.append(slots.take(wanted.acquire))
            expected.append((slot, last_n[slot]))
        elif move in plain:
            slots.give_back(move, plain.pop(move).acquire)

    assert (said, slots.acquires) == (expected, [w.acquire for w in plain.values()])


def test_a_slot_is_given_back_by_the_acquire_in_it_only_and_all_may_be_taken() -> None:
    """One that comes late, after its slot went to another, takes nothing from it."""
    slots = Slots()
    first, second = Wanted(0).acquire, Wanted(0).acquire
    slots.take(first)
    slots.give_back(0, first)
    slots.take(second)
    slots.give_back(0, first)
    rest = [slots.take(Wanted(0).acquire) for _ in range(SLOTS_MAX)]

    assert (slots.get(0), rest[:2], rest[-2:]) == (
        second,
        [(1, 1), (2, 1)],
        [(SLOTS_MAX - 1, 1), None],
    )
