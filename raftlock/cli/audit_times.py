"""Moments on the command line: 2h ago, a day, or a time."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from raftlock.cli.common import EXIT_USAGE, fail

FORMS = "2h, 7d, 2026-11-25 or 2026-11-25T13:00:00Z"


def times_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --since and --until."""
    command = click.option("--until", help="Up to this moment, in the same forms.")(command)
    return click.option("--since", help=f"From this moment on: {FORMS}.")(command)


def moment(text: str, name: str) -> datetime:
    """Parse a moment, or end with what is allowed."""
    match = re.fullmatch(r"(\d+)(s|m|h|d)", text)
    if match is not None:
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[match[2]]
        try:
            return datetime.now(UTC) - timedelta(**{unit: int(match[1])})
        except OverflowError:
            fail(f"--{name}: {text} ago is before all time", EXIT_USAGE)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        fail(f"--{name}: {text!r} is no moment: use {FORMS}", EXIT_USAGE)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def moment_or_none(text: str | None, name: str) -> datetime | None:
    """Parse a moment that need not be given."""
    return None if text is None else moment(text, name)
