"""Runs a command while a lock is held, and ends it in time when the lock is lost (guarantee 10).

The command has a process group of its own: what it started is ended with it. When this process dies, however it dies,
the command is ended too: by the kernel at once on Linux, and its whole group by a small guard on every POSIX system.
Windows has neither groups nor parent-death signals: there the command alone is ended, and only by this process.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

PR_SET_PDEATHSIG = 1
GRACE_MAX_S = 5.0
GUARD_END_S = 1.0
EXIT_COMMAND_NOT_FOUND = 127
EXIT_COMMAND_NOT_RUN = 126
PASSED_ON = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)
_GUARD = 'trap "" HUP INT QUIT USR1 USR2 TERM TSTP TTIN TTOU; echo; read -r ended || kill -s KILL 0'
"""A line says that the command has ended; the end of the pipe without one says that this process has died."""


def die_with_parent(parent: int) -> Callable[[], None] | None:
    """Return what a child runs before its program to be killed when its parent is gone; None where that cannot be."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def prepare() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def spawn_options(group: int) -> dict[str, Any]:
    """Return how a command is started on this system: in a group (0: a new one), dying with its parent."""
    if not hasattr(os, "killpg"):
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"process_group": group, "preexec_fn": die_with_parent(os.getpid())}


def grace_s(ttl_s: float) -> float:
    """Return how long before the deadline a command is asked to end: a fifth of the ttl, at most 5 s."""
    return min(GRACE_MAX_S, ttl_s / 5)


def on_signal(number: int, function: Callable[[], None]) -> None:
    """Call a function on the running loop when a signal comes, on every system."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, function)
    except NotImplementedError:
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(function))


class Child:
    """One command in a process group of its own."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self._command = command
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._group = 0
        self._early: list[int] = []

    async def start(self) -> None:
        """Start it. Raise OSError if it cannot be run."""
        # Before the first await: a signal that comes from now on is for the command, though it is not there yet.
        for number in PASSED_ON:
            on_signal(number, lambda number=number: self._pass_on(number))  # type: ignore[misc]
        # The guard first: from its first moment on the command is in a group that somebody watches.
        self._guard = _start_guard()
        group = 0 if self._guard is None else self._guard.pid
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command, env={**os.environ, **self._environment}, **spawn_options(group)
            )
        except OSError:
            self.dismiss_guard()
            raise
        self._group = group or self._process.pid
        _foreground(self._group)
        for number in self._early:
            self.signal(number)

    def _pass_on(self, number: int) -> None:
        if self._process is None:
            self._early.append(number)
        else:
            self.signal(number)

    @property
    def process(self) -> asyncio.subprocess.Process:
        """Return the running process."""
        assert self._process is not None
        return self._process

    def signal(self, number: int) -> None:
        """Send a signal to the whole group, if it is still there."""
        # A group of which only the dead are left answers EPERM on macOS.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._group, number)
            elif number == signal.SIGTERM:
                self.process.terminate()
            else:
                self.process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", number))

    def ask_to_end(self) -> None:
        """Ask it to end."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it, whatever it does, and what it left behind in its group."""
        if hasattr(os, "killpg"):
            self.signal(signal.SIGKILL)
        else:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()

    async def wait(self) -> int:
        """Wait for its end. Return its exit code, 128 + the signal if one ended it, as a shell does."""
        code = await self.process.wait()
        return code if code >= 0 else 128 - code

    def dismiss_guard(self) -> None:
        """Tell the guard that the command has ended."""
        if self._guard is None or self._guard.stdin is None:
            return
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._guard.stdin.write(b"ended\n")
            self._guard.stdin.close()
            self._guard.wait(GUARD_END_S)


def _start_guard() -> "subprocess.Popen[bytes] | None":
    """Start the leader of a process group, which kills the group when this process is gone. None without a shell."""
    if not hasattr(os, "killpg"):
        return None
    try:
        guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
    except OSError:
        return None
    # Once it has said something it ignores the signals that the group will get.
    assert guard.stdout is not None
    with guard.stdout:
        ready = guard.stdout.readline()
    return guard if ready else None


def _foreground(group: int) -> None:
    """Give the terminal to the command, if there is one: it may want to read, and Ctrl-C is for it."""
    if not hasattr(os, "tcgetpgrp"):
        return
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
    except OSError:
        return
    try:
        if os.tcgetpgrp(terminal) == os.getpgrp():
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            os.tcsetpgrp(terminal, group)
    except OSError:
        return
    finally:
        os.close(terminal)
