"""The messages between members: what goes in comes out, and what is none of them is refused at the link."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlock.raft import (
    AppendEntries,
    AppendEntriesResult,
    InstallSnapshot,
    InstallSnapshotResult,
    Message,
    RequestVote,
    RequestVoteResult,
    TimeoutNow,
)
from raftlock.server import peer_codec
from raftlock_wire.codec import pack, unpack
from raftlock_wire.entry import Entry, EntryKind, SnapshotMeta
from raftlock_wire.errors import BadFrame
from raftlock_wire.ids import Index, NodeId, Term
from tests.unit.server.kit import Nodes, members_of

numbers = st.integers(0, (1 << 53) - 1)
terms = numbers.map(Term)
indexes = numbers.map(Index)
nodes_ = st.integers(1, 65_535).map(NodeId)
hashes = st.binary(min_size=32, max_size=32)
memberships = st.integers(1, 5).map(lambda count: members_of(count).encode())
metas = st.builds(SnapshotMeta, indexes, terms, numbers, numbers, memberships, numbers, hashes)


@st.composite
def appends(draw: Any) -> AppendEntries:
    """Draw an AppendEntries whose entries follow prev_log_index."""
    prev = draw(st.integers(0, 1 << 40))
    kinds = draw(st.lists(st.sampled_from(EntryKind), max_size=4))
    entries = tuple(
        Entry(
            Index(prev + i),
            draw(terms),
            kind,
            draw(numbers),
            draw(numbers),
            members_of(draw(st.integers(1, 5))).encode()
            if kind is EntryKind.MEMBERSHIP
            else draw(st.binary()),
        )
        for i, kind in enumerate(kinds, 1)
    )
    return AppendEntries(
        term=draw(terms),
        leader_id=draw(nodes_),
        prev_log_index=Index(prev),
        prev_log_term=draw(terms),
        entries=entries,
        leader_commit=draw(indexes),
        round=draw(numbers),
    )


messages: st.SearchStrategy[Message] = st.one_of(
    appends(),
    st.builds(
        RequestVote,
        term=terms,
        last_log_index=indexes,
        last_log_term=terms,
        pre_vote=st.booleans(),
        transfer=st.booleans(),
    ),
    st.builds(
        RequestVoteResult,
        term=terms,
        granted=st.booleans(),
        pre_vote=st.booleans(),
        asked_term=terms,
    ),
    st.builds(
        AppendEntriesResult,
        term=terms,
        success=st.booleans(),
        match_index=indexes,
        conflict_term=terms,
        conflict_index=indexes,
        round=numbers,
    ),
    st.builds(
        InstallSnapshot,
        term=terms,
        leader_id=nodes_,
        meta=metas,
        offset=numbers,
        data=st.binary(),
        done=st.booleans(),
        round=numbers,
    ),
    st.builds(
        InstallSnapshotResult,
        term=terms,
        meta_index=indexes,
        meta_sha256=hashes,
        next_offset=numbers,
        round=numbers,
    ),
    st.builds(TimeoutNow, term=terms),
)


@settings(max_examples=500, deadline=None)
@given(message=messages)
def test_a_message_comes_out_as_it_went_in(message: Message) -> None:
    """Every field, of every kind, entries and their kinds included."""
    assert peer_codec.decode(peer_codec.encode(message)) == message


@pytest.mark.parametrize(
    ("payload", "code", "content"),
    [
        (
            peer_codec.encode_forward([(7, "ops", "host:1", b"\x91\x05")]),
            peer_codec.FORWARD,
            ((7, "ops", "host:1", b"\x91\x05"),),
        ),
        (
            peer_codec.encode_forward_result([(7, b"\x90")]),
            peer_codec.FORWARD_RESULT,
            ((7, b"\x90"),),
        ),
        (peer_codec.encode_forward_closed([7, 8]), peer_codec.FORWARD_CLOSED, (7, 8)),
    ],
)
def test_what_is_forwarded_comes_out_as_it_went_in(payload: bytes, code: int, content: Any) -> None:
    """The client's bytes are not looked at on the way (decision 2, R7)."""
    assert peer_codec.decode(payload) == (code, content)


@pytest.mark.parametrize("number", [-1, 1 << 53, (1 << 64) - 1])
def test_a_number_that_no_member_has_is_refused(number: int) -> None:
    """A term made durable that no frame can carry would be the end of its node, at each start again."""
    with pytest.raises(BadFrame, match=f"is {number}, not 0 to {(1 << 53) - 1}"):
        peer_codec.decode(pack([peer_codec.REQUEST_VOTE, number, 0, 0, False, False]))


odd = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-1, 70), st.floats(), st.text(max_size=3), st.binary(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=9), st.dictionaries(st.text(max_size=2), inner, max_size=2)),
    max_leaves=10,
)  # fmt: skip


@st.composite
def damaged(draw: Any) -> bytes:
    """Draw a member's message with one field replaced, removed or added, or with bytes changed."""
    message = draw(messages)
    payload = peer_codec.encode(message)
    way = draw(st.integers(0, 3))
    if way == 3:
        position = draw(st.integers(0, len(payload) - 1))
        return payload[:position] + bytes([draw(st.integers(0, 255))]) + payload[position + 1 :]
    fields: list[Any] = list(unpack(payload, array_count_max=1 << 20))
    position = draw(st.integers(0, len(fields) - 1))
    if way == 0:
        fields[position] = draw(odd)
    elif way == 1:
        del fields[position]
    else:
        fields.insert(position, draw(odd))
    return pack(fields)


@settings(max_examples=1_000, deadline=None)
@given(payload=st.one_of(st.binary(max_size=40), odd.map(pack), damaged()))
def test_what_is_no_message_is_refused_where_the_link_can_be_closed(payload: bytes) -> None:
    """BadFrame, when the frame arrives and by nothing else: a turn that failed would end the node."""
    try:
        message = peer_codec.decode(payload)
    except BadFrame:
        return
    if not isinstance(message, tuple):
        # Whatever was taken is of the types that consensus counts with: it goes through once more unchanged.
        assert peer_codec.decode(peer_codec.encode(message)) == message


@pytest.mark.parametrize(
    "content",
    [
        ((7, "ops", "host:1"),),
        ((7, "ops", "host:1", "text"),),
        (("7", "ops", "host:1", b""),),
        (7,),
        ((7, 8, "host:1", b""),),
        ((True, "ops", "host:1", b""),),
    ],
)
def test_a_forwarded_request_of_another_shape_is_refused(content: Any) -> None:
    """Each is (connection, principal, address, frame)."""
    with pytest.raises(BadFrame):
        peer_codec.decode(pack((peer_codec.FORWARD, content)))


@pytest.mark.parametrize(
    ("code", "content"),
    [
        (peer_codec.FORWARD_RESULT, ((7,),)),
        (peer_codec.FORWARD_RESULT, ((7, "text"),)),
        (peer_codec.FORWARD_RESULT, (7,)),
        (peer_codec.FORWARD_CLOSED, ("7",)),
        (peer_codec.FORWARD_CLOSED, ((7,),)),
        (peer_codec.FORWARD_CLOSED, 7),
    ],
)
def test_a_forwarded_result_of_another_shape_is_refused(code: int, content: Any) -> None:
    """Each is (connection, payload), or a connection."""
    with pytest.raises(BadFrame):
        peer_codec.decode(pack((code, content)))


@pytest.mark.parametrize(
    "payload",
    [
        pack((2, 1, True)),
        pack(({},)),
        pack((1, "x", 0, 0, 0, 0)),
        pack((3, 1, 2, 0, 0, ((1, -1, 0, 0, b""),), 0, 0)),
        b"",
    ],
)
def test_a_node_goes_on_after_a_members_bad_frame(payload: bytes) -> None:
    """The link is closed; nothing of it reaches a turn."""
    nodes = Nodes()
    leader = nodes.lead()

    with pytest.raises(BadFrame):
        nodes.drivers[leader].peer_frame(NodeId(nodes.follower()), payload)
    nodes.run(50)

    assert nodes.leader() == leader


def test_a_membership_that_is_none_is_refused_with_its_frame() -> None:
    """An entry whose data is no membership closes the link; taken, it would end the node in a turn."""
    bad = Entry(Index(5), Term(1), EntryKind.MEMBERSHIP, 0, 0, b"\x93\x01\x02\x03")
    message = AppendEntries(
        term=Term(1),
        leader_id=NodeId(2),
        prev_log_index=Index(4),
        prev_log_term=Term(1),
        entries=(bad,),
        leader_commit=Index(0),
        round=0,
    )
    frame = peer_codec.encode(message)

    with pytest.raises(BadFrame):
        peer_codec.decode(frame)
