"""Cancel and the ends of waits (R3, R5)."""

import pytest

from raftlock.locks.commands import GRANT, NOTHING, WAITER
from raftlock_wire.messages import Event, Op
from raftlock_wire.status import Status
from tests.unit.locks.kit import ID, Log


def test_a_cancel_that_overtakes_its_acquire_is_what_the_acquire_gets(log: Log) -> None:
    """A cancel of an n that has not arrived records CANCELLED; the late acquire gets that and no lock (R3)."""
    session = log.open()

    answers = [log.cancel(session, n=3), log.acquire(session, "r", n=3)]

    assert (answers, log.token("r"), log.effects) == (
        [
            (ID, Status.CANCELLED, True, 0, NOTHING, 0),
            (ID, Status.CANCELLED, True, 0),
        ],
        0,
        {},
    )


def test_a_cancel_of_a_smaller_n_has_no_effect(log: Log) -> None:
    """The grant of a later acquire is not withdrawn by a late cancel of the one before (R3)."""
    session = log.open()
    log.acquire(session, "r", n=2)

    answer = log.cancel(session, n=1)

    assert (answer, log.token("r"), log.acquire(session, "r", n=2)[1]) == (
        (ID, Status.CANCELLED, True, 0, NOTHING, 0),
        1_001,
        Status.OK,
    )


def test_a_cancel_releases_a_grant(log: Log) -> None:
    """Cancelled after it was granted, a lock is released and the answer names its token."""
    session = log.open()
    log.acquire(session, "r")

    answer = log.cancel(session)

    assert (answer, log.effects, log.counts) == (
        (ID, Status.CANCELLED, True, 0, GRANT, 1_001),
        {"ended": [1_001]},
        (0, 0, 1),
    )


def test_a_cancelled_grant_goes_to_the_next_waiter(log: Log) -> None:
    """A cancel hands on as a release does, in the same step."""
    holder, waiter = log.open(), log.open()
    log.acquire(holder, "r")
    log.queue(waiter, "r")

    log.cancel(holder)

    assert (log.token("r"), log.effects["events"]) == (
        1_002,
        [(0, Event.OFFERED, waiter, 1, 0, 1, "r", 1_002, log.index)],
    )


def test_a_cancel_takes_a_waiter_out_of_its_queue(log: Log) -> None:
    """A cancelled waiter is passed over: the next release serves nobody."""
    holder, waiter = log.open(), log.open()
    log.acquire(holder, "r")
    log.queue(waiter, "r")

    answer, effects = log.cancel(waiter), log.effects
    log.release("r", 1_001)

    assert (answer, effects, log.counts) == (
        (ID, Status.CANCELLED, True, 0, WAITER, 0),
        {"unqueued": [(waiter, 0, 1)]},
        (0, 0, 2),
    )


def test_a_cancel_withdraws_an_offer(log: Log) -> None:
    """An offer that nobody took up is withdrawn like a grant."""
    holder, waiter = log.open(), log.open()
    log.acquire(holder, "r")
    log.queue(waiter, "r")
    log.release("r", 1_001)

    answer = log.cancel(waiter)

    assert (answer, log.token("r")) == ((ID, Status.CANCELLED, True, 1, GRANT, 1_002), 0)


def test_a_repeated_cancel_withdraws_nothing_more(log: Log) -> None:
    """The second cancel of one n finds it cancelled, and leaves a grant of somebody else alone."""
    first, second = log.open(), log.open()
    log.acquire(first, "r")
    log.cancel(first)
    log.acquire(second, "r")

    answer = log.cancel(first)

    assert (answer, log.token("r")) == ((ID, Status.CANCELLED, True, 0, NOTHING, 0), 1_002)


def test_a_cancel_of_a_grant_that_is_over_ends_no_other(log: Log) -> None:
    """The token of the key decides, not its resource: what came after the grant stays."""
    first, second = log.open(), log.open()
    log.acquire(first, "r")
    log.release("r", 1_001)
    log.acquire(second, "r")

    answer = log.cancel(first)

    assert (answer, log.token("r")) == ((ID, Status.CANCELLED, True, 0, NOTHING, 0), 1_002)


def test_a_cancel_of_a_larger_n_takes_the_waiter_before_out(log: Log) -> None:
    """A slot carries one acquire: a cancel of a later n ends the wait of the one that it overtakes."""
    holder, waiter = log.open(), log.open()
    log.acquire(holder, "r")
    log.queue(waiter, "r")

    answer = log.cancel(waiter, n=2)

    assert (answer, log.effects, log.table.waiter_count) == (
        (ID, Status.CANCELLED, True, 0, NOTHING, 0),
        {"unqueued": [(waiter, 0, 1)]},
        0,
    )


@pytest.mark.parametrize("granted", [False, True])
def test_after_a_cancel_the_same_content_gets_cancelled(log: Log, granted: bool) -> None:
    """A repeated acquire of a cancelled key says CANCELLED; with other content it is a bad request still (R2)."""
    holder, other = log.open(), log.open()
    if not granted:
        log.acquire(holder, "r")
    log.queue(other, "r")
    log.cancel(other)

    answers = [log.queue(other, "r"), log.queue(other, "s")]

    assert [a[1] for a in answers] == [Status.CANCELLED, Status.BAD_REQUEST]


def test_a_refusal_can_be_cancelled(log: Log) -> None:
    """A HELD outcome withdraws nothing, and is CANCELLED from then on."""
    holder, other = log.open(), log.open()
    log.acquire(holder, "r")
    log.acquire(other, "r")

    answers = [log.cancel(other), log.acquire(other, "r")]

    assert answers == [
        (ID, Status.CANCELLED, True, 0, NOTHING, 0),
        (ID, Status.CANCELLED, True, 0),
    ]


def test_a_wait_times_out(log: Log) -> None:
    """A WaitTimeout of a waiter ends its wait: an event, a count, and TIMEOUT to a repeated acquire (R5, L9)."""
    holder, waiter = log.open(), log.open()
    log.acquire(holder, "r")
    log.queue(waiter, "r")

    log.do(Op.WAIT_TIMEOUT, waiter, 0, 1)
    effects = log.effects

    assert (effects, log.queue(waiter, "r"), log.table.waiter_count) == (
        {
            "unqueued": [(waiter, 0, 1)],
            "events": [(0, Event.TIMEOUT, waiter, 1, 0, 1)],
        },
        (ID, Status.TIMEOUT, True, 1),
        0,
    )


@pytest.mark.parametrize("ends", ["granted", "cancelled", "replaced", "expired", "nobody"])
def test_a_wait_timeout_that_comes_late_has_no_effect(log: Log, ends: str) -> None:
    """A wait that ended otherwise before the WaitTimeout was applied is not ended by it (R5)."""
    holder, waiter = log.open(), log.open()
    log.acquire(holder, "r")
    if ends != "nobody":
        log.queue(waiter, "r")
    if ends == "granted":
        log.release("r", 1_001)
    elif ends == "cancelled":
        log.cancel(waiter)
    elif ends == "replaced":
        log.acquire(waiter, "r", n=2, wait_ms=9_000)
    elif ends == "expired":
        log.close(waiter)

    log.do(Op.WAIT_TIMEOUT, waiter, 0, 1)

    assert (log.effects, log.table.waiter_count, log.token("r")) == (
        {},
        1 if ends in ("replaced", "expired") else 0,
        1_002 if ends == "granted" else 1_001,
    )
