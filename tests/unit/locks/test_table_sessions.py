"""Sessions: opening with a nonce, closing, running out (R1, L2, R8)."""

from raftlock_wire.messages import Op
from raftlock_wire.status import Status
from tests.unit.locks.kit import ADDRESS, ID, Log

NONCE = b"n" * 16


def test_a_session_is_opened(log: Log) -> None:
    """A new nonce gets the next session id; the answer says its ttl and a count of 0."""
    answer = log.do(Op.OPEN_SESSION, NONCE, 10_000)

    assert (answer, log.effects, log.counts) == (
        (ID, Status.OK, True, 1, 10_000, 0),
        {"opened": [(1, 10_000)]},
        (0, 0, 1),
    )


def test_a_session_keeps_what_it_was_opened_with(log: Log) -> None:
    """Its rev is the index of its opening; principal and address are those of the envelope (R8)."""
    log.do(Op.OPEN_SESSION, NONCE, 10_000, principal="ops", address=ADDRESS)

    session = log.table.session(1)
    assert session is not None
    assert (session.nonce, session.ttl_ms, session.rev, session.principal, session.address) == (
        NONCE,
        10_000,
        2,
        "ops",
        ADDRESS,
    )


def test_the_same_nonce_gives_the_same_session(log: Log) -> None:
    """A repeated opening answers the session as it is, its first ttl included, and opens nothing."""
    log.do(Op.OPEN_SESSION, NONCE, 10_000)

    answer = log.do(Op.OPEN_SESSION, NONCE, 20_000)

    assert (answer, log.effects) == ((ID, Status.OK, True, 1, 10_000, 0), {})


def test_a_repeated_opening_says_the_count_of_now(log: Log) -> None:
    """The count in the answer is the session's at that time, never a recorded one (L9)."""
    log.do(Op.OPEN_SESSION, NONCE, 10_000)
    log.acquire(1, "r")
    log.force("r", 1_001, now=True)

    answer = log.do(Op.OPEN_SESSION, NONCE, 10_000)

    assert answer == (ID, Status.OK, True, 1, 10_000, 1)


def test_a_nonce_of_another_principal_is_refused(log: Log) -> None:
    """A session belongs to the principal that opened it (R8)."""
    log.do(Op.OPEN_SESSION, NONCE, 10_000, principal="ops")

    answer = log.do(Op.OPEN_SESSION, NONCE, 10_000, principal="eve")

    assert (answer[:3], log.effects) == ((ID, Status.FORBIDDEN, True), {})


def test_sessions_are_bounded(log: Log) -> None:
    """Beyond sessions_max an opening is refused; a known nonce is looked up before that."""
    log.do(Op.SET_SETTINGS, {"sessions_max": 1})
    log.do(Op.OPEN_SESSION, NONCE, 10_000)

    answers = [
        log.do(Op.OPEN_SESSION, b"m" * 16, 10_000),
        log.do(Op.OPEN_SESSION, NONCE, 10_000),
    ]

    assert answers == [
        (ID, Status.QUOTA_EXCEEDED, True, "sessions", 1),
        (ID, Status.OK, True, 1, 10_000, 0),
    ]


def test_a_closed_session_makes_room(log: Log) -> None:
    """Only living sessions count against sessions_max."""
    log.do(Op.SET_SETTINGS, {"sessions_max": 1})
    log.close(log.open())

    answer = log.do(Op.OPEN_SESSION, NONCE, 10_000)

    assert answer == (ID, Status.OK, True, 2, 10_000, 0)


def test_a_session_is_closed(log: Log) -> None:
    """A session without locks and waiters is gone at once; nothing is left to sweep."""
    session = log.open()

    answer = log.close(session)

    assert (
        answer,
        log.effects,
        log.counts,
        log.table.session(session),
        log.table.open_sweeps(),
    ) == (
        (ID, Status.OK, True),
        {"sessions_ended": [1]},
        (0, 0, 0),
        None,
        [],
    )


def test_closing_again_is_session_expired(log: Log) -> None:
    """A session that is not there, or has ended and waits for its sweep, cannot be closed."""
    session = log.open()
    log.acquire(session, "r", ttl_ms=0)
    log.close(session)

    answers = [log.close(session), log.close(99)]

    assert answers == [(ID, Status.SESSION_EXPIRED, True)] * 2


def test_an_ended_session_gives_its_nonce_back(log: Log) -> None:
    """The nonce of a session that ended opens another one."""
    log.do(Op.OPEN_SESSION, NONCE, 10_000)
    log.acquire(1, "r", ttl_ms=0)
    log.close(1)

    answer = log.do(Op.OPEN_SESSION, NONCE, 10_000)

    assert answer == (ID, Status.OK, True, 2, 10_000, 0)


def test_a_session_expires_by_its_rev(log: Log) -> None:
    """Expire with the session's own rev ends it (L2)."""
    session = log.open()

    log.do(Op.EXPIRE_SESSION, session, 2)

    assert (log.effects, log.counts) == ({"sessions_ended": [1]}, (0, 0, 0))


def test_a_session_does_not_expire_by_another_rev(log: Log) -> None:
    """Expire with any other rev, or of a session that is not there, does nothing (L2)."""
    session = log.open()
    before = log.counts

    effects = []
    for of, rev in ((session, 3), (session, 1), (99, 2)):
        log.do(Op.EXPIRE_SESSION, of, rev)
        effects.append(log.effects)

    assert (effects, log.counts) == ([{}, {}, {}], before)


def test_an_expired_session_does_not_expire_again(log: Log) -> None:
    """A second Expire of a session that waits for its sweep does nothing."""
    session = log.open()
    log.acquire(session, "r", ttl_ms=0)
    log.do(Op.EXPIRE_SESSION, session, 2)

    log.do(Op.EXPIRE_SESSION, session, 2)

    assert (log.effects, log.counts) == ({}, (1, 0, 0))


def test_everything_of_an_ended_session_is_session_expired(log: Log) -> None:
    """Acquire and cancel of a session that has ended have no effect (R9)."""
    session = log.open()
    log.acquire(session, "r", ttl_ms=0)
    log.close(session)

    answers = [log.acquire(session, "q"), log.acquire(session, "r", ttl_ms=0), log.cancel(session)]

    assert (answers, log.token("q")) == ([(ID, Status.SESSION_EXPIRED, True)] * 3, 0)
