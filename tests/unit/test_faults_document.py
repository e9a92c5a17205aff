"""docs/faults.md: every row names a test that exists, and a metric that this very test looks at."""

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from raftlock.telemetry.counters import REFUSALS
from raftlock.telemetry.metrics import BY_NAME, CLIENT_REASONS, HTTP_REASONS, PEER_REASONS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "faults.md"
FILES = (
    *(ROOT / "tests" / "e2e").glob("test_*.py"),
    ROOT / "tests" / "unit" / "server" / "test_http_server.py",
)
REASONS = {
    "raftlock_client_connections_refused_total": CLIENT_REASONS,
    "raftlock_peer_connections_refused_total": PEER_REASONS,
    "raftlock_http_connections_refused_total": HTTP_REASONS,
    "raftlock_refusals_total": REFUSALS,
}
NO_METRIC = ("none: no node sees it", "the process ends: `up` is 0")

WITHOUT_A_ROW = {
    # The listening socket is closed in the same turn in which the node begins to stop, or nearly.
    ("raftlock_client_connections_refused_total", "stopping"),
    # tests/unit/server/test_handshake.py: members and bootstrap offer no such hello.
    ("raftlock_peer_connections_refused_total", "membership"),
    # 64 MiB of backlog to a member that is there and reads nothing, before its silence is noticed.
    ("raftlock_peer_connections_refused_total", "unread"),
    # tests/unit/server/test_driver_clients.py
    ("raftlock_refusals_total", "sessions"),
}


class Row(NamedTuple):
    """One row of the tables."""

    fault: str
    metric: str
    tests: list[str]


def rows() -> list[Row]:
    """Return the rows of all tables; the last two columns are metric and test."""
    found = []
    for line in DOCUMENT.read_text().splitlines():
        columns = [column.strip() for column in line.strip("|").split(" | ")]
        if line.startswith("| ") and not line.startswith("| ---") and columns[-1] != "test":
            found.append(Row(columns[0], columns[-2], re.findall(r"`(\w+)`", columns[-1])))
    return found


def sources() -> dict[str, str]:
    """Return the text of each test, with what its module says outside of functions (parameters that it shares)."""
    found = {}
    for path in FILES:
        text = path.read_text()
        body = ast.parse(text).body
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        shared = "\n".join(
            ast.get_source_segment(text, node) or "" for node in body if type(node) is ast.Assign
        )
        for node in body:
            if isinstance(node, functions) and node.name.startswith("test_"):
                above = "".join(ast.get_source_segment(text, d) or "" for d in node.decorator_list)
                used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                lines = [line for line in shared.splitlines() if line.split(" ", 1)[0] in used]
                found[node.name] = "\n".join(
                    [above, *lines, ast.get_source_segment(text, node) or ""]
                )
    return found


ROWS = rows()
SOURCES = sources()


def test_the_tables_are_read() -> None:
    """All rows are found: as many as the issue has kinds of input and faults, at the least."""
    assert len(ROWS) >= 35
    assert all(row.tests for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
def test_a_row_names_tests_that_exist(row: Row) -> None:
    """The name in the last column is that of a test."""
    assert [test for test in row.tests if test not in SOURCES] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault)
def test_a_rows_metric_exists_and_its_test_looks_at_it(row: Row) -> None:
    """Name, labels and reason are of the table of metrics, and the series stands in the test."""
    series = re.findall(r"raftlock_\w+(?:\{[^}]*\})?", row.metric)
    said = "".join(SOURCES[test] for test in row.tests)
    for one in series:
        name, _, labels = one.partition("{")
        values = dict(re.findall(r'(\w+)="(\w+)"', labels))
        assert set(values) <= set(BY_NAME[name].labels)
        assert name not in REASONS or values["reason"] in REASONS[name]

    assert bool(series) != (row.metric in NO_METRIC)
    assert [one for one in series if one not in said] == []


def test_every_reason_of_a_refusal_has_a_row() -> None:
    """No reason is counted that no test of the table has seen, but for a few with tests of another kind."""
    text = DOCUMENT.read_text()
    missing = {
        (name, reason)
        for name, reasons in REASONS.items()
        for reason in reasons
        if f'{name}{{reason="{reason}"}}' not in text
    }

    assert missing == WITHOUT_A_ROW
