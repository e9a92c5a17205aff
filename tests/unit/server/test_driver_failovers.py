"""What a failover and a stall do to leases, over whole nodes in hand-made time: L5 to L7, L10."""

import pytest

from raftlock.server.driver import Driver
from raftlock_wire.messages import Event, Op
from raftlock_wire.status import Status
from tests.unit.server.kit import LATE_MS, MS, RELEASE, Nodes, fail_over, held, renew, with_lock

# failovers (L5, L6)


def test_after_a_failover_a_lease_has_its_full_ttl_from_the_election() -> None:
    """Its holder may have renewed it just before: the new leader gives it all of it, and no more (L5)."""
    nodes, _, _, _ = with_lock(ttl_ms=1_000)
    nodes.run(900)
    fail_over(nodes)

    passed = nodes.until(lambda: not held(nodes))

    # It serves a few turns after the election.
    assert 980 <= passed <= 1_000 + LATE_MS


def test_a_lease_of_the_logged_class_ends_at_its_stamp_whatever_happens() -> None:
    """The new leader goes on where the log says that it is: only the time without a leader is added (L6)."""
    nodes, _, _, _ = with_lock(ttl_ms=2_000, logged_renewal_ttl_ms=1_000)
    nodes.run(1_500)
    fail_over(nodes)

    passed = nodes.until(lambda: not held(nodes))

    # The lease clock goes on from the highest stamp in the log, which is at most half a second old.
    assert 400 <= passed <= 500 + 500 + LATE_MS


def test_a_renewal_of_the_logged_class_goes_through_the_log() -> None:
    """It sets the lease's rev, and its end counts from its stamp (L6)."""
    nodes, _, conn, token = with_lock(ttl_ms=2_000, logged_renewal_ttl_ms=1_000)
    before = nodes.table().lookup("r")
    nodes.run(1_500)
    answer = nodes.ask(conn, renew(5, ("r", token)))
    after = nodes.table().lookup("r")
    assert before is not None
    assert after is not None

    passed = nodes.until(lambda: not held(nodes), ms=3_000)

    assert (answer[3][0][0], after.rev > before.rev, after.stamp_us > before.stamp_us) == (
        Status.OK,
        True,
        True,
    )
    assert 1_990 <= passed <= 2_000 + LATE_MS


def test_a_new_leader_answers_nothing_before_it_has_applied_an_entry_of_its_own() -> None:
    """What comes meanwhile is held, and answered by the state after that entry (L5)."""
    nodes, old, _, token = with_lock(ttl_ms=10_000)
    nodes.slow_disks = {i for i in nodes.drivers if i != old}
    nodes.frozen.add(old)
    for peer in nodes.slow_disks:
        nodes.link_lost(peer, old)
    conns = {i: nodes.connect(i) for i in sorted(nodes.slow_disks)}
    for _ in range(300):
        # A vote is durable before it is given: the disks go on until one is elected, and not one write further.
        if any(d.is_leader for i, d in nodes.drivers.items() if i != old):
            break
        for i in list(nodes.slow_disks):
            nodes.disk_goes_on(i)
            nodes.slow_disks.add(i)
        nodes.step()
    new = next(i for i, d in nodes.drivers.items() if i != old and d.is_leader)
    nodes.send(conns[new], (int(Op.CHECK), 6, "r", token))
    nodes.run(50)
    silent = (nodes.drivers[new].serving, nodes.took(conns[new]))
    for i in list(nodes.slow_disks):
        nodes.disk_goes_on(i)
    nodes.run(20)

    assert (silent, nodes.took(conns[new])[0][:3]) == ((False, []), (6, Status.OK, True))


def test_an_offer_has_its_time_again_after_a_failover() -> None:
    """Nobody may have heard of it: the new leader gives it min(ttl, 2 s) from the election (L5, L10)."""
    nodes, leader, conn, token = with_lock(ttl_ms=10_000)
    waiter = nodes.connect(leader)
    other = nodes.open(waiter, ttl_ms=60_000)
    nodes.acquire(waiter, other, ttl_ms=60_000, wait_ms=60_000)
    nodes.ask(conn, (RELEASE, 4, "r", token))
    nodes.run(1_500)
    fail_over(nodes)

    passed = nodes.until(lambda: not held(nodes), ms=3_000)

    assert 1_980 <= passed <= 2_000 + LATE_MS


@pytest.mark.parametrize(("ttl_ms", "expected_ms"), [(500, 500), (60_000, 2_000), (0, 2_000)])
def test_an_offer_that_nobody_takes_up_passes_on(ttl_ms: int, expected_ms: int) -> None:
    """After min(ttl, 2 s); in a session, of the session's ttl (L10)."""
    nodes, leader, conn, token = with_lock(ttl_ms=10_000)
    waiter = nodes.connect(leader)
    session = nodes.open(waiter, ttl_ms=60_000)
    nodes.acquire(waiter, session, ttl_ms=ttl_ms, wait_ms=60_000)
    nodes.ask(conn, (RELEASE, 4, "r", token))

    passed = nodes.until(lambda: not held(nodes), ms=3_000)
    nodes.run(2)

    assert expected_ms - 10 <= passed <= expected_ms + LATE_MS
    assert [m[1] for m in nodes.took(waiter) if m[0] == 0] == [Event.OFFERED, Event.LOST]


@pytest.mark.parametrize("ttl_ms", [0, 5_000])
def test_an_offer_that_is_taken_up_is_a_lock(ttl_ms: int) -> None:
    """Its first renewal goes through the log, and its time as an offer is over (L10)."""
    nodes, leader, conn, token = with_lock(ttl_ms=10_000)
    waiter = nodes.connect(leader)
    session = nodes.open(waiter, ttl_ms=60_000)
    nodes.acquire(waiter, session, ttl_ms=ttl_ms, wait_ms=60_000)
    nodes.ask(conn, (RELEASE, 4, "r", token))
    index = nodes.drivers[leader].raft.last_index
    answer = nodes.ask(waiter, renew(5, ("r", token + 1)))
    logged = nodes.drivers[leader].raft.last_index - index
    nodes.run(2_500)

    assert (answer[3][0][0], logged, held(nodes)) == (Status.OK, 1, True)


def test_a_session_lives_for_its_ttl_again_after_a_failover() -> None:
    """Sessions are never of the logged class: they count from the election (L5, L6)."""
    nodes = Nodes(logged_renewal_ttl_ms=0)
    conn = nodes.connect(nodes.lead())
    nodes.open(conn, ttl_ms=1_000)
    nodes.run(900)
    fail_over(nodes)

    passed = nodes.until(lambda: nodes.leader() and nodes.table().session_count == 0)

    assert 980 <= passed <= 1_000 + LATE_MS


# the lease clock (L7)


def test_a_stall_of_the_leader_ends_no_lease() -> None:
    """A turn that comes 900 ms late is not counted: renewals may lie unread in the sockets (L7)."""
    nodes, leader, _, token = with_lock(ttl_ms=1_000, count=1)
    nodes.run(500)
    nodes.step(900 * MS)
    after = held(nodes)

    passed = nodes.until(lambda: not held(nodes))

    assert (after, 480 <= passed <= 500 + LATE_MS, leader, token > 0) == (True, True, 1, True)


def last_stamp(driver: Driver) -> int:
    """Return the highest stamp in a node's log."""
    return driver.raft.last_stamp_us


def test_stamps_go_on_while_a_logged_lease_exists() -> None:
    """At least every 500 ms one is appended, so that a new leader knows how far the clock is; else none is (L7)."""
    nodes, leader, conn, token = with_lock(ttl_ms=5_000, logged_renewal_ttl_ms=1_000)
    driver = nodes.drivers[leader]
    gaps = []
    for _ in range(1_500):
        nodes.step()
        gaps.append(driver.clock.stamp_us - last_stamp(driver))
    nodes.ask(conn, (RELEASE, 4, "r", token))
    index = driver.raft.last_index
    nodes.run(1_500)

    assert (max(gaps) <= 500 * MS, driver.raft.last_index) == (True, index)


def test_a_new_leader_continues_the_clock_of_its_log() -> None:
    """Not its own, which ran on while the cluster's stood still (L7; seed 0 of the simulator)."""
    nodes, old, _, _ = with_lock(ttl_ms=5_000, logged_renewal_ttl_ms=1_000)
    nodes.run(700)
    new = fail_over(nodes)
    elected = [n for i, n in nodes.notices if i == new and n.event == "elected"]
    log_stamp = last_stamp(nodes.drivers[old])
    first = nodes.drivers[new].raft.entry(nodes.drivers[new].raft.state.own_first_index).stamp_us

    assert (len(elected), first) == (1, log_stamp)
