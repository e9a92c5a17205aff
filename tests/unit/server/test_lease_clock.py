"""The lease clock against what it is defined as: elapsed time without gaps longer than 50 ms (L7)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftlock.server.lease_clock import STALL_US, LeaseClock
from raftlock_wire.invariant import InvariantViolation

gaps_of = st.lists(
    st.integers(0, 100_000) | st.sampled_from([STALL_US, STALL_US + 1, 10**9]), max_size=30
)


@given(start=st.integers(0, 10**12), gaps=gaps_of)
def test_it_is_the_sum_of_the_short_gaps(start: int, gaps: list[int]) -> None:
    """A turn that took longer than 50 ms does not count at all; the longest is kept for the metric."""
    clock = LeaseClock()
    clock.read(start)
    now_us, stamps = start, []
    for gap in gaps:
        now_us += gap
        stamps.append(clock.read(now_us))

    expected = [sum(g for g in gaps[: i + 1] if g <= STALL_US) for i in range(len(gaps))]
    assert (stamps, clock.longest_gap_us) == (expected, max(gaps, default=0))


@pytest.mark.parametrize("own_us", [0, 40_000])
def test_a_new_leader_goes_on_from_the_log(own_us: int) -> None:
    """Also when its own clock is ahead: a lease of the logged class would end early by the difference."""
    clock = LeaseClock()
    clock.read(0)
    clock.read(own_us)

    stamp_us = clock.continue_from(20_000)

    assert (stamp_us, clock.read(own_us + 7), clock.stamp_us) == (20_000, 20_007, 20_007)


def test_the_machines_clock_does_not_go_back() -> None:
    """A monotonic clock that does is broken, and every deadline with it."""
    clock = LeaseClock()
    clock.read(5)

    with pytest.raises(InvariantViolation, match="does not go back"):
        clock.read(4)
