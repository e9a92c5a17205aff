"""Deadlines against a twin that keeps a dict and looks at all of it: never early, late by at most one bucket."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raftlock.server import timers
from raftlock.server.timers import BUCKET_US, Timers

keys = st.integers(0, 2)
spans = st.integers(0, 8 * BUCKET_US) | st.integers(0, 8).map(lambda n: n * BUCKET_US)


class AgainstTwin(RuleBasedStateMachine):
    """Timers and a dict of key to deadline, side by side. The item of a key is its name."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: Timers[str] = Timers()
        self.twin: dict[int, int] = {}
        self.now_us = 0

    @rule(key=keys, span=spans)
    def arm(self, key: int, span: int) -> None:
        """Arm a key, or give it a later deadline."""
        self.twin[key] = max(self.now_us + span, self.twin.get(key, 0))
        self.timers.arm(key, str(key), self.twin[key])

    @rule(key=keys, span=spans)
    def extend(self, key: int, span: int) -> None:
        """Extend; an earlier deadline changes nothing."""
        if key in self.twin:
            self.timers.extend(key, self.now_us + span)
            self.twin[key] = max(self.twin[key], self.now_us + span)

    @rule(key=keys, span=spans)
    def shorten(self, key: int, span: int) -> None:
        """Give a key another deadline, earlier or later."""
        self.twin[key] = self.now_us + span
        self.timers.shorten(key, str(key), self.twin[key])

    @rule(key=keys)
    def disarm(self, key: int) -> None:
        """Disarm a key, armed or not."""
        self.twin.pop(key, None)
        self.timers.disarm(key)

    @rule(span=st.integers(0, 3 * BUCKET_US), count_max=st.integers(1, 4))
    def time_passes(self, span: int, count_max: int) -> None:
        """Take what is due, a few at a time as a turn does, until nothing is."""
        self.now_us += span
        due: list[tuple[int, str]] = []
        while found := self.timers.due(self.now_us, count_max):
            assert len(found) <= count_max
            due += found
        for key, item in due:
            assert (self.twin.pop(key) <= self.now_us, item) == (True, str(key))
        # What is left is not due, or has been for less than a bucket.
        assert all(deadline_us > self.now_us - BUCKET_US for deadline_us in self.twin.values())

    @precondition(lambda self: self.twin)
    @rule()
    def wake(self) -> None:
        """The wake-up is never later than a bucket after the first deadline."""
        wake_us = self.timers.next_us()
        assert wake_us is not None
        assert wake_us <= min(self.twin.values()) + BUCKET_US

    @rule()
    def tidy(self) -> None:
        """Tidying changes nothing that is armed."""
        self.timers.tidy()

    @invariant()
    def the_same_keys_are_armed(self) -> None:
        """Both know the same deadlines."""
        assert self.timers.deadlines == self.twin

    @invariant()
    def the_dead_are_counted(self) -> None:
        """What lies in the buckets beyond one entry for each armed key is what `dead` says."""
        buckets = self.timers._buckets
        assert self.timers.dead == sum(map(len, buckets.values())) - len(self.twin)
        assert all(any(key in bucket for bucket in buckets.values()) for key in self.twin)


class Tidying(AgainstTwin):
    """The same with passes of `tidy` that begin at once and look at one bucket a call."""

    def __init__(self) -> None:
        super().__init__()
        self._before = (timers.DEAD_ALLOWED, timers.TIDY_SLICE)
        timers.DEAD_ALLOWED, timers.TIDY_SLICE = -100, 1

    def teardown(self) -> None:
        """Put the bounds back."""
        timers.DEAD_ALLOWED, timers.TIDY_SLICE = self._before


TestAgainstTwin: Any = AgainstTwin.TestCase
TestAgainstTwin.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)
TestTidying: Any = Tidying.TestCase
TestTidying.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)


@pytest.mark.parametrize("again", [False, True])
def test_the_dead_never_outnumber_the_living_by_much(
    again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that are armed, extended for long and disarmed for ever leave a bounded number of entries."""
    monkeypatch.setattr(timers, "DEAD_ALLOWED", 50)
    monkeypatch.setattr(timers, "TIDY_SLICE", 20)
    some: Timers[int] = Timers()
    most = 0
    for turn in range(4_000):
        now_us = turn * 1_000
        # A client that renews and changes the ttl of one lease again and again, or one of many leases.
        key = 0 if again else turn
        some.shorten(key, key, now_us + 1_000 * BUCKET_US)
        some.extend(key, now_us + 2_000 * BUCKET_US)
        some.disarm(turn - 10)
        some.due(now_us, 100)
        some.tidy()
        most = max(most, sum(map(len, some._buckets.values())))

    assert most <= 100 + 50


def test_clear_forgets_everything() -> None:
    """What a leader knew is gone when it leads no more (L1)."""
    some: Timers[str] = Timers()
    some.arm(1, "a", 5)

    some.clear()

    assert (len(some), some.next_us(), some.due(10**9, 9), list(some.keys())) == (0, None, [], [])
