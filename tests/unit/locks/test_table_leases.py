"""Leases in the log: what ends one, what changes one, what takes an offer up (L1, L2, L6, L10)."""

import pytest

from raftlock.locks import RenewalClass
from raftlock_wire.messages import Event, GrantState, Op
from raftlock_wire.status import Status
from tests.unit.locks.kit import ID, Log


def offered(log: Log, *, ttl_ms: int = 1_000) -> int:
    """Let a second session be offered `r`, and return the session. The offer is token 1,002."""
    holder, waiter = log.open(), log.open()
    log.acquire(holder, "r")
    log.queue(waiter, "r", ttl_ms=ttl_ms)
    log.release("r", 1_001)
    return waiter


# expiry


def test_an_expire_of_the_current_token_and_rev_ends_a_lease(log: Log) -> None:
    """Only a logged Expire ends it, and it says so to nobody: the holder's deadline has passed (L2)."""
    log.acquire(log.open(), "r")

    log.expire("r", 1_001, 3)

    assert (log.effects, log.token("r")) == ({"ended": [1_001]}, 0)


@pytest.mark.parametrize(
    ("resource", "token", "rev"), [("r", 1_001, 2), ("r", 1_000, 3), ("q", 1_001, 3)]
)
def test_an_expire_of_anything_else_does_nothing(
    log: Log, resource: str, token: int, rev: int
) -> None:
    """Another rev, token or resource is not the lease that was due (L2)."""
    log.acquire(log.open(), "r")

    log.expire(resource, token, rev)

    assert (log.effects, log.token("r")) == ({}, 1_001)


@pytest.mark.parametrize("change", ["renewal", "ttl"])
def test_an_expire_that_met_a_change_does_nothing(log: Log, change: str) -> None:
    """A renewal in the log or a change of the ttl sets rev: an Expire for the rev before is void (L1, L2)."""
    log.acquire(log.open(), "r", ttl_ms=60_000)
    if change == "renewal":
        log.renew("r", 1_001)
    else:
        log.do(Op.CHANGE_TTL, "r", 1_001, 70_000, 3)

    log.expire("r", 1_001, 3)
    before = log.token("r")
    log.expire("r", 1_001, 4)

    assert (before, log.token("r")) == (1_001, 0)


def test_an_expire_hands_on(log: Log) -> None:
    """The next waiter is offered the resource in the step that ended the lease."""
    holder, waiter = log.open(), log.open()
    log.acquire(holder, "r")
    log.queue(waiter, "r")

    log.expire("r", 1_001, 4)

    assert (log.token("r"), [e[1] for e in log.effects["events"]]) == (1_002, [Event.OFFERED])


def test_an_offer_that_expires_counts_as_lost(log: Log) -> None:
    """An offer that was not taken up passes on, and its session is told and counts it (L9, L10)."""
    waiter = offered(log)

    log.expire("r", 1_002, log.index)

    assert (log.effects, log.token("r")) == (
        {"ended": [1_002], "events": [(0, Event.LOST, waiter, 2, "r", 1_002)]},
        0,
    )


# offers (L10)


@pytest.mark.parametrize(("ttl_ms", "kind"), [(1_000, RenewalClass.OWN), (0, RenewalClass.SESSION)])
def test_the_first_renewal_takes_an_offer_up(log: Log, ttl_ms: int, kind: RenewalClass) -> None:
    """A renewal through the log makes an offer a lock, in-session ones too, with a new rev (L10)."""
    waiter = offered(log, ttl_ms=ttl_ms)
    before = log.table.renewal_class("r", 1_002)

    answer = log.renew("r", 1_002)

    grant = log.table.lookup("r")
    assert grant is not None
    assert (before, answer, grant.state, grant.offer, grant.rev, grant.stamp_us) == (
        RenewalClass.OFFER,
        (Status.OK, None if ttl_ms else 1, log.index, ttl_ms, -1),
        GrantState.HELD,
        False,
        log.index,
        log.index * 1_000,
    )
    assert (log.table.renewal_class("r", 1_002), waiter) == (kind, 2)


def test_an_offer_is_released_like_a_lock(log: Log) -> None:
    """Whoever does not want an offer releases it."""
    offered(log)

    answer = log.release("r", 1_002)

    assert (answer, log.token("r")) == ((ID, Status.OK, True), 0)


# renewals in the log (L6)


def test_a_logged_renewal_sets_rev_and_stamp(log: Log) -> None:
    """A lease of the logged class counts from the stamp of its last logged renewal (L6)."""
    log.acquire(log.open(), "r", ttl_ms=60_000)

    answer = log.renew("r", 1_001)

    grant = log.table.lookup("r")
    assert grant is not None
    assert (answer, grant.rev, grant.stamp_us, log.effects) == (
        (Status.OK, None, 4, 60_000, -1),
        4,
        4_000,
        {"granted": [("r", 1_001, 4)]},
    )


def test_a_logged_renewal_of_what_is_over_names_the_holder(log: Log) -> None:
    """NOT_HELD says which token holds the resource now, 0 if none."""
    session = log.open()
    log.acquire(session, "r")
    log.release("r", 1_001)
    free = log.renew("r", 1_001)
    log.acquire(session, "r", n=2)

    assert (free, log.renew("r", 1_001)) == ((Status.NOT_HELD, 0), (Status.NOT_HELD, 1_002))


def test_a_logged_renewal_of_an_ending_lease_changes_nothing(log: Log) -> None:
    """An administrator lets it run out: neither rev nor stamp moves."""
    log.acquire(log.open(), "r", ttl_ms=60_000)
    log.force("r", 1_001, now=False)

    answer = log.renew("r", 1_001)

    grant = log.table.lookup("r")
    assert grant is not None
    assert (answer, grant.rev, grant.stamp_us, log.effects) == (
        (Status.ENDING, None, 3, 60_000, -1),
        3,
        3_000,
        {},
    )


@pytest.mark.parametrize(
    ("ttl_ms", "logged_ttl_ms", "expected"),
    [
        (59_999, 60_000, RenewalClass.OWN),
        (60_000, 60_000, RenewalClass.LOGGED),
        (100, 0, RenewalClass.LOGGED),
        (0, 0, RenewalClass.SESSION),
    ],
)
def test_which_leases_are_of_the_logged_class(
    ttl_ms: int, logged_ttl_ms: int, expected: RenewalClass
) -> None:
    """Own leases from logged_renewal_ttl on; with 0 each own lease, and sessions never (L6)."""
    log = Log(logged_renewal_ttl_ms=logged_ttl_ms)
    log.acquire(log.open(), "r", ttl_ms=ttl_ms)

    assert (log.table.renewal_class("r", 1_001), log.table.needs_clock) == (
        expected,
        expected is RenewalClass.LOGGED,
    )


def test_a_renewal_of_another_token_is_of_no_lease(log: Log) -> None:
    """A token that is not the current one is NOT_HELD; one that runs out is ENDING."""
    log.acquire(log.open(), "r")
    classes = [log.table.renewal_class("r", 1_000), log.table.renewal_class("q", 1_001)]
    log.force("r", 1_001, now=False)

    assert [*classes, log.table.renewal_class("r", 1_001)] == [
        RenewalClass.NOT_HELD,
        RenewalClass.NOT_HELD,
        RenewalClass.ENDING,
    ]


def test_the_lease_clock_is_wanted_while_a_logged_lease_exists(log: Log) -> None:
    """Stamps go on as long as there is a lease of the logged class, through a change of its class too (L7)."""
    log.acquire(log.open(), "r", ttl_ms=60_000)
    wanted = [log.table.needs_clock]
    log.do(Op.CHANGE_TTL, "r", 1_001, 1_000, 3)
    wanted.append(log.table.needs_clock)
    log.do(Op.CHANGE_TTL, "r", 1_001, 90_000, 4)
    wanted.append(log.table.needs_clock)
    log.release("r", 1_001)

    assert [*wanted, log.table.needs_clock] == [True, False, True, False]


# release


def test_a_release_of_what_is_over_is_harmless(log: Log) -> None:
    """Repeating a release says NOT_HELD, with the token that holds the resource now, and ends nothing."""
    session = log.open()
    log.acquire(session, "r")
    log.release("r", 1_001)
    free = log.release("r", 1_001)
    log.acquire(session, "r", n=2)

    answer = log.release("r", 1_001)

    assert (free, answer, log.token("r")) == (
        (ID, Status.NOT_HELD, True, 0),
        (ID, Status.NOT_HELD, True, 1_002),
        1_002,
    )


@pytest.mark.parametrize("ttl_ms", [0, 1_000])
def test_a_lock_is_released_by_its_principal_alone(log: Log, ttl_ms: int) -> None:
    """Release and change_ttl are for the principal that acquired (R8)."""
    session = log.open(principal="ops")
    log.acquire(session, "r", ttl_ms=ttl_ms, principal="ops")

    answers = [
        log.release("r", 1_001, principal="eve"),
        log.do(Op.CHANGE_TTL, "r", 1_001, 900, 3, principal="eve"),
    ]

    assert ([a[1] for a in answers], log.token("r")) == ([Status.FORBIDDEN] * 2, 1_001)


# change of the ttl


def test_a_change_of_ttl_sets_rev_and_counts_from_its_stamp(log: Log) -> None:
    """A compare-and-set on the lease's rev: the new ttl counts from this command (L1, L6)."""
    log.acquire(log.open(), "r")

    answer = log.do(Op.CHANGE_TTL, "r", 1_001, 500, 3)

    grant = log.table.lookup("r")
    assert grant is not None
    assert (answer, grant.ttl_ms, grant.rev, grant.stamp_us, log.effects) == (
        (ID, Status.OK, True, 4, 500),
        500,
        4,
        4_000,
        {"granted": [("r", 1_001, 4)]},
    )


def test_a_change_of_ttl_with_another_rev_is_refused(log: Log) -> None:
    """Refused, it says the lease's rev and ttl, and changes nothing."""
    log.acquire(log.open(), "r")

    answer = log.do(Op.CHANGE_TTL, "r", 1_001, 500, 2)

    assert (answer, log.effects) == ((ID, Status.HELD, True, 3, 1_000), {})


@pytest.mark.parametrize(
    ("case", "status", "field"),
    [
        ("over", Status.NOT_HELD, 0),
        ("ending", Status.ENDING, None),
        ("in session", Status.BAD_REQUEST, "ttl_ms"),
        ("offer", Status.BAD_REQUEST, "token"),
    ],
)
def test_what_has_no_ttl_to_change(
    log: Log, case: str, status: Status, field: str | int | None
) -> None:
    """A lease that is over or ending, a lock in a session and an offer are refused, each with its reason."""
    token = 1_001
    if case == "offer":
        offered(log)
        token = 1_002
    else:
        log.acquire(log.open(), "r", ttl_ms=0 if case == "in session" else 1_000)
    if case == "over":
        log.release("r", 1_001)
    elif case == "ending":
        log.force("r", 1_001, now=False)
    rev = 3 if case != "offer" else log.index

    answer = log.do(Op.CHANGE_TTL, "r", token, 500, rev)

    assert (answer[1], answer[3] if len(answer) > 3 else None, log.effects) == (status, field, {})
