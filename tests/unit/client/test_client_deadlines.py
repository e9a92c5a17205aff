"""How long a client believes in a lock (guarantee 10): deadlines, renewals, and what happens at the end."""

import pytest

from raftlock.client.handles import HandleState, margin_us
from raftlock_wire.messages import Op
from raftlock_wire.status import Status
from tests.unit.client.scripted import (
    SECOND,
    SESSION_MARGIN_US,
    SESSION_TTL_US,
    START_US,
    Scripted,
)


@pytest.mark.parametrize(
    ("ttl_us", "margin"),
    [(100_000, 6_000), (10 * SECOND, 105_000), (86_400 * SECOND, 864 * SECOND + 5_000)],
)
def test_the_margin_is_one_percent_and_five_ms(ttl_us: int, margin: int) -> None:
    """Clocks may differ in rate by 1 %; 5 ms more are taken off (guarantee 10)."""
    assert margin_us(ttl_us) == margin


def test_an_own_lease_counts_from_the_sending_of_its_acquire() -> None:
    """Not from the answer: the server's lease may have begun as soon as the request was sent."""
    client = Scripted()
    client.hold(resource="warm")
    wanted = client.want(ttl_ms=1_000)
    client.wait(300_000)

    client.answer(client.take(Op.ACQUIRE), Status.OK, 0, 101, 2)

    assert client.deadline(wanted.handle) == 1_000_000 - 15_000


def test_a_retried_acquire_counts_from_its_first_attempt() -> None:
    """A retry gets the recorded outcome, which re-arms nothing (guarantee 10)."""
    client = Scripted()
    client.hold(resource="warm")
    wanted = client.want(ttl_ms=5_000)
    client.wait(SECOND)
    client.answer(client.take(Op.ACQUIRE), Status.UNKNOWN)
    client.wait(10_000)

    client.answer(client.take(Op.ACQUIRE), Status.OK, 0, 101, 2)

    assert client.deadline(wanted.handle) == 5 * SECOND - 55_000


def test_after_a_retried_acquire_it_renews_at_once() -> None:
    """The deadline of a retried acquire may be near, so that the renewal does not wait for a third of the ttl."""
    client = Scripted()
    client.hold(resource="warm")
    client.want(ttl_ms=5_000)
    client.answer(client.take(Op.ACQUIRE), Status.NO_QUORUM, "no leader")
    client.wait(10_000)
    client.answer(client.take(Op.ACQUIRE), Status.OK, 0, 101, 2)

    client.wait(0)

    assert client.take(Op.RENEW)[2] == [("r", 101)]


def test_an_acquire_of_one_attempt_renews_after_a_third_of_its_ttl() -> None:
    """Nothing is sent before a third of the ttl has passed."""
    client = Scripted()
    client.hold(resource="r", ttl_ms=3_000)
    client.wait(999_999)
    before = client.ops()

    client.wait(1)

    assert (before, client.ops()) == ([], [Op.RENEW])


def test_a_recorded_grant_past_its_deadline_is_renewed_before_it_is_believed() -> None:
    """An OK that comes after first + ttl - margin makes a handle only when a renewal says that it is still held."""
    client = Scripted()
    client.hold(resource="warm")
    wanted = client.want(ttl_ms=1_000)
    request = client.take(Op.ACQUIRE)
    client.freeze(985_000)
    client.answer(request, Status.OK, 0, 101, 2)
    believed = wanted.result

    client.answer(client.take(Op.RENEW), Status.OK, ((0, None, 2, 1_000, 999),))

    assert (believed, client.deadline(wanted.handle)) == (None, 985_000 + 985_000)


def test_a_renewal_counts_from_the_attempt_that_was_answered() -> None:
    """A renewal that had to be sent again counts from its second sending."""
    client = Scripted()
    handle = client.hold(ttl_ms=6_000)
    client.wait(2 * SECOND)
    client.answer(client.take(Op.RENEW), Status.UNKNOWN, final=False)
    client.wait(50_000)
    request = client.take(Op.RENEW)
    client.wait(100_000)

    client.answer(request, Status.OK, ((0, None, 5, 6_000, 5_999),))

    assert (client.deadline(handle), handle.rev) == (2_050_000 + 6 * SECOND - 65_000, 5)


def test_an_answer_to_a_renewal_that_was_given_up_extends_nothing() -> None:
    """A late answer belongs to an attempt that nobody counts with any more."""
    client = Scripted()
    handle = client.hold(ttl_ms=6_000)
    client.wait(2 * SECOND)
    first = client.take(Op.RENEW)
    client.wait(SECOND)
    deadline = client.deadline(handle)

    client.answer(first, Status.OK, ((0, None, 5, 6_000, 5_999),))

    assert client.deadline(handle) == deadline


def test_an_older_renewal_takes_nothing_back() -> None:
    """The deadline only grows by renewals."""
    client = Scripted()
    handle = client.hold(ttl_ms=6_000)
    client.wait(2 * SECOND)
    renewal = client.take(Op.RENEW)
    client.wait(100_000)
    client.change(handle, 6_000)
    client.answer(client.take(Op.CHANGE_TTL), Status.OK, 2, 6_000)

    client.answer(renewal, Status.OK, ((0, None, 2, 6_000, 5_900),))

    assert client.deadline(handle) == 2_100_000 + 6 * SECOND - 65_000


@pytest.mark.parametrize("item", [(10,), (9,)], ids=["UNKNOWN", "NO_QUORUM"])
def test_a_renewal_without_an_outcome_is_repeated_soon(item: tuple[int, ...]) -> None:
    """UNKNOWN and NO_QUORUM for one lock say nothing about it: it is renewed again, well before its deadline."""
    client = Scripted()
    handle = client.hold(ttl_ms=3_000)
    client.wait(SECOND)

    client.answer(client.take(Op.RENEW), Status.OK, (item,))
    client.wait(50_000)

    assert (client.ops(), handle.state) == ([Op.RENEW], HandleState.HELD)


def test_many_leases_are_renewed_in_one_request() -> None:
    """Leases that are due together go together; one request holds a thousand."""
    client = Scripted()
    for token in range(1, 1_003):
        client.hold(token, resource=f"r{token}", ttl_ms=3_000)

    client.wait(SECOND)

    assert [len(r[2]) for r in client.sent() if r[0] == Op.RENEW] == [1_000, 2]


def test_a_session_counts_from_the_first_attempt_to_open_it() -> None:
    """The same nonce gets the recorded session, which re-arms nothing (guarantee 10)."""
    client = Scripted()
    wanted = client.want()
    client.wait(SECOND)
    client.answer(client.take(Op.OPEN_SESSION), Status.UNKNOWN)
    client.wait(10_000)
    client.open()

    client.answer(client.take(Op.ACQUIRE), Status.OK, 0, 101, 2)

    assert client.deadline(wanted.handle) == SESSION_TTL_US - SESSION_MARGIN_US


def test_a_session_that_took_two_attempts_is_kept_alive_at_once() -> None:
    """Its deadline is nearer than a ttl, so the keep-alive does not wait for a third of it."""
    client = Scripted()
    client.want()
    client.answer(client.take(Op.OPEN_SESSION), Status.NO_QUORUM, "no leader")
    client.wait(10_000)
    client.open()

    client.wait(0)

    assert Op.KEEP_ALIVE in client.ops()


def test_a_keep_alive_counts_from_the_attempt_that_was_answered() -> None:
    """Every lock in the session then has the session's new deadline."""
    client = Scripted()
    handle = client.hold()
    client.wait(SESSION_TTL_US // 3)
    client.answer(client.take(Op.KEEP_ALIVE), Status.UNKNOWN)
    client.wait(10_000)
    request = client.take(Op.KEEP_ALIVE)
    client.wait(SECOND)

    client.answer(request, Status.OK, 0)

    sent_us = SESSION_TTL_US // 3 + 10_000
    assert client.deadline(handle) == sent_us + SESSION_TTL_US - SESSION_MARGIN_US


def test_a_keep_alive_is_sent_each_third_of_the_ttl() -> None:
    """Counted from the sending of the one before."""
    client = Scripted()
    client.hold()
    times = []
    for _ in range(3):
        client.wait(SESSION_TTL_US // 3)
        client.keep_alive()
        times.append(client.now_us - START_US)

    assert times == [SESSION_TTL_US // 3 * i for i in (1, 2, 3)]


def test_at_its_deadline_a_lock_is_lost_and_released_when_its_body_has_ended() -> None:
    """The body is told at the deadline; until it has ended nobody else is let in by a release (L11, guarantee 10)."""
    client = Scripted()
    handle = client.hold(ttl_ms=1_000)
    client.wait(985_000)
    lost, asked = list(client.lost), Op.RELEASE in client.ops()
    client.core.release(handle, client.now_us)
    released = client.take(Op.RELEASE)[2:]
    client.core.release(handle, client.now_us)

    assert (lost, asked, released, Op.RELEASE in client.ops(), client.core.handles) == (
        [(100, START_US + 985_000)],
        False,
        ("r", 100),
        False,
        [],
    )


def test_a_release_after_the_deadline_is_of_a_lost_lock() -> None:
    """A body that kept the loop busy beyond the deadline releases before any timer ran: it was lost all the same."""
    client = Scripted()
    handle = client.hold(ttl_ms=1_000)
    client.now_us += 2 * SECOND

    client.core.release(handle, client.now_us)

    assert (handle.state, handle.why_lost, len(client.lost), client.take(Op.RELEASE)[2:]) == (
        HandleState.LOST,
        "its deadline passed",
        1,
        ("r", 100),
    )


def test_what_the_server_ended_is_not_released() -> None:
    """A lock that the server says is not held has nothing to release."""
    client = Scripted()
    handle = client.hold(ttl_ms=1_000)
    client.wait(400_000)
    client.answer(client.take(Op.RENEW), Status.OK, ((4, 0),))

    client.core.release(handle, client.now_us)

    assert (handle.why_lost, Op.RELEASE in client.ops()) == (
        "the server says that it is not held",
        False,
    )


def test_a_lock_is_not_lost_before_its_deadline() -> None:
    """A microsecond before, it is held."""
    client = Scripted()
    handle = client.hold(ttl_ms=1_000)

    client.wait(984_999)

    assert (client.lost, handle.state) == ([], HandleState.HELD)


def test_a_client_that_was_frozen_loses_before_it_does_anything_else() -> None:
    """After a wake-up the deadlines are looked at first: no renewal of a lock that is past its deadline is sent."""
    client = Scripted()
    client.hold(ttl_ms=1_000)
    client.freeze(60 * SECOND)

    client.core.tick(client.now_us)

    assert (client.lost, Op.RENEW in client.ops()) == ([(100, START_US + 60 * SECOND)], False)


def test_a_lost_connection_alone_ends_no_lock() -> None:
    """Within its lease an unreachable lock is held; at its deadline it is lost (guarantee 9)."""
    client = Scripted()
    handle = client.hold(ttl_ms=5_000)
    client.disconnect()
    client.wait(4_944_999)
    state = handle.state

    client.wait(1)

    assert (state, handle.state) == (HandleState.HELD, HandleState.LOST)


def test_renewals_are_sent_when_the_connection_is_back() -> None:
    """What came due while there was no connection is sent over the next one."""
    client = Scripted()
    client.hold(ttl_ms=5_000)
    client.disconnect()
    client.wait(3 * SECOND)

    client.connect()

    assert client.take(Op.RENEW)[2] == [("r", 100)]


def test_a_lock_that_the_server_does_not_know_is_lost_without_a_release() -> None:
    """NOT_HELD to a renewal is the end; there is nothing to release."""
    client = Scripted()
    handle = client.hold(ttl_ms=3_000)
    client.wait(SECOND)

    client.answer(client.take(Op.RENEW), Status.OK, ((4, 0),))

    assert (handle.state, handle.why_lost, client.ops()) == (
        HandleState.LOST,
        "the server says that it is not held",
        [],
    )


def test_ending_freezes_the_deadline_of_an_own_lease() -> None:
    """ENDING: the handle lives to the deadline that it has, and is not renewed again."""
    client = Scripted()
    handle = client.hold(ttl_ms=3_000)
    client.wait(SECOND)
    client.answer(client.take(Op.RENEW), Status.OK, ((5, None, 2, 3_000, 2_000),))
    client.wait(1_964_999)
    before = (handle.state, client.ops())

    client.wait(1)

    assert (before, handle.state) == ((HandleState.HELD, []), HandleState.LOST)


def test_a_lock_that_is_left_to_its_ttl_is_not_renewed() -> None:
    """`renews=False`: no renewal, and the loss comes at the deadline of the acquire."""
    client = Scripted()
    handle = client.hold(ttl_ms=3_000, renews=False)
    client.wait(2_964_999)
    before = (handle.state, client.ops())

    client.wait(1)

    assert (before, handle.state) == ((HandleState.HELD, []), HandleState.LOST)


def test_a_renewal_that_is_answered_after_the_release_changes_nothing() -> None:
    """The handle was given back meanwhile."""
    client = Scripted()
    handle = client.hold(ttl_ms=3_000)
    client.wait(SECOND)
    request = client.take(Op.RENEW)
    client.core.release(handle, client.now_us)

    client.answer(request, Status.OK, ((4, 0),))

    assert (handle.state, client.lost) == (HandleState.RELEASED, [])
