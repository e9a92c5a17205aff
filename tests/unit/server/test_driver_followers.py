"""Clients of a node that does not lead: what it sends on, and what they hear when the leader goes (R6, R7)."""

import pytest

from raftlock_wire.messages import Event
from raftlock_wire.status import Status
from tests.unit.server.kit import ACQUIRE, RELEASE, Nodes, keep_alive

# followers (R6, R7)


def test_a_follower_passes_a_request_on_once() -> None:
    """It sends it to the leader, and gives the answer back under the client's own id (R7)."""
    nodes = Nodes()
    leader = nodes.lead()
    follower = nodes.follower()
    conn = nodes.connect(follower)
    session = nodes.open(conn)
    nodes.forwarded.clear()
    answer = nodes.acquire(conn, session)
    nodes.run(200)

    grant = nodes.table().lookup("r")
    assert grant is not None
    assert (answer[1], nodes.forwarded, grant.address) == (
        Status.OK,
        [(follower, leader)],
        f"c{conn}",
    )


@pytest.mark.parametrize("told", [True, False])
def test_a_follower_that_loses_the_leader_says_unknown(told: bool) -> None:
    """Never NO_QUORUM or OVERLOADED for what it sent on: it may have had its effect (R7)."""
    nodes = Nodes()
    leader = nodes.lead()
    follower = nodes.follower()
    conn = nodes.connect(follower)
    session = nodes.open(conn)
    nodes.run(5)
    nodes.cut |= {(leader, follower)}
    nodes.send(conn, (ACQUIRE, 5, session, 0, 1, "r", "ann", 9_000, 0, None))
    nodes.run(3)
    silent = nodes.took(conn)
    if told:
        nodes.link_lost(follower, leader)
    nodes.until(lambda: any(m[0] == 5 for m in nodes._inbox[conn]))
    found = nodes.took(conn)

    assert (silent, [m for m in found if m[0] == 5], nodes.table(leader).lock_count) == (
        [],
        [(5, Status.UNKNOWN, False)],
        1,
    )
    assert (0, Event.ROUTES_LOST) in found


def test_a_late_result_for_what_was_answered_unknown_is_dropped() -> None:
    """A request has one answer (R7)."""
    nodes = Nodes()
    leader = nodes.lead()
    follower = nodes.follower()
    conn = nodes.connect(follower)
    session = nodes.open(conn)
    nodes.slow_disks = set(nodes.drivers)
    nodes.send(conn, (ACQUIRE, 5, session, 0, 1, "r", "ann", 9_000, 0, None))
    nodes.run(5)
    nodes.link_lost(follower, leader)
    nodes.step()
    first = [m for m in nodes.took(conn) if m[0] == 5]
    for i in nodes.drivers:
        nodes.disk_goes_on(i)
    nodes.run(20)

    assert (first, [m for m in nodes.took(conn) if m[0] == 5]) == ([(5, Status.UNKNOWN, False)], [])


def test_a_follower_never_answers_for_the_liveness_of_a_session() -> None:
    """A keep-alive is answered by the leader or not at all: here the session ends in spite of it (R6)."""
    nodes = Nodes()
    leader = nodes.lead()
    follower = nodes.follower()
    conn = nodes.connect(follower)
    session = nodes.open(conn, ttl_ms=1_000)
    nodes.cut |= {(follower, leader)}
    answers = []
    for _ in range(12):
        nodes.send(conn, keep_alive(5, session))
        nodes.run(100)
        answers += [m for m in nodes.took(conn) if m[0] == 5]

    assert [a for a in answers if a[1] == Status.OK] == []


def test_a_change_of_leader_is_told_to_attached_clients_of_every_node() -> None:
    """routes_lost, so that they send a keep-alive and see what they missed (R6)."""
    nodes = Nodes()
    old = nodes.lead()
    conns = {i: nodes.connect(i) for i in nodes.drivers}
    for conn in conns.values():
        nodes.open(conn, ttl_ms=60_000)
    without = nodes.connect(nodes.follower())
    nodes.run(10)
    for conn in conns.values():
        nodes.took(conn)
    nodes.isolate(old)
    nodes.until(lambda: nodes.leader() not in (0, old) and not nodes.drivers[old].is_leader)
    nodes.run(5)

    told = {i: (0, Event.ROUTES_LOST) in nodes.took(conn) for i, conn in conns.items()}
    assert (told, nodes.took(without)) == ({1: True, 2: True, 3: True}, [])


def test_an_event_reaches_a_client_behind_a_follower() -> None:
    """The offer is pushed through the node that serves the connection (R6, guarantee 5)."""
    nodes = Nodes()
    leader = nodes.lead()
    holder, waiter = nodes.connect(leader), nodes.connect(nodes.follower())
    token = nodes.acquire(holder, nodes.open(holder), ttl_ms=9_000)[4]
    session = nodes.open(waiter)
    nodes.acquire(waiter, session, wait_ms=9_000)
    nodes.ask(holder, (RELEASE, 5, "r", token))
    nodes.run(5)

    assert [m[:4] for m in nodes.took(waiter)] == [(0, Event.OFFERED, session, 1)]


def test_without_a_leader_nothing_is_taken() -> None:
    """NO_QUORUM, not final: this attempt had no effect (R4)."""
    nodes = Nodes()
    nodes.lead()
    conn = nodes.connect(nodes.follower())
    nodes.cut = {(a, b) for a in nodes.drivers for b in nodes.drivers}
    nodes.run(700)
    nodes.took(conn)

    assert nodes.ask(conn, (RELEASE, 5, "q", 1))[:3] == (5, Status.NO_QUORUM, False)


def test_a_connection_that_closes_behind_a_follower_is_forgotten_by_the_leader() -> None:
    """Its routes are gone; its session and its locks are not (guarantee 7)."""
    nodes = Nodes()
    leader = nodes.lead()
    conn = nodes.connect(nodes.follower())
    session = nodes.open(conn)
    nodes.acquire(conn, session, ttl_ms=0)
    before = len(nodes.drivers[leader].clients.remote)
    nodes.disconnect(conn)
    nodes.run(5)

    assert (before, nodes.drivers[leader].clients.remote, nodes.table().lock_count) == (1, {}, 1)


def test_connections_behind_a_node_that_is_gone_are_forgotten() -> None:
    """All of them at once, when the link is lost."""
    nodes = Nodes()
    leader = nodes.lead()
    follower = nodes.follower()
    for _ in range(3):
        nodes.open(nodes.connect(follower))
    before = len(nodes.drivers[leader].clients.remote)
    nodes.link_lost(leader, follower)
    nodes.run(5)

    assert (before, nodes.drivers[leader].clients.remote) == (3, {})


def test_a_leader_that_steps_down_forgets_connections_behind_followers() -> None:
    """They close by the new leader's knowledge only: nothing would ever forget them here."""
    nodes = Nodes()
    old = nodes.lead()
    follower = nodes.follower()
    nodes.open(nodes.connect(follower), ttl_ms=60_000)
    nodes.isolate(old)
    nodes.until(lambda: not nodes.drivers[old].is_leader)

    assert nodes.drivers[old].clients.remote == {}
