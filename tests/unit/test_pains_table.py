"""Every pain has what holds it: the invariants and tests that PAINS.md names exist, and no row is without a test."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from raftlock.testing.invariants import INVARIANTS
from tests.unit.test_rules import TESTS, defined_in


class Row(NamedTuple):
    """One pain of the table."""

    pain: str
    invariants: list[str]
    tests: list[str]


def rows(text: str) -> list[Row]:
    """Return the rows of all tables."""
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 4 and cells[0] != "pain" and cells[0] != "---":
            invariants, tests = (re.findall(r"`([^`]+)`", cell) for cell in cells[2:])
            found.append(Row(cells[0], invariants, tests))
    return found


def missing(row: Row, tests: Path = TESTS) -> list[str]:
    """Return what a row names and is not there."""
    gone = [name for name in row.invariants if name not in INVARIANTS]
    for test in row.tests:
        file, _, name = test.partition("::")
        path = tests / file
        if not path.is_file() or name not in defined_in(path):
            gone.append(test)
    return gone


ROWS = rows((TESTS / "PAINS.md").read_text())


def test_the_table_is_read_whole() -> None:
    """All its rows: eight of safety, two of loss, seven of orphans, seven of time and scale."""
    text = (TESTS / "PAINS.md").read_text()
    sections = [len(rows(part)) for part in text.split("\n## ")[1:]]

    assert (sections, len({row.pain for row in ROWS})) == ([8, 2, 7, 7], 24)


@pytest.mark.parametrize("row", ROWS, ids=[row.pain[:40] for row in ROWS])
def test_every_pain_has_tests_that_exist(row: Row) -> None:
    """At least one; each pain names public issues; whatever is named is there."""
    issues = re.findall(r"[\w-]+#\d+", row.pain)

    assert (bool(row.tests), bool(issues), missing(row)) == (True, True, [])


def test_what_is_not_there_is_found() -> None:
    """The check can fail: by a file, by a test, by an invariant."""
    row = Row("p", ["one holder", "no such"], ["sim/test_pains.py::test_no", "sim/no.py::test_a"])

    assert missing(row) == ["no such", "sim/test_pains.py::test_no", "sim/no.py::test_a"]
