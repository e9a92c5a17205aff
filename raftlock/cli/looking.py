"""The commands that only look: check, get, list."""

import asyncio
import sys
import time
from typing import Any

import click

from raftlock.cli.common import (
    EXIT_NOT_HELD,
    emit,
    endpoints_option,
    fail,
    json_option,
    parse_endpoints,
    run,
)
from raftlock.client import AsyncClient, LockInfo

WATCH_EVERY_S = 1.0


@click.command()
@click.argument("name")
@click.option("--token", type=click.IntRange(1), required=True, help="The token to look for.")
@json_option
@endpoints_option
def check(name: str, token: int, as_json: bool, endpoints: str) -> None:
    """Say whether TOKEN is the current grant of the lock NAME.

    A help for the side that keeps the resource. It does not replace comparing tokens there: the answer may be old when
    it arrives.

    \b
    Example: raftlock check order:123 --token 1795488139707412
    Exit codes: 0 it is; 3 it is not.
    """

    async def main() -> bool:
        async with AsyncClient(parse_endpoints(endpoints)) as client:
            return await client.check(name, token)

    current = run(main())
    emit(
        as_json,
        {"status": "OK" if current else "NOT_HELD", "token": token, "resource": name},
        f"{name} is {'' if current else 'not '}held under token {token}",
    )
    if not current:
        sys.exit(EXIT_NOT_HELD)


@click.command()
@click.argument("name")
@click.option("--stale", is_flag=True, help="From any node's own table; it may be behind.")
@json_option
@endpoints_option
def get(name: str, stale: bool, as_json: bool, endpoints: str) -> None:
    """Show who holds the lock NAME.

    \b
    Example: raftlock get nightly
    Exit codes: 0; 3 nobody holds it.
    """

    async def main() -> LockInfo | None:
        async with AsyncClient(parse_endpoints(endpoints)) as client:
            return await client.get(name, stale=stale)

    info = run(main())
    if info is None:
        if as_json:
            emit(as_json, {"status": "NOT_HELD", "resource": name}, "")
        fail(f"{name!r} is not held", EXIT_NOT_HELD)
    values = as_values(info)
    width = max(map(len, values))
    emit(
        as_json,
        {"status": "OK", **values},
        "\n".join(f"{key + ':':<{width + 1}} {value}" for key, value in values.items()),
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
) -> None:
    """List locks in the order of their names.

    With --json one object a line. With --session also offers and waiting acquires. A long list is several pages, each of
    them one picture, all of them together not.

    \b
    Example: raftlock list --prefix order: --watch
    """
    if sum((bool(prefix), owner is not None, session is not None)) > 1:
        raise click.UsageError("--prefix, --owner and --session exclude each other")

    async def main() -> None:
        async with AsyncClient(parse_endpoints(endpoints)) as client:
            while True:
                show(await client.list(prefix=prefix, owner=owner, session=session, stale=stale))
                if not watch:
                    return
                await asyncio.sleep(WATCH_EVERY_S)

    def show(found: list[LockInfo]) -> None:
        if as_json:
            for info in found:
                emit(True, as_values(info), "")
            return
        if watch and sys.stdout.isatty():
            click.clear()
        click.echo(table(found))

    run(main())


def as_values(info: LockInfo) -> dict[str, Any]:
    """Return what is shown of a lock, in plain values."""
    return {
        "resource": info.resource,
        "state": info.state.name.lower(),
        "owner": info.owner,
        "token": info.token,
        "ttl": info.ttl,
        "expires_in": info.expires_in,
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(info.since)),
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
        rows.append(
            [info.resource, info.state.name.lower(), info.owner, token, ttl, str(info.waiters)]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
