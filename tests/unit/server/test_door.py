"""The door: the short way and the careful one agree on every frame, and nothing ill-formed gets past either."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from raftlock.server import door
from raftlock_wire import limits
from raftlock_wire.codec import pack, unpack
from raftlock_wire.errors import BadFrame
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

ACQUIRE, RELEASE = int(Op.ACQUIRE), int(Op.RELEASE)
NUMBER_MAX = limits.NUMBER_MAX

odd: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, 0, -1, 1.0, "", b"", b"r", (), {}, {"k": "v"}, NUMBER_MAX + 1, 1 << 63, "x" * 129, "é" * 300]
)  # fmt: skip


def field(good: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return mostly good values, and odd ones."""
    return st.one_of(good, good, good, good, good, good, good, odd)


ids = field(st.integers(1, 50) | st.just(NUMBER_MAX))
sessions = field(st.sampled_from([1, 1, 1, 2, 3]))
names = field(st.sampled_from(["r", "x" * 128, "x" * 512, "é"]))
owners = field(st.sampled_from(["ann", "o" * 64, "o" * 256]))
ttls = field(st.sampled_from([0, 99, 100, 1_000, 86_400_000, 86_400_001]))
acquires = st.tuples(
    st.sampled_from([ACQUIRE, ACQUIRE, ACQUIRE, ACQUIRE, float(ACQUIRE)]),
    ids,
    sessions,
    field(st.integers(0, 4_096)),
    field(st.integers(1, 9)),
    names,
    owners,
    ttls,
    field(st.sampled_from([0, 1, 86_400_000, 86_400_001])),
    st.sampled_from([None, None, None, {"k": "v"}, {}]),
)
releases = st.tuples(
    st.sampled_from([RELEASE] * 5 + [float(RELEASE)]), ids, names, field(st.integers(1, 9))
)
others = st.one_of(
    st.tuples(field(st.integers(0, 41)), ids),
    st.tuples(st.just(int(Op.KEEP_ALIVE)), ids, sessions),
    st.tuples(st.just(int(Op.CANCEL)), ids, sessions, st.integers(0, 3), st.integers(1, 3)),
    st.tuples(
        st.just(int(Op.OPEN_SESSION)), ids, st.binary(min_size=16, max_size=16), st.just(5_000)
    ),
    st.tuples(st.just(int(Op.GET)), ids, names, st.booleans()),
    st.tuples(st.just(int(Op.NODE_STATUS)), ids),
    st.tuples(st.just(int(Op.RENEW)), ids, st.just((("r", 1),))),
    odd,
    st.lists(odd, max_size=11).map(tuple),
)
frames = st.lists(
    st.one_of(acquires, acquires, releases, releases, others), min_size=1, max_size=6
).map(tuple)
plain_frames = st.lists(st.one_of(acquires, releases), min_size=1, max_size=6).map(tuple)


def decoded(requests: tuple[Any, ...]) -> tuple[bytes, tuple[Any, ...]]:
    """Return a frame's bytes and what they decode to; discard what cannot even be encoded or decoded."""
    try:
        payload = pack(requests)
        return payload, door.decode_frame(payload)
    except (BadFrame, OverflowError):
        assume(False)
        raise AssertionError from None


@settings(max_examples=1_500, deadline=None)
@given(
    requests=st.one_of(frames, plain_frames),
    attached=st.sampled_from([None, set(), {1}, {1, 2}]),
    room=st.sampled_from([0, 1, 3, 100]),
)
def test_the_short_way_and_the_careful_one_agree(
    requests: tuple[Any, ...], attached: set[int] | None, room: int
) -> None:
    """Whatever a frame holds, `sort_out` gives what looking at each request with every care gives."""
    payload, found = decoded(requests)

    assert door.sort_out(payload, found, attached, room, "queue") == door._sort_slowly(
        payload, found, attached, room, "queue"
    )


@settings(max_examples=800, deadline=None)
@given(requests=frames, attached=st.sampled_from([None, {1}]), room=st.sampled_from([0, 2, 100]))
def test_each_request_goes_one_way_and_keeps_its_bytes(
    requests: tuple[Any, ...], attached: set[int] | None, room: int
) -> None:
    """Logged, other or refused: together they are the frame, and the client's bytes are passed on unchanged."""
    payload, found = decoded(requests)

    sorted_ = door.sort_out(payload, found, attached, room, "queue")

    passed = unpack(sorted_.passed)
    assert len(sorted_.logged) + len(sorted_.others) + len(sorted_.refused) == len(found)
    assert [r for r in passed if r[0] in door.LOGGED] == list(sorted_.logged)
    assert [r for r in passed if r[0] not in door.LOGGED] == sorted_.others
    assert unpack(door.array_header(len(sorted_.logged)) + sorted_.body) == sorted_.logged
    assert all(answer[2] is False for answer in sorted_.refused)
    assert sorted_.ordinary == sum(r[0] in door.ORDINARY for r in sorted_.logged)


def test_a_plain_frame_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Acquires of one session and releases are what nearly all load is: nothing of them is looked at twice."""
    monkeypatch.setattr(door, "_sort_slowly", None)
    requests = (
        (ACQUIRE, 1, 5, 0, 1, "r", "ann", 1_000, 0, None),
        (RELEASE, 2, "q", 9),
        (ACQUIRE, 3, 5, 1, 1, "s", "ann", 0, 5_000, None),
    )
    payload = pack(requests)

    sorted_ = door.sort_out(payload, requests, {5}, 100, "queue")

    assert sorted_ == door.Sorted(payload[1:], requests, 2, [], [], True, 5, payload)


@pytest.mark.parametrize("count", [1, 15, 16, 300])
def test_the_body_is_the_clients_own_bytes(count: int) -> None:
    """Whatever the size of the array's header, behind it everything stays as it was sent (decision 2)."""
    # A wide integer where a narrow one would do: an encoding that only this client would choose.
    one = b"\x94\x0a\xcd\x00\x07\xa1r\x01"
    payload = bytes(door.array_header(count)) + one * count

    sorted_ = door.sort_out(payload, door.decode_frame(payload), None, 1_000, "queue")

    assert (sorted_.body, sorted_.passed) == (one * count, payload)


def test_beyond_the_room_ordinary_requests_are_refused_and_reserved_ones_are_not() -> None:
    """Release, cancel and renew go on when the ordinary budget is used up (decision 16)."""
    requests = (
        (ACQUIRE, 1, 5, 0, 1, "r", "ann", 1_000, 0, None),
        (ACQUIRE, 2, 5, 1, 1, "s", "ann", 1_000, 0, None),
        (RELEASE, 3, "q", 9),
        (int(Op.RENEW), 4, (("q", 9),)),
        (int(Op.GET), 5, "q", False),
    )

    sorted_ = door.sort_out(pack(requests), requests, None, 1, "queue")

    assert ([r[1] for r in (*sorted_.logged, *sorted_.others)], sorted_.refused) == (
        [1, 3, 4],
        [(2, Status.OVERLOADED, False, 50, "queue"), (5, Status.OVERLOADED, False, 50, "queue")],
    )


def test_a_session_that_is_not_attached_may_not_be_named() -> None:
    """Who does not know its nonce says nothing for it; a member that forwards has checked that itself (R7)."""
    requests = (
        (ACQUIRE, 1, 5, 0, 1, "r", "ann", 1_000, 0, None),
        (int(Op.KEEP_ALIVE), 2, 5),
        (int(Op.CANCEL), 3, 5, 0, 1),
        (int(Op.CLOSE_SESSION), 4, 5),
    )
    seen = [
        [a[:4] for a in door.sort_out(pack(requests), requests, attached, 9, "queue").refused]
        for attached in ({6}, {5}, None)
    ]

    assert seen == [[(i, Status.BAD_REQUEST, False, "session") for i in (1, 2, 3, 4)], [], []]


@pytest.mark.parametrize(
    ("request_", "request_id", "field_name"),
    [
        ((RELEASE, 7, "r"), 7, "request"),
        ((RELEASE, 7, "r", 0), 7, "token"),
        ((99, 7), 7, "code"),
        ((RELEASE, 0, "r", 1), 0, "request_id"),
        ((RELEASE, "7", "r", 1), 0, "request_id"),
        (7, 0, "request"),
        ((), 0, "request"),
        (None, 0, "request"),
    ],
)
def test_a_refusal_names_the_field_and_the_request_if_it_can(
    request_: Any, request_id: int, field_name: str
) -> None:
    """Nothing is closed for a bad request: it is answered, by id 0 if it has none."""
    requests = (request_,)

    (answer,) = door.sort_out(pack(requests), requests, None, 9, "queue").refused

    assert answer[:4] == (request_id, Status.BAD_REQUEST, False, field_name)


@pytest.mark.parametrize(
    "payload", [pack(5), pack({}), pack(()), b"", b"\xc1", pack([1]) + b"\x00"]
)
def test_a_frame_is_an_array_of_messages(payload: bytes) -> None:
    """Anything else closes the connection, with an error that says so."""
    with pytest.raises(BadFrame):
        door.decode_frame(payload)


def test_a_frame_with_too_many_messages_is_refused() -> None:
    """The bound is on the array, before anything in it is looked at (decision 16)."""
    with pytest.raises(BadFrame):
        door.decode_frame(pack([1] * (limits.FRAME_MESSAGES_MAX + 1)))


def test_without_takes_requests_out_and_keeps_the_rest_as_it_was() -> None:
    """What is answered here is not passed on; the bytes of the rest are the client's."""
    requests = (
        (int(Op.NODE_STATUS), 1),
        (RELEASE, 2, "q", 9),
        (int(Op.GET), 3, "q", False),
    )
    sorted_ = door.sort_out(pack(requests), requests, None, 9, "queue")

    rest = door.without(sorted_, {1}, [(1, 0)])
    nothing = door.without(sorted_, {1, 2, 3}, [])

    assert (rest.logged, rest.others, rest.refused, rest.passed, rest.body) == (
        requests[1:2],
        [requests[2]],
        [(1, 0)],
        pack(requests[1:]),
        pack(requests[1]),
    )
    assert (nothing.logged, nothing.others, nothing.passed) == ((), [], pack(()))
