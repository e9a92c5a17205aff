"""The line that a person sees while something takes longer."""

import io
import sys

import pytest

from raftlock.cli import progress as module
from raftlock.cli.progress import Progress


class Terminal(io.StringIO):
    """A terminal, or a pipe."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        """Return which of both."""
        return self.is_terminal


def test_it_says_what_how_long_and_why() -> None:
    """The line has the time so far, the whole if that is known, and the detail."""
    known, unknown = Progress("waiting for 'x'", of_s=300), Progress("measuring")
    known.detail = "held by 'a', 2 waiting"

    assert (known.line(12.4), unknown.line(3)) == (
        "waiting for 'x' (12 of 300 s; held by 'a', 2 waiting)",
        "measuring (3 s)",
    )


@pytest.mark.parametrize("is_terminal", [True, False])
def test_it_draws_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    """On a terminal the line is drawn and wiped; into a pipe nothing is written."""
    monkeypatch.setattr(module, "SHOW_AFTER_S", 0.0)
    monkeypatch.setattr(module, "DRAW_EVERY_S", 0.001)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal(is_terminal=is_terminal)
    monkeypatch.setattr(sys, "stderr", terminal)

    with Progress("measuring"):
        while is_terminal and "measuring" not in terminal.getvalue():
            pass

    wiped = terminal.getvalue().endswith("\r\x1b[K")
    assert (wiped, terminal.getvalue() == "") == (is_terminal, not is_terminal)


def test_what_is_quick_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a second has passed there is nothing to see."""
    monkeypatch.setattr(module, "SHOW_AFTER_S", 3600.0)
    terminal = Terminal(is_terminal=True)
    monkeypatch.setattr(sys, "stderr", terminal)

    with Progress("measuring"):
        pass

    assert terminal.getvalue() == ""
