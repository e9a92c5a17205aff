"""Force-release, both ways, and locks that are cut out of their session (L9)."""

import pytest

from raftlock.locks import RenewalClass
from raftlock_wire.messages import Event, GrantState
from raftlock_wire.status import Status
from tests.unit.locks.kit import ID, Log


@pytest.mark.parametrize("ttl_ms", [0, 1_000])
def test_now_passes_the_lock_on_at_once(log: Log, ttl_ms: int) -> None:
    """The next waiter is offered it, and the session that lost it is told and counts it."""
    holder, waiter = log.open(), log.open()
    log.acquire(holder, "r", ttl_ms=ttl_ms)
    log.queue(waiter, "r")

    answer = log.force("r", 1_001, now=True)

    assert (answer, log.token("r"), [e[1:4] for e in log.effects["events"]]) == (
        (ID, Status.OK, True, True),
        1_002,
        [(Event.OFFERED, waiter, 1), (Event.LOST, holder, 1)],
    )


def test_now_on_a_lock_whose_session_is_gone_tells_nobody(log: Log) -> None:
    """A lease of its own outlives its session: there is nobody to tell when it is ended."""
    session = log.open()
    log.acquire(session, "r")
    log.close(session)

    answer = log.force("r", 1_001, now=True)

    assert (answer, log.effects) == ((ID, Status.OK, True, True), {"ended": [1_001]})


def test_now_ends_a_lease_that_is_ending(log: Log) -> None:
    """An administrator who does not want to wait any more may end it at once."""
    session = log.open()
    log.acquire(session, "r", ttl_ms=0)
    log.force("r", 1_001, now=False)

    log.force("r", 1_001, now=True)

    found = log.table.session(session)
    assert found is not None
    assert (log.token("r"), found.cut, found.locks) == (0, {}, {})


@pytest.mark.parametrize("now", [False, True])
def test_a_token_that_is_over_is_not_held(log: Log, now: bool) -> None:
    """Nothing is ended by a token that is not the current one."""
    session = log.open()
    log.acquire(session, "r")
    log.release("r", 1_001)
    log.acquire(session, "r", n=2)

    answer = log.force("r", 1_001, now=now)

    assert (answer, log.token("r"), log.effects) == ((ID, Status.NOT_HELD, True, 1_002), 1_002, {})


def test_at_expiry_refuses_renewals_of_an_own_lease(log: Log) -> None:
    """The lease keeps its rev, ttl and stamp and is renewed no more; its session is not told: nothing ended."""
    log.acquire(log.open(), "r")

    answer = log.force("r", 1_001, now=False)

    grant = log.table.lookup("r")
    assert grant is not None
    assert (answer, grant.state, grant.rev, grant.ttl_ms, grant.cut) == (
        (ID, Status.OK, True, False),
        GrantState.ENDING,
        3,
        1_000,
        False,
    )
    assert (log.effects, log.table.renewal_class("r", 1_001)) == (
        {"granted": [("r", 1_001, 3)]},
        RenewalClass.ENDING,
    )


def test_at_expiry_cuts_a_lock_out_of_its_session(log: Log) -> None:
    """It gets an unrenewable lease of the session's ttl, and the session is told and counts it (L9)."""
    session = log.open(ttl_ms=120_000)
    log.acquire(session, "r", ttl_ms=0)

    log.force("r", 1_001, now=False)

    grant, found = log.table.lookup("r"), log.table.session(session)
    assert grant is not None
    assert found is not None
    assert (grant.ttl_ms, grant.cut, found.locks, found.cut, found.count) == (
        120_000,
        True,
        {},
        {1_001: "r"},
        1,
    )
    assert (log.effects["events"], log.table.needs_clock, log.table.renewal_answer("r", 1_001)) == (
        [(0, Event.CUT, session, 1, "r", 1_001)],
        False,
        (Status.ENDING, 1, 3, 120_000, -1),
    )


def test_a_cut_lock_outlives_its_session(log: Log) -> None:
    """Once cut out it ends by its own lease only: closing the session does not pass it on (L9)."""
    session = log.open()
    log.acquire(session, "r", ttl_ms=0)
    log.force("r", 1_001, now=False)

    log.close(session)
    held = log.token("r")
    log.expire("r", 1_001, 3)

    assert (held, log.token("r"), log.effects) == (1_001, 0, {"ended": [1_001]})


def test_a_cut_lock_that_expires_counts_as_lost(log: Log) -> None:
    """The end of a lock that was cut out is what others did to the session (L9)."""
    session = log.open()
    log.acquire(session, "r", ttl_ms=0)
    log.force("r", 1_001, now=False)

    log.expire("r", 1_001, 3)

    found = log.table.session(session)
    assert found is not None
    assert (log.effects["events"], found.cut) == (
        [(0, Event.LOST, session, 2, "r", 1_001)],
        {},
    )


@pytest.mark.parametrize("ttl_ms", [0, 1_000])
def test_at_expiry_on_an_offer_only_refuses_to_let_it_be_taken_up(log: Log, ttl_ms: int) -> None:
    """It keeps its time and is not cut out of anything (L9)."""
    holder, waiter = log.open(), log.open()
    log.acquire(holder, "r")
    log.queue(waiter, "r", ttl_ms=ttl_ms)
    log.release("r", 1_001)

    log.force("r", 1_002, now=False)
    answer = log.renew("r", 1_002)

    grant = log.table.lookup("r")
    assert grant is not None
    assert (answer[0], grant.state, grant.offer, grant.cut, grant.ttl_ms) == (
        Status.ENDING,
        GrantState.ENDING,
        True,
        False,
        ttl_ms,
    )


def test_at_expiry_twice_is_once(log: Log) -> None:
    """The second time nothing changes: no event, no count, no new lease."""
    session = log.open()
    log.acquire(session, "r", ttl_ms=0)
    log.force("r", 1_001, now=False)

    answer = log.force("r", 1_001, now=False)

    assert (answer, log.effects) == ((ID, Status.OK, True, False), {})


def test_a_lock_of_an_ended_session_is_nobodys_to_force(log: Log) -> None:
    """From the end of its session on it is not held, and waits for its sweep (decision 9)."""
    session = log.open()
    log.acquire(session, "r", ttl_ms=0)
    log.close(session)

    assert log.force("r", 1_001, now=True) == (ID, Status.NOT_HELD, True, 0)
