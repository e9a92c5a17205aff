"""Bounded work: Sweeps in steps of 500, resources that are handed on, and what is not there to sweep (decision 9)."""

from raftlock_wire.limits import STEPS_PER_COMMAND_MAX
from raftlock_wire.messages import Event, Op
from raftlock_wire.status import Status
from tests.unit.locks.kit import ID, Log

STEPS = STEPS_PER_COMMAND_MAX


def with_locks(log: Log, count: int) -> int:
    """Open a session and let it hold `count` locks in it, in one entry."""
    session = log.open()
    requests = [
        (int(Op.ACQUIRE), ID, session, slot, 1, f"r{slot:04}", "ann", 0, 0, None)
        for slot in range(count)
    ]
    log.entry(("", "", *requests))
    return session


def with_waiters(log: Log, count: int) -> int:
    """Open a session and let it wait for `r` in `count` slots, in one entry."""
    session = log.open()
    requests = [
        (int(Op.ACQUIRE), ID, session, slot, 1, "r", "bob", 1_000, 9_000, None)
        for slot in range(count)
    ]
    log.entry(("", "", *requests))
    return session


def test_a_sweep_hands_on_500_locks_in_the_order_of_their_tokens(log: Log) -> None:
    """One command ends at most 500; the state shows that there is more until all are gone."""
    session = with_locks(log, STEPS + 1)
    log.close(session)
    log.sweep(session)
    first, asked = log.effects["ended"], log.table.open_sweeps()

    log.sweep(session)

    assert (first, asked, log.effects["ended"]) == (
        list(range(1_001, 1_001 + STEPS)),
        [(Op.SWEEP_SESSION, 0, session)],
        [1_001 + STEPS],
    )
    assert (log.table.open_sweeps(), log.table.session(session), log.counts) == (
        [],
        None,
        (0, 0, 0),
    )


def test_a_sweep_takes_500_waiters_out_of_their_queues(log: Log) -> None:
    """Waiters of a session that ended are steps as locks are."""
    log.acquire(log.open(), "r")
    session = with_waiters(log, STEPS + 1)
    log.close(session)

    left = []
    for _ in range(2):
        log.sweep(session)
        left.append(log.table.waiter_count)

    assert (left, log.table.open_sweeps(), log.token("r")) == ([1, 0], [], 1_001)


def test_locks_and_waiters_share_the_steps_of_a_sweep(log: Log) -> None:
    """A command does at most 500 steps in all: after 499 locks there is one left for a waiter."""
    log.acquire(log.open(), "r")
    session = with_locks(log, STEPS - 1)
    for slot in (1_000, 1_001):
        log.queue(session, "r", slot=slot)
    log.close(session)

    log.sweep(session)

    assert (len(log.effects["ended"]), log.effects["unqueued"]) == (
        STEPS - 1,
        [(session, 1_000, 1)],
    )


def test_a_swept_lock_goes_to_its_next_waiter(log: Log) -> None:
    """The Sweep offers each lock as a release does."""
    session, waiter = with_locks(log, 1), log.open()
    log.queue(waiter, "r0000")
    log.close(session)
    before = log.token("r0000")

    log.sweep(session)

    assert (before, log.token("r0000"), [e[1] for e in log.effects["events"]]) == (
        0,
        1_002,
        [Event.OFFERED],
    )


def test_a_release_passes_over_499_dead_waiters_and_a_sweep_goes_on(log: Log) -> None:
    """Ending the grant is one step: 499 dead waiters later the resource is handing on, and new acquires queue behind."""
    log.acquire(log.open(), "r")
    dead = with_waiters(log, STEPS)
    living, late = log.open(), log.open()
    log.queue(living, "r")
    log.close(dead)

    log.release("r", 1_001)
    between = (log.token("r"), log.table.open_sweeps(), log.queue(late, "r")[1])
    log.do(Op.SWEEP_RESOURCE, "r")

    assert (between, log.effects["events"], log.table.handing_on) == (
        (
            0,
            [(Op.SWEEP_SESSION, 0, dead), (Op.SWEEP_RESOURCE, 0, "r")],
            Status.QUEUED,
        ),
        [(0, Event.OFFERED, living, 1, 0, 1, "r", 1_002, log.index)],
        {},
    )


def test_a_resource_that_is_handing_on_is_held_to_who_does_not_wait(log: Log) -> None:
    """Nobody overtakes the queue: without a wait the answer is HELD, by nobody that could be named."""
    log.acquire(log.open(), "r")
    dead = with_waiters(log, STEPS)
    log.close(dead)
    log.release("r", 1_001)

    answer = log.acquire(log.open(), "r")

    assert (answer, log.token("r")) == ((ID, Status.HELD, True, 0, "", 0, 0), 0)


def test_a_queue_of_dead_waiters_ends_in_a_free_resource(log: Log) -> None:
    """When the last dead waiter is gone the resource is free, by whichever Sweep came first."""
    for sweep in ("resource", "session"):
        log.acquire(log.open(), "r")
        dead = with_waiters(log, STEPS)
        log.close(dead)
        log.release("r", log.token("r"))
        if sweep == "resource":
            log.do(Op.SWEEP_RESOURCE, "r")
        log.sweep(dead)

        assert (log.token("r"), log.table.open_sweeps(), log.table.queues) == (0, [], {})


def test_a_sweep_of_what_needs_none_does_nothing(log: Log) -> None:
    """A Sweep of a living session, of none, or of a resource that is held is void: it may come late."""
    session = with_locks(log, 1)
    effects = []
    for op, what in (
        (Op.SWEEP_SESSION, session),
        (Op.SWEEP_SESSION, 99),
        (Op.SWEEP_RESOURCE, "r0000"),
        (Op.SWEEP_RESOURCE, "q"),
    ):
        log.do(op, what)
        effects.append(log.effects)

    assert (effects, log.token("r0000")) == ([{}] * 4, 1_001)


def test_a_sweep_leaves_what_an_acquire_took_over(log: Log) -> None:
    """An acquire that met the dead lock has handed it on: the Sweep that comes later ends nobody's lock."""
    session, other = with_locks(log, 1), log.open()
    log.close(session)
    log.acquire(other, "r0000")

    log.sweep(session)

    assert (log.effects, log.token("r0000"), log.table.session(session)) == ({}, 1_002, None)


def test_few_sweeps_are_asked_for_at_once(log: Log) -> None:
    """A leader proposes them a few at a time, sessions first, in the order in which they ended."""
    sessions = []
    for _ in range(70):
        session = log.open()
        log.acquire(session, f"q{session}", ttl_ms=0)
        sessions.append(session)
    for session in sessions:
        log.close(session)

    assert log.table.open_sweeps() == [(Op.SWEEP_SESSION, 0, s) for s in sessions[:64]]


def test_resources_that_are_handing_on_wait_for_their_turn(log: Log) -> None:
    """The bound is over both kinds of Sweep."""
    names = [f"h{i}" for i in range(70)]
    log.table.handing_on.update(dict.fromkeys(names))

    assert log.table.open_sweeps() == [(Op.SWEEP_RESOURCE, 0, name) for name in names[:64]]
