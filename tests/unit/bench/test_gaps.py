"""The gaps around a fault: what counts, for a client and for all together."""

import pytest

from bench.gaps import Probe, Struck, Witness, gap_ms, summary, timeline
from bench.plot import coarser

STRUCK = Struck(at=100.0, until=110.0)


@pytest.mark.parametrize(
    ("times", "gap"),
    [
        ([99.9, 99.99, 100.25, 110.0], 9_750.0),
        ([99.9, 100.01, 100.51, *(100.6 + i / 10 for i in range(95))], 500.0),
        ([98.0, 99.95, *(100.35 + i / 10 for i in range(97))], 400.0),
    ],
    ids=["the longest, not the first", "an answer that was under way ends no gap", "long before it is not of it"],
)  # fmt: skip
def test_gap_is_the_longest_time_without_a_grant_that_ends_after_the_fault(
    times: list[float], gap: float
) -> None:
    """It begins at the last grant before it, or later; what was over before the fault does not count."""
    assert gap_ms(times, STRUCK) == gap


def test_client_that_is_never_served_again_has_the_whole_time_as_its_gap() -> None:
    """Neither the last grants before the fault nor none at all make its gap look short."""
    assert (gap_ms([99.5, 100.0], STRUCK), gap_ms([], STRUCK)) == (10_000.0, 10_000.0)


def test_summary_counts_each_client_at_each_fault_and_all_together() -> None:
    """One client is back after 100 ms, the other after 2 s: somebody was served after 100 ms."""
    steady = [90 + i / 10 for i in range(201)]
    slow = [90 + i / 10 for i in range(101)] + [102 + i / 10 for i in range(81)]
    probe = Probe([Witness(steady), Witness(slow)], refused=3)

    found = summary(probe, [STRUCK])

    assert {key: found[key] for key in found if key != "timeline"} == {
        "faults": 1,
        "gap_median_ms": 1_050.0,
        "gap_max_ms": 2_000.0,
        "service_gap_median_ms": 100.0,
        "service_gap_max_ms": 100.0,
        "gaps_ms": [[100.0, 2_000.0]],
        "service_gaps_ms": [100.0],
        "grants": 383,
        "refused": 3,
    }


def test_client_that_died_with_its_node_has_no_gap() -> None:
    """It was not there to be served; one that was started after the fault was not there before it."""
    steady = [90 + i / 10 for i in range(201)]
    dead, late = Witness([99.0, 99.5], gone=True), Witness([104.0, 110.0])

    found = summary(Probe([Witness(steady), dead, late]), [STRUCK])

    assert found["gaps_ms"] == [[100.0]]


def test_all_are_served_when_each_living_client_had_a_grant_lately() -> None:
    """One that waits still is enough to go on waiting; a dead one is not waited for."""
    fresh, waiting, dead = Witness([99.9]), Witness([98.0]), Witness([90.0], gone=True)

    seen = [Probe(one).served(100.0) for one in ([fresh, dead], [fresh, waiting], [], [Witness()])]

    assert seen == [True, False, False, False]


def test_timeline_counts_grants_in_bins_around_the_fault() -> None:
    """A bin holds what came from its start on; what is farther away is left out."""
    line = timeline([99.0, 99.995, 100.0, 100.009, 100.01, 104.0], 100.0)

    assert [one for one in line if one[1]] == [(-10, 1), (0, 2), (10, 1)]


def test_picture_of_a_timeline_has_wider_bins() -> None:
    """All grants are in it."""
    assert coarser([[-20, 1], [-10, 2], [0, 3], [10, 4], [20, 5]], 20) == [
        (-20, 3),
        (0, 7),
        (20, 5),
    ]
