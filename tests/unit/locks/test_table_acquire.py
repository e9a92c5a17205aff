"""Acquire: granted, refused, queued, and repeated (R1, R2)."""

import pytest

from raftlock_wire.messages import Event, GrantState, Op
from raftlock_wire.status import Status
from tests.unit.locks.kit import ADDRESS, ID, Log, wall


def test_a_free_resource_is_granted(log: Log) -> None:
    """The answer has the session's count, the next token and the index as rev."""
    session = log.open()

    answer = log.acquire(session, "r")

    assert (answer, log.effects, log.counts) == (
        (ID, Status.OK, True, 0, 1_001, 3),
        {"granted": [("r", 1_001, 3)]},
        (1, 0, 1),
    )


def test_a_grant_keeps_all_that_was_asked(log: Log) -> None:
    """A lock keeps its key, owner, times, metadata, principal and address."""
    session = log.open()
    log.acquire(session, "r", slot=4, n=9, metadata={"a": "b"}, principal="ops")

    grant = log.table.lookup("r")

    assert grant is not None
    assert grant._asdict() == {
        "resource": "r",
        "token": 1_001,
        "rev": 3,
        "state": GrantState.HELD,
        "owner": "ann",
        "session": session,
        "slot": 4,
        "n": 9,
        "ttl_ms": 1_000,
        "wait_ms": 0,
        "metadata": {"a": "b"},
        "principal": "ops",
        "address": ADDRESS,
        "granted_wall_us": wall(3),
        "stamp_us": 3_000,
        "offer": False,
        "cut": False,
    }


def test_tokens_grow_over_all_resources(log: Log) -> None:
    """Each grant has a larger token than every grant before it."""
    session = log.open()

    tokens = [log.acquire(session, name, slot=slot)[4] for slot, name in enumerate("abc")]

    assert tokens == [1_001, 1_002, 1_003]


def test_a_held_resource_is_refused_with_its_holder(log: Log) -> None:
    """HELD says who has it, under which token and since when."""
    session, other = log.open(), log.open()
    log.acquire(session, "r", owner="bob")

    answer = log.acquire(other, "r")

    assert (answer, log.effects) == ((ID, Status.HELD, True, 0, "bob", 1_001, wall(4)), {})


@pytest.mark.parametrize("ttl_ms", [0, 1_000])
def test_locks_are_not_reentrant(log: Log, ttl_ms: int) -> None:
    """A second acquire by the same session and owner is HELD like anyone's."""
    session = log.open()
    log.acquire(session, "r", ttl_ms=ttl_ms)

    answer = log.acquire(session, "r", slot=1, ttl_ms=ttl_ms)

    assert answer == (ID, Status.HELD, True, 0, "ann", 1_001, wall(3))


def test_with_wait_an_acquire_is_queued(log: Log) -> None:
    """QUEUED is not final and says the place in the queue."""
    holder, first, second = log.open(), log.open(), log.open()
    log.acquire(holder, "r")

    answers = [log.queue(first, "r"), log.queue(second, "r", slot=3)]

    assert (answers, log.effects, log.counts) == (
        [(ID, Status.QUEUED, False, 0, 1), (ID, Status.QUEUED, False, 0, 2)],
        {"queued": [(second, 3, 1, 9_000)]},
        (1, 2, 3),
    )


def test_with_wait_a_free_resource_is_granted_at_once(log: Log) -> None:
    """The wait does not matter when nobody is in the way."""
    session = log.open()

    answer = log.queue(session, "r")

    assert answer == (ID, Status.OK, True, 0, 1_001, 3)


def test_waiters_are_served_in_the_order_of_the_log(log: Log) -> None:
    """Each release offers the resource to the one that came first (guarantee 5)."""
    sessions = [log.open() for _ in range(4)]
    for session in sessions:
        log.queue(session, "r")

    served = []
    for token in range(1_001, 1_004):
        log.release("r", token)
        served.append(log.last.events[0][2])

    assert served == sessions[1:]


def test_waiters_of_a_resource_are_bounded(log: Log) -> None:
    """Beyond waiters_per_resource_max an acquire is refused; another resource has its own queue."""
    log.do(Op.SET_SETTINGS, {"waiters_per_resource_max": 1})
    session = log.open()
    for slot, name in enumerate("rq"):
        log.acquire(session, name, slot=slot)
    log.queue(session, "r", slot=2)

    answers = [log.queue(session, "r", slot=3), log.queue(session, "q", slot=4)]

    assert answers == [
        (ID, Status.QUOTA_EXCEEDED, True, "waiters", 1),
        (ID, Status.QUEUED, False, 0, 1),
    ]


def test_slots_are_bounded() -> None:
    """A slot beyond slots_max is refused where another holds the resource."""
    log = Log(snapshot_open=True)
    log.do(Op.SET_SETTINGS, {"slots_max": 2})
    session = log.open()

    answers = [log.acquire(session, "r", slot=1), log.acquire(session, "q", slot=2)]

    assert answers == [
        (ID, Status.OK, True, 0, 1_001, 4),
        (ID, Status.QUOTA_EXCEEDED, False, "slots", 2),
    ]


# the same key again (R2)


def test_a_smaller_n_has_no_effect(log: Log) -> None:
    """An acquire that a later one of its slot has overtaken is refused, even if the resource is free."""
    session = log.open()
    log.acquire(session, "r", n=5)

    answer = log.acquire(session, "q", n=4)

    assert (answer, log.effects, log.token("q")) == (
        (ID, Status.BAD_REQUEST, True, "n", "4 is below 5, the slot's last acquire"),
        {},
        0,
    )


def test_the_same_n_repeats_a_grant(log: Log) -> None:
    """A repeated acquire gets the grant again: same token, no effect."""
    session = log.open()
    first = log.acquire(session, "r", metadata={"a": "b"})

    answer = log.acquire(session, "r", metadata={"a": "b"})

    assert (answer, log.effects) == (first, {})


def test_a_repeated_grant_says_the_rev_of_now(log: Log) -> None:
    """After a change of the ttl the repeated acquire shows the lease's new rev, for the asked content."""
    session = log.open()
    log.acquire(session, "r")
    log.do(Op.CHANGE_TTL, "r", 1_001, 5_000, 3)

    answer = log.acquire(session, "r")

    assert answer == (ID, Status.OK, True, 0, 1_001, 4)


@pytest.mark.parametrize(
    "other",
    [
        {"resource": "q"},
        {"owner": "bob"},
        {"ttl_ms": 2_000},
        {"wait_ms": 1},
        {"metadata": {"a": "c"}},
        {"metadata": None},
    ],
    ids=["resource", "owner", "ttl", "wait", "metadata", "no metadata"],
)
def test_the_same_n_with_other_content_is_refused(log: Log, other: dict[str, object]) -> None:
    """A key is for one acquire: with any other content it is a bad request."""
    session = log.open()
    asked = {"resource": "r", "metadata": {"a": "b"}}
    log.acquire(session, **asked)  # type: ignore[arg-type]

    answer = log.acquire(session, **(asked | other))  # type: ignore[arg-type]

    assert answer == (
        ID,
        Status.BAD_REQUEST,
        True,
        "n",
        "1 of this slot was used for another acquire",
    )


def test_the_same_n_repeats_a_refusal(log: Log) -> None:
    """HELD is recorded with the holder of that time, also when the resource is free by now."""
    session, other = log.open(), log.open()
    log.acquire(session, "r")
    first = log.acquire(other, "r")
    log.release("r", 1_001)

    answer = log.acquire(other, "r")

    assert (answer, log.token("r")) == (first, 0)


def test_the_same_n_of_a_waiter_is_queued_still(log: Log) -> None:
    """A waiter that asks again waits once."""
    session, other = log.open(), log.open()
    log.acquire(session, "r")
    log.queue(other, "r")

    answer = log.queue(other, "r")

    assert (answer, log.effects, log.counts) == (
        (ID, Status.QUEUED, False, 0, 1),
        {},
        (1, 1, 2),
    )


def test_the_same_n_of_an_offer_is_offered_for_ever(log: Log) -> None:
    """The outcome of an acquire that had to wait is OFFERED, before and after it is taken up (L10)."""
    session, other = log.open(), log.open()
    log.acquire(session, "r")
    log.queue(other, "r")
    log.release("r", 1_001)

    before = log.queue(other, "r")
    log.renew("r", 1_002)
    after = log.queue(other, "r")

    assert (before, after) == (
        (ID, Status.OFFERED, True, 1, 1_002, 6),
        (ID, Status.OFFERED, True, 1, 1_002, 8),
    )


def test_the_same_n_of_a_grant_that_ended_is_not_held(log: Log) -> None:
    """A grant that is over is not granted again; the answer names the token that holds it now."""
    session, other = log.open(), log.open()
    log.acquire(session, "r")
    log.release("r", 1_001)

    free = log.acquire(session, "r")
    log.acquire(other, "r")
    taken = log.acquire(session, "r")

    assert (free, taken) == (
        (ID, Status.NOT_HELD, True, 0, 0),
        (ID, Status.NOT_HELD, True, 0, 1_002),
    )


def test_the_same_n_of_a_lock_cut_out_of_its_session_is_ending(log: Log) -> None:
    """An acquire whose lock was cut out of its session meanwhile makes no handle (R2, L9)."""
    session = log.open()
    log.acquire(session, "r", ttl_ms=0)
    log.force("r", 1_001, now=False)

    answer = log.acquire(session, "r", ttl_ms=0)

    assert answer == (ID, Status.ENDING, True, 1, 1_001)


def test_a_larger_n_leaves_the_grant_before(log: Log) -> None:
    """A slot used again forgets its grant, which lives on by its token."""
    session = log.open()
    log.acquire(session, "r")

    answer = log.acquire(session, "q", n=2)

    assert (answer, log.token("r")) == ((ID, Status.OK, True, 0, 1_002, 4), 1_001)


def test_a_larger_n_takes_the_waiter_before_out(log: Log) -> None:
    """An acquire that still waits in the slot is dropped: it must not be granted to nobody."""
    session, other = log.open(), log.open()
    log.acquire(session, "r")
    log.queue(other, "r")

    answer = log.acquire(other, "q", n=2)

    assert (answer, log.effects, log.counts) == (
        (ID, Status.OK, True, 0, 1_002, 6),
        {"granted": [("q", 1_002, 6)], "unqueued": [(other, 0, 1)]},
        (2, 0, 2),
    )


def test_a_larger_n_for_the_same_resource_queues_at_the_end(log: Log) -> None:
    """Who asks anew loses the place of the acquire before."""
    holder, first, second = log.open(), log.open(), log.open()
    log.acquire(holder, "r")
    log.queue(first, "r")
    log.queue(second, "r")

    answer = log.acquire(first, "r", n=2, wait_ms=9_000)
    log.release("r", 1_001)

    assert (answer, log.last.events[0][2]) == ((ID, Status.QUEUED, False, 0, 2), second)


# locks of sessions that ended (decision 9)


def test_an_acquire_takes_over_what_an_ended_session_held(log: Log) -> None:
    """A lock of an ended session is nobody's: the acquire hands it on first and gets it."""
    dead, session = log.open(), log.open()
    log.acquire(dead, "r", ttl_ms=0)
    log.close(dead)

    answer = log.acquire(session, "r")

    assert (answer, log.effects) == (
        (ID, Status.OK, True, 0, 1_002, 6),
        {"granted": [("r", 1_002, 6)], "ended": [1_001]},
    )


def test_an_acquire_meets_a_dead_lock_with_a_waiter(log: Log) -> None:
    """The waiter comes first: it is offered the lock, and the acquire gets HELD by it."""
    dead, waiter, session = log.open(), log.open(), log.open()
    log.acquire(dead, "r", ttl_ms=0)
    log.queue(waiter, "r")
    log.close(dead)

    answer = log.acquire(session, "r")

    assert (answer, log.effects) == (
        (ID, Status.HELD, True, 0, "ann", 1_002, wall(8)),
        {
            "granted": [("r", 1_002, 8)],
            "ended": [1_001],
            "unqueued": [(waiter, 0, 1)],
            "events": [(0, Event.OFFERED, waiter, 1, 0, 1, "r", 1_002, 8)],
        },
    )


def test_a_lease_of_its_own_outlives_its_session(log: Log) -> None:
    """Only locks that are tied to a session end with it."""
    dead, session = log.open(), log.open()
    log.acquire(dead, "r", ttl_ms=1_000)
    log.close(dead)

    answer = log.acquire(session, "r")

    assert answer == (ID, Status.HELD, True, 0, "ann", 1_001, wall(4))


# several requests in one entry


def test_an_entry_of_several_groups_is_answered_in_its_shape(log: Log) -> None:
    """Answers are parallel to the groups and their requests, and principals are the groups' own."""
    one, two = log.open(), log.open()

    answers = log.entry(
        (
            "ops",
            ADDRESS,
            (int(Op.ACQUIRE), 1, one, 0, 1, "a", "ann", 1_000, 0, None),
            (int(Op.ACQUIRE), 2, two, 0, 1, "a", "bob", 1_000, 0, None),
            (int(Op.ACQUIRE), 3, two, 1, 1, "b", "bob", 0, 0, None),
            (int(Op.RELEASE), 4, "b", 1_002),
            (int(Op.RELEASE), 5, "a", 1_001),
            (int(Op.RELEASE), 6, "a", 1_001),
        ),
        ("eve", ADDRESS, (int(Op.ACQUIRE), 7, one, 2, 1, "a", "eve", 90_000, 0, None)),
    )

    assert (answers, log.effects, log.counts, log.table.logged_count) == (
        [
            [
                (1, Status.OK, True, 0, 1_001, 4),
                (2, Status.HELD, True, 0, "ann", 1_001, wall(4)),
                (3, Status.OK, True, 0, 1_002, 4),
                (4, Status.OK, True),
                (5, Status.OK, True),
                (6, Status.NOT_HELD, True, 0),
            ],
            [(7, Status.OK, True, 0, 1_003, 4)],
        ],
        {
            "granted": [("a", 1_001, 4), ("b", 1_002, 4), ("a", 1_003, 4)],
            "ended": [1_002, 1_001],
        },
        (1, 0, 2),
        1,
    )


def test_a_session_closed_in_an_entry_acquires_nothing_after_it(log: Log) -> None:
    """What an entry's request changed holds for its next request."""
    session = log.open()

    answers = log.entry(
        (
            "",
            ADDRESS,
            (int(Op.ACQUIRE), 1, session, 0, 1, "a", "ann", 1_000, 0, None),
            (int(Op.CLOSE_SESSION), 2, session),
            (int(Op.ACQUIRE), 3, session, 1, 1, "b", "ann", 1_000, 0, None),
        )
    )

    assert answers == [
        [
            (1, Status.OK, True, 0, 1_001, 3),
            (2, Status.OK, True),
            (3, Status.SESSION_EXPIRED, True),
        ]
    ]


def test_a_refused_place_in_a_queue_is_recorded() -> None:
    """A full queue is the outcome of that key: a late duplicate gets it too, and the acquire before is forgotten."""
    log = Log()
    log.do(Op.SET_SETTINGS, {"waiters_per_resource_max": 1})
    session, other = log.open(), log.open()
    log.do(Op.ACQUIRE, other, 0, 1, "a", "o", 10_000, 0, None)
    log.do(Op.ACQUIRE, other, 1, 1, "b", "o", 10_000, 0, None)
    log.do(Op.ACQUIRE, other, 2, 1, "b", "o", 10_000, 9_000, None)
    log.do(Op.ACQUIRE, session, 0, 1, "a", "o", 10_000, 9_000, None)
    full = (session, 0, 2, "b", "o", 10_000, 9_000, None)
    refused = log.do(Op.ACQUIRE, *full)
    log.do(Op.CANCEL, other, 2, 1)

    assert (refused, log.do(Op.ACQUIRE, *full), log.table.waiter_count) == (
        (ID, Status.QUOTA_EXCEEDED, True, "waiters", 1),
        (ID, Status.QUOTA_EXCEEDED, True, "waiters", 1),
        0,
    )


def test_a_refusal_that_is_not_recorded_leaves_the_acquire_before_in_its_queue() -> None:
    """While acquires are refused after a restore, a waiter of the slot's smaller n still waits."""
    log = Log()
    session, other = log.open(), log.open()
    log.do(Op.ACQUIRE, other, 0, 1, "a", "o", 10_000, 0, None)
    waiting = (session, 0, 1, "a", "o", 10_000, 9_000, None)
    log.do(Op.ACQUIRE, *waiting)
    log.table.refuse_until_us = 1 << 40
    refused = log.do(Op.ACQUIRE, session, 0, 2, "b", "o", 10_000, 0, None)

    assert (refused[1:3], log.do(Op.ACQUIRE, *waiting)[1], log.table.waiter_count) == (
        (Status.OVERLOADED, False),
        Status.QUEUED,
        1,
    )


def test_a_known_key_is_answered_before_any_quota() -> None:
    """Lowering the number of slots takes nothing from a grant that was made in a higher one (R4)."""
    log = Log()
    session = log.open()
    acquire = (session, 9, 1, "a", "o", 10_000, 0, None)
    granted = log.do(Op.ACQUIRE, *acquire)
    log.do(Op.SET_SETTINGS, {"slots_max": 2})

    assert log.do(Op.ACQUIRE, *acquire) == granted
