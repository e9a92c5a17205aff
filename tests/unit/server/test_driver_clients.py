"""What clients may send and what they get: hello, ids used twice, budgets, the end of leadership, stale reads."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlock.server import front
from raftlock_wire import limits
from raftlock_wire.codec import pack
from raftlock_wire.messages import Event, Op
from raftlock_wire.status import Status
from tests.unit.server.kit import ACQUIRE, CLUSTER_ID, RELEASE, WALL_US, Nodes, keep_alive, renew

HELLO, OPEN, ATTACH = int(Op.HELLO), int(Op.OPEN_SESSION), int(Op.ATTACH)
NONCE = b"n" * 16
NODE_STATUS = int(Op.NODE_STATUS)


def one_node() -> tuple[Nodes, int]:
    """Return a cluster of one that serves, and a connection to it."""
    nodes = Nodes(1)
    return nodes, nodes.connect(nodes.lead())


# hello


@pytest.mark.parametrize(
    ("hello", "answer"),
    [
        ((HELLO, 1, 1, 9, None, None, "test"), (1, Status.OK, True)),
        ((HELLO, 1, 1, 1, CLUSTER_ID, None, "test"), (1, Status.OK, True)),
        ((HELLO, 1, 2, 9, None, None, "test"), (1, Status.UNSUPPORTED_VERSION, False)),
        ((HELLO, 1, 1, 1, "d" * 32, None, "test"), (1, Status.BAD_REQUEST, False)),
        ((HELLO, 1, 1, 1), (0, Status.BAD_REQUEST, False)),
        ((NODE_STATUS, 1), (0, Status.BAD_REQUEST, False)),
        (5, (0, Status.BAD_REQUEST, False)),
        ({}, (0, Status.BAD_REQUEST, False)),
    ],
)
def test_the_first_frame_is_a_hello(hello: Any, answer: tuple[Any, ...]) -> None:
    """A version that is spoken, of this cluster: else an answer that says why, a goodbye, and the end."""
    nodes = Nodes(1)
    conn = nodes.connect(nodes.lead(), greet=False)
    nodes.send(conn, hello)
    nodes.run(2)
    found = nodes.took(conn)
    fine = answer[1] == Status.OK

    assert (found[0][:3], [m[:3] for m in found[1:]], nodes.closed) == (
        answer,
        [] if fine else [(0, Event.GOODBYE, "hello")],
        [] if fine else [conn],
    )


def test_a_second_message_beside_the_hello_is_refused() -> None:
    """Nothing is asked before the version is settled."""
    nodes = Nodes(1)
    conn = nodes.connect(nodes.lead(), greet=False)
    nodes.send(conn, (HELLO, 1, 1, 1, None, None, "test"), (NODE_STATUS, 2))
    nodes.run(2)

    assert (nodes.took(conn)[0][1], nodes.closed) == (Status.BAD_REQUEST, [conn])


def test_a_second_hello_is_a_bad_request() -> None:
    """The connection lives on."""
    nodes, conn = one_node()

    answer = nodes.ask(conn, (HELLO, 5, 1, 1, None, None, "test"))

    assert (answer[:3], nodes.closed) == ((5, Status.BAD_REQUEST, False), [])


@pytest.mark.parametrize("payload", [b"", b"\xc1", pack(7), pack(()), pack([1]) + b"x"])
def test_bytes_that_are_no_frame_close_the_connection(payload: bytes) -> None:
    """With a goodbye that says why; the node goes on."""
    nodes, conn = one_node()
    nodes.send_bytes(conn, payload)
    nodes.run(2)

    assert ([m[:3] for m in nodes.took(conn)], nodes.closed, nodes.leader()) == (
        [(0, Event.GOODBYE, "bad_frame")],
        [conn],
        1,
    )


odd = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-2, 50),
        st.just(2**63),
        st.floats(allow_nan=False),
        st.text(max_size=5),
        st.binary(max_size=17),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=10), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)
real = st.sampled_from(
    [
        (OPEN, 7, NONCE, 5_000),
        (ATTACH, 7, 1, NONCE),
        (NODE_STATUS, 7),
        (ACQUIRE, 7, 1, 0, 1, "r", "ann", 0, 0, None),
        (int(Op.RENEW), 7, (("r", 1),)),
        (int(Op.LIST), 7, 0, "", "", 9, True),
        (int(Op.GET), 7, "r", True),
        (int(Op.CHECK), 7, "r", 1),
        (int(Op.KEEP_ALIVE), 7, 1),
        (int(Op.CANCEL), 7, 1, 0, 1),
    ]
)


@settings(max_examples=300, deadline=None)
@given(frames=st.lists(st.lists(st.one_of(odd, real), min_size=1, max_size=6), max_size=4))
def test_no_input_ends_a_node(frames: list[list[Any]]) -> None:
    """Whatever a client sends in well-formed msgpack, with one id for all of it, the node goes on serving others."""
    nodes, conn = one_node()
    for frame in frames:
        nodes.send(conn, *frame)
    nodes.run(5)
    other = nodes.connect(1)

    assert nodes.ask(other, (NODE_STATUS, 5))[:3] == (5, Status.OK, True)


# sessions on a connection


@pytest.mark.parametrize(
    "beside",
    [
        (NODE_STATUS, 7),
        (int(Op.RENEW), 7, (("r", 1),)),
        (int(Op.LIST), 7, 0, "", "", 9, True),
        (ACQUIRE, 7, 2, 5, 1, "q", "eve", 1_000, 0, None),
    ],
)
@pytest.mark.parametrize("opening", [(ATTACH, 7, 1, b"x" * 16), (OPEN, 7, NONCE, 5_000)])
def test_an_id_used_twice_attaches_nobody_elses_session(
    beside: tuple[Any, ...], opening: tuple[Any, ...]
) -> None:
    """The answer to another request under the id of an attach is not taken for its answer (R6)."""
    nodes, conn = one_node()
    assert nodes.open(conn) == 1
    thief = nodes.connect(1)
    assert nodes.open(thief) == 2
    # The thief's count is 1, the id of the other's session: it got a lock of its own taken away.
    token = nodes.acquire(thief, 2, "own")[4]
    nodes.ask(thief, (int(Op.FORCE_RELEASE), 4, "own", token, "why", True))
    nodes.send(thief, beside, opening)
    nodes.run(5)

    attached = nodes.drivers[1].clients.local[thief].attached
    assert attached <= {2, 3}
    assert nodes.ask(thief, keep_alive(9, 1))[1] == Status.BAD_REQUEST


def test_attach_needs_the_nonce() -> None:
    """With it a connection speaks for the session, without it not; an ended session cannot be attached."""
    nodes, conn = one_node()
    session = nodes.ask(conn, (OPEN, 2, NONCE, 5_000))[3]
    other = nodes.connect(1)
    answers = [
        nodes.ask(other, (ATTACH, 3, session, b"x" * 16)),
        nodes.ask(other, keep_alive(4, session)),
        nodes.ask(other, (ATTACH, 5, session, NONCE)),
        nodes.ask(other, keep_alive(6, session)),
        nodes.ask(other, (ATTACH, 7, 99, NONCE)),
    ]

    assert [a[1] for a in answers] == [
        Status.FORBIDDEN,
        Status.BAD_REQUEST,
        Status.OK,
        Status.OK,
        Status.SESSION_EXPIRED,
    ]
    assert answers[2] == (5, Status.OK, True, session, 5_000, 0)


def test_sessions_of_a_connection_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are being opened count; a refused one leaves room (decision 16)."""
    monkeypatch.setattr(limits, "SESSIONS_PER_CONNECTION_MAX", 2)
    nodes, conn = one_node()
    nodes.send(conn, *[(OPEN, i, bytes([i]) * 16, 5_000) for i in (1, 2, 3)], (RELEASE, 4, "r", 1))
    nodes.run(5)
    answers = {m[0]: m[1] for m in nodes.took(conn)}

    assert answers == {1: Status.OK, 2: Status.OK, 3: Status.QUOTA_EXCEEDED, 4: Status.NOT_HELD}


def test_the_end_of_a_session_is_told_and_detaches_it() -> None:
    """The client hears of it at once and may not name it any more on this connection (R6)."""
    nodes, conn = one_node()
    session = nodes.open(conn, ttl_ms=1_000)
    nodes.took(conn)
    nodes.run(1_100)

    assert (nodes.took(conn), nodes.ask(conn, keep_alive(9, session))[1]) == (
        [(0, Event.SESSION_ENDED, session, 0)],
        Status.BAD_REQUEST,
    )


# budgets (decision 16)


def test_ordinary_requests_are_refused_beyond_their_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """OVERLOADED before it is appended; release and renew go through; the budget is free again after the answers."""
    monkeypatch.setattr(limits, "ORDINARY_REQUESTS_MAX", 2)
    nodes, conn = one_node()
    session = nodes.open(conn)
    nodes.slow_disks = {1}
    acquires = [(ACQUIRE, i, session, i, 1, f"r{i}", "ann", 1_000, 0, None) for i in range(1, 5)]
    nodes.send(conn, *acquires[:2])
    nodes.run(2)
    nodes.send(conn, acquires[2], (RELEASE, 9, "q", 1))
    nodes.run(2)
    refused = nodes.took(conn)
    nodes.disk_goes_on(1)
    nodes.run(5)
    answers = {m[0]: m[1] for m in nodes.took(conn)}

    assert (refused, answers, nodes.ask(conn, acquires[3])[1]) == (
        [(3, Status.OVERLOADED, False, 50, "queue")],
        {1: Status.OK, 2: Status.OK, 9: Status.NOT_HELD},
        Status.OK,
    )
    assert (nodes.drivers[1].leading.ordinary, nodes.drivers[1].leading.requests) == (0, 0)


def test_all_requests_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each item of a renew counts; beyond the bound everything is OVERLOADED, and nothing is lost of the count."""
    monkeypatch.setattr(front, "REQUESTS_MAX", 10)
    nodes, conn = one_node()
    nodes.slow_disks = {1}
    session_less = [("r", i) for i in range(1, 10)]
    nodes.send(conn, (int(Op.FORCE_RELEASE), 1, "r", 1, "why", True))
    nodes.run(2)
    nodes.send(conn, renew(2, *session_less, ("r", 10)))
    nodes.send(conn, (RELEASE, 3, "r", 1))
    nodes.step()
    refused = nodes.took(conn)
    nodes.disk_goes_on(1)
    nodes.run(10)

    assert (refused, sorted(m[0] for m in nodes.took(conn)), nodes.drivers[1].leading.requests) == (
        [(3, Status.OVERLOADED, False, 50, "queue")],
        [1, 2],
        0,
    )


@pytest.mark.parametrize("count", [1, 3])
def test_without_room_on_the_disk_new_acquires_are_refused(count: int) -> None:
    """Reserved requests go on, and a leader that has somebody to hand over to does (decisions 12, 16, 17)."""
    nodes = Nodes(count)
    leader = nodes.lead()
    conn = nodes.connect(leader)
    session = nodes.open(conn)
    token = nodes.acquire(conn, session)[4]
    nodes.no_room = {leader}
    nodes.ask(conn, (RELEASE, 5, "q", 1))
    nodes.run(5)
    if count == 1:
        answers = [
            nodes.acquire(conn, session, "s", slot=1),
            nodes.ask(conn, (RELEASE, 6, "r", token)),
        ]
        assert [a[1:] for a in answers] == [
            (Status.OVERLOADED, False, 50, "disk"),
            (Status.OK, True),
        ]
    else:
        nodes.until(lambda: nodes.leader() not in (0, leader))
        assert nodes.table().lookup("r") is not None


def test_a_disk_that_does_not_answer_makes_a_leader_hand_over() -> None:
    """A write that takes longer than an election timeout is a stall that clients must not wait for (decision 17)."""
    nodes = Nodes()
    leader = nodes.lead()
    conn = nodes.connect(leader)
    session = nodes.open(conn)
    nodes.slow_disks = {leader}
    nodes.send(conn, (ACQUIRE, 5, session, 0, 1, "r", "ann", 9_000, 0, None))

    passed = nodes.until(lambda: nodes.leader() not in (0, leader), ms=1_000)

    assert 150 <= passed <= 400


def test_frames_for_a_leader_that_does_not_serve_yet_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond the bound they are told that this attempt was not taken (L5, decision 16)."""
    monkeypatch.setattr(limits, "WAITING_SIZE_MAX", 20)
    nodes = Nodes(1)
    nodes.slow_disks = {1}
    conn = nodes.connect(1)
    nodes.until(
        lambda: nodes.drivers[1].raft.state.hard_state_unsaved or nodes.drivers[1].is_leader
    )
    for _ in range(5):
        nodes.disk_goes_on(1)
        nodes.slow_disks.add(1)
        nodes.step()
        if nodes.drivers[1].is_leader:
            break
    nodes.send(conn, (RELEASE, 5, "q", 1))
    nodes.send(conn, (RELEASE, 6, "q" * 20, 1))
    nodes.run(3)
    refused = nodes.took(conn)
    nodes.disk_goes_on(1)
    nodes.run(10)

    assert (nodes.drivers[1].serving, [m[:3] for m in refused], nodes.took(conn)) == (
        True,
        [(6, Status.OVERLOADED, False)],
        [(5, Status.NOT_HELD, True, 0)],
    )


# the end of leadership (R4)


def test_what_was_appended_is_unknown_and_the_rest_was_not_taken() -> None:
    """A leader that steps down never says "failed" for an entry that may yet be committed (R4)."""
    nodes = Nodes()
    leader = nodes.lead()
    conn = nodes.connect(leader)
    session = nodes.open(conn)
    nodes.run(5)
    nodes.isolate(leader)
    nodes.slow_disks = {leader}
    acquires = [(ACQUIRE, i, session, i, 1, f"r{i}", "ann", 9_000, 0, None) for i in (5, 6)]
    nodes.send(conn, acquires[0])
    nodes.run(2)
    # The write of the first is under way: the second waits in the batcher (decision 1).
    nodes.send(conn, acquires[1])
    nodes.run(2)
    nodes.until(lambda: not nodes.drivers[leader].is_leader)
    answers = {m[0]: m[1:3] for m in nodes.took(conn) if m[0]}

    assert answers == {5: (Status.UNKNOWN, False), 6: (Status.NO_QUORUM, False)}


def test_an_unknown_acquire_that_was_committed_after_all_is_found_by_its_key() -> None:
    """Sent again to the new leader, it gets the grant that it already has, once (guarantee 6, R2)."""
    nodes = Nodes()
    leader = nodes.lead()
    conn = nodes.connect(leader)
    answer = nodes.ask(conn, (OPEN, 2, NONCE, 60_000))
    session = answer[3]
    acquire = (ACQUIRE, 5, session, 0, 1, "r", "ann", 9_000, 0, None)
    nodes.send(conn, acquire)
    nodes.step()
    # Its entries go out, and the answers of the followers come back to nobody.
    nodes.cut |= {(i, leader) for i in nodes.drivers}
    nodes.run(3)
    nodes.frozen.add(leader)
    new = nodes.lead()
    other = nodes.connect(new)
    nodes.ask(other, (ATTACH, 3, session, NONCE))
    again = nodes.ask(other, acquire)

    assert (again[1], nodes.table().lock_count, again[4]) == (
        Status.OK,
        1,
        nodes.table().lookup("r").token,  # type: ignore[union-attr]
    )


# stale reads and status


def test_a_stale_read_is_answered_by_any_node_and_says_its_age() -> None:
    """Without a leader too; what the leader would say of the lease's end is left out."""
    nodes = Nodes()
    leader = nodes.lead()
    conn = nodes.connect(leader)
    nodes.acquire(conn, nodes.open(conn, ttl_ms=60_000), ttl_ms=60_000)
    nodes.run(50)
    follower = nodes.follower()
    other = nodes.connect(follower)
    nodes.isolate(follower)
    nodes.run(1_000)
    answer = nodes.ask(other, (int(Op.GET), 5, "r", True))
    listed = nodes.ask(other, (int(Op.LIST), 6, 0, "", "", 9, True))

    assert (answer[1:3], answer[3] >= 1_000, answer[4][0], answer[4][14]) == (
        (Status.OK, True),
        True,
        "r",
        None,
    )
    assert (listed[4][0][0], listed[5]) == ("r", "")


def test_a_read_by_the_leader_says_when_a_lease_ends() -> None:
    """An estimate, added by the leader when it answers."""
    nodes, conn = one_node()
    session = nodes.open(conn, ttl_ms=60_000)
    nodes.acquire(conn, session, ttl_ms=1_000)
    nodes.acquire(conn, session, "tied", slot=1, ttl_ms=0)
    nodes.run(300)
    own = nodes.ask(conn, (int(Op.GET), 5, "r", False))[4][14]
    tied = nodes.ask(conn, (int(Op.GET), 6, "tied", False))[4][14]
    none = nodes.ask(conn, (int(Op.GET), 7, "free", False))[4]

    assert (650 <= own <= 700, tied, none) == (True, None, None)


def test_the_first_tokens_are_the_wall_clocks_microseconds() -> None:
    """Genesis starts the counter there, in the log: ahead of any earlier life of the cluster (T1)."""
    nodes = Nodes()
    conn = nodes.connect(nodes.lead())
    token = nodes.acquire(conn, nodes.open(conn))[4]
    nodes.until(lambda: all(d.table.token == token for d in nodes.drivers.values()), ms=100)

    assert WALL_US < token < WALL_US + nodes.now_us


def test_a_node_that_stops_says_goodbye() -> None:
    """Every client hears that it is meant, and goes to another node at once."""
    nodes, conn = one_node()
    nodes.drivers[1].stop()
    nodes.step()

    assert ([m[:3] for m in nodes.took(conn)], nodes.closed) == (
        [(0, Event.GOODBYE, "stopping")],
        [conn],
    )
