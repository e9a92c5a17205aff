"""Every rule has a directed test, and every test that RULES.md names exists."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
RULES = (
    *(f"L{i}" for i in range(1, 12)),
    *(f"R{i}" for i in range(1, 10)),
    *("T1", "T2"),
    *map(str, (6, 7, 8, 9, 11, 16, 17, 18)),
)
"""The rules of the contract, and the decisions that live in raft, locks or server's pure modules."""


def rows() -> dict[str, list[str]]:
    """Return the table: rule to the tests that it names, as file::test."""
    table = {}
    for line in (TESTS / "RULES.md").read_text().splitlines():
        if match := re.match(r"\| ([LRT]?\d+) \| (.*) \|$", line):
            table[match[1]] = re.findall(r"`([\w/.]+::\w+)`", match[2])
    return table


def defined_in(path: Path) -> set[str]:
    """Return the names of a file's tests."""
    tree = ast.parse(path.read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, functions)}


def test_every_rule_is_in_the_table() -> None:
    """In the order of the contract, and nothing that is no rule."""
    assert tuple(rows()) == RULES


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "8"])
def test_every_rule_has_tests_that_exist(rule: str) -> None:
    """At least one each; decision 8 is the rules L, R and T themselves."""
    named = rows()[rule]
    missing = []
    for test in named:
        file, name = test.split("::")
        path = TESTS / file
        if not path.is_file() or name not in defined_in(path):
            missing.append(test)

    assert (bool(named), missing) == (True, [])
