"""Leases and waits over whole nodes in hand-made time: L3, L4, R5, and what a leader does by itself."""

import pytest

from raftlock_wire import limits
from raftlock_wire.messages import Event, Op
from raftlock_wire.status import Status
from tests.unit.server.kit import (
    LATE_MS,
    MS,
    RELEASE,
    Nodes,
    fail_over,
    held,
    keep_alive,
    renew,
    with_lock,
)

# never early, bounded late (guarantees 3 and 4)


def test_a_lease_ends_after_its_ttl_and_not_long_after() -> None:
    """Without a renewal it is there for its whole ttl from the answer on, and gone soon after (guarantees 3, 4)."""
    nodes, _, _, _ = with_lock(ttl_ms=1_000)

    passed = nodes.until(lambda: not held(nodes))

    assert 990 <= passed <= 1_000 + LATE_MS


def test_a_renewal_counts_from_its_receipt() -> None:
    """A lease that is renewed after 800 ms is there for its ttl from then on (L4)."""
    nodes, _, conn, token = with_lock(ttl_ms=1_000)
    nodes.run(800)
    answer = nodes.ask(conn, renew(5, ("r", token)))

    passed = nodes.until(lambda: not held(nodes))

    assert (answer[:3], answer[3][0][0], 990 <= passed <= 1_000 + LATE_MS) == (
        (5, Status.OK, True),
        Status.OK,
        True,
    )


def test_input_of_a_turn_comes_before_what_is_due_in_it() -> None:
    """A renewal that lies unread when its lease comes due is read first: no Expire is proposed (L3)."""
    nodes, leader, conn, token = with_lock(ttl_ms=1_000)
    index = nodes.drivers[leader].raft.last_index
    # The renewal and the deadline fall into one turn, which is not long enough to be a stall.
    nodes.run(975)
    nodes.send(conn, renew(5, ("r", token)))
    nodes.step(49 * MS)
    nodes.run(20)

    assert (held(nodes), nodes.drivers[leader].raft.last_index) == (True, index)


def test_a_renewal_that_waits_for_its_turn_comes_before_what_came_due_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It came in time, behind so much else that its turn is after the deadline: no Expire is proposed (L3)."""
    nodes, leader, conn, token = with_lock(ttl_ms=1_000)
    index = nodes.drivers[leader].raft.last_index
    nodes.run(900)
    monkeypatch.setattr(limits, "TURN_WORK_MAX", 10)
    for number in range(200):
        nodes.send(conn, (int(Op.NODE_STATUS), 100 + number))
    nodes.send(conn, renew(5, ("r", token)))
    nodes.run(150)
    late = len([m for m in nodes.took(conn) if m[0] == 5])
    nodes.run(100)
    answers = [m for m in nodes.took(conn) if m[0] == 5]

    assert (late, answers[0][3][0][0], held(nodes)) == (0, Status.OK, True)
    assert nodes.drivers[leader].raft.last_index == index


# commands in flight (L3)


def test_a_renewal_waits_for_the_expire_in_flight() -> None:
    """It is not answered while the Expire is in the log without a quorum, and then NOT_HELD by the state after it."""
    nodes, leader, conn, token = with_lock(ttl_ms=1_000)
    nodes.run(900)
    nodes.slow_disks = set(nodes.drivers)
    nodes.run(130)
    expiring = nodes.drivers[leader].leading.leases.in_flight(token)
    nodes.send(conn, renew(5, ("r", token)))
    nodes.run(15)
    waiting = nodes.took(conn)
    for i in nodes.drivers:
        nodes.disk_goes_on(i)
    nodes.run(10)

    assert (expiring, waiting, nodes.took(conn)) == (
        True,
        [],
        [(5, Status.OK, True, ((Status.NOT_HELD, 0),))],
    )


def test_a_renewal_waits_for_the_change_of_ttl_in_flight_and_keeps_its_receipt() -> None:
    """It goes on by the new ttl from when it was read, not from when the change was applied (L3)."""
    nodes, leader, conn, token = with_lock(ttl_ms=1_000)
    rev = nodes.table().lookup("r").rev  # type: ignore[union-attr]
    nodes.slow_disks = set(nodes.drivers)
    nodes.send(conn, (int(Op.CHANGE_TTL), 4, "r", token, 2_000, rev))
    nodes.run(5)
    nodes.send(conn, renew(5, ("r", token)))
    nodes.run(2)
    receipt_us = nodes.drivers[leader].clock.stamp_us
    nodes.run(60)
    waiting = nodes.took(conn)
    for i in nodes.drivers:
        nodes.disk_goes_on(i)
    nodes.run(10)
    answers = {m[0]: m for m in nodes.took(conn)}
    deadline_us = nodes.drivers[leader].leading.leases.locks.deadlines[token]

    assert (waiting, answers[4][1], answers[5][3][0][0], answers[5][3][0][3]) == (
        [],
        Status.OK,
        Status.OK,
        2_000,
    )
    assert receipt_us - 2 * MS <= deadline_us - 2_000 * MS <= receipt_us


@pytest.mark.parametrize("when", ["expire", "force"])
def test_a_renewal_that_waits_is_unknown_when_leadership_ends(when: str) -> None:
    """What is in flight may yet be applied, under another leader (L3, R4)."""
    nodes, leader, conn, token = with_lock(ttl_ms=1_000)
    if when == "expire":
        nodes.run(900)
    nodes.slow_disks = set(nodes.drivers)
    if when == "force":
        nodes.send(conn, (int(Op.FORCE_RELEASE), 4, "r", token, "why", True))
    nodes.run(130 if when == "expire" else 5)
    nodes.send(conn, renew(5, ("r", token)))
    nodes.run(5)
    nodes.isolate(leader)
    nodes.until(lambda: not nodes.drivers[leader].is_leader)
    answers = {m[0]: m for m in nodes.took(conn)}

    assert answers[5] == (5, Status.OK, False, ((Status.UNKNOWN,),))


def test_a_keep_alive_waits_for_the_expire_of_its_session() -> None:
    """A session whose end is in the log is not kept alive: the answer comes after it, SESSION_EXPIRED (L3)."""
    nodes = Nodes()
    leader = nodes.lead()
    conn = nodes.connect(leader)
    session = nodes.open(conn, ttl_ms=1_000)
    nodes.run(900)
    nodes.slow_disks = set(nodes.drivers)
    nodes.run(130)
    nodes.send(conn, keep_alive(5, session))
    nodes.run(10)
    waiting = nodes.took(conn)
    for i in nodes.drivers:
        nodes.disk_goes_on(i)
    nodes.run(10)

    assert (waiting, [m for m in nodes.took(conn) if m[0]]) == (
        [],
        [(5, Status.SESSION_EXPIRED, True)],
    )


def test_an_expire_that_met_a_change_leaves_the_lease_with_its_new_deadline() -> None:
    """Behind a change of the ttl in the log it has no effect, and the lease goes on by the new ttl (L2, L3)."""
    nodes, leader, conn, token = with_lock(ttl_ms=1_000)
    rev = nodes.table().lookup("r").rev  # type: ignore[union-attr]
    nodes.run(900)
    nodes.slow_disks = set(nodes.drivers)
    nodes.send(conn, (int(Op.CHANGE_TTL), 4, "r", token, 1_500, rev))
    nodes.run(130)
    for i in nodes.drivers:
        nodes.disk_goes_on(i)
    nodes.run(40)
    after = held(nodes)
    passed = nodes.until(lambda: not held(nodes))

    assert (after, nodes.took(conn)[0][:2], passed < 1_500) == (True, (4, Status.OK), True)
    assert nodes.drivers[leader].leading.leases.in_flight(token) is False


# quorum rounds (L4)


def test_a_renewal_is_answered_by_a_quorum_only() -> None:
    """Cut off from its peers, a leader answers neither renewals nor keep-alives nor reads, and then says so."""
    nodes, leader, conn, token = with_lock(ttl_ms=10_000)
    nodes.run(5)
    nodes.isolate(leader)
    nodes.send(conn, renew(5, ("r", token)), (int(Op.CHECK), 6, "r", token))
    nodes.send(conn, (int(Op.GET), 7, "r", False))
    nodes.run(60)
    silent = nodes.took(conn)
    nodes.until(lambda: not nodes.drivers[leader].is_leader)
    answers = {m[0]: m for m in nodes.took(conn)}

    assert (silent, answers[5], answers[6][1:3], answers[7][1:3]) == (
        [],
        (5, Status.OK, False, ((Status.NO_QUORUM,),)),
        (Status.NO_QUORUM, False),
        (Status.NO_QUORUM, False),
    )


def test_a_deposed_leader_that_does_not_know_it_confirms_nothing() -> None:
    """While another leads and grants, the old one answers no check by its own table (L4)."""
    nodes, old, conn, token = with_lock(ttl_ms=10_000)
    nodes.frozen.add(old)
    nodes.run(10)
    new = nodes.lead()
    other = nodes.connect(new)
    nodes.ask(other, (RELEASE, 4, "r", token))
    nodes.frozen.discard(old)
    nodes.isolate(old)
    nodes.send(conn, (int(Op.CHECK), 6, "r", token))
    nodes.run(400)

    assert [m[:3] for m in nodes.took(conn) if m[0] == 6] in (
        [(6, Status.NO_QUORUM, False)],
        [(6, Status.UNKNOWN, False)],
    )


def test_one_round_serves_all_that_came_before_it() -> None:
    """Renewals of one turn cost one round, and no entry in the log (L4)."""
    nodes, leader, conn, token = with_lock()
    driver = nodes.drivers[leader]
    nodes.run(5)
    before = (driver.raft.state.round, driver.raft.last_index)
    nodes.send(conn, *[renew(i, ("r", token)) for i in range(1, 60)])
    nodes.run(5)

    assert (
        len(nodes.took(conn)),
        driver.raft.state.round - before[0],
        driver.raft.last_index - before[1],
    ) == (59, 1, 0)


def test_a_logged_request_keeps_its_session_alive() -> None:
    """A client that only acquires and releases needs no keep-alive (L4)."""
    nodes = Nodes()
    conn = nodes.connect(nodes.lead())
    session = nodes.open(conn, ttl_ms=1_000)
    for n in range(1, 6):
        nodes.run(700)
        answer = nodes.acquire(conn, session, n=n)
        nodes.ask(conn, (RELEASE, 4, "r", answer[4]))

    assert nodes.ask(conn, keep_alive(5, session)) == (5, Status.OK, True, 0)


# waits (R5)


def test_a_wait_ends_by_the_log_in_its_time() -> None:
    """TIMEOUT is pushed when the WaitTimeout is applied, not before (R5)."""
    nodes, leader, _, _ = with_lock(ttl_ms=10_000)
    waiter = nodes.connect(leader)
    session = nodes.open(waiter)
    nodes.acquire(waiter, session, wait_ms=700)
    nodes.took(waiter)

    passed = nodes.until(lambda: nodes.table().waiter_count == 0)
    nodes.run(2)

    assert (690 <= passed <= 700 + LATE_MS, nodes.took(waiter)) == (
        True,
        [(0, Event.TIMEOUT, session, 1, 0, 1)],
    )


def test_a_wait_has_its_full_time_after_a_failover() -> None:
    """Its deadline is leader memory: a new leader gives it again, from the election (R5)."""
    nodes, leader, _, _ = with_lock(ttl_ms=60_000)
    waiter = nodes.connect(leader)
    session = nodes.open(waiter)
    nodes.acquire(waiter, session, wait_ms=1_000)
    nodes.run(900)
    fail_over(nodes)

    passed = nodes.until(lambda: nodes.table().waiter_count == 0)

    assert 980 <= passed <= 1_000 + LATE_MS


@pytest.mark.parametrize("between", ["nothing", "cancel"])
def test_a_slot_that_waits_again_times_out_again(between: str) -> None:
    """The acquire that takes the place of one that waits has a deadline of its own, in the same entry too (R2, R5)."""
    nodes, leader, _, _ = with_lock(ttl_ms=60_000)
    waiter = nodes.connect(leader)
    session = nodes.open(waiter)
    nodes.acquire(waiter, session, wait_ms=5_000)
    again = (int(Op.ACQUIRE), 8, session, 0, 2, "r", "ann", 1_000, 700, None)
    cancel = (int(Op.CANCEL), 7, session, 0, 1)
    nodes.send(waiter, *([cancel, again] if between == "cancel" else [again]))
    nodes.run(5)
    nodes.took(waiter)

    passed = nodes.until(lambda: nodes.table().waiter_count == 0)
    nodes.run(2)

    assert (passed <= 700 + LATE_MS, nodes.took(waiter)) == (
        True,
        [(0, Event.TIMEOUT, session, 1, 0, 2)],
    )


# what goes on by itself (decision 9)


def test_what_a_session_leaves_is_handed_on_by_the_leader() -> None:
    """The end of a session passes its locks to who waits, without anybody asking (guarantees 5 and 7)."""
    nodes = Nodes()
    leader = nodes.lead()
    conn, waiter = nodes.connect(leader), nodes.connect(leader)
    session, other = nodes.open(conn), nodes.open(waiter)
    nodes.acquire(conn, session, ttl_ms=0)
    nodes.acquire(waiter, other, wait_ms=9_000)
    nodes.ask(conn, (int(Op.CLOSE_SESSION), 4, session))
    nodes.run(10)

    assert ([m[1] for m in nodes.took(waiter) if m[0] == 0], nodes.table().open_sweeps()) == (
        [Event.OFFERED],
        [],
    )


def test_a_new_leader_goes_on_with_sweeps_that_are_open() -> None:
    """The state shows what is left to do, whoever leads (decision 9)."""
    nodes, leader, conn, _ = with_lock(ttl_ms=60_000)
    session = nodes.open(conn)
    nodes.acquire(conn, session, "s", ttl_ms=0)
    nodes.until(lambda: all(d.applied_index == d.raft.last_index for d in nodes.drivers.values()))
    nodes.send(conn, (int(Op.CLOSE_SESSION), 4, session))
    # The session is closed everywhere, and the Sweep that follows reaches nobody.
    nodes.until(lambda: any(d.table.ending for i, d in nodes.drivers.items() if i == leader), ms=50)
    nodes.isolate(leader)
    nodes.frozen.add(leader)
    nodes.lead()
    nodes.run(300)

    assert (nodes.leader() != leader, nodes.table().open_sweeps(), nodes.table().lock_count) == (
        True,
        [],
        1,
    )
