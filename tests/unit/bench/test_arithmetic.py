"""The arithmetic of the figures, without a cluster."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.arithmetic import Schedule, Served, Zipf, jain, latency_summary, overtaken

SECONDS = st.floats(min_value=1e-6, max_value=500.0)


# latencies


def test_summary_of_known_latencies() -> None:
    """Of 1 to 1,000 ms the percentiles are what anyone would say, to three digits, and the maximum is exact."""
    summary = latency_summary([i / 1_000 for i in range(1, 1_001)])

    assert {key: round(value) for key, value in summary.items()} == {
        "count": 1_000,
        "mean_ms": round(500.5),
        "p50_ms": 500,
        "p90_ms": 900,
        "p99_ms": 990,
        "p99_9_ms": 999,
        "max_ms": 1_000,
    }


def test_summary_of_nothing() -> None:
    """A run without answers has zeros, and says that it counted none."""
    assert latency_summary([]) == dict.fromkeys(
        ("p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "mean_ms", "max_ms", "count"), 0
    )


@given(st.lists(SECONDS, min_size=1, max_size=200))
def test_summary_against_sorting(latencies: list[float]) -> None:
    """Each percentile is the latency at the nearest rank, to 0.2 % and two microseconds."""
    summary = latency_summary(latencies)
    ordered = sorted(latencies)

    for key, percent in (("p50_ms", 50.0), ("p90_ms", 90.0), ("p99_ms", 99.0)):
        rank = max(1, int(len(ordered) * percent / 100 + 0.5))
        exact_ms = ordered[rank - 1] * 1e3
        assert summary[key] == pytest.approx(exact_ms, rel=0.002, abs=0.0021)
    assert summary["max_ms"] == pytest.approx(ordered[-1] * 1e3, abs=0.001)


# the open loop's schedule


def test_schedule_gives_each_operation_once_and_none_early() -> None:
    """At 10 a second from time 100, after 0.25 s three are due, and after another 0.1 s the fourth."""
    schedule = Schedule(10.0, 100.0)

    due = [list(schedule.due(now)) for now in (100.0, 100.25, 100.25, 100.35)]

    assert due == [[0], [1, 2], [], [3]]


def test_schedule_does_not_wait_for_a_stalled_pacer() -> None:
    """After a stall of a second all of its operations are due at once, each with its own time: nothing is omitted."""
    schedule = Schedule(1_000.0, 0.0)
    schedule.due(0.0)

    due = schedule.due(1.0)

    assert (len(due), schedule.time_of(due[0]), schedule.time_of(due[-1])) == (1_000, 0.001, 1.0)


def test_coordinated_omission_is_counted() -> None:
    """A server that stands still for a second at 1,000/s shows half a second in the median of that second's operations.

    A closed loop would have seen one slow operation, and a median of nothing.
    """
    schedule = Schedule(1_000.0, 0.0)
    intended = [schedule.time_of(number) for number in schedule.due(0.999)]

    summary = latency_summary(1.0 - at for at in intended)

    figures = [round(summary[key], -1) for key in ("count", "p50_ms", "p99_ms", "max_ms")]
    assert figures == [1_000, 500, 990, 1_000]


@given(
    rate=st.floats(min_value=0.5, max_value=100_000.0),
    steps=st.lists(st.floats(min_value=0.0, max_value=0.5), max_size=30),
)
def test_schedule_against_its_definition(rate: float, steps: list[float]) -> None:
    """However the pacer looks, numbers come in order, each once, none before its time and none left behind."""
    schedule, now, numbers = Schedule(rate, 50.0), 50.0, [-1]
    for step in steps:
        now += step
        numbers += schedule.due(now)

    assert numbers == list(range(-1, len(numbers) - 1))
    assert schedule.time_of(numbers[-1]) <= now + 1e-6
    if steps:
        assert schedule.time_of(numbers[-1] + 1) > now - 1e-6


# fairness and order


@pytest.mark.parametrize(
    ("shares", "index"),
    [([7, 7, 7, 7], 1.0), ([4, 0, 0, 0], 0.25), ([2, 1], 0.9), ([0, 0], 1.0)],
)
def test_jain(shares: list[float], index: float) -> None:
    """Equal shares have index 1; one client with everything has 1/n; 2 and 1 have 9/10."""
    assert jain(shares) == pytest.approx(index)


def test_concurrent_acquires_may_be_served_in_any_order() -> None:
    """Two acquires in flight together overtake nobody, whoever is first."""
    a, b = Served(1, sent_at=0.0, queued_at=2.0), Served(2, sent_at=1.0, queued_at=3.0)

    assert [overtaken([a, b]), overtaken([a._replace(token=3), b])] == [0, 0]


def test_overtaking_is_seen() -> None:
    """One that was known to be queued before another was sent, and was served after it, was overtaken."""
    first = Served(9, sent_at=0.0, queued_at=1.0)
    second = Served(8, sent_at=2.0, queued_at=3.0)

    assert overtaken([first, second]) == 1


@given(st.lists(st.tuples(SECONDS, SECONDS), max_size=30), st.randoms())
def test_overtaken_against_all_pairs(times: list[tuple[float, float]], rng: random.Random) -> None:
    """It counts the acquires for which some pair breaks the order."""
    tokens = rng.sample(range(1_000), len(times))
    served = [Served(t, a, a + b) for t, (a, b) in zip(tokens, times, strict=True)]

    expected = sum(
        any(o.token < s.token and s.queued_at < o.sent_at for o in served) for s in served
    )
    assert overtaken(served) == expected


# skew


def test_zipf_draws_as_often_as_its_law_says() -> None:
    """Over 50,000 draws each of the first numbers comes as often as 1/rank says, within a tenth."""
    zipf = Zipf(1_000, 1.0, random.Random(4))
    counts = [0] * 1_000
    for _ in range(50_000):
        counts[zipf.draw()] += 1

    harmonic = sum(1 / k for k in range(1, 1_001))
    for number in range(4):
        expected = 50_000 / (number + 1) / harmonic
        assert counts[number] == pytest.approx(expected, rel=0.1)
        assert zipf.share(number) == pytest.approx(1 / (number + 1) / harmonic)


@given(count=st.integers(1, 50), exponent=st.floats(0.1, 3.0), seed=st.integers(0, 99))
def test_zipf_stays_within_its_numbers(count: int, exponent: float, seed: int) -> None:
    """A draw is one of the numbers, and their shares are all there is."""
    zipf = Zipf(count, exponent, random.Random(seed))

    assert all(0 <= zipf.draw() < count for _ in range(50))
    assert sum(zipf.share(number) for number in range(count)) == pytest.approx(1.0)
