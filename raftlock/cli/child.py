"""Runs a command while a lock is held, and ends it in time when the lock is lost (guarantee 10).

The command has a process group of its own: what it started is ended with it. On Linux the kernel ends the command when
this process dies, however it dies.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence

PR_SET_PDEATHSIG = 1
GRACE_MAX_S = 5.0
EXIT_COMMAND_NOT_FOUND = 127
EXIT_COMMAND_NOT_RUN = 126
PASSED_ON = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def die_with_parent(parent: int) -> Callable[[], None]:
    """Return what a child runs before its program: from then on it is killed when its parent is gone."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def prepare() -> None:
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

    return prepare


def grace_s(ttl_s: float) -> float:
    """Return how long before the deadline a command is asked to end: a fifth of the ttl, at most 5 s."""
    return min(GRACE_MAX_S, ttl_s / 5)


class Child:
    """One command in a process group of its own."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self._command = command
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it. Raise OSError if it cannot be run."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env={**os.environ, **self._environment},
            start_new_session=False,
            process_group=0,
            preexec_fn=die_with_parent(os.getpid()),
        )
        _foreground(self._process.pid)
        loop = asyncio.get_running_loop()
        for number in PASSED_ON:
            loop.add_signal_handler(number, self.signal, number)

    @property
    def process(self) -> asyncio.subprocess.Process:
        """Return the running process."""
        assert self._process is not None
        return self._process

    def signal(self, number: int) -> None:
        """Send a signal to the whole group, if it is still there."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return

    async def wait(self) -> int:
        """Wait for its end. Return its exit code, 128 + the signal if one ended it, as a shell does."""
        code = await self.process.wait()
        return code if code >= 0 else 128 - code


def _foreground(group: int) -> None:
    """Give the terminal to the command, if there is one: it may want to read, and Ctrl-C is for it."""
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
