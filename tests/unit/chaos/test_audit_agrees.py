"""The comparison of the clients' ledger with the audit finds what is missing, twice, other or invented, and nothing else."""

import random
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "jepsen-style"))

from chaos.audit.agree import Verdict, compare
from chaos.audit.asks import Ask
from chaos.audit.judge import PLANTED, planted
from chaos.audit.ledger import Ledger, Said, read
from raftlock_wire.messages import Op
from raftlock_wire.status import Status


def row(index: int, operation: str, position: int = 0, **fields: Any) -> dict[str, Any]:
    """Return a record of the audit."""
    return {"index": index, "position": position, "operation": operation, "status": "OK", **fields}


def acquired(index: int, token: int, n: int, **fields: Any) -> dict[str, Any]:
    """Return the record of a grant."""
    key = {"session": 1, "slot": 0, "n": n}
    return row(index, "acquire", resource=f"order:{n}", owner="me", token=token, **key, **fields)


def released(index: int, token: int, n: int, **fields: Any) -> dict[str, Any]:
    """Return the record of a release."""
    return row(index, "release", resource=f"order:{n}", token=token, **fields)


def grant(token: int, n: int, status: str = "OK", attempts: int = 1) -> Said:
    """Return what a client says of an acquire."""
    return Said("acquire", f"order:{n}", token, 1, 0, n, "me", "", status, attempts)


def release(token: int, n: int, status: str = "OK", attempts: int = 1) -> Said:
    """Return what a client says of a release."""
    return Said("release", f"order:{n}", token, status=status, attempts=attempts)


SAID = [grant(11, 1), release(11, 1), grant(12, 2), release(12, 2)]
ROWS = [acquired(5, 11, 1), released(6, 11, 1), acquired(7, 12, 2), released(8, 12, 2)]


@pytest.fixture
def agree(tmp_path: Path) -> Any:
    """Return the comparison of two lists: the problems' first words."""

    def problems(said: list[Said], rows: list[dict[str, Any]]) -> list[str]:
        verdict: Verdict = compare(said, rows, tmp_path)
        return sorted({problem.split(":")[0] for problem in verdict.problems})

    return problems


def test_what_agrees_has_no_problem(agree: Any) -> None:
    """Each operation is recorded once, as its client was told."""
    assert agree(SAID, ROWS) == []


@pytest.mark.parametrize("place", range(4))
def test_a_record_that_is_missing_is_found(agree: Any, place: int) -> None:
    """An acknowledged operation without a record."""
    assert "missing" in agree(SAID, ROWS[:place] + ROWS[place + 1 :])


@pytest.mark.parametrize("place", range(4))
def test_a_record_that_is_there_twice_is_found(agree: Any, place: int) -> None:
    """Under another index, as a command applied twice would be."""
    assert "twice" in agree(SAID, [*ROWS, {**ROWS[place], "index": 9}])


def test_the_same_place_twice_is_found(agree: Any) -> None:
    """As an object shipped twice would be: the order of the log has no place twice."""
    assert "record (6, 0) comes behind (6, 0)" in agree(SAID, [*ROWS[:2], *ROWS[1:]])


@pytest.mark.parametrize("change", [{"token": 99}, {"owner": "you"}, {"status": "HELD"}])
def test_a_record_that_says_something_else_is_found(agree: Any, change: dict[str, Any]) -> None:
    """Another token, owner or outcome than the client was told."""
    assert "told otherwise" in agree(SAID, [ROWS[0] | change, *ROWS[1:]])


def test_what_nobody_asked_for_is_found(agree: Any) -> None:
    """A record of an operation that no client sent."""
    assert agree(SAID[:2], ROWS) == ["invented"]


@pytest.mark.parametrize("rows", [ROWS, ROWS[:3]])
def test_an_unknown_outcome_is_in_or_not(agree: Any, rows: list[dict[str, Any]]) -> None:
    """A release that was never answered may be recorded."""
    assert agree([*SAID[:3], release(12, 2, status="")], rows) == []


def test_an_unknown_outcome_is_never_in_twice(agree: Any) -> None:
    """It was sent once."""
    twice = [*ROWS, released(9, 12, 2, status="NOT_HELD")]

    assert agree([*SAID[:3], release(12, 2, status="")], twice) == ["twice"]


def test_a_retry_has_as_many_records_as_attempts_and_one_effect(agree: Any) -> None:
    """The second acquire is marked as repeated, the second release finds nothing."""
    said = [grant(11, 1, attempts=2), release(11, 1, attempts=2)]
    again = [acquired(6, 11, 1, repeated=True), released(7, 11, 1)]
    not_held = released(8, 11, 1, status="NOT_HELD")

    assert agree(said, [ROWS[0], *again, not_held]) == []
    assert "took effect 2 times" in agree(said, [ROWS[0], again[1], released(8, 11, 1)])


def test_a_wait_is_told_by_its_queueing_its_offer_and_its_renewal(agree: Any) -> None:
    """The acquire is recorded as QUEUED, whatever came of it; the offer and the renewal that took it up follow."""
    key = {"session": 1, "slot": 0, "n": 3}
    said = [
        Said("acquire", "job", 13, 1, 0, 3, "me", "", "OFFERED", 1),
        Said("offer", "job", 13, 1, 0, 3, status="OK"),
        Said("renew", "job", 13, status="OK"),
    ]
    queued = row(1, "acquire", resource="job", owner="me", **key) | {"status": "QUEUED"}
    offered = row(2, "offer", resource="job", token=13, owner="me", **key)
    renewed = row(3, "renew", resource="job", token=13)

    assert agree(said, [queued, offered, renewed]) == []
    assert agree(said, [queued, renewed]) == ["missing"]
    assert agree(said, [queued, offered]) == ["missing"]
    assert "twice" in agree(said, [queued, offered, renewed, {**renewed, "index": 4}])


def test_a_grant_ends_once(agree: Any) -> None:
    """A lock that was released does not expire as well."""
    expired = row(9, "expire", resource="order:2", token=12)

    assert agree(SAID, [*ROWS, expired]) == ["the grant ('order"]


def test_renewals_are_counted(agree: Any) -> None:
    """Three renewals of one grant are three records."""
    renewals = [Said("renew", "order:1", 11, status="OK")] * 3
    rows = [row(index, "renew", resource="order:1", token=11) for index in (20, 21, 22)]

    assert agree([grant(11, 1), *renewals], [ROWS[0], *rows]) == []
    assert agree([grant(11, 1), *renewals], [ROWS[0], *rows[:2]]) == ["missing"]


@pytest.mark.parametrize("plant", PLANTED)
def test_what_is_planted_is_found(tmp_path: Path, plant: str) -> None:
    """A run with a record dropped, doubled or changed fails."""
    said, rows = [], []
    for n in range(1, 1_200):
        said += [grant(n, n), release(n, n)]
        rows += [acquired(2 * n, n, n), released(2 * n + 1, n, n)]

    whole = compare(said, planted(rows, ""), tmp_path)
    spoilt = compare(said, planted(rows, plant), tmp_path)

    assert (whole.problem_count, spoilt.problem_count > 0) == (0, True)


def test_a_ledger_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Also from several files."""
    for number, half in enumerate((SAID[:2], SAID[2:])):
        ledger = Ledger(tmp_path / f"ledger-{number}")
        for said in half:
            ledger.write(said)
        ledger.close()

    assert list(read(sorted(tmp_path.glob("ledger-*")))) == SAID


# an operation on its way


def test_an_attempt_that_was_not_taken_has_no_record() -> None:
    """NO_QUORUM and OVERLOADED are no attempts; UNKNOWN is one."""
    ask = Ask(Op.RELEASE, ("order:1", 11), attempts=4)

    ended = [
        ask.take((1, Status.NO_QUORUM, False, "")),
        ask.take((2, Status.OVERLOADED, False, 5, "queue")),
        ask.take((3, Status.UNKNOWN, False)),
        ask.take((4, Status.OK, True)),
    ]

    assert ended == [False, False, False, True]
    assert ask.said() == release(11, 1, attempts=2)


def test_a_renewal_goes_by_its_item() -> None:
    """The answer is OK as a whole, and its item is what counts. A refusal need not be in the log."""
    asks = [Ask(Op.RENEW, ([["order:1", 11]],), attempts=1) for _ in range(3)]
    items = [(Status.OK, None, 17, 30_000, 29_000), (Status.NOT_HELD, 0), (Status.UNKNOWN,)]

    ended = [ask.take((1, Status.OK, True, (item,))) for ask, item in zip(asks, items, strict=True)]

    assert ended == [True, True, False]
    assert [ask.status for ask in asks] == ["OK", "NOT_HELD", ""]
    assert [said.status for ask in asks if (said := ask.said())] == ["OK", "", ""]


def test_a_random_order_of_the_ledger_is_no_problem(agree: Any) -> None:
    """Clients write when they hear, not in the order of the log."""
    assert agree(random.Random(1).sample(SAID, len(SAID)), ROWS) == []
