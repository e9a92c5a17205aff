"""What the commands share: durations, endpoints, output for people and for programs, exit codes."""

import asyncio
import getpass
import json
import os
import re
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

import click

from raftlock.client import (
    AsyncClient,
    BadRequest,
    OutcomeUnknown,
    RaftlockError,
    Unavailable,
    arguments,
)
from raftlock.client.arguments import DEFAULT_ENDPOINTS

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 69
"""No node could be reached, or none leads (sysexits.h: EX_UNAVAILABLE)."""
EXIT_NOT_HELD = 3
"""Nobody holds the lock, or not under that token."""
EXIT_NOT_ACQUIRED = 75
"""The lock was not acquired in time (sysexits.h: EX_TEMPFAIL)."""
EXIT_INTERRUPTED = 130

TOKEN_MAX = 2**53 - 1

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "": 1.0}
Value = TypeVar("Value")


class Duration(click.ParamType[float]):
    """A time such as 10s, 500ms, 2m or 1h; a bare number is seconds. The value is seconds."""

    name = "duration"

    def __init__(self, low: str = "0", high: str = "24h") -> None:
        """Allow durations from `low` to `high`."""
        self._low, self._high = low, high

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse it, or fail with what is allowed."""
        if isinstance(value, float | int):
            return float(value)
        seconds = _seconds(value)
        if seconds is None:
            self.fail(f"{value!r} is not a duration: use 500ms, 10s, 2m or 1h", param, ctx)
        if not (_seconds(self._low) or 0.0) <= seconds <= (_seconds(self._high) or 0.0):
            self.fail(f"{value} is not within {self._low} to {self._high}", param, ctx)
        return seconds


def _seconds(text: Any) -> float | None:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", str(text).strip())
    return None if match is None else float(match[1]) * _UNITS[match[2]]


class Token(click.ParamType[int]):
    """A fencing token, as `raftlock acquire` prints it."""

    name = "token"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse it, or fail with what a token is."""
        text = str(value).strip()
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= TOKEN_MAX):
            self.fail(
                f"{value!r} is not a token: a whole number from 1 to {TOKEN_MAX}, as acquire printed it",
                param,
                ctx,
            )
        return int(text)


TTL = Duration("100ms", "24h")
WAIT = Duration("0", "24h")


def endpoints_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --endpoints and --timeout."""
    command = click.option(
        "--timeout",
        type=Duration("100ms", "10m"),
        envvar="RAFTLOCK_TIMEOUT",
        default="10s",
        show_default=True,
        help="How long to try when no node answers (also RAFTLOCK_TIMEOUT).",
    )(command)
    return click.option(
        "--endpoints",
        envvar="RAFTLOCK_ENDPOINTS",
        default=",".join(DEFAULT_ENDPOINTS),
        show_default=True,
        metavar="HOST:PORT,…",
        help="The nodes' client addresses (also RAFTLOCK_ENDPOINTS).",
    )(command)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


def parse_endpoints(text: str) -> list[str]:
    """Split a list of addresses. Raise UsageError for one that is none."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not found:
        raise click.UsageError("--endpoints: at least one HOST:PORT is needed")
    try:
        return [arguments.endpoint(one) for one in found]
    except ValueError as error:
        raise click.UsageError(f"--{error}") from error


def connect(endpoints: str, timeout: float, owner: str | None = None) -> AsyncClient:
    """Return a client by the flags. Raise UsageError for addresses that are none."""
    return AsyncClient(parse_endpoints(endpoints), owner=owner, request_timeout=timeout)


def emit(as_json: bool, values: dict[str, Any], text: str) -> None:
    """Print for programs or for people."""
    click.echo(json.dumps(values) if as_json else text)


def printable(text: str) -> str:
    """Return a name for people: what would move the cursor, colour or hide something is shown as its escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def fail(message: str, code: int = EXIT_ERROR, **values: Any) -> NoReturn:
    """Say what went wrong, and end. With --json one object goes to stdout as well."""
    context = click.get_current_context(silent=True)
    if context is not None and context.params.get("as_json"):
        click.echo(json.dumps({"status": "ERROR", "error": message, **values}))
    click.echo(f"raftlock: {message}", err=True)
    sys.exit(code)


def run(main: Coroutine[Any, Any, Value]) -> Value:
    """Run a coroutine; turn what the cluster refused into a message and an exit code."""
    try:
        return asyncio.run(main)
    except (BadRequest, ValueError) as error:
        fail(str(error), EXIT_USAGE)
    except (Unavailable, OutcomeUnknown) as error:
        fail(
            f"{error} (is a majority of the nodes up, and are these their addresses? --endpoints)",
            EXIT_UNAVAILABLE,
        )
    except RaftlockError as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def default_owner() -> str:
    """Return how people see this command: user, host and pid."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        # A container's user id may have no name.
        user = f"uid-{os.getuid()}" if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}:{os.getpid()}"
