"""What the commands share: durations, endpoints, output for people and for programs, exit codes."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

import click

from raftlock.client import BadRequest, OutcomeUnknown, RaftlockError, Unavailable
from raftlock.client.async_client import DEFAULT_ENDPOINTS

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 69
"""No node could be reached, or none leads (sysexits.h: EX_UNAVAILABLE)."""
EXIT_NOT_HELD = 3
"""`release`: the token does not hold the lock."""
EXIT_NOT_ACQUIRED = 75
"""The lock was not acquired in time (sysexits.h: EX_TEMPFAIL)."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "": 1.0}
Value = TypeVar("Value")


class Duration(click.ParamType[float]):
    """A time such as 10s, 500ms, 2m or 1h; a bare number is seconds. The value is seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Parse it, or fail with what is allowed."""
        if isinstance(value, float | int):
            return float(value)
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|)", str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a duration: use 500ms, 10s, 2m or 1h", param, ctx)
        return float(match[1]) * _UNITS[match[2]]


DURATION = Duration()


def endpoints_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --endpoints."""
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
    for endpoint in found:
        host, colon, port = endpoint.rpartition(":")
        if not (colon and host and port.isdigit()):
            raise click.UsageError(f"--endpoints: {endpoint!r} is not HOST:PORT")
    if not found:
        raise click.UsageError("--endpoints: at least one HOST:PORT is needed")
    return found


def emit(as_json: bool, values: dict[str, Any], text: str) -> None:
    """Print for programs or for people."""
    click.echo(json.dumps(values) if as_json else text)


def fail(message: str, code: int = EXIT_ERROR) -> NoReturn:
    """Say what went wrong, and end."""
    click.echo(f"raftlock: {message}", err=True)
    sys.exit(code)


def run(main: Coroutine[Any, Any, Value]) -> Value:
    """Run a coroutine; turn what the cluster refused into a message and an exit code."""
    try:
        return asyncio.run(main)
    except (BadRequest, ValueError) as error:
        fail(str(error), EXIT_USAGE)
    except (Unavailable, OutcomeUnknown) as error:
        fail(f"{error} (is a majority of the nodes up?)", EXIT_UNAVAILABLE)
    except RaftlockError as error:
        fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def default_owner() -> str:
    """Return how people see this command: user, host and pid."""
    import getpass
    import socket

    return f"{getpass.getuser()}@{socket.gethostname()}:{os.getpid()}"
