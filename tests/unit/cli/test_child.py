"""The command that a lock runs: its group, its guard, and what is done where the system has less than Linux."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from raftlock.cli import child as module
from raftlock.cli.child import PASSED_ON, Child, die_with_parent, grace_s, on_signal, spawn_options

posix = pytest.mark.skipif(not hasattr(os, "killpg"), reason="this system has no process groups")


def alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_grace_is_a_fifth_of_the_ttl() -> None:
    """A command is asked to end a fifth of the ttl before the deadline, at most 5 s."""
    assert [grace_s(ttl) for ttl in (0.5, 10, 25, 3600)] == [0.1, 2.0, 5.0, 5.0]


def test_without_process_groups_the_command_is_ended_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on Windows, without killpg, signals of POSIX and add_signal_handler: the command starts, and can be ended."""
    for name in ("killpg", "tcgetpgrp"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(module.sys, "platform", "win32")
    monkeypatch.setattr(module, "PASSED_ON", (signal.SIGINT, signal.SIGTERM))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    async def main() -> tuple[int, int]:
        def refuse(*_: object) -> None:
            raise NotImplementedError

        monkeypatch.setattr(asyncio.get_running_loop(), "add_signal_handler", refuse)
        asked, killed = (Child(["sleep", "600"], {}) for _ in range(2))
        await asked.start()
        await killed.start()
        asked.ask_to_end()
        killed.kill()
        killed.dismiss_guard()
        return await asked.wait(), await killed.wait()

    try:
        codes = asyncio.run(main())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

    assert codes == (128 + 15, 128 + 9)
    assert spawn_options(0) == {"creationflags": 0}


def test_a_signal_handler_works_without_the_loops_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a loop has no signal handlers, Python's are used, and the function runs on the loop."""
    before = signal.getsignal(signal.SIGTERM)

    async def main() -> int:
        loop, came = asyncio.get_running_loop(), asyncio.Event()
        where: list[int] = []

        def refuse(*_: object) -> None:
            raise NotImplementedError

        def handle() -> None:
            where.append(threading.get_ident())
            came.set()

        monkeypatch.setattr(loop, "add_signal_handler", refuse)
        on_signal(signal.SIGTERM, handle)
        signal.raise_signal(signal.SIGTERM)
        await came.wait()
        return where[0]

    try:
        assert asyncio.run(main()) == threading.get_ident()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_only_linux_has_a_parent_death_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere nothing is run in the child before its program."""
    monkeypatch.setattr(module.sys, "platform", "darwin")

    assert die_with_parent(1) is None


def test_signals_that_a_system_lacks_are_not_passed_on() -> None:
    """What is passed on is what there is."""
    assert set(PASSED_ON) <= set(signal.valid_signals())


@posix
def test_the_guard_kills_the_group_of_a_dead_parent(tmp_path: Path) -> None:
    """When the process that runs a command is killed with SIGKILL, what the command started is killed too."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import asyncio, sys\n"
        "from raftlock.cli.child import Child\n"
        "async def main():\n"
        "    child = Child(['sh', '-c', 'sleep 600 & echo $!; wait'], {})\n"
        "    await child.start()\n"
        "    await child.wait()\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    grandchild = int(parent.stdout.readline())
    was_alive = alive(grandchild)
    parent.kill()
    parent.wait()
    # The pipe ends when the last of the group is gone, a moment before the kernel says so.
    parent.stdout.read()
    parent.stdout.close()
    while alive(grandchild):
        time.sleep(0.001)

    assert was_alive


@posix
def test_a_signal_to_the_command_reaches_its_group_and_not_the_guard() -> None:
    """A passed on SIGTERM ends what the command started; the guard stays until it is dismissed."""

    async def main() -> tuple[int, int | None]:
        child = Child(["sh", "-c", "sleep 600 | cat"], {})
        await child.start()
        child.ask_to_end()
        code = await child.wait()
        assert child._guard is not None
        left_early = child._guard.poll()
        child.dismiss_guard()
        return code, left_early

    assert asyncio.run(main()) == (128 + 15, None)


@posix
def test_a_signal_that_comes_while_it_starts_is_passed_on() -> None:
    """A signal between the call of start() and the command's first moment is not lost."""

    async def main() -> int:
        child = Child(["sleep", "600"], {})
        starting = asyncio.create_task(child.start())
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGTERM)
        await starting
        code = await child.wait()
        child.dismiss_guard()
        return code

    assert asyncio.run(main()) == 128 + 15


@posix
def test_the_guard_leaves_when_the_command_has_ended() -> None:
    """A command that ended by itself leaves no guard behind."""

    async def main() -> tuple[int, int | None]:
        child = Child(["sh", "-c", "exit 7"], {})
        await child.start()
        code = await child.wait()
        child.dismiss_guard()
        assert child._guard is not None
        return code, child._guard.returncode

    assert asyncio.run(main()) == (7, 0)
