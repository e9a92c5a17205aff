"""Plays one test of this repository in this process, with whatever is planted in it.

It owns the way into pytest and out again. A directed test is a hand-made world that fails when one rule is broken.
"""

import contextlib
import io
from pathlib import Path

from raftlock.testing.mutants.planting import DoesNotApply

ROOT = Path(__file__).parents[3]
"""Of a source checkout: an installed package has no tests."""


class _Failures:
    """A plugin that keeps what the failures say."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.passed = 0

    def pytest_runtest_logreport(self, report: object) -> None:
        """Take what pytest reports of a phase of a test."""
        if getattr(report, "failed", False):
            text = str(getattr(report, "longreprtext", "")).strip()
            errors = [line[2:].strip() for line in text.splitlines() if line.startswith("E ")]
            self.texts.append(errors[0] if errors else text.splitlines()[-1])
        elif getattr(report, "when", "") == "call" and getattr(report, "passed", False):
            self.passed += 1


def play(test: str) -> str:
    """Return how a test failed; empty if it passed. Raise DoesNotApply when there is no such test."""
    try:
        # Not at the top: a package that is only installed has neither pytest nor tests, and hunts by seeds all the same.
        import pytest
    except ImportError as error:
        raise DoesNotApply(f"{test} is played by pytest, which is not here") from error
    path = ROOT / "tests" / test
    failures = _Failures()
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly", f"--rootdir={ROOT}"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        pytest.main([*options, str(path)], plugins=[failures])
    if failures.texts:
        return failures.texts[0]
    if not failures.passed:
        raise DoesNotApply(f"{path} cannot be played: {said.getvalue().strip()[-300:]}")
    return ""
