"""The checker accepts what honest locks do, finds planted violations, and agrees with trying every order."""

import itertools
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlock.testing.linearizability import (
    HistoryError,
    Limits,
    Operation,
    Outcome,
    Verdict,
    check_history,
    operations,
    read_history,
)
from raftlock.testing.linearizability.check import check_lock
from raftlock.testing.linearizability.history import NEVER_NS
from raftlock.testing.linearizability.lock_model import LockState, has_no_effect, step
from raftlock.testing.linearizability.search import Search
from tests.unit.testing.lock_histories import honest_history

MS = 1_000_000


def op(
    place: int,
    f: str,
    call: int,
    end: int | None,
    asked: dict[str, Any] | None = None,
    told: dict[str, Any] | None = None,
    outcome: Outcome = Outcome.OK,
) -> Operation:
    """Build an operation on "r", in milliseconds; `end` None: of unknown outcome."""
    return Operation(
        id=place,
        process=place,
        f=f,
        outcome=Outcome.INFO if end is None else outcome,
        call_ns=call * MS,
        return_ns=NEVER_NS if end is None else end * MS,
        asked={"resource": "r", **(asked or {})},
        told=told or {},
    )


def acquired(place: int, call: int, end: int, token: int, deadline: int, **told: Any) -> Operation:
    """Build an acquire that was granted."""
    value = {"status": "OK", "token": token, "deadline_ns": deadline * MS, **told}
    return op(place, "acquire", call, end, {"ttl_ms": 1_000}, value)


def by_trying_all(ops: list[Operation]) -> bool:
    """Return whether any order of the operations is possible: the twin of the search."""
    known = frozenset(o.token for o in ops if o.f == "acquire" and o.outcome is Outcome.OK)
    ops = [o for o in ops if not has_no_effect(o)]
    answered = [o for o in ops if o.return_ns != NEVER_NS]
    unanswered = [o for o in ops if o.return_ns == NEVER_NS]
    for count in range(len(unanswered) + 1):
        for chosen in itertools.combinations(unanswered, count):
            for order in itertools.permutations([*answered, *chosen]):
                if any(b.return_ns < a.call_ns for a, b in itertools.combinations(order, 2)):
                    continue
                states = {LockState()}
                for o in order:
                    states = {after for s in states for after in step(s, o, known)}
                if states:
                    return True
    return False


# what must be accepted


@given(st.integers(0, 1 << 32), st.integers(2, 6), st.sampled_from([0.0, 0.1, 0.4]))
@settings(max_examples=60, deadline=None)
def test_an_honest_lock_passes(seed: int, processes: int, unknown: float) -> None:
    """A history of a lock that keeps its promises is linearizable, also where answers were lost."""
    events = honest_history(seed, processes=processes, count=60, unknown=unknown)

    report = check_history(operations(events), Limits())

    assert report.passed, report


def test_many_concurrent_refusals_are_decided_at_once() -> None:
    """A hundred acquires that were refused at the same time need no search through their orders."""
    ops = [acquired(0, 0, 10, 5, 9_000)]
    ops += [
        op(i, "acquire", 20, 100, None, {"status": "HELD", "holder_token": 5}, Outcome.FAIL)
        for i in range(1, 101)
    ]

    found = check_lock(ops, Limits())

    assert (found.verdict, found.configurations < 10) == (Verdict.LINEARIZABLE, True)


def test_a_long_history_with_lost_releases_is_decided() -> None:
    """Operations that stay open for ever do not make every later step slower."""
    ops = []
    for i in range(400):
        start = i * 10
        ops.append(acquired(2 * i, start, start + 2, 100 + i, start + 100_000))
        ops.append(
            op(2 * i + 1, "release", start + 3, None if i % 10 == 0 else start + 5, {"token": 100 + i},
               {"status": "OK"})
        )  # fmt: skip

    found = check_lock(ops, Limits(configurations_max=10_000))

    assert found.verdict is Verdict.LINEARIZABLE


# planted violations


def test_two_holders_are_found() -> None:
    """A second grant while the first holder still counts on its lock is a violation."""
    ops = [acquired(0, 0, 10, 5, 1_000), acquired(1, 20, 30, 6, 1_200)]

    report = check_history(ops)

    assert [v.splitlines()[0] for v in report.violations] == [
        "'r' has no order. The longest one ends with:"
    ]


def test_a_grant_after_the_deadline_passes() -> None:
    """The same second grant is fine when it may have happened after the first holder's deadline."""
    ops = [acquired(0, 0, 10, 5, 25), acquired(1, 20, 30, 6, 1_200)]

    assert check_history(ops).passed


def test_a_renewed_lease_that_ends_early_is_found() -> None:
    """A renewal moves the deadline: an end before the new one is a violation."""
    renewed = op(1, "renew", 15, 18, {"token": 5}, {"status": "OK", "deadline_ns": 500 * MS})
    ops = [acquired(0, 0, 10, 5, 25), renewed, acquired(2, 20, 30, 6, 1_200)]

    assert not check_history(ops).passed


def test_a_lease_whose_change_was_not_answered_may_be_the_shorter_one() -> None:
    """From the sending of a change to a shorter ttl on, the client counts with the shorter (L8)."""
    change = op(1, "change_ttl", 11, None, {"token": 5, "ttl_ms": 100})
    ops = [acquired(0, 0, 10, 5, 9_000), change, acquired(2, 105, 120, 6, 9_000)]

    assert check_history(ops).passed


def test_a_check_after_the_release_is_found() -> None:
    """A token that was released is never the current grant again."""
    ops = [
        acquired(0, 0, 10, 5, 9_000),
        op(1, "release", 20, 30, {"token": 5}, {"status": "OK"}),
        op(2, "check", 40, 50, {"token": 5}, {"status": "OK"}),
    ]

    assert not check_history(ops).passed


def test_a_lost_release_may_take_effect_late() -> None:
    """A release of unknown outcome explains a later grant, but not an earlier one."""
    lost = op(1, "release", 20, None, {"token": 5})
    first = acquired(0, 0, 10, 5, 9_000)

    verdicts = [
        check_history([first, lost, acquired(2, call, call + 10, 6, 9_000)]).passed
        for call in (5, 40)
    ]

    assert verdicts == [False, True]


def test_a_smaller_token_after_a_larger_one_is_found() -> None:
    """On one resource the order of the grants shows in the checks between them, though the acquires overlap."""
    ops = [
        acquired(0, 0, 100, 6, 0),
        acquired(1, 0, 100, 5, 0),
        op(2, "check", 10, 20, {"token": 6}, {"status": "OK"}),
        op(3, "check", 30, 40, {"token": 5}, {"status": "OK"}),
    ]

    assert not check_history(ops).passed


def test_what_follows_the_end_of_a_lease_is_later_than_its_deadline() -> None:
    """That one reader may have found a lease over excuses nobody who was answered before its deadline."""
    free = op(1, "get", 12, 60, None, {"status": "OK", "holder_token": 0})
    ops = [acquired(0, 0, 10, 5, 50), free, acquired(2, 12, 45, 6, 900)]

    assert not check_history(ops).passed


def test_a_token_that_shrinks_is_found() -> None:
    """Tokens grow over all resources, not only on one."""
    other = acquired(1, 20, 30, 4, 900)
    moved = Operation(**{**_fields(other), "asked": {"resource": "other"}})

    report = check_history([acquired(0, 0, 10, 5, 1_000), moved])

    assert [v.split(":")[0] for v in report.violations] == ["tokens grow"]


def test_an_overtaken_waiter_is_found() -> None:
    """A waiter that was told that it is queued is served before one that asks later."""
    early = acquired(0, 0, 500, 9, 2_000, queued_ns=10 * MS)
    late = acquired(1, 20, 100, 7, 30)

    report = check_history([early, late])

    assert [v.split(":")[0] for v in report.violations] == ["queues are fair"]


def test_a_grant_to_an_ended_session_is_found() -> None:
    """After SESSION_EXPIRED was answered, no acquire of that session that is sent later is granted."""
    ended = op(0, "acquire", 0, 10, {"session": 3}, {"status": "SESSION_EXPIRED"}, Outcome.FAIL)
    later = acquired(1, 20, 30, 5, 900)
    later = Operation(**{**_fields(later), "asked": {"resource": "r", "session": 3}})

    report = check_history([ended, later])

    assert [v.split(":")[0] for v in report.violations] == ["ended sessions get nothing"]


def test_a_token_from_nowhere_is_found() -> None:
    """A refusal may name a token that nobody was given only while some acquire's outcome allows it."""
    refused = op(1, "acquire", 20, 30, None, {"status": "HELD", "holder_token": 7}, Outcome.FAIL)
    lost = op(0, "acquire", 0, None)

    passed = [check_history(ops).passed for ops in ([refused], [lost, refused])]

    assert passed == [False, True]


@given(st.integers(0, 1 << 32))
@settings(max_examples=40, deadline=None)
def test_a_stolen_lock_in_a_real_history_is_found(seed: int) -> None:
    """In an honest history, a grant whose deadline is believed for an hour, and then another one, is a violation."""
    events = honest_history(seed, processes=3, count=80)
    grants = [e for e in events if e["f"] == "acquire" and e["type"] == "ok"]
    releases = {
        e["value"].get("token") for e in events if e["f"] == "release" and e["type"] == "invoke"
    }
    stolen = [g for g in grants[:-1] if g["value"]["token"] not in releases]
    if not stolen:
        return
    stolen[0]["value"]["deadline_ns"] += 3_600_000 * MS

    assert not check_history(operations(events)).passed


# the search against trying everything


@st.composite
def short_histories(draw: st.DrawFn) -> list[Operation]:
    """Any few operations with any answers: most of them impossible."""
    found = []
    for place in range(draw(st.integers(1, 5))):
        f = draw(st.sampled_from(["acquire", "renew", "release", "check", "get", "force_release"]))
        call = draw(st.integers(0, 40))
        end = draw(st.one_of(st.none(), st.integers(call, call + 40)))
        token = draw(st.integers(1, 3))
        outcome = draw(st.sampled_from([Outcome.OK, Outcome.FAIL]))
        asked: dict[str, Any] = {} if f in ("acquire", "get") else {"token": token, "now": True}
        told: dict[str, Any] = {"deadline_ns": draw(st.integers(0, 60)) * MS}
        if f == "acquire":
            told |= {"token": token} if outcome is Outcome.OK else {}
        if outcome is Outcome.FAIL or f == "get":
            told["holder_token"] = draw(st.integers(0, 3))
        status = {"acquire": "HELD"}.get(f, "NOT_HELD") if outcome is Outcome.FAIL else "OK"
        found.append(op(place, f, call, end, asked, {**told, "status": status}, outcome))
    return found


@given(short_histories())
@settings(max_examples=400, deadline=None)
def test_the_search_agrees_with_trying_every_order(ops: list[Operation]) -> None:
    """On every short history the search finds an order exactly when there is one."""
    assert (check_lock(ops, Limits()).verdict is Verdict.LINEARIZABLE) == by_trying_all(ops)


# bounds and files


def test_a_search_that_reaches_its_bounds_is_undecided() -> None:
    """What was not decided is not passed."""
    ops = [acquired(0, 0, 10, 5, 1_000), acquired(1, 0, 10, 6, 1_000)]
    search = Search(
        ops, initial=LockState(), step=partial(step, known=frozenset({5, 6})),
        limits=Limits(configurations_max=1),
    )  # fmt: skip

    assert search.run().verdict is Verdict.UNDECIDED


def test_a_history_is_read_from_lines(tmp_path: Path) -> None:
    """A file of JSON lines gives its operations in the order of their invocations."""
    file = tmp_path / "history.jsonl"
    events = honest_history(7, processes=3, count=20)
    file.write_text("\n".join(map(json.dumps, events)))

    assert read_history(file) == operations(events)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("nonsense", "line 1: not JSON: Expecting value: line 1 column 1 (char 0)"),
        ("[]", "line 1: not an object"),
        ('{"process": 1.5}', "line 1: process is 1.5"),
        (
            '{"process": 1, "type": "ok", "f": "acquire", "value": {}, "time_ns": 1}',
            "line 1: process 1 is answered without an invocation",
        ),
        (
            '{"process": 1, "type": "invoke", "f": "steal", "value": {}, "time_ns": 1}',
            "line 1: f is 'steal': one of acquire, cancel, change_ttl, check, force_release, get, release, renew",
        ),
    ],
)
def test_what_is_no_history_is_refused(tmp_path: Path, line: str, problem: str) -> None:
    """A bad line is named with what is wrong with it."""
    file = tmp_path / "history.jsonl"
    file.write_text(line)

    with pytest.raises(HistoryError) as refused:
        read_history(file)

    assert str(refused.value) == problem


def _fields(operation: Operation) -> dict[str, Any]:
    return {name: getattr(operation, name) for name in Operation.__slots__}
