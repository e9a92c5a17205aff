"""The commands that change locks: acquire, renew, release, force-release."""

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

import click

from raftlock.cli.common import (
    EXIT_NOT_ACQUIRED,
    EXIT_NOT_HELD,
    TTL,
    WAIT,
    Token,
    connect,
    default_owner,
    emit,
    endpoints_option,
    fail,
    json_option,
    printable,
    run,
)
from raftlock.cli.progress import Progress
from raftlock.client import AcquireResult, AsyncClient, Lock, RaftlockError, arguments

LOOK_AFTER_S = 1.0


def acquiring_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what every acquire takes."""
    command = click.option(
        "--owner",
        default=None,
        metavar="NAME",
        help="How people see the holder (default: user@host:pid).",
    )(command)
    command = click.option(
        "--wait",
        type=WAIT,
        default="0",
        show_default=True,
        help="How long to wait for the lock: 0 to 24h.",
    )(command)
    return click.option(
        "--ttl",
        type=TTL,
        default="10s",
        show_default=True,
        help="When the lock ends by itself if nothing renews it: 100ms to 24h.",
    )(command)


def token_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --token."""
    return click.option(
        "--token",
        type=Token(),
        metavar="TOKEN",
        required=True,
        help="The token that acquire printed.",
    )(command)


async def wait_for(
    client: AsyncClient, name: str, *, ttl: float, wait: float, renew: bool = True
) -> Lock | AcquireResult:
    """Acquire, and show a person who is in the way while it takes."""
    with Progress(f"waiting for {name!r}", of_s=wait or None) as progress:
        look = asyncio.create_task(_who_is_in_the_way(client, name, progress))
        try:
            return await client.try_acquire(name, ttl=ttl, wait=wait, renew=renew)
        finally:
            look.cancel()


async def _who_is_in_the_way(client: AsyncClient, name: str, progress: Progress) -> None:
    await asyncio.sleep(LOOK_AFTER_S)
    try:
        info = await client.get(name)
    except RaftlockError as error:
        progress.detail = str(error)
    else:
        if info is not None:
            progress.detail = f"held by {info.owner!r}, {info.waiters} waiting"


def refuse(name: str, result: AcquireResult) -> NoReturn:
    """Say who holds the lock, and end."""
    held = f"{name!r} is held by {result.holder!r} (token {result.holder_token})"
    fail(
        held if result.holder_token else f"{name!r} was not acquired: {result.status.name}",
        EXIT_NOT_ACQUIRED,
        status=result.status.name,
        resource=name,
        token=None,
        holder=result.holder,
        holder_token=result.holder_token or None,
    )


@click.command()
@click.argument("name")
@acquiring_options
@json_option
@endpoints_option
def acquire(
    name: str,
    ttl: float,
    wait: float,
    owner: str | None,
    as_json: bool,
    endpoints: str,
    timeout: float,
) -> None:
    """Acquire the lock NAME, print its token, and leave it to its ttl.

    \b
    Example: token=$(raftlock acquire deploy --ttl 5m) && ./deploy
             raftlock release deploy --token "$token"
    Exit codes: 0; 75 not acquired in time.
    """

    async def main() -> Lock | AcquireResult:
        async with connect(endpoints, timeout, owner or default_owner()) as client:
            return await wait_for(client, name, ttl=ttl, wait=wait, renew=False)

    result = run(main())
    if isinstance(result, AcquireResult):
        refuse(name, result)
    emit(as_json, {"status": "OK", "resource": name, "token": result.token}, str(result.token))


@click.command()
@click.argument("name")
@token_option
@json_option
@endpoints_option
def release(name: str, token: int, as_json: bool, endpoints: str, timeout: float) -> None:
    """Release the lock NAME that TOKEN holds.

    \b
    Example: raftlock release deploy --token "$token"
    Exit codes: 0; 3 the token does not hold the lock.
    """

    async def main() -> bool:
        async with connect(endpoints, timeout) as client:
            return await client.release_token(name, token)

    _held(run(main()), as_json, name, token, f"released {printable(name)}")


@click.command()
@click.argument("name")
@token_option
@json_option
@endpoints_option
def renew(name: str, token: int, as_json: bool, endpoints: str, timeout: float) -> None:
    """Let the lease of the lock NAME, held under TOKEN, begin anew.

    \b
    Example: raftlock renew deploy --token "$token"
    Exit codes: 0; 3 the token does not hold the lock.
    """

    async def main() -> bool:
        async with connect(endpoints, timeout) as client:
            return await client.renew_token(name, token)

    _held(run(main()), as_json, name, token, f"renewed {printable(name)}")


@click.command(name="force-release")
@click.argument("name")
@click.option(
    "--token",
    type=Token(),
    metavar="TOKEN",
    help="Only if this token holds it (default: any).",
)
@click.option("--reason", required=True, help="Why; it is kept in the audit log.")
@click.option(
    "--now", is_flag=True, help="Pass the lock on at once, not when its lease has run out."
)
@json_option
@endpoints_option
def force_release(
    name: str,
    token: int | None,
    reason: str,
    now: bool,
    as_json: bool,
    endpoints: str,
    timeout: float,
) -> None:
    """End the lock NAME for its holder. For administrators.

    Without --now renewals are refused, and the lock passes on when its lease has run out: the old holder has stopped by
    then. With --now it passes on at once, and the old holder may act until it hears of it.

    \b
    Example: raftlock force-release nightly --reason "host is gone, INC-4711"
    Exit codes: 0; 3 nobody holds it, or not under the token.
    """

    async def main() -> tuple[int, bool]:
        arguments.reason(reason)
        async with connect(endpoints, timeout) as client:
            held = token
            if held is None:
                info = await client.get(name)
                if info is None:
                    return 0, False
                held = info.token
            return held, await client.force_release(name, held, reason=reason, now=now)

    ended, done = run(main())
    shown = printable(name)
    at_once = f"{shown} was taken from token {ended}; its holder may act until it hears of it"
    later = f"{shown} ends when the lease of token {ended} has run out"
    _held(done, as_json, name, ended, at_once if now else later)


def _held(held: bool, as_json: bool, name: str, token: int, text: str) -> None:
    """Print that it was done, or that the token does not hold the lock, and end with that exit code."""
    if not held:
        why = f"{name!r} is not held under token {token}" if token else f"{name!r} is not held"
        fail(why, EXIT_NOT_HELD, status="NOT_HELD", resource=name, token=token or None)
    emit(as_json, {"status": "OK", "resource": name, "token": token}, text)
