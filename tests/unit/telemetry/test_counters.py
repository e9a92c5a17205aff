"""The core's counters: the quick way counts as the slow one does, and a histogram as its dumb twin."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from raftlock.telemetry.counters import LARGE_GROUP, SAMPLES_MAX, Counters
from raftlock.telemetry.histogram import DURATION_US, Histogram
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

ACQUIRE: tuple[Any, ...] = (int(Op.ACQUIRE), 1, 1, 0, 1, "r", "o", 1_000, 0, None)
RELEASE: tuple[Any, ...] = (int(Op.RELEASE), 1, "r", 5)
PAIR = st.tuples(
    st.sampled_from([ACQUIRE, RELEASE]), st.sampled_from([Status.OK] * 8 + list(Status))
)


@given(
    st.lists(PAIR, min_size=1, max_size=40)
    | st.lists(
        st.tuples(st.sampled_from([ACQUIRE, RELEASE]), st.just(Status.OK)), min_size=LARGE_GROUP
    ),
    st.text(),
    st.text(),
)
def test_plain_groups_are_counted_like_all_others(
    pairs: list[tuple[Any, Status]], principal: str, address: str
) -> None:
    """The short way for acquires and releases gives what the loop over single answers gives."""
    group = (principal, address, *(request for request, _ in pairs))
    answers = [(1, int(status), True) for _, status in pairs]
    quick, slow = Counters(), Counters()

    quick.plain_group(group, answers)
    slow.group(group, answers)

    assert quick.operations == slow.operations


def test_operations_are_named_by_operation_and_status() -> None:
    """What was never answered is left out; the rest has the names of protocol and contract."""
    counters = Counters()

    counters.operation(int(Op.RENEW), int(Status.NOT_HELD))
    counters.operation(int(Op.GET), int(Status.OK))
    counters.operation(int(Op.GET), int(Status.OK))

    assert counters.by_operation() == {("renew", "not_held"): 1, ("get", "ok"): 2}


def test_refusals_have_their_reasons() -> None:
    """Each attempt that was not taken counts under why."""
    counters = Counters()

    counters.refused(
        [
            (1, int(Status.OVERLOADED), False, 50, "queue"),
            (1, int(Status.OVERLOADED), False, 50, "disk"),
            (1, int(Status.NO_QUORUM), False, "no leader is known"),
            (1, int(Status.BAD_REQUEST), False, "ttl_ms", "wrong"),
            (1, int(Status.QUOTA_EXCEEDED), False, "more than 4096 sessions"),
        ]
    )

    assert counters.refusals == {
        "bad_request": 1, "queue": 1, "disk": 1, "no_leader": 1, "sessions": 1, "bad_frame": 0,
    }  # fmt: skip


def test_a_batch_is_timed_from_its_first_request_to_its_answers() -> None:
    """One sample a batch: from the turn of the first request to the end of the turn that answered."""
    counters = Counters()

    counters.now_us = 1_000
    counters.request_came()
    counters.now_us = 1_400
    counters.request_came()
    counters.proposed(7, 2, 100)
    counters.request_came()
    counters.applied(6)
    counters.applied(7)
    counters.turn_ended(2_500)
    counters.turn_ended(9_999)

    assert (counters.log_requests.count, counters.log_requests.total) == (1, 1_500)
    assert (counters.batch_requests.total, counters.batch_bytes.total) == (2, 100)


def test_a_lost_leadership_times_nothing() -> None:
    """Batches and rounds that were given up are no samples, also when their index is applied later by another leader."""
    counters = Counters()

    counters.request_came()
    counters.proposed(7, 1, 10)
    counters.round_began(3)
    counters.gave_up()
    counters.applied(7)
    counters.round_confirmed(3)
    counters.turn_ended(500)

    assert (counters.log_requests.count, counters.rounds.count) == (0, 0)


def test_a_round_is_timed_until_it_is_confirmed() -> None:
    """Confirming an earlier round does not end a later one."""
    counters = Counters()

    counters.now_us = 100
    counters.round_began(5)
    counters.now_us = 200
    counters.round_confirmed(4)
    counters.now_us = 350
    counters.round_confirmed(6)

    assert (counters.rounds.count, counters.rounds.total) == (1, 250)


def test_samples_are_bounded_when_nobody_times_them() -> None:
    """A wiring that never looks (the simulator) does not make the core grow."""
    counters = Counters()

    for index in range(2 * SAMPLES_MAX):
        counters.request_came()
        counters.proposed(index, 1, 1)
        counters.applied(index)

    assert len(counters.answered_since) == SAMPLES_MAX


@given(st.lists(st.integers(0, 20_000_000)))
def test_a_histogram_counts_what_is_at_most_each_bound(values: list[int]) -> None:
    """Cumulative counts are those of a look at every value."""
    histogram = Histogram(DURATION_US)

    for value in values:
        histogram.observe(value)

    assert histogram.cumulative(1e-6) == [
        *(
            (f"{bound / 1e6:.10g}", sum(value <= bound for value in values))
            for bound in DURATION_US
        ),
        ("+Inf", len(values)),
    ]
    assert (histogram.count, histogram.total) == (len(values), sum(values))
