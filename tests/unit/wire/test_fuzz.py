"""Whatever comes in, only BadFrame and BadField come out, and a server that got it goes on serving."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlock.server import door
from raftlock_wire import limits
from raftlock_wire.codec import pack, unpack
from raftlock_wire.errors import BadField, BadFrame
from raftlock_wire.membership import decode_membership
from raftlock_wire.messages import Event, Op, check_request
from raftlock_wire.status import Status
from tests.unit.wire import samples
from tests.unit.wire.samples import USUAL
from tests.unit.wire.served import Served, messages

scalars = (
    st.none()
    | st.booleans()
    | st.sampled_from([-1, 0, 1, 99, 100, 4_095, 4_096, limits.NUMBER_MAX, limits.NUMBER_MAX + 1])
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "x" * 512, "x" * 513, "ä" * 256, "ä" * 257])
    | st.binary(max_size=20)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.binary(max_size=2), inner, max_size=5)
    ),
    max_leaves=15,
)


@st.composite
def nearly_requests(draw: st.DrawFn) -> Any:
    """A good request with a few elements exchanged, dropped or added; or no request at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(values)
    request = list(draw(st.sampled_from(sorted(USUAL.items())))[1])
    for _ in range(draw(st.integers(0, 3))):
        position = draw(st.integers(0, len(request)))
        kind = draw(st.sampled_from(["exchange", "exchange", "exchange", "drop", "add"]))
        if kind == "add":
            request.insert(position, draw(values))
        elif position < len(request):
            request[position : position + 1] = [draw(values)] if kind == "exchange" else []
    return tuple(request)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """The bytes of a good frame, some of them changed, taken out or put in."""
    data = bytearray(pack(draw(st.sampled_from(sorted(samples.GOOD.items())))[1])[:2_000])
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, max(0, len(data) - 1)))
        data[position : position + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
    return bytes(data)


@settings(max_examples=400)
@given(damaged() | st.binary(max_size=80))
def test_a_frame_is_decoded_or_bad(data: bytes) -> None:
    """Damaged and random bytes give requests or BadFrame."""
    try:
        requests = door.decode_frame(data)
    except BadFrame as error:
        assert str(error)
    else:
        assert 1 <= len(requests) <= limits.FRAME_MESSAGES_MAX


@settings(max_examples=600)
@given(nearly_requests())
def test_a_request_is_good_or_names_its_field(request_: Any) -> None:
    """A request passes, or its BadField names a field and what is wrong with it."""
    try:
        check_request(request_)
    except BadField as error:
        assert error.field
        assert error.problem
    else:
        assert pack(request_)


@settings(max_examples=400)
@given(st.lists(nearly_requests(), min_size=1, max_size=5), st.integers(0, 5), st.booleans())
def test_each_request_of_a_frame_is_let_in_or_refused_once(
    requests: list[Any], room: int, attached: bool
) -> None:
    """The door keeps the client's bytes of what it lets in, refuses the rest, and loses none."""
    payload = pack(requests)
    try:
        decoded = door.decode_frame(payload)
    except BadFrame:
        return
    sorted_ = door.sort_out(payload, decoded, {5} if attached else set(), room, "queue")
    passed = [*sorted_.logged, *sorted_.others]

    assert len(passed) + len(sorted_.refused) == len(decoded)
    assert sorted(map(repr, unpack(sorted_.passed))) == sorted(map(repr, passed))
    assert {a[1] for a in sorted_.refused} <= {Status.BAD_REQUEST, Status.OVERLOADED}
    for request in passed:
        check_request(request)
        if request[0] in door.NAMES_SESSION:
            assert (attached, request[2]) == (True, 5)


@given(st.binary(max_size=60) | values.map(pack))
def test_a_membership_is_decoded_or_bad(data: bytes) -> None:
    """What a node reads as the members of its cluster is a membership, or BadFrame."""
    try:
        decode_membership(data)
    except BadFrame as error:
        assert str(error)


@pytest.fixture(scope="module")
def served() -> Served:
    """A cluster of one node that serves."""
    cluster = Served()
    cluster.until_served()
    return cluster


@settings(max_examples=150)
@given(st.lists(nearly_requests(), min_size=1, max_size=8).map(pack) | damaged())
def test_a_server_answers_everything_and_lives_on(served: Served, payload: bytes) -> None:
    """Each request is answered once, or the connection closed with a word; the next client is served as ever."""
    connection = served.connect()
    served.ask(connection, *USUAL[Op.HELLO])
    opened = served.ask(connection, Op.OPEN_SESSION, 2, connection.to_bytes(16, "big"), 10_000)
    served.drivers[1].clients.local[connection].attached.add(5)
    try:
        expected = len(door.decode_frame(payload))
    except BadFrame:
        expected = -1

    said = messages(served.send(connection, payload))

    if expected < 0:
        assert [m[:3] for m in said] == [(0, Event.GOODBYE, "bad_frame")]
    else:
        answers = [m for m in said if m[0] or m[1] in (Status.BAD_REQUEST, Status.OVERLOADED)]
        assert len(answers) == expected
    other = served.connect()
    served.ask(other, *USUAL[Op.HELLO])
    assert (opened[1], served.ask(other, *USUAL[Op.GET])[1]) == (Status.OK, Status.OK)
