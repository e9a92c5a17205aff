"""A leader's memory of deadlines, beside the table that it arms from (L1 to L6, L10, R5)."""

from typing import Any

import pytest

from raftlock.server import leases as module
from raftlock.server.leases import Leases, wait_key
from raftlock_wire.messages import Op
from tests.unit.locks.kit import Log

ELECTED_US = 5_000_000
S = 1_000_000


def table_with(*, own_ms: int = 1_000) -> tuple[Log, int]:
    """Return a log with one lease `r` of its own, token 1,001, and its session."""
    log = Log()
    session = log.open(ttl_ms=10_000)
    log.acquire(session, "r", ttl_ms=own_ms)
    return log, session


def elected(log: Log, *, armed: bool = True) -> Leases:
    """Return the leases of a leader that was elected at ELECTED_US, all armed if so."""
    leases = Leases()
    leases.begin(ELECTED_US)
    leases.start_arming(log.table)
    while armed and leases.arm_slice():
        pass
    return leases


def applied(leases: Leases, log: Log, now_us: int) -> None:
    """Let a leader take in what the last entry did."""
    leases.granted(log.table, log.last.granted, now_us)
    leases.ended(log.last.ended)
    leases.waits_changed(log.last.queued, log.last.unqueued, now_us)


# a new leader (L1, L5, L6)


def test_nothing_of_an_earlier_leadership_is_left() -> None:
    """Deadlines belong to one node and term: an old one would end a lease that others have renewed since (L1)."""
    log, session = table_with()
    leases = elected(log)
    leases.command_begins(1_001)
    leases.waits_changed([(session, 0, 1, 500)], [], 0)

    leases.end()

    assert (
        leases.locks.deadlines,
        leases.sessions.deadlines,
        leases.waits.deadlines,
        leases.in_flight(1_001),
        leases.arm_slice(),
        leases.next_us(),
    ) == ({}, {}, {}, False, False, None)


def test_a_new_leader_arms_each_kind_from_where_it_counts() -> None:
    """Own leases, sessions, offers and waits from the election; the logged class from its stamp (L5, L6, L10, R5)."""
    log, session = table_with()
    log.acquire(session, "logged", slot=1, ttl_ms=60_000)
    logged_stamp_us = log.table.stamp_us
    log.acquire(session, "tied", slot=2, ttl_ms=0)
    log.acquire(session, "cut", slot=3, ttl_ms=0)
    log.force("cut", 1_004, now=False)
    other = log.open(ttl_ms=1_000)
    log.queue(other, "r")
    log.acquire(other, "o", slot=1)
    log.acquire(session, "o", slot=4, ttl_ms=60_000, wait_ms=7_000)
    log.release("o", 1_005)

    leases = elected(log)

    assert leases.locks.deadlines == {
        1_001: ELECTED_US + 1 * S,
        1_002: logged_stamp_us + 60 * S,
        1_004: ELECTED_US + 10 * S,
        1_006: ELECTED_US + 2 * S,
    }
    assert leases.sessions.deadlines == {session: ELECTED_US + 10 * S, other: ELECTED_US + 1 * S}
    assert leases.waits.deadlines == {wait_key(other, 0): ELECTED_US + 9 * S}


def test_arming_takes_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn arms a bounded number; what is not armed yet cannot expire (L5, decision 17)."""
    monkeypatch.setattr(module, "ARM_SLICE", 3)
    log = Log()
    for _ in range(10):
        log.open(ttl_ms=1_000)
    leases = elected(log, armed=False)
    more = leases.arm_slice()
    first = len(leases.sessions)
    while leases.arm_slice():
        pass

    assert (more, first, len(leases.sessions)) == (True, 3, 10)


def test_what_was_renewed_before_it_was_armed_keeps_the_later_deadline() -> None:
    """A renewal that comes first arms from its receipt, but never before the full ttl from the election (L5)."""
    log, session = table_with()
    grant = log.table.lookup("r")
    assert grant is not None
    found = []
    for receipt_us in (ELECTED_US - 9, ELECTED_US + 700_000):
        leases = elected(log, armed=False)
        leases.renew(grant, receipt_us)
        leases.keep_alive(session, 10_000, receipt_us)
        while leases.arm_slice():
            pass
        found.append((leases.locks.deadlines[1_001], leases.sessions.deadlines[session]))

    assert found == [
        (ELECTED_US + 1 * S, ELECTED_US + 10 * S),
        (ELECTED_US + 1_700_000, ELECTED_US + 10_700_000),
    ]


# renewals (L3, L4)


def test_nothing_moves_a_receipt_back() -> None:
    """Renewals that waited go on with older receipts than one that did not: the latest counts (L3)."""
    log, session = table_with()
    grant = log.table.lookup("r")
    assert grant is not None
    leases = elected(log)
    leases.renew(grant, ELECTED_US + 500_000)
    leases.renew(grant, ELECTED_US + 400_000)
    leases.keep_alive(session, 10_000, ELECTED_US + 500_000)
    leases.keep_alive(session, 10_000, ELECTED_US + 400_000)

    assert (leases.locks.deadlines[1_001], leases.sessions.deadlines[session]) == (
        ELECTED_US + 1_500_000,
        ELECTED_US + 10_500_000,
    )


def test_a_shorter_ttl_shortens_the_deadline() -> None:
    """A change of the ttl counts from its stamp, also when that is earlier than what was armed (L1)."""
    log, _ = table_with(own_ms=9_000)
    leases = Leases()
    leases.begin(0)
    applied(leases, log, 0)
    before = leases.locks.deadlines[1_001]
    log.do(Op.CHANGE_TTL, "r", 1_001, 1_000, 3)
    applied(leases, log, 0)

    assert (before, leases.locks.deadlines[1_001]) == (3_000 + 9 * S, 4_000 + 1 * S)


def test_expires_in_is_an_estimate_and_never_negative() -> None:
    """None for what has no deadline here (its session's, or not armed yet)."""
    log, _ = table_with()
    leases = elected(log)

    assert [leases.expires_in_ms(1_001, now) for now in (ELECTED_US, ELECTED_US + 2 * S)] + [
        leases.expires_in_ms(7, 0)
    ] == [1_000, 0, None]


# due (L2, L3)


def due(leases: Leases, log: Log, now_us: int) -> list[tuple[Any, ...]]:
    """Return the commands for what is due."""
    return [item.command for item in leases.due(log.table, now_us)]


def test_what_is_due_is_proposed_once_with_the_rev_of_now() -> None:
    """Sessions and locks; while the Expire is in flight no second one is (L3)."""
    log, session = table_with()
    leases = elected(log)
    log.do(Op.CHANGE_TTL, "r", 1_001, 1_000, 3)
    now_us = ELECTED_US + 20 * S

    first, second = due(leases, log, now_us), due(leases, log, now_us)

    assert (first, second, leases.in_flight(1_001), leases.in_flight(-session)) == (
        [
            (Op.EXPIRE_SESSION, 0, session, 2),
            (Op.EXPIRE_LOCK, 0, "r", 1_001, 4),
        ],
        [],
        True,
        True,
    )


@pytest.mark.parametrize("kind", ["lock", "session"])
def test_arming_leaves_out_what_is_about_to_end(kind: str) -> None:
    """A lease that came due before a new leader's slices came to it is not armed again beside its Expire (L3)."""
    log, session = table_with()
    leases = elected(log, armed=False)
    if kind == "lock":
        grant = log.table.lookup("r")
        assert grant is not None
        leases.renew(grant, ELECTED_US)
    else:
        leases.keep_alive(session, 10_000, ELECTED_US)
    first = due(leases, log, ELECTED_US + 20 * S)
    while leases.arm_slice():
        pass
    armed = leases.locks.deadlines if kind == "lock" else leases.sessions.deadlines

    assert (len(first), dict(armed)) == (1, {})


def test_an_entry_carries_a_bounded_number_of_expiries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is in the next one, both kinds counted (decision 9)."""
    monkeypatch.setattr(module, "EXPIRIES_PER_ENTRY_MAX", 3)
    log = Log()
    session = log.open(ttl_ms=1_000)
    log.open(ttl_ms=1_000)
    for slot in range(4):
        log.acquire(session, f"r{slot}", slot=slot)
    leases = elected(log)

    sizes = [len(due(leases, log, ELECTED_US + 9 * S)) for _ in range(3)]

    assert sizes == [3, 3, 0]


def test_what_ended_otherwise_is_not_proposed() -> None:
    """A lock or session that is over by the table has nothing left to expire."""
    log, session = table_with()
    leases = elected(log)
    log.release("r", 1_001)
    log.acquire(session, "s", slot=1, ttl_ms=0)
    log.close(session)

    assert due(leases, log, ELECTED_US + 20 * S) == []


@pytest.mark.parametrize("kind", ["lock", "session"])
def test_an_expire_without_effect_leaves_the_lease_due(kind: str) -> None:
    """It is proposed again at once, with the rev of then (L3)."""
    log, session = table_with()
    leases = elected(log)
    now_us = ELECTED_US + (1_100_000 if kind == "lock" else 20 * S)
    items = [i for i in leases.due(log.table, now_us) if (i.key > 0) is (kind == "lock")]

    free = [leases.expire_applied(log.table, item) for item in items]
    again = [c[:3] for c in due(leases, log, now_us + 20_000)]

    code, what = (Op.EXPIRE_LOCK, "r") if kind == "lock" else (Op.EXPIRE_SESSION, session)
    assert (free, (code, 0, what) in again) == ([True], True)


def test_an_expire_that_took_effect_leaves_nothing() -> None:
    """Neither a deadline nor a command in flight."""
    log, _ = table_with()
    leases = elected(log)
    (item,) = leases.due(log.table, ELECTED_US + 1_100_000)
    log.expire("r", 1_001, 3)
    applied(leases, log, 0)

    assert (leases.expire_applied(log.table, item), leases.locks.deadlines) == (True, {})


def test_renewals_wait_for_all_commands_in_flight() -> None:
    """Two on one lease: only the end of the second lets them go on (L3)."""
    leases = Leases()
    for _ in range(2):
        leases.command_begins(7)

    assert [
        leases.command_ends(7),
        leases.in_flight(7),
        leases.command_ends(7),
        leases.in_flight(7),
    ] == [
        False,
        True,
        True,
        False,
    ]


def test_a_due_item_names_its_lease() -> None:
    """Tokens are positive, sessions negative: one cannot be taken for the other."""
    log, session = table_with()
    leases = elected(log)

    assert [i.key for i in leases.due(log.table, ELECTED_US + 20 * S)] == [-session, 1_001]


# at_expiry (L9)


def test_at_expiry_leaves_a_deadline_as_it_is() -> None:
    """An own lease runs out when it would have."""
    log, _ = table_with()
    leases = elected(log)
    before = dict(leases.locks.deadlines)
    log.force("r", 1_001, now=False)
    applied(leases, log, ELECTED_US + 900_000)

    assert leases.locks.deadlines == before


def test_a_lock_cut_out_of_its_session_has_the_sessions_ttl_from_the_apply() -> None:
    """From then on it has a deadline of its own (L9)."""
    log = Log()
    log.acquire(log.open(ttl_ms=10_000), "r", ttl_ms=0)
    leases = elected(log)
    log.force("r", 1_001, now=False)
    applied(leases, log, ELECTED_US + 700_000)

    assert leases.locks.deadlines == {1_001: ELECTED_US + 10_700_000}


@pytest.mark.parametrize(
    ("kind", "expected_us"), [("own", 1 * S), ("offer", 2 * S), ("logged", None)]
)
def test_at_expiry_on_what_is_not_armed_yet_gives_what_every_lease_has(
    kind: str, expected_us: int | None
) -> None:
    """A new leader that has not come to it gives it no more than its time: an offer min(ttl, 2 s) (L5, L6, L10)."""
    log = Log()
    session = log.open()
    token = 1_001
    log.acquire(session, "r", ttl_ms=60_000 if kind == "logged" else 1_000)
    stamp_us = log.table.stamp_us
    if kind == "offer":
        log.acquire(log.open(), "r", ttl_ms=86_400_000, wait_ms=9_000)
        log.release("r", 1_001)
        token = 1_002
    leases = elected(log, armed=False)
    log.force("r", token, now=False)
    applied(leases, log, ELECTED_US + 300_000)
    while leases.arm_slice():
        pass

    expected = stamp_us + 60 * S if expected_us is None else ELECTED_US + expected_us
    assert leases.locks.deadlines == {token: expected}


# offers (L10)


@pytest.mark.parametrize(("ttl_ms", "expected_us"), [(500, S // 2), (60_000, 2 * S), (0, 2 * S)])
def test_an_offer_has_its_time_and_a_lock_taken_up_its_own(ttl_ms: int, expected_us: int) -> None:
    """Offered: min(ttl, 2 s); taken up: the lease from that entry's stamp, or none in a session (L10)."""
    log, _ = table_with()
    log.acquire(log.open(ttl_ms=30_000), "r", ttl_ms=ttl_ms, wait_ms=9_000)
    leases = elected(log)
    log.release("r", 1_001)
    applied(leases, log, ELECTED_US)
    offered = leases.locks.deadlines[1_002]
    log.renew("r", 1_002)
    applied(leases, log, ELECTED_US)

    assert (offered, leases.locks.deadlines.get(1_002)) == (
        ELECTED_US + expected_us,
        log.table.stamp_us + ttl_ms * 1_000 if ttl_ms else None,
    )


# waits (R5)


def test_a_wait_is_armed_and_forgotten_by_its_key() -> None:
    """What an entry both began and ended is not armed; what took another's place is."""
    leases = Leases()
    leases.waits_changed([(1, 0, 1, 500), (1, 1, 1, 500)], [], 0)
    leases.waits_changed([(1, 0, 2, 900), (2, 0, 1, 500)], [(1, 0, 1), (2, 0, 1)], 0)

    armed = dict(leases.waits.deadlines)

    assert (armed, leases.waits_due(10 * S)) == (
        {wait_key(1, 0): 900_000, wait_key(1, 1): 500_000},
        [(Op.WAIT_TIMEOUT, 0, 1, 1, 1), (Op.WAIT_TIMEOUT, 0, 1, 0, 2)],
    )


def test_the_next_wake_up_is_that_of_the_first_of_all() -> None:
    """Locks, sessions and waits together."""
    log, session = table_with()
    leases = elected(log)
    before = leases.next_us()
    leases.waits_changed([(session, 0, 1, 500)], [], ELECTED_US)
    leases.tidy()

    assert (before, leases.next_us()) == (ELECTED_US + 1_010_000, ELECTED_US + 510_000)
