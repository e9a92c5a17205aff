"""Each connection in its turn: what one asks without end is no burden to the others, and nothing that was sent is lost."""

import pytest

from raftlock_wire import limits
from raftlock_wire.codec import pack
from raftlock_wire.messages import Op
from raftlock_wire.status import Status
from tests.unit.server.kit import ACQUIRE, RELEASE, Nodes
from tests.unit.server.test_driver_clients import one_node

NODE_STATUS = int(Op.NODE_STATUS)
WORK_OF_STATUS = 20
"""What a frame of one NODE_STATUS is counted as (door.work)."""


def statuses(count: int) -> list[bytes]:
    """Return frames of one NODE_STATUS each."""
    return [pack([(NODE_STATUS, number)]) for number in range(1, count + 1)]


def test_a_connection_that_asks_without_end_waits_for_itself() -> None:
    """A turn takes on so much and no more, and who asks for one thing has it in the same turn."""
    nodes, flood = one_node()
    other = nodes.connect(1)
    for payload in statuses(5_000):
        nodes.send_bytes(flood, payload)
    nodes.send(other, (NODE_STATUS, 7))
    nodes.step()
    first = len(nodes.took(flood)), [m[:2] for m in nodes.took(other)]
    goes_on = nodes.wakes[1] == nodes.now_us
    nodes.run(30)

    assert first == (limits.TURN_WORK_MAX // WORK_OF_STATUS - 1, [(7, Status.OK)])
    assert (goes_on, first[0] + len(nodes.took(flood))) == (True, 5_000)


def test_what_is_sent_before_the_end_of_a_connection_is_done() -> None:
    """A client releases and hangs up: the release is done, however much of it waits before."""
    nodes, conn = one_node()
    session = nodes.open(conn)
    token = nodes.ask(conn, (ACQUIRE, 3, session, 0, 1, "r", "ann", 60_000, 0, None))[4]
    for payload in statuses(2_000):
        nodes.send_bytes(conn, payload)
    nodes.send(conn, (RELEASE, 5, "r", token))
    nodes.disconnect(conn)
    nodes.step()
    before = nodes.table().lookup("r") is not None
    nodes.run(30)

    assert (before, nodes.table().lookup("r"), nodes.drivers[1].front.waiting_size) == (
        True,
        None,
        0,
    )


def test_the_leader_is_told_of_an_end_after_the_last_request_before_it() -> None:
    """A late request of a closed connection would bring it back to life on the leader, for ever."""
    nodes = Nodes()
    leader = nodes.lead()
    nodes.until(lambda: nodes.drivers[nodes.follower()].ready)
    conn = nodes.connect(nodes.follower())
    for payload in statuses(2_000):
        nodes.send_bytes(conn, payload)
    nodes.send(conn, (int(Op.GET), 5, "r", False))
    nodes.disconnect(conn)
    nodes.run(30)

    assert (len(nodes.forwarded), nodes.drivers[leader].clients.remote) == (1, {})


def test_after_a_bad_frame_nothing_of_a_connection_is_looked_at() -> None:
    """It is closed: what waits behind the bad frame has no effect."""
    nodes, conn = one_node()
    session = nodes.open(conn)
    nodes.send_bytes(conn, b"\xc1")
    nodes.send(conn, (ACQUIRE, 3, session, 0, 1, "r", "ann", 60_000, 0, None))
    nodes.run(10)

    assert (nodes.closed, nodes.table().lookup("r"), nodes.drivers[1].front.waiting_size) == (
        [conn],
        None,
        0,
    )


def test_a_client_of_which_much_waits_is_not_read_from() -> None:
    """Until its frames have had their turns; a connection that is gone is read to its end."""
    nodes, conn = one_node()
    front = nodes.drivers[1].front
    wanted = [front.wants_input(conn)]
    for payload in statuses(limits.CLIENT_WAITING_SIZE_MAX // len(statuses(1)[0]) + 1):
        front.frame(conn, payload)
    wanted.append(front.wants_input(conn))
    nodes.run(30)

    assert (*wanted, front.wants_input(conn), front.wants_input(999)) == (True, False, True, True)


def test_the_last_quarter_of_the_ordinary_budget_is_for_who_asks_for_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A flood does not let others be told OVERLOADED (decision 16)."""
    monkeypatch.setattr(limits, "ORDINARY_REQUESTS_MAX", 400)
    nodes, flood = one_node()
    other = nodes.connect(1)
    sessions = nodes.open(flood), nodes.open(other)
    nodes.slow_disks = {1}
    acquires = [
        (ACQUIRE, 10 + n, sessions[0], n, 1, f"f{n}", "bob", 60_000, 0, None) for n in range(400)
    ]
    nodes.send(flood, *acquires)
    nodes.send(other, (ACQUIRE, 5, sessions[1], 0, 1, "r", "ann", 60_000, 0, None))
    nodes.run(3)
    refused = [m[1] for m in nodes.took(flood)]
    nodes.disk_goes_on(1)
    nodes.run(10)

    assert refused == [Status.OVERLOADED] * 100
    assert [m[:2] for m in nodes.took(other)] == [(5, Status.OK)]
