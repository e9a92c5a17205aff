"""PROTOCOL.md says what the code does: its tables, its ranges and its example session."""

from collections.abc import Callable
from typing import Any

import pytest

from raftlock_wire import limits
from raftlock_wire.errors import BadField
from raftlock_wire.messages import CHECKS, Event, GrantState, ListBy, Op, check_request
from raftlock_wire.status import Status
from tests.unit.wire import document as doc
from tests.unit.wire import vectors
from tests.unit.wire.document import Answer, Field
from tests.unit.wire.recorded import REV, SESSION, SLOT, N, Recorded, recorded
from tests.unit.wire.samples import USUAL, inside, outside, with_field
from tests.unit.wire.served import ADDRESS, WALL_US

DOCUMENT = doc.read()
REQUESTS = {op: DOCUMENT.requests[op] for op in CHECKS}
FIELDS = [
    pytest.param(op, position, field, id=f"{request.name}-{field.name}")
    for op, request in REQUESTS.items()
    for position, field in enumerate(request.fields, 2)
    if field.name != "what"
]
INTERNAL = {
    "AUDIT_UNDER_WAY_SIZE_MAX",
    "CLIENT_READ_SIZE_MAX",
    "CLIENT_SEND_BUFFER_SIZE",
    "PEER_FRAME_SIZE_MAX",
    "PEER_SILENCE_MS",
    "PEER_CALLERS_MAX",
    "STEPS_PER_COMMAND_MAX",
    "EXPIRIES_PER_ENTRY_MAX",
    "TURN_WORK_MAX",
    "TURN_SHARE",
    "WAITING_SIZE_MAX",
    "WRITE_BUFFER_PAUSE_SIZE",
    # HTTP's are in docs/http.md: its callers do not speak this protocol.
    *(name for name in vars(limits) if name.startswith("HTTP_")),
}
"""Limits that no client of the protocol meets. A new limit is either in the document or here."""
RESERVED = {"UNAUTHENTICATED"}
"""Statuses of the document that no server sends yet."""


def _names(codes: dict[int, Any]) -> dict[int, str]:
    return {code: row if isinstance(row, str) else row.status for code, row in codes.items()}


def test_codes_are_those_of_the_code() -> None:
    """Statuses, requests and events have the numbers and names that the document gives them."""
    commands_of_the_log = {op for op in Op if op not in CHECKS}

    assert _names(DOCUMENT.statuses) == {s.value: s.name for s in Status}
    assert _names(DOCUMENT.events) == {e.value: e.name for e in Event}
    assert {r.code: r.name for r in DOCUMENT.requests.values()} == {
        op.value: op.name for op in Op if op not in commands_of_the_log
    }
    assert min(commands_of_the_log) == 32


def test_a_request_has_the_elements_that_its_section_lists() -> None:
    """The overview, the sections and the checks agree on how long each request is."""
    checked = {int(code): length for code, (length, _) in CHECKS.items()}

    assert DOCUMENT.elements == checked
    assert {r.code: len(r.fields) + 2 for r in DOCUMENT.requests.values()} == checked


def test_limits_are_those_of_the_code() -> None:
    """Each limit has its value in the document, or is none of a client's business."""
    known = {name: value for name, value in vars(limits).items() if name.isupper()}

    assert DOCUMENT.limits == {n: v for n, v in known.items() if n not in INTERNAL}
    assert set(known) >= INTERNAL


def test_small_enumerations_have_the_range_of_the_document() -> None:
    """The states of an info, and what a list may be by."""
    state = next(f for f in DOCUMENT.info if f.name == "state")
    by = next(f for f in REQUESTS[Op.LIST].fields if f.name == "by")

    assert (state.ranges, by.ranges) == (
        ((min(GrantState), max(GrantState)),),
        ((min(ListBy), max(ListBy)),),
    )


@pytest.mark.parametrize(("op", "position", "field"), FIELDS)
def test_a_field_takes_what_its_range_says_and_nothing_else(
    op: Op, position: int, field: Field
) -> None:
    """Values at the edges of a range are taken; those beside them, and other types, are refused by name."""
    base = USUAL[op]
    if (op, field.name) == (Op.HELLO, "version_max"):
        base = with_field(base, 2, 1)
    good = [with_field(base, position, value) for value in inside(field)]
    if (op, field.name) == (Op.HELLO, "version_min"):
        good = [with_field(request, 3, 65_535) for request in good]
    if (op, field.name) == (Op.LIST, "by"):
        good = [with_field(r, 3, 5 if r[2] == ListBy.SESSION else "") for r in good]

    for request in good:
        check_request(request)
    for what, value in outside(field):
        with pytest.raises(BadField) as caught:
            check_request(with_field(base, position, value))
        assert (what, caught.value.field) == (what, field.name)
    assert good


def _rows(request: doc.Request) -> tuple[Answer, ...]:
    return (*request.answers, *DOCUMENT.any_answers)


_MEANING: dict[str, Callable[[Any], bool]] = {
    "session": lambda v: v == SESSION,
    "slot": lambda v: SLOT <= v < SLOT + 10,
    "n": lambda v: N < v < N + 5,
    "count": lambda v: v < N,
    "item_count": lambda v: v is None or v < N,
    "place": lambda v: v < N,
    "withdrawn": lambda v: v < N,
    "rev": lambda v: REV < v < REV + 100,
    "info_rev": lambda v: v == 0 or REV < v < REV + 100,
    "token": lambda v: v > WALL_US,
    "holder_token": lambda v: v == 0 or v > WALL_US,
    "info_token": lambda v: v == 0 or v > WALL_US,
    "since_us": lambda v: v >= WALL_US,
    "ttl_ms": lambda v: v == 0 or v >= 1_000,
    "expires_in_ms": lambda v: v is None or v >= 1_000,
    "owner": lambda v: v in ("me", "you"),
    "resource": lambda v: v != "me",
    "address": lambda v: v == ADDRESS,
    "principal": lambda v: v == "",
    "cluster_id": lambda v: len(v) == 32,
    "cause": lambda v: " " not in v,
    "goodbye": lambda v: " " not in v,
    "reason": lambda v: v in ("queue", "restore"),
    "field": lambda v: " " not in v,
    "problem": lambda v: " " in v,
    "why": lambda v: " " in v,
}
"""What the recording's numbers and texts can be: two fields of one type in a wrong order are seen."""


def _meaning(names: tuple[str, ...], values: tuple[Any, ...]) -> list[str]:
    return [
        f"{value!r} is no {name}"
        for name, value in zip(names, values, strict=True)
        if not _MEANING.get(name, lambda _: True)(value)
    ]


def _problems(names: tuple[str, ...], values: tuple[Any, ...]) -> list[str]:
    if len(names) != len(values):
        return [f"{values} are not {names}"]
    found = [DOCUMENT.fields[n].problem(v) for n, v in zip(names, values, strict=True)]
    found += _meaning(names, values)
    for name, value in zip(names, values, strict=True):
        if name == "items":
            for status, *rest in value:
                row = next(i for i in DOCUMENT.items if i.status == Status(status).name)
                found += _problems(row.names, tuple(rest))
        elif name == "members":
            for member in value:
                found += [f.problem(v) for f, v in zip(DOCUMENT.member, member, strict=True)]
        elif name in ("info", "infos") and value is not None:
            for info in (value,) if name == "info" else value:
                found += [f.problem(v) for f, v in zip(DOCUMENT.info, info, strict=True)]
                found += _meaning(tuple(f.name for f in DOCUMENT.info), info)
    return [problem for problem in found if problem]


def _row(r: Recorded) -> Answer:
    assert r.request is not None
    status, final = Status(r.message[1]).name, r.message[2]
    rows = _rows(DOCUMENT.requests[r.request[0]] if r.request[0] in CHECKS else REQUESTS[Op.CHECK])
    fitting = [
        a
        for a in rows
        if (a.status, len(a.names)) == (status, len(r.message) - 3) and final in a.finals
    ]
    assert fitting, f"{r.name}: {r.message} is not in the document"
    return fitting[0]


@pytest.mark.parametrize("r", [pytest.param(r, id=r.name) for r in recorded()])
def test_what_a_server_sends_is_what_the_document_says(r: Recorded) -> None:
    """Each recorded answer and event has the elements, types and ranges of its row."""
    if r.request is not None:
        names, values = _row(r).names, r.message[3:]
        final = r.message[2]
        assert final in DOCUMENT.statuses[r.message[1]].finals
    elif r.message[1] in DOCUMENT.events:
        names, values = DOCUMENT.events[r.message[1]].names, r.message[2:]
    else:
        # An answer to what has no id that could be read.
        names, values = ("field", "problem"), r.message[3:]

    assert _problems(names, values) == []


def test_every_answer_of_the_document_was_recorded() -> None:
    """No row of the tables of answers, items and events is there that no server sends, but for reserved ones."""
    seen = {(r.request[0], _row(r)) for r in recorded() if r.request and r.request[0] in CHECKS}
    items = {Status(item[0]).name for r in recorded() if r.request and r.request[0] == Op.RENEW
             and r.message[1] == Status.OK for item in r.message[3]}  # fmt: skip
    anywhere = {_row(r).status for r in recorded() if r.request}
    missing = [
        (request.name, row.status, row.finals)
        for request in DOCUMENT.requests.values()
        for row in request.answers
        if (request.code, row) not in seen and row.status not in RESERVED
    ]

    assert missing == []
    assert items == {item.status for item in DOCUMENT.items}
    assert {a.status for a in DOCUMENT.any_answers} - anywhere == RESERVED
    assert {r.message[1] for r in recorded() if r.request is None} == {*DOCUMENT.events, 15}


def test_every_goodbye_was_recorded() -> None:
    """The table of GOODBYE codes is complete and holds nothing else."""
    codes = {r.message[2] for r in recorded() if r.message[:2] == (0, Event.GOODBYE)}

    assert codes == DOCUMENT.goodbyes


def test_every_field_is_explained_and_used() -> None:
    """The names in the tables of answers, items and events are those of the table of fields."""
    rows = [
        *(row for request in DOCUMENT.requests.values() for row in _rows(request)),
        *DOCUMENT.items,
        *DOCUMENT.events.values(),
    ]

    assert {name for row in rows for name in row.names} == set(DOCUMENT.fields)


def test_the_status_of_a_node_and_the_bounds_have_the_documented_keys() -> None:
    """A NODE_STATUS holds at least what the document lists, and HELLO's bounds too."""
    text = doc.PATH.read_text()
    status = next(r.message[3] for r in recorded() if r.name == "node status")
    bounds = next(r.message[7] for r in recorded() if r.name == "hello")

    assert [key for key in (*status, *bounds) if f"`{key}`" not in text] == []


def test_the_example_session_is_what_a_server_says() -> None:
    """The hex of the document is a session as it is recorded now, and the one of the vectors."""
    frames = tuple((direction, data) for _, direction, data in vectors.example_session())
    kept = tuple((v["direction"], bytes.fromhex(v["hex"])) for v in vectors.load("session"))

    assert DOCUMENT.session == frames == kept
    assert vectors.session_text(vectors.example_session()) in doc.PATH.read_text()
