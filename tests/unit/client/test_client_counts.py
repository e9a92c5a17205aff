"""A client's session: counts and gaps (L9), letting go (L11), cancelling (R3, R4), and what hides behind an end (R9)."""

import pytest

from raftlock.client.handles import HandleState
from raftlock_wire.messages import Event, GrantState, ListBy, Op
from raftlock_wire.status import Status
from tests.unit.client.scripted import SECOND, SESSION, SESSION_TTL_US, Scripted, info

THIRD = SESSION_TTL_US // 3 + 1


def listed(client: Scripted, *infos: tuple[object, ...]) -> None:
    """Answer the list of the session that is under way."""
    request = client.take(Op.LIST)
    assert (request[2], request[3]) == (ListBy.SESSION, SESSION)
    client.answer(request, Status.OK, 0, infos, "")


# counts (L9)


def test_a_gap_is_listed_before_anything_is_extended() -> None:
    """A keep-alive whose count is not `seen` extends nothing until the list is there (L9)."""
    client = Scripted()
    handle = client.hold(100)
    before = client.deadline(handle)
    client.wait(THIRD)
    client.keep_alive(count=1)
    unextended = client.deadline(handle)
    listed(client, info(token=100))

    assert (unextended, client.deadline(handle) > before, client.lost) == (before, True, [])


def test_a_handle_that_is_not_in_the_list_is_lost() -> None:
    """What others did to the session while nobody heard is found by the list (L9)."""
    client = Scripted()
    kept, gone = client.hold(100), client.hold(101, resource="s")
    client.wait(THIRD)
    client.keep_alive(count=1)
    listed(client, info(token=100))

    assert (kept.state, gone.state) == (HandleState.HELD, HandleState.LOST)


def test_a_handle_that_came_after_the_list_was_sent_is_not_lost_by_it() -> None:
    """The list may be older than the grant (L9)."""
    client = Scripted()
    client.hold(100)
    client.wait(THIRD)
    client.keep_alive(count=1)
    request = client.take(Op.LIST)
    late = client.hold(102, count=1, resource="s")
    client.answer(request, Status.OK, 0, (info(token=100),), "")

    assert late.state is HandleState.HELD


def test_a_gap_renews_leases_of_their_own_at_once() -> None:
    """What was missed may have ended a lease of its own: it is asked now, not a third of its ttl later."""
    client = Scripted()
    own = client.hold(100, ttl_ms=300_000)
    client.wait(THIRD)
    client.keep_alive(count=1)
    listed(client)
    client.wait(0)
    client.answer(client.take(Op.RENEW), Status.OK, ((int(Status.NOT_HELD), None, 0, 0, 101),))

    assert (own.state, [token for token, _ in client.lost]) == (HandleState.LOST, [100])


def test_an_ending_lock_in_the_list_keeps_its_deadline_for_good() -> None:
    """An administrator cut it out of the session: it is extended no more (L9)."""
    client = Scripted()
    handle = client.hold(100)
    before = client.deadline(handle)
    client.wait(THIRD)
    client.keep_alive(count=1)
    listed(client, info(token=100, state=GrantState.ENDING))
    client.wait(THIRD)
    client.keep_alive(count=1)

    assert (client.deadline(handle), handle.state) == (before, HandleState.HELD)


def test_each_open_acquire_is_asked_again_after_a_gap() -> None:
    """There or not: its end may be what was missed (L9)."""
    client = Scripted()
    waiting = client.queue()
    client.wait(THIRD)
    client.keep_alive(count=1)
    listed(client, info(token=0, state=GrantState.WAITING))
    client.answer(client.take(Op.ACQUIRE), Status.TIMEOUT, 1)

    assert waiting.status is Status.TIMEOUT


def test_an_event_that_is_the_next_one_is_no_gap() -> None:
    """`seen` moves by exactly one, and the keep-alive that follows needs no list (L9)."""
    client = Scripted()
    handle = client.hold(100)
    client.event(Event.LOST, SESSION, 1, "other", 7)
    client.wait(THIRD)
    client.keep_alive(count=1)

    assert (client.ops(), client.deadline(handle) > SESSION_TTL_US) == ([], True)


@pytest.mark.parametrize("count", [0, 3])
def test_an_event_that_is_not_the_next_one_asks_for_the_count(count: int) -> None:
    """One was missed, or this one is a repetition: a keep-alive tells, at once (L9)."""
    client = Scripted()
    client.hold(100)
    client.ops()
    client.event(Event.LOST, SESSION, count, "other", 7)
    client.wait(0)

    assert client.ops() == [Op.KEEP_ALIVE]


def test_a_grant_with_a_count_below_the_largest_met_makes_no_handle() -> None:
    """It may have been taken away already, by the event that was overtaken: it is asked again (L9)."""
    client = Scripted()
    client.hold(100)
    client.event(Event.LOST, SESSION, 1, "other", 7)
    wanted = client.want(resource="s")
    client.answer(client.take(Op.ACQUIRE), Status.OK, 0, 101, 1)
    none = wanted.result
    client.wait(SECOND)
    client.answer(client.take(Op.ACQUIRE), Status.OK, 1, 101, 1)

    assert (none, wanted.status) == (None, Status.OK)


def test_a_lost_route_is_answered_by_a_keep_alive() -> None:
    """Its count shows what was missed meanwhile (R6)."""
    client = Scripted()
    client.hold(100)
    client.ops()
    client.event(Event.ROUTES_LOST)
    client.wait(0)

    assert client.ops() == [Op.KEEP_ALIVE]


@pytest.mark.parametrize("event", [Event.LOST, Event.CUT])
def test_an_event_about_a_lock_takes_effect_at_once(event: Event) -> None:
    """LOST ends its handle; CUT leaves it until its deadline (L9)."""
    client = Scripted()
    handle = client.hold(100)
    deadline_us = client.deadline(handle)
    client.event(event, SESSION, 1, "r", 100)
    state = handle.state
    client.wait(THIRD)
    client.keep_alive(count=1)

    assert (state, client.deadline(handle) if event is Event.CUT else deadline_us) == (
        HandleState.LOST if event is Event.LOST else HandleState.HELD,
        deadline_us,
    )


# letting go (L11)


def test_a_session_whose_locks_were_lost_is_closed_and_another_opened() -> None:
    """At its deadline: kept alive no more, closed until that is answered, and a new one for the next lock (L11)."""
    client = Scripted()
    handle = client.hold(100)
    client.wait(SESSION_TTL_US)
    ops = client.ops()
    wanted = client.want(resource="s")
    client.open(SESSION + 1)
    client.answer(client.take(Op.ACQUIRE), Status.OK, 0, 200, 1)

    assert (handle.state, Op.CLOSE_SESSION in ops, wanted.handle.session) == (
        HandleState.LOST,
        True,
        SESSION + 1,
    )


def test_a_session_that_was_let_go_is_not_kept_alive() -> None:
    """Its locks must come to those who wait, also when nobody answers the close (L11)."""
    client = Scripted()
    client.hold(100)
    client.wait(SESSION_TTL_US)
    client.ops()
    client.wait(2 * SESSION_TTL_US)

    assert [r for r in client.sent() if r[0] == Op.KEEP_ALIVE and r[2] == SESSION] == []


# cancelling (R3, R4)


def test_after_a_cancel_was_sent_no_answer_to_the_acquire_makes_a_handle() -> None:
    """Only the cancel's answer counts (R3)."""
    client = Scripted()
    wanted = client.want()
    client.open()
    acquire = client.take(Op.ACQUIRE)
    wanted.acquire.give_up(client.now_us)
    client.answer(acquire, Status.OK, 0, 100, 1)
    none = wanted.result
    client.answer(client.take(Op.CANCEL), Status.CANCELLED, 0, 2, 100)

    assert (none, wanted.status, client.core.handles) == (None, Status.CANCELLED, [])


def test_a_refusal_of_a_second_attempt_is_cancelled_before_it_is_reported() -> None:
    """The first attempt may yet take effect: the refusal says only that this one was not taken (R4)."""
    client = Scripted()
    wanted = client.want()
    client.open()
    client.answer(client.take(Op.ACQUIRE), Status.UNKNOWN)
    client.wait(SECOND)
    client.answer(client.take(Op.ACQUIRE), Status.FORBIDDEN, "no", final=False)
    none = wanted.result
    client.answer(client.take(Op.CANCEL), Status.CANCELLED, 0, 0, 0)

    assert (none, wanted.result is not None) == (None, True)


def test_a_cancel_is_asked_until_it_is_answered_for_good() -> None:
    """NO_QUORUM and UNKNOWN end nothing (R4, guarantee 7)."""
    client = Scripted()
    wanted = client.queue()
    wanted.acquire.give_up(client.now_us)
    for status in (Status.UNKNOWN, Status.NO_QUORUM):
        client.answer(
            client.take(Op.CANCEL), status, *(["why"] if status is Status.NO_QUORUM else [])
        )
        client.wait(SECOND)
    none = wanted.result
    client.answer(client.take(Op.CANCEL), Status.CANCELLED, 0, 1, 0)

    assert (none, wanted.status) == (None, Status.CANCELLED)


# what hides behind SESSION_EXPIRED (R9)


@pytest.mark.parametrize(
    ("key", "state", "releases"),
    [
        ((SESSION, 0, 1), GrantState.HELD, True),
        ((SESSION, 0, 1), GrantState.OFFERED, True),
        ((SESSION, 0, 2), GrantState.HELD, False),
        ((SESSION + 1, 0, 1), GrantState.HELD, False),
    ],
)
def test_an_acquire_whose_session_expired_looks_for_its_grant(
    key: tuple[int, int, int], state: GrantState, releases: bool
) -> None:
    """Granted under this very key, it is released until answered; under any other it is not its own (R9)."""
    client = Scripted()
    wanted = client.want(ttl_ms=60_000)
    client.open()
    client.answer(client.take(Op.ACQUIRE), Status.SESSION_EXPIRED)
    none = wanted.result
    client.answer(client.take(Op.GET), Status.OK, 0, info(token=100, state=state, key=key))
    released = [r[2:] for r in client.sent() if r[0] == Op.RELEASE]

    assert (none, released) == (None, [("r", 100)] if releases else [])


def test_it_reports_only_when_its_grant_is_released() -> None:
    """Reported before, the caller might see its own lock held by nobody it knows (R9)."""
    client = Scripted()
    wanted = client.want(ttl_ms=60_000)
    client.open()
    client.answer(client.take(Op.ACQUIRE), Status.SESSION_EXPIRED)
    client.answer(client.take(Op.GET), Status.OK, 0, info(token=100))
    none = wanted.result
    client.answer(client.take(Op.RELEASE), Status.OK)

    assert (none, wanted.status) == (None, Status.SESSION_EXPIRED)
