"""The commands that only look: check, get, list."""

import asyncio
import json
import sys
import time
from typing import Any

import click

from raftlock.cli.common import (
    EXIT_NOT_HELD,
    connect,
    emit,
    endpoints_option,
    fail,
    json_option,
    printable,
    run,
)
from raftlock.cli.locks import token_option
from raftlock.client import LockInfo, OutcomeUnknown, Unavailable, arguments

WATCH_EVERY_S = 1.0


@click.command()
@click.argument("name")
@token_option
@json_option
@endpoints_option
def check(name: str, token: int, as_json: bool, endpoints: str, timeout: float) -> None:
    """Say whether TOKEN is the current grant of the lock NAME.

    A help for the side that keeps the resource. It does not replace comparing tokens there: the answer may be old when
    it arrives.

    \b
    Example: raftlock check order:123 --token 1795488139707412
    Exit codes: 0 it is; 3 it is not.
    """

    async def main() -> bool:
        async with connect(endpoints, timeout) as client:
            return await client.check(name, token)

    if not run(main()):
        why = f"{name!r} is not held under token {token}"
        fail(why, EXIT_NOT_HELD, status="NOT_HELD", resource=name, token=token)
    values = {"status": "OK", "resource": name, "token": token}
    emit(as_json, values, f"{printable(name)} is held under token {token}")


@click.command()
@click.argument("name")
@click.option("--stale", is_flag=True, help="From any node's own table; it may be behind.")
@json_option
@endpoints_option
def get(name: str, stale: bool, as_json: bool, endpoints: str, timeout: float) -> None:
    """Show who holds the lock NAME.

    \b
    Example: raftlock get nightly
    Exit codes: 0; 3 nobody holds it.
    """

    async def main() -> LockInfo | None:
        async with connect(endpoints, timeout) as client:
            return await client.get(name, stale=stale)

    info = run(main())
    if info is None:
        fail(f"{name!r} is not held", EXIT_NOT_HELD, status="NOT_HELD", resource=name, token=None)
    values = as_values(info)
    width = max(map(len, values))
    emit(
        as_json,
        {"status": "OK", **values},
        "\n".join(f"{k + ':':<{width + 1}} {printable(str(v))}" for k, v in values.items()),
    )


@click.command(name="list")
@click.option("--prefix", default="", help="Only names that begin so.")
@click.option("--owner", default=None, help="Only locks of this owner.")
@click.option("--session", type=click.IntRange(1), default=None, help="What a session has.")
@click.option("--stale", is_flag=True, help="From any node's own table; it may be behind.")
@click.option("--watch", is_flag=True, help="Look again every second, until Ctrl-C.")
@json_option
@endpoints_option
def list_locks(
    prefix: str,
    owner: str | None,
    session: int | None,
    stale: bool,
    watch: bool,
    as_json: bool,
    endpoints: str,
    timeout: float,
) -> None:
    """List locks in the order of their names.

    With --json one object a line, and with --watch one line a look. With --session also offers and waiting acquires. A
    long list is several pages, each of them one picture, all of them together not.

    \b
    Example: raftlock list --prefix order: --watch
    Exit codes: 0; 69 no node answers (--watch goes on trying).
    """
    if sum((bool(prefix), owner is not None, session is not None)) > 1:
        raise click.UsageError("--prefix, --owner and --session exclude each other")
    try:
        arguments.utf8("--prefix", prefix)
        arguments.utf8("--owner", owner or "")
    except ValueError as error:
        raise click.UsageError(str(error)) from error

    async def main() -> None:
        async with connect(endpoints, timeout) as client:
            while True:
                try:
                    found = await client.list(
                        prefix=prefix, owner=owner, session=session, stale=stale
                    )
                except (Unavailable, OutcomeUnknown) as error:
                    if not watch:
                        raise
                    click.echo(f"raftlock: {error}", err=True)
                else:
                    show(found)
                if not watch:
                    return
                await asyncio.sleep(WATCH_EVERY_S)

    def show(found: list[LockInfo]) -> None:
        if as_json and watch:
            click.echo(json.dumps({"time": _utc(time.time()), "locks": [*map(as_values, found)]}))
        elif as_json:
            for info in found:
                emit(True, as_values(info), "")
        else:
            if watch and sys.stdout.isatty():
                click.clear()
            click.echo(table(found))

    run(main())


def _utc(wall_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall_s))


def as_values(info: LockInfo) -> dict[str, Any]:
    """Return what is shown of a lock, in plain values."""
    return {
        "resource": info.resource,
        "state": info.state.name.lower(),
        "owner": info.owner,
        "token": info.token,
        "ttl": info.ttl,
        "expires_in": info.expires_in,
        "since": _utc(info.since),
        "waiters": info.waiters,
        "session": info.session,
        "address": info.address,
        "metadata": info.metadata,
    }


def table(found: list[LockInfo]) -> str:
    """Return the locks as aligned lines."""
    names = ["resource", "state", "owner", "token", "ttl", "waiters"]
    rows = [names]
    for info in found:
        ttl = "session" if info.ttl is None else f"{info.ttl:g}s"
        token = str(info.token) if info.token else "-"
        name, owner = printable(info.resource), printable(info.owner)
        rows.append([name, info.state.name.lower(), owner, token, ttl, str(info.waiters)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
