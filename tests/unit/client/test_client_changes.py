"""What a client does to a lock that it holds: another ttl (L8), and release."""

from typing import Any

import pytest

from raftlock.client.errors import OutcomeUnknown, Unavailable
from raftlock.client.handles import HandleState
from raftlock_wire.messages import Op
from raftlock_wire.status import Status
from tests.unit.client.scripted import (
    SECOND,
    START_US,
    Scripted,
    info,
)

# L8


def test_a_shorter_ttl_counts_from_its_sending() -> None:
    """The server may apply it at once: the client counts with it before any answer (L8)."""
    client = Scripted()
    handle = client.hold(ttl_ms=60_000)
    client.wait(SECOND)

    client.change(handle, 2_000)

    assert (client.deadline(handle), handle.ttl_us) == (SECOND + 2 * SECOND - 25_000, 2 * SECOND)


def test_a_shorter_ttl_never_extends() -> None:
    """The deadline that the handle has may be nearer than the shorter ttl from now."""
    client = Scripted()
    handle = client.hold(ttl_ms=3_000, renews=False)
    client.wait(2_900_000)

    client.change(handle, 2_000)

    assert client.deadline(handle) == 3 * SECOND - 35_000


def test_a_longer_ttl_counts_when_it_is_answered() -> None:
    """Until then the lock has the ttl that it had; then it counts from the sending of the change."""
    client = Scripted()
    handle = client.hold(ttl_ms=6_000)
    client.wait(SECOND)
    results = client.change(handle, 60_000)
    before = client.deadline(handle)
    client.wait(500_000)

    client.answer(client.take(Op.CHANGE_TTL), Status.OK, 9, 60_000)

    assert (before, client.deadline(handle), handle.rev, handle.ttl_us, len(results)) == (
        6 * SECOND - 65_000,
        SECOND + 60 * SECOND - 605_000,
        9,
        60 * SECOND,
        1,
    )


def test_a_change_that_was_applied_by_an_earlier_attempt_re_arms_nothing() -> None:
    """HELD with the wanted ttl: the retry finds its own change done, at a time that is not known."""
    client = Scripted()
    handle = client.hold(ttl_ms=6_000)
    results = client.change(handle, 60_000)
    client.answer(client.take(Op.CHANGE_TTL), Status.UNKNOWN)
    client.wait(10_000)

    client.answer(client.take(Op.CHANGE_TTL), Status.HELD, 9, 60_000)

    assert (client.deadline(handle), handle.rev, handle.ttl_us, results[0][1]) == (
        6 * SECOND - 65_000,
        9,
        60 * SECOND,
        Status.HELD,
    )


def test_a_change_of_a_lock_that_is_gone_loses_it() -> None:
    """NOT_HELD to a change of ttl is as good as to a renewal."""
    client = Scripted()
    handle = client.hold(ttl_ms=6_000)
    client.change(handle, 2_000)

    client.answer(client.take(Op.CHANGE_TTL), Status.NOT_HELD, 0)

    assert handle.state is HandleState.LOST


def test_a_refused_shorter_ttl_counts_until_the_next_renewal() -> None:
    """The refusal says which ttl the lease has: the deadline is moved by the next renewal, which is asked at once."""
    client = Scripted()
    handle = client.hold(ttl_ms=60_000)
    client.change(handle, 2_000)
    client.answer(client.take(Op.CHANGE_TTL), Status.HELD, 9, 30_000)
    before = client.deadline(handle)

    client.wait(0)
    client.answer(client.take(Op.RENEW), Status.OK, ((0, None, 9, 30_000, 29_000),))

    assert (before, client.deadline(handle)) == (2 * SECOND - 25_000, 30 * SECOND - 305_000)


def test_a_refused_ttl_does_not_outweigh_a_shorter_one_under_way() -> None:
    """Of two changes in flight the shorter counts, whatever becomes of the other (L8)."""
    client = Scripted()
    handle = client.hold(ttl_ms=60_000)
    client.change(handle, 2_000)
    first = client.take(Op.CHANGE_TTL)
    client.change(handle, 1_000)
    client.take(Op.CHANGE_TTL)
    client.answer(first, Status.HELD, 9, 30_000)

    client.wait(0)
    client.answer(client.take(Op.RENEW), Status.OK, ((0, None, 9, 30_000, 29_000),))

    assert client.deadline(handle) == SECOND - 15_000


@pytest.mark.parametrize(("connected", "expected"), [(True, OutcomeUnknown), (False, Unavailable)])
def test_a_change_that_nobody_answers_ends_in_time(connected: bool, expected: type) -> None:
    """It may have been done when it was sent, and was not when no node could be reached."""
    client = Scripted()
    handle = client.hold(ttl_ms=60_000)
    if not connected:
        client.disconnect()
    results = client.change(handle, 2_000)

    client.wait(SECOND)

    assert [type(r) for r in results] == [expected]


# release


def test_a_release_is_asked_until_it_is_answered() -> None:
    """No answer in time: it is sent again (guarantee 7)."""
    client = Scripted()
    handle = client.hold(ttl_ms=60_000)
    results: list[Any] = []
    client.core.release(handle, client.now_us, results.append)
    client.answer(client.take(Op.RELEASE), Status.NO_QUORUM, "no leader")
    client.wait(10_000)
    client.take(Op.RELEASE)
    client.wait(2 * SECOND)

    client.answer(client.take(Op.RELEASE), Status.OK)

    assert [r[1] for r in results] == [Status.OK]


def test_a_release_ends_with_the_lease() -> None:
    """After the lease there is nothing to release; whether it was is not known."""
    client = Scripted()
    handle = client.hold(ttl_ms=3_000)
    results: list[Any] = []
    client.core.release(handle, client.now_us, results.append)
    client.disconnect()

    client.wait(3 * SECOND)

    assert [type(r) for r in results] == [OutcomeUnknown]


def test_a_second_release_does_nothing() -> None:
    """Repeating it is harmless."""
    client = Scripted()
    handle = client.hold(ttl_ms=60_000)
    client.core.release(handle, client.now_us)
    client.answer(client.take(Op.RELEASE), Status.OK)
    results: list[Any] = []

    client.core.release(handle, client.now_us, results.append)
    client.core.release(handle, client.now_us)

    assert (results, client.ops()) == ([None], [])


def test_a_released_lock_is_not_lost() -> None:
    """No callback at what would have been its deadline."""
    client = Scripted()
    handle = client.hold(ttl_ms=1_000)
    client.core.release(handle, client.now_us)

    client.wait(5 * SECOND)

    assert (client.lost, client.core.deadline_us(handle)) == ([], START_US + 985_000)


def test_a_release_by_token_needs_no_handle() -> None:
    """For a lock that another process acquired."""
    client = Scripted()
    results: list[Any] = []
    client.core.release_token("other", 55, client.now_us, client.now_us + SECOND, results.append)

    request = client.take(Op.RELEASE)
    client.answer(request, Status.NOT_HELD, 56)

    assert (request[2:], [r[1] for r in results]) == (("other", 55), [Status.NOT_HELD])


def test_a_get_is_answered_by_its_request_id() -> None:
    """Two requests in flight, answered in the other order."""
    client = Scripted()
    results: list[Any] = []
    for name in ("a", "b"):
        client.core.request(
            lambda i, name=name: (int(Op.GET), i, name, False),  # type: ignore[misc]
            client.now_us,
            client.now_us + SECOND,
            results.append,
        )
    first, second = client.sent()

    client.answer(second, Status.OK, 0, info("b"))
    client.answer(first, Status.OK, 0, info("a"))

    assert [r[4][0] for r in results] == ["b", "a"]
