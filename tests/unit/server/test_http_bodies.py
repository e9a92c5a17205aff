"""What HTTP requests may say: each wrong field is named, with what is allowed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftlock.server.http import bodies
from raftlock.server.http.bodies import Grant, Order, Page
from raftlock.server.http.locks import answer
from raftlock.server.http.problems import Problem, bad_field
from raftlock_wire.messages import ListBy, Op, check_request

ACQUIRE: dict[str, Any] = {"resourceId": "order:1", "ttl": 30, "clientId": "me"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def field_refused(body: dict[str, Any]) -> str:
    with pytest.raises(Problem) as refused:
        bodies.acquire_order(body)
    assert refused.value.extra["allowed"]
    return str(refused.value.extra["field"])


def test_an_acquire_as_people_write_it() -> None:
    """Seconds may have a fraction; blocking waits 30 s unless it says otherwise."""
    plain = bodies.acquire_order(ACQUIRE)
    full = bodies.acquire_order(
        {**ACQUIRE, "ttl": 0.25, "blocking": True, "timeout": 1.5, "metadata": {"a": "b"}}
    )
    waiting = bodies.acquire_order({**ACQUIRE, "blocking": True})

    assert (plain, full, waiting) == (
        Order("order:1", "me", 30_000, 0, None),
        Order("order:1", "me", 250, 1_500, {"a": "b"}),
        Order("order:1", "me", 30_000, 30_000, None),
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("resourceId", ""),
        ("resourceId", "x" * 513),
        ("resourceId", 5),
        ("resourceId", "\ud800"),
        ("clientId", ""),
        ("clientId", "é" * 129),
        ("clientId", None),
        ("ttl", 0),
        ("ttl", 0.05),
        ("ttl", 86_401),
        ("ttl", True),
        ("ttl", "30"),
        ("ttl", float("inf")),
        ("ttl", float("nan")),
        ("blocking", 1),
        ("timeout", 5),
        ("metadata", {"a": 1}),
        ("metadata", {"\udfff": "x"}),
        ("metadata", {"a": "x" * 1_025}),
        ("metadata", {str(n): "" for n in range(65)}),
        ("metadata", "a"),
        ("leaseTime", 5),
    ],
)
def test_a_wrong_field_is_named(field: str, value: Any) -> None:
    """The refusal names the field that is wrong, and what is allowed."""
    assert field_refused({**ACQUIRE, field: value}) == field


@pytest.mark.parametrize("field", ["resourceId", "ttl", "clientId"])
def test_a_missing_field_is_named(field: str) -> None:
    """What is required and is not there is named."""
    assert field_refused({name: v for name, v in ACQUIRE.items() if name != field}) == field


@pytest.mark.parametrize("value", [-1, 3_601, "5", False])
def test_a_wait_has_its_bounds(value: Any) -> None:
    """A wait is 0 to 3,600 seconds."""
    assert field_refused({**ACQUIRE, "blocking": True, "timeout": value}) == "timeout"


@given(st.dictionaries(st.sampled_from([*ACQUIRE, "blocking", "timeout", "metadata"]), JSON))
def test_whatever_is_let_in_the_core_takes(extra: dict[str, Any]) -> None:
    """A body is refused with a Problem, or the acquire made of it is well formed to the core's own checks."""
    try:
        order = bodies.acquire_order({**ACQUIRE, **extra})
    except Problem:
        return
    check_request((int(Op.ACQUIRE), 1, 1, 0, 1, *order))


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"1", b'{"a":1,"a":1}', b'{"a":NaN}', b"\xff", b"[" * 10_000, b"null", b'{"a":1}x'],
)  # fmt: skip
def test_a_body_is_one_json_object(data: bytes) -> None:
    """Anything else is refused as the body's fault: no duplicate keys, no NaN, no endless nesting."""
    with pytest.raises(Problem) as refused:
        bodies.decode(data)

    assert refused.value.extra["field"] == "body"


@given(JSON)
def test_decoding_never_fails_otherwise(value: Any) -> None:
    """Whatever Python calls JSON decodes to an object or is a Problem."""
    try:
        decoded = bodies.decode(json.dumps(value).encode("utf-8", "surrogatepass"))
    except Problem:
        return
    assert type(decoded) is dict


@pytest.mark.parametrize("token", [0, -1, 1 << 53, "5", 1.0, True, None])
def test_a_token_is_a_whole_number(token: Any) -> None:
    """A token is an integer of at most 53 bits, not a text."""
    with pytest.raises(Problem) as refused:
        bodies.grant({"resourceId": "r", "lockToken": token})

    assert refused.value.extra["field"] == "lockToken"


def test_a_grant_is_a_resource_and_a_token() -> None:
    """What renew, release and check take."""
    assert bodies.grant({"resourceId": "r", "lockToken": 5}) == Grant("r", 5)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("a:b", "a:b"),
        ("a%2Fb%20c", "a/b c"),
        ("a/b", "a/b"),
        ("%C3%A9", "é"),
        ("%2525", "%25"),
        ("a+b", "a+b"),
    ],
)
def test_a_resource_in_a_path_is_percent_encoded(raw: str, name: str) -> None:
    """Any name fits into a path, slashes included."""
    assert bodies.resource_in_path(raw) == name


@pytest.mark.parametrize("raw", ["", "%FF", "x" * 513, "%ED%A0%80"])
def test_a_path_that_is_no_name_is_refused(raw: str) -> None:
    """Bytes that are no UTF-8, and names too long, are refused."""
    with pytest.raises(Problem) as refused:
        bodies.resource_in_path(raw)

    assert refused.value.extra["field"] == "resourceId"


def test_a_page_of_a_list() -> None:
    """By prefix unless by owner; 100 locks unless it says otherwise."""
    assert [
        bodies.page({}),
        bodies.page({"prefix": "a", "limit": "5", "cursor": "ab", "stale": "true"}),
        bodies.page({"owner": "me"}),
    ] == [
        Page(ListBy.PREFIX, "", "", 100, False),
        Page(ListBy.PREFIX, "a", "ab", 5, True),
        Page(ListBy.OWNER, "me", "", 100, False),
    ]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "\u0661"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"stale": "yes"}, "stale"),
        ({"prefix": "a", "owner": "b"}, "owner"),
        ({"cursor": "x" * 1_025}, "cursor"),
        ({"prefix": "\ud800"}, "prefix"),
        ({"page": "1"}, "page"),
    ],
)
def test_a_wrong_query_is_named(query: dict[str, str], field: str) -> None:
    """A list's query is checked like a body."""
    with pytest.raises(Problem) as refused:
        bodies.page(query)

    assert refused.value.extra["field"] == field


@pytest.mark.parametrize("key", ["", "x" * 257, "a\tb", "é"])
def test_an_idempotency_key_is_short_and_printable(key: str) -> None:
    """A key is 1 to 256 printable ASCII characters."""
    with pytest.raises(Problem):
        bodies.idempotency_key(key)


def test_credentials_are_bearer_tokens() -> None:
    """Another scheme is refused with 401; none at all is fine."""
    with pytest.raises(Problem) as refused:
        bodies.bearer("Basic abc")

    assert (refused.value.status, bodies.bearer("bearer abc"), bodies.bearer(None)) == (
        401,
        "abc",
        None,
    )


def test_an_answer_is_a_line() -> None:
    """What curl prints ends with a newline, an answer like a problem."""
    bodies_seen = [answer({"success": True}).body, bad_field("ttl", "is missing", "1 to 2").body()]

    assert [(b.count(b"\n"), b[-1:]) for b in bodies_seen if isinstance(b, bytes)] == [(1, b"\n")] * 2  # fmt: skip
