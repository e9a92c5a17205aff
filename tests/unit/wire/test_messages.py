"""The checks of requests: an error names the field, and what is allowed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftlock_wire import limits
from raftlock_wire.codec import pack, unpack
from raftlock_wire.errors import BadField, BadFrame, FrameTooLarge
from raftlock_wire.invariant import InvariantViolation, check
from raftlock_wire.membership import (
    Member,
    Membership,
    cluster_id_of,
    decode_membership,
    membership,
)
from raftlock_wire.messages import CHECKS, Op, check_request

GOOD: dict[Op, tuple[Any, ...]] = {
    Op.HELLO: (1, 1, 1, 1, None, None, "test"),
    Op.OPEN_SESSION: (2, 1, b"n" * 16, 10_000),
    Op.ATTACH: (3, 1, 5, b"n" * 16),
    Op.KEEP_ALIVE: (4, 1, 5),
    Op.CLOSE_SESSION: (5, 1, 5),
    Op.ACQUIRE: (6, 1, 5, 0, 1, "order:1", "me", 10_000, 0, None),
    Op.CANCEL: (7, 1, 5, 0, 1),
    Op.RENEW: (8, 1, (("order:1", 7),)),
    Op.CHANGE_TTL: (9, 1, "order:1", 7, 5_000, 3),
    Op.RELEASE: (10, 1, "order:1", 7),
    Op.CHECK: (11, 1, "order:1", 7),
    Op.GET: (12, 1, "order:1", False),
    Op.LIST: (13, 1, 0, "order:", "", 100, False),
    Op.FORCE_RELEASE: (14, 1, "order:1", 7, "stuck", True),
    Op.NODE_STATUS: (15, 1),
    Op.MEMBERS: (16, 1),
    Op.ADD_MEMBER: (17, 1, 4, "f" * 32, "n4:7411", "n4:7401"),
    Op.PROMOTE_MEMBER: (18, 1, 4, "f" * 32),
    Op.REMOVE_MEMBER: (19, 1, 4, "f" * 32),
    Op.AUDIT_READ: (20, 1, 1, 0, "order:1", None, None, 7, "acquire", 0, None, 100),
}
BAD = [
    (Op.HELLO, 2, 0, "version_min"),
    (Op.HELLO, 3, 0, "version_max"),
    (Op.HELLO, 4, "", "cluster_id"),
    (Op.HELLO, 5, 3, "auth"),
    (Op.HELLO, 6, "x" * 257, "client_name"),
    (Op.OPEN_SESSION, 2, b"short", "nonce"),
    (Op.OPEN_SESSION, 3, 999, "ttl_ms"),
    (Op.OPEN_SESSION, 3, 300_001, "ttl_ms"),
    (Op.ATTACH, 2, 0, "session"),
    (Op.ATTACH, 3, "n" * 16, "nonce"),
    (Op.KEEP_ALIVE, 2, True, "session"),
    (Op.ACQUIRE, 2, 0, "session"),
    (Op.ACQUIRE, 3, limits.SLOTS_MAX, "slot"),
    (Op.ACQUIRE, 4, 0, "n"),
    (Op.ACQUIRE, 5, "", "resource"),
    (Op.ACQUIRE, 5, "ä" * 257, "resource"),
    (Op.ACQUIRE, 5, b"bytes", "resource"),
    (Op.ACQUIRE, 6, "o" * 257, "owner"),
    (Op.ACQUIRE, 7, 99, "ttl_ms"),
    (Op.ACQUIRE, 7, 1.5, "ttl_ms"),
    (Op.ACQUIRE, 7, False, "ttl_ms"),
    (Op.ACQUIRE, 7, 86_400_001, "ttl_ms"),
    (Op.ACQUIRE, 8, -1, "wait_ms"),
    (Op.ACQUIRE, 9, [], "metadata"),
    (Op.ACQUIRE, 9, {"a": 1}, "metadata"),
    (Op.ACQUIRE, 9, {"a": "x" * 1_100}, "metadata"),
    (Op.CANCEL, 4, 1 << 53, "n"),
    (Op.RENEW, 2, (), "leases"),
    (Op.RENEW, 2, (("r", 1, 2),), "leases"),
    (Op.RENEW, 2, (("r", 0),), "token"),
    (Op.RENEW, 2, tuple(("r", 1) for _ in range(1_001)), "leases"),
    (Op.CHANGE_TTL, 4, 0, "ttl_ms"),
    (Op.CHANGE_TTL, 5, 0, "rev"),
    (Op.RELEASE, 3, -1, "token"),
    (Op.GET, 3, 1, "stale"),
    (Op.LIST, 2, 3, "by"),
    (Op.LIST, 5, 0, "limit"),
    (Op.FORCE_RELEASE, 4, "", "reason"),
    (Op.FORCE_RELEASE, 5, "now", "now"),
    (Op.NODE_STATUS, 1, 0, "request_id"),
    (Op.ADD_MEMBER, 2, 0, "node_id"),
    (Op.ADD_MEMBER, 4, "", "peer_address"),
    (Op.ADD_MEMBER, 5, "x" * 262, "client_address"),
    (Op.PROMOTE_MEMBER, 2, 65_536, "node_id"),
    (Op.REMOVE_MEMBER, 3, "", "incarnation"),
    (Op.AUDIT_READ, 2, 0, "from_index"),
    (Op.AUDIT_READ, 3, -1, "from_position"),
    (Op.AUDIT_READ, 4, "", "resource"),
    (Op.AUDIT_READ, 5, "x" * 513, "prefix"),
    (Op.AUDIT_READ, 6, 7, "owner"),
    (Op.AUDIT_READ, 7, 0, "token"),
    (Op.AUDIT_READ, 8, "x" * 33, "operation"),
    (Op.AUDIT_READ, 9, "now", "since_us"),
    (Op.AUDIT_READ, 10, 1 << 53, "until_us"),
    (Op.AUDIT_READ, 11, 1_001, "limit"),
]


@pytest.mark.parametrize("op", sorted(GOOD))
def test_a_good_request_passes_also_over_the_wire(op: Op) -> None:
    """Each kind of request has an example that is accepted, before and after encoding."""
    check_request(GOOD[op])
    check_request(unpack(pack(GOOD[op])))

    assert set(GOOD) == set(CHECKS)


@pytest.mark.parametrize(("op", "position", "value", "field"), BAD)
def test_a_bad_field_is_named_with_what_is_allowed(
    op: Op, position: int, value: Any, field: str
) -> None:
    """Out of range, or of another type: the error names the field."""
    request = (*GOOD[op][:position], value, *GOOD[op][position + 1 :])

    with pytest.raises(BadField) as caught:
        check_request(request)

    assert caught.value.field == field


def test_a_list_by_session_names_a_session() -> None:
    """`what` is a number for a list by session, and text otherwise."""
    check_request((13, 1, 2, 5, "", 100, False))
    with pytest.raises(BadField, match="what"):
        check_request((13, 1, 2, "five", "", 100, False))


@pytest.mark.parametrize("request_", [5, (), (6,), [1, 2], (99, 1), ("6", 1), (6, 1, 2), (None, 1)])
def test_what_is_no_request_is_refused(request_: Any) -> None:
    """Unknown codes, other shapes and missing fields are BAD_REQUEST, and the connection lives on."""
    with pytest.raises(BadField):
        check_request(request_)


def test_names_are_measured_in_bytes() -> None:
    """512 bytes of UTF-8 are the longest resource, however many characters they are."""
    check_request((*GOOD[Op.ACQUIRE][:5], "ä" * 256, *GOOD[Op.ACQUIRE][6:]))
    check_request((*GOOD[Op.ACQUIRE][:5], "x" * 512, *GOOD[Op.ACQUIRE][6:]))
    with pytest.raises(BadField, match="513 bytes"):
        check_request((*GOOD[Op.ACQUIRE][:5], "x" * 513, *GOOD[Op.ACQUIRE][6:]))


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=8))
def test_small_metadata_passes(metadata: dict[str, str]) -> None:
    """A map of text to text within its size is fine."""
    check_request((*GOOD[Op.ACQUIRE][:9], metadata))


def test_membership_survives_and_names_its_cluster() -> None:
    """Members are kept in order, and the cluster id is a hash of ids and incarnations only (decision 13)."""
    first = membership([Member(2, "b", "h:2", "c:2"), Member(1, "a", "h:1", "c:1", True)])  # type: ignore[arg-type]
    moved = membership([m._replace(peer_address="elsewhere:1") for m in first.members])
    other = membership([m._replace(incarnation="z") for m in first.members])

    again = decode_membership(first.encode())

    assert (again, again.voters, again.learners, again.get(3)) == (first, {2}, {1}, None)  # type: ignore[arg-type]
    assert cluster_id_of(first) == cluster_id_of(moved) != cluster_id_of(other)


@pytest.mark.parametrize("data", [b"\x01", b"\x91\x01", b"\x91\x95\xa1x\x01\x01\x01\xc2", b"\xc1"])
def test_what_is_no_membership_is_refused(data: bytes) -> None:
    """A damaged entry does not become a membership."""
    with pytest.raises(BadFrame):
        decode_membership(data)


def test_empty_membership_has_no_voters() -> None:
    """A node without a cluster belongs to no quorum."""
    assert Membership().voters == frozenset()


def test_errors_carry_their_fields() -> None:
    """A frame that is too large says how large, and what is allowed."""
    error = FrameTooLarge(size=9, size_max=8)

    assert (str(error), error.size, error.size_max) == ("frame of 9 bytes exceeds 8", 9, 8)


def test_a_broken_invariant_says_what_must_hold() -> None:
    """A condition that holds passes; one that does not is named, and is no error that a handler would catch."""
    check(True, "one is one")
    with pytest.raises(InvariantViolation, match="one is two"):
        check(False, "one is two")
