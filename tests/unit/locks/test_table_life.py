"""A cluster's life: genesis, a restore, settings, and what ends the process (T1, T2, decisions 6 and 7)."""

import pytest

from raftlock.locks import LockTable, UnknownCommand
from raftlock_wire.invariant import InvariantViolation
from raftlock_wire.messages import Op
from raftlock_wire.status import Status
from tests.unit.locks.kit import ID, Log, wall


def test_tokens_start_where_genesis_says_and_grow_by_one(log: Log) -> None:
    """The counter starts in the log, and each grant takes the next number (T1)."""
    session = log.open()

    tokens = [log.acquire(session, f"r{i}", slot=i)[4] for i in range(3)]

    assert tokens == [1_001, 1_002, 1_003]


def test_a_second_genesis_does_nothing(log: Log) -> None:
    """A leader that was deposed before its genesis was applied may have appended it all the same (T1)."""
    log.do(Op.GENESIS, 5, 0)

    assert (log.table.token, log.table.settings.logged_renewal_ttl_ms) == (1_000, 60_000)


def test_nothing_comes_before_genesis() -> None:
    """A command before it would be granted under tokens that are lower than those of an earlier life."""
    table = LockTable()

    with pytest.raises(InvariantViolation, match="genesis"):
        table.apply(1, 0, 0, [("", "", (int(Op.OPEN_SESSION), ID, b"n" * 16, 10_000))])


@pytest.mark.parametrize("code", [42, int(Op.KEEP_ALIVE)])
def test_an_unknown_command_stops_the_node(log: Log, code: int) -> None:
    """What this version does not define is never skipped (decision 7)."""
    with pytest.raises(UnknownCommand, match=f"command {code} at index 2, version 1"):
        log.entry(("", "", (code, 0, 1)))


@pytest.mark.parametrize(
    ("index", "stamp_us", "wall_us", "what"),
    [
        (1, 9_000, 9_000_000, "in order"),
        (2, 999, 9_000_000, "go back"),
        (2, 9_000, 5_000_999, "go back"),
    ],
)
def test_the_log_does_not_go_back(index: int, stamp_us: int, wall_us: int, what: str) -> None:
    """Neither index nor stamp nor wall time: each is a broken invariant of who feeds the table."""
    log = Log()

    with pytest.raises(InvariantViolation, match=what):
        log.table.apply(index, stamp_us, wall_us, [])


# restores


def restored(*, floor: int = 0, refuse_until_us: int = 100_000) -> tuple[Log, int]:
    """Return a log with locks, waiters and a session cut, after a NewLife, and a new session."""
    log = Log(logged_renewal_ttl_ms=1_000)
    session = log.open()
    log.acquire(session, "r")
    log.acquire(session, "s", slot=1, ttl_ms=0)
    log.queue(session, "r", slot=2)
    log.do(Op.NEW_LIFE, floor, refuse_until_us)
    return log, session


def test_a_new_life_ends_everything_in_one_step() -> None:
    """Leases, waiters, sessions and their nonces are gone; nothing is left to sweep (T2)."""
    log, session = restored(refuse_until_us=0)

    assert (
        log.counts,
        log.token("r"),
        log.close(session),
        log.table.open_sweeps(),
        log.table.list_page(0, "", "", 10),
        log.table.needs_clock,
    ) == ((0, 0, 0), 0, (ID, Status.SESSION_EXPIRED, True), [], ([], ""), False)


def test_a_new_life_forgets_nonces() -> None:
    """The nonce of a session of the life before opens a new one, and ids are never given twice."""
    log, session = restored()

    answer = log.do(Op.OPEN_SESSION, session.to_bytes(16, "big"), 10_000)

    assert answer == (ID, Status.OK, True, session + 1, 10_000, 0)


@pytest.mark.parametrize(
    ("token", "floor", "expected"),
    [
        (1_000, 0, wall(5)),
        (wall(9), 0, wall(9) + 2),
        (1_000, wall(9), wall(9)),
    ],
)
def test_tokens_of_a_new_life_are_larger_than_all_before(
    token: int, floor: int, expected: int
) -> None:
    """The counter becomes the largest of the old one + 1, the wall clock and the operator's floor (T2)."""
    log = Log(token=token)
    log.acquire(log.open(), "r")
    log.do(Op.SET_SETTINGS, {})

    log.do(Op.NEW_LIFE, floor, 0)

    assert (log.index, log.table.token) == (5, expected)


def test_acquires_are_refused_until_the_lease_clock_shows_the_time() -> None:
    """Until then they get OVERLOADED, not final, and nothing is recorded; from then on they are granted (T2)."""
    log, _ = restored(refuse_until_us=100_000)
    session = log.open()
    answers, clock = [], []
    for stamp_us in (50_000, 99_999, 100_000):
        log.skipped_us = stamp_us - (log.index + 1) * 1_000
        answers.append(log.acquire(session, "r", ttl_ms=500))
        clock.append(log.table.needs_clock)

    assert (answers, clock) == (
        [
            (ID, Status.OVERLOADED, False, 51, "restore"),
            (ID, Status.OVERLOADED, False, 1, "restore"),
            (ID, Status.OK, True, 0, log.table.token, log.index),
        ],
        [True, True, False],
    )


def test_a_new_life_under_a_snapshot_leaves_the_snapshot_as_it_is() -> None:
    """A snapshot that is being made shows the life before, whole (decision 14)."""
    log = Log()
    log.acquire(log.open(), "r")
    before = log.table.digest()
    stream = log.table.begin_snapshot()
    log.do(Op.NEW_LIFE, 0, 0)
    loader = LockTable.loader()
    while (chunk := stream.next_chunk()) is not None:
        loader.feed(chunk)

    assert (loader.finish().digest(), log.table.stream) == (before, None)


# settings


def test_settings_are_changed_by_name(log: Log) -> None:
    """What is named changes, the rest stays."""
    before = log.table.settings

    answer = log.do(Op.SET_SETTINGS, {"sessions_max": 3, "waiters_per_resource_max": 4})

    assert (answer, log.table.settings) == (
        (0, Status.OK, True),
        before._replace(sessions_max=3, waiters_per_resource_max=4),
    )


@pytest.mark.parametrize("name", ["colour", "logged_renewal_ttl_ms"])
def test_an_unknown_or_a_fixed_setting_is_refused(log: Log, name: str) -> None:
    """The answer says which and what there is; logged_renewal_ttl_ms is fixed at bootstrap (L6)."""
    before = log.table.settings

    answer = log.do(Op.SET_SETTINGS, {name: 1, "sessions_max": 3})

    assert (answer[1], answer[4], log.table.settings) == (
        Status.BAD_REQUEST,
        f"{name} is none of sessions_max, slots_max, waiters_per_resource_max",
        before,
    )


def test_a_lowered_bound_ends_nothing(log: Log) -> None:
    """Who waits already goes on waiting; only the next one is refused."""
    log.acquire(log.open(), "r")
    waiter = log.open()
    for slot in range(2):
        log.queue(waiter, "r", slot=slot)
    log.do(Op.SET_SETTINGS, {"waiters_per_resource_max": 1})

    answer = log.queue(waiter, "r", slot=2)

    assert (answer, log.table.waiter_count) == (
        (ID, Status.QUOTA_EXCEEDED, True, "waiters", 1),
        2,
    )
