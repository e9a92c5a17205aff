"""The commands that change locks: lock, acquire, renew, release, force-release."""

import asyncio
import os
import signal
from typing import Any

import click

from raftlock.cli.child import EXIT_COMMAND_NOT_FOUND, EXIT_COMMAND_NOT_RUN, Child, grace_s
from raftlock.cli.common import (
    DURATION,
    EXIT_NOT_ACQUIRED,
    EXIT_NOT_HELD,
    default_owner,
    emit,
    endpoints_option,
    fail,
    json_option,
    parse_endpoints,
    run,
)
from raftlock.client import AsyncClient, Lock
from raftlock.client.acquiring import AcquireResult

EXIT_LOST = 70
"""The lock was lost while the command ran, and the command was ended."""


def _not_acquired(resource: str, result: AcquireResult) -> str:
    if result.holder_token:
        return f"{resource!r} is held by {result.holder!r} (token {result.holder_token})"
    return f"{resource!r} was not acquired: {result.status.name}"


@click.command(name="lock", context_settings={"ignore_unknown_options": True})
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--ttl",
    type=DURATION,
    default="10s",
    show_default=True,
    help="How long the lock outlives this command.",
)
@click.option(
    "--wait", type=DURATION, default="0", show_default=True, help="How long to wait for the lock."
)
@click.option("--owner", default=None, help="How people see the holder (default: user@host:pid).")
@json_option
@endpoints_option
def lock(
    name: str,
    command: tuple[str, ...],
    ttl: float,
    wait: float,
    owner: str | None,
    as_json: bool,
    endpoints: str,
) -> None:
    """Run COMMAND while holding the lock NAME.

    COMMAND gets RAFTLOCK_TOKEN (the fencing token) and RAFTLOCK_RESOURCE. Its exit code is ours. If the lock is about
    to be lost, COMMAND gets SIGTERM a grace before the deadline and its whole process group SIGKILL at the deadline.

    \b
    Example: raftlock lock nightly --ttl 30s --wait 5m -- ./backup.sh
    Exit codes: COMMAND's; 75 not acquired in time; 70 lost while it ran; 126, 127 COMMAND cannot be run.
    """
    if command[0] == "--":
        command = command[1:]
    code = run(
        _lock(
            name,
            list(command),
            ttl,
            wait,
            owner or default_owner(),
            as_json,
            parse_endpoints(endpoints),
        )
    )
    # Without the interpreter's own clean-up: the command's signals must not be turned into a traceback here.
    os._exit(code)


async def _lock(
    name: str,
    command: list[str],
    ttl: float,
    wait: float,
    owner: str,
    as_json: bool,
    endpoints: list[str],
) -> int:
    async with AsyncClient(endpoints, owner=owner) as client:
        result = await client.try_acquire(name, ttl=ttl, wait=wait)
        if isinstance(result, AcquireResult):
            message = _not_acquired(name, result)
            if as_json:
                emit(
                    as_json,
                    {"status": result.status.name, "token": None, "holder": result.holder},
                    "",
                )
            click.echo(f"raftlock: {message}", err=True)
            return EXIT_NOT_ACQUIRED
        environment = {"RAFTLOCK_TOKEN": str(result.token), "RAFTLOCK_RESOURCE": name}
        child = Child(command, environment)
        try:
            await child.start()
        except FileNotFoundError:
            await result.release()
            click.echo(f"raftlock: {command[0]}: command not found", err=True)
            return EXIT_COMMAND_NOT_FOUND
        except OSError as error:
            await result.release()
            click.echo(f"raftlock: {command[0]}: {error.strerror}", err=True)
            return EXIT_COMMAND_NOT_RUN
        return await _supervise(child, result, ttl)


async def _supervise(child: Child, lock: Lock, ttl: float) -> int:
    """Wait for the command's end, or end it before its lock is over."""
    watcher = asyncio.create_task(_end_in_time(child, lock, grace_s(ttl)))
    code = await child.wait()
    lost = lock.lost.is_set()
    watcher.cancel()
    # What the command left behind in its group must not act without the lock either.
    child.signal(signal.SIGKILL)
    if lost:
        click.echo(
            f"raftlock: the lock {lock.resource!r} was lost; the command was ended", err=True
        )
        return EXIT_LOST
    await lock.release()
    return code


async def _end_in_time(child: Child, lock: Lock, grace: float) -> None:
    """SIGTERM a grace before the deadline, SIGKILL at the deadline or when the server says that the lock is lost."""
    asked = False
    while not lock.lost.is_set() and lock.held:
        left = lock.remaining
        if left <= grace and not asked:
            asked = True
            child.signal(signal.SIGTERM)
        pause = left if asked else max(left - grace, 0.001)
        try:
            async with asyncio.timeout(min(pause, 0.05)):
                await lock.lost.wait()
        except TimeoutError:
            continue
    child.signal(signal.SIGKILL)


@click.command()
@click.argument("name")
@click.option(
    "--ttl", type=DURATION, default="10s", show_default=True, help="When the lock ends by itself."
)
@click.option(
    "--wait", type=DURATION, default="0", show_default=True, help="How long to wait for the lock."
)
@click.option("--owner", default=None, help="How people see the holder (default: user@host:pid).")
@json_option
@endpoints_option
def acquire(
    name: str, ttl: float, wait: float, owner: str | None, as_json: bool, endpoints: str
) -> None:
    """Acquire the lock NAME, print its token, and leave it to its ttl.

    \b
    Example: token=$(raftlock acquire deploy --ttl 5m) && ./deploy && raftlock release deploy --token "$token"
    Exit codes: 0; 75 not acquired in time.
    """

    async def main() -> Lock | AcquireResult:
        async with AsyncClient(
            parse_endpoints(endpoints), owner=owner or default_owner()
        ) as client:
            return await client.try_acquire(name, ttl=ttl, wait=wait, renew=False)

    result = run(main())
    if isinstance(result, AcquireResult):
        if as_json:
            values: dict[str, Any] = {
                "status": result.status.name,
                "token": None,
                "holder": result.holder,
            }
            emit(as_json, values, "")
        fail(_not_acquired(name, result), EXIT_NOT_ACQUIRED)
    emit(as_json, {"status": "OK", "token": result.token, "resource": name}, str(result.token))


@click.command()
@click.argument("name")
@click.option(
    "--token", type=click.IntRange(1), required=True, help="The token that acquire printed."
)
@json_option
@endpoints_option
def release(name: str, token: int, as_json: bool, endpoints: str) -> None:
    """Release the lock NAME that TOKEN holds.

    \b
    Exit codes: 0; 3 the token does not hold the lock.
    """

    async def main() -> bool:
        async with AsyncClient(parse_endpoints(endpoints)) as client:
            return await client.release_token(name, token)

    _held(run(main()), as_json, name, token, f"released {name}")


@click.command()
@click.argument("name")
@click.option(
    "--token", type=click.IntRange(1), required=True, help="The token that acquire printed."
)
@json_option
@endpoints_option
def renew(name: str, token: int, as_json: bool, endpoints: str) -> None:
    """Let the lease of the lock NAME, held under TOKEN, begin anew.

    \b
    Example: raftlock renew deploy --token "$token"
    Exit codes: 0; 3 the token does not hold the lock.
    """

    async def main() -> bool:
        async with AsyncClient(parse_endpoints(endpoints)) as client:
            return await client.renew_token(name, token)

    _held(run(main()), as_json, name, token, f"renewed {name}")


@click.command(name="force-release")
@click.argument("name")
@click.option("--token", type=click.IntRange(1), help="Only if this token holds it (default: any).")
@click.option("--reason", required=True, help="Why; it is kept in the audit log.")
@click.option(
    "--now", is_flag=True, help="Pass the lock on at once, not when its lease has run out."
)
@json_option
@endpoints_option
def force_release(
    name: str, token: int | None, reason: str, now: bool, as_json: bool, endpoints: str
) -> None:
    """End the lock NAME for its holder. For administrators.

    Without --now renewals are refused, and the lock passes on when its lease has run out: the old holder has stopped by
    then. With --now it passes on at once, and the old holder may act until it hears of it.

    \b
    Example: raftlock force-release nightly --reason "host is gone, INC-4711"
    Exit codes: 0; 3 nobody holds it, or not under the token.
    """

    async def main() -> tuple[int, bool]:
        async with AsyncClient(parse_endpoints(endpoints)) as client:
            held = token
            if held is None:
                info = await client.get(name)
                if info is None:
                    return 0, False
                held = info.token
            return held, await client.force_release(name, held, reason=reason, now=now)

    ended, done = run(main())
    _held(
        done,
        as_json,
        name,
        ended,
        f"{name} was taken from token {ended}; its holder may act until it hears of it"
        if now
        else f"{name} ends when the lease of token {ended} has run out",
    )


def _held(held: bool, as_json: bool, name: str, token: int, text: str) -> None:
    """Print that it was done, or that the token does not hold the lock, and end with that exit code."""
    if held:
        emit(as_json, {"status": "OK", "token": token, "resource": name}, text)
        return
    if as_json:
        emit(as_json, {"status": "NOT_HELD", "token": token, "resource": name}, "")
    why = f"{name!r} is not held under token {token}" if token else f"{name!r} is not held"
    fail(why, EXIT_NOT_HELD)
