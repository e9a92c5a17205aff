"""`raftlock lock NAME -- COMMAND`: a command that runs while a lock is held, and not a moment longer."""

import asyncio
import os
import signal

import click

from raftlock.cli.child import (
    EXIT_COMMAND_NOT_FOUND,
    EXIT_COMMAND_NOT_RUN,
    Child,
    grace_s,
    on_signal,
)
from raftlock.cli.common import connect, default_owner, endpoints_option, fail, json_option, run
from raftlock.cli.locks import acquiring_options, refuse, wait_for
from raftlock.client import AcquireResult, AsyncClient, Lock

EXIT_LOST = 70
"""The lock was lost while the command ran, and the command was ended."""
LOOK_EVERY_S = 0.05


class Stopped(Exception):
    """A signal came before the command was started."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class LockCommand(click.Command):
    """Says what to do about a flag that is meant for the command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; a flag that is not ours gets a hint."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if "--" in args:
                raise
            hint = f"{error.format_message()} COMMAND and its flags go behind a --."
            raise click.UsageError(hint, ctx) from error


@click.command(name="lock", cls=LockCommand)
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@acquiring_options
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
    timeout: float,
) -> None:
    """Run COMMAND while holding the lock NAME.

    COMMAND gets RAFTLOCK_TOKEN (the fencing token) and RAFTLOCK_RESOURCE. Its exit code is ours. If the lock is about
    to be lost, COMMAND gets SIGTERM a grace before the deadline (a fifth of the ttl, at most 5 s) and its whole process
    group SIGKILL at the deadline. With --json a lock that was not acquired, or was lost, is reported as one object.

    \b
    Example: raftlock lock nightly --ttl 30s --wait 5m -- ./backup.sh --full
    Exit codes: COMMAND's; 75 not acquired in time; 70 lost while it ran;
    69 no node can be reached or none leads; 126, 127 COMMAND cannot be run.
    """
    del as_json  # What fails looks for it by itself.

    async def main() -> int | AcquireResult:
        client = connect(endpoints, timeout, owner or default_owner())
        return await _lock(client, name, list(command), ttl, wait)

    try:
        code = run(main())
    except Stopped as stopped:
        code = 128 + stopped.number
    if isinstance(code, AcquireResult):
        refuse(name, code)
    if code == EXIT_LOST:
        fail(f"the lock {name!r} was lost; the command was ended", code, status="LOST")
    # Without the interpreter's own clean-up: the command's signals must not be turned into a traceback here.
    os._exit(code)


async def _lock(
    client: AsyncClient, name: str, command: list[str], ttl: float, wait: float
) -> int | AcquireResult:
    async with client:
        result = await _acquire_unless_stopped(client, name, ttl, wait)
        if isinstance(result, AcquireResult):
            return result
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


async def _acquire_unless_stopped(
    client: AsyncClient, name: str, ttl: float, wait: float
) -> Lock | AcquireResult:
    """Acquire. A signal that would end this process withdraws the acquire first: no waiter is left behind."""
    came: list[int] = []
    acquiring = asyncio.create_task(wait_for(client, name, ttl=ttl, wait=wait))
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):

        def stop(number: int = number) -> None:
            came.append(number)
            acquiring.cancel()

        on_signal(number, stop)
    try:
        result = await acquiring
    except asyncio.CancelledError:
        if came:
            raise Stopped(came[0]) from None
        raise
    if came:
        if isinstance(result, Lock):
            await result.release()
        raise Stopped(came[0])
    return result


async def _supervise(child: Child, lock: Lock, ttl: float) -> int:
    """Wait for the command's end, or end it before its lock is over."""
    watcher = asyncio.create_task(_end_in_time(child, lock, grace_s(ttl)))
    code = await child.wait()
    lost = lock.overtaken
    watcher.cancel()
    # What the command left behind in its group must not act without the lock either.
    child.kill()
    child.dismiss_guard()
    if lost:
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
            child.ask_to_end()
        pause = left if asked else max(left - grace, 0.001)
        try:
            async with asyncio.timeout(min(pause, LOOK_EVERY_S)):
                await lock.lost.wait()
        except TimeoutError:
            continue
    child.kill()
