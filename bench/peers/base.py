"""What `bench compare` needs of a system: to start it, to drive it, and to say in what it differs."""

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench.gaps import Probe

LEASE_MS = 10_000
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
WARM_UP_S = 0.5


@dataclass(slots=True)
class PeerTally:
    """What a load on a peer did; an operation is an acquire or a release."""

    operations: int = 0
    latencies: "array[float]" = field(default_factory=lambda: array("d"))
    errors: dict[str, int] = field(default_factory=dict)

    def failed(self, name: str) -> None:
        """Count an operation that did not do what it should."""
        self.errors[name] = self.errors.get(name, 0) + 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node runs: its address, and what to put before its command (to be in a namespace)."""

    host: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()


LOOPBACK = (Place(),) * 3


_DYING = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
"""A run that is killed leaves no servers behind. (Not by `preexec_fn`: grpc does not bear a fork of its process.)"""


class Servers:
    """The processes of a system, each with a log in the folder. One can be started again."""

    def __init__(
        self, commands: Sequence[Sequence[str]], folder: Path, *, talk: bool = False
    ) -> None:
        self._commands = commands
        self._folder = folder
        self._talk = talk
        self.processes: list[subprocess.Popen[bytes]] = []
        """`talk`: their standard input and output are pipes to here."""

    def start(self) -> None:
        """Start all."""
        for number in range(len(self._commands)):
            self.processes.append(self._popen(number))

    def _popen(self, number: int) -> subprocess.Popen[bytes]:
        with (self._folder / f"server-{number}.log").open("ab") as log:
            return subprocess.Popen(
                [*_DYING, *self._commands[number]],
                stdin=subprocess.PIPE if self._talk else subprocess.DEVNULL,
                stdout=subprocess.PIPE if self._talk else log,
                stderr=log,
                cwd=None if self._talk else self._folder,
            )

    def pid(self, number: int) -> int:
        """Return the process of a node."""
        return self.processes[number].pid

    def restart(self, number: int) -> None:
        """Start a node again, after its end."""
        self.processes[number].kill()
        self.processes[number].wait()
        self.processes[number] = self._popen(number)

    def end(self) -> None:
        """End all, by their own pids."""
        for process in self.processes:
            # One that is stopped takes no other signal before it goes on.
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@dataclass(slots=True)
class Running:
    """A system that runs: where clients reach each node, and its processes, in the same order."""

    addresses: list[str]
    servers: Servers


class Peer(Protocol):
    """A system to compare with, or raftlock itself."""

    name: str
    version: str
    differs: str
    """How it differs from raftlock in what the same work means, for the reader of the table."""

    def missing(self) -> str | None:
        """Return what is not installed, and how to get it; None if all is there."""

    def running(
        self, folder: Path, places: Sequence[Place] = LOOPBACK
    ) -> AbstractContextManager[Running]:
        """Run its servers with their data in a folder. Raise RuntimeError if they do not start."""

    async def measure(
        self, addresses: Sequence[str], *, connections: int, depth: int, seconds: float
    ) -> dict[str, Any]:
        """Drive it, and return `result_of` the tally."""


class Replicated(Peer, Protocol):
    """A system that goes on without one of its nodes."""

    async def roles(self, running: Running) -> list[bool | None]:
        """Return whether each node leads; None where it does not answer or knows no leader."""

    async def acquire_all_the_time(self, running: Running, probe: Probe, clients: int) -> None:
        """Acquire and release until the probe is over: a witness a client notes each grant."""


class Waiter(Protocol):
    """A client that takes one lock by the system's own recipe, and waits for it."""

    async def lock(self) -> None:
        """Return when the lock is held."""

    async def unlock(self) -> None:
        """Release it."""

    async def close(self) -> None:
        """Let the connection go."""


class Queued(Peer, Protocol):
    """A system with a recipe for a lock that is waited for."""

    recipe: str
    """What is used, for the reader."""

    async def waiters(self, addresses: Sequence[str], name: str, count: int) -> list[Waiter]:
        """Connect clients that will want the lock of that name."""


def result_of(tally: PeerTally, took: float) -> dict[str, Any]:
    """Return what `bench throughput` returns of a measurement."""
    values = sorted(tally.latencies)
    last = len(values) - 1

    def percentile_ms(share: float) -> float:
        return round(values[min(last, int(len(values) * share))] * 1e3, 3) if values else 0.0

    return {
        "operations_per_second": round(tally.operations / took),
        "p50_ms": percentile_ms(0.5),
        "p99_ms": percentile_ms(0.99),
        "max_ms": percentile_ms(1.0),
        "errors": tally.errors,
        "token_errors": 0,
    }


async def timed(tally: PeerTally, seconds: float) -> float:
    """Let a running load warm up, then count for `seconds`. Return the time that it really took."""
    await asyncio.sleep(WARM_UP_S)
    tally.operations, tally.latencies = 0, array("d")
    tally.errors.clear()
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    return time.perf_counter() - began


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


@contextlib.contextmanager
def servers(
    commands: Sequence[Sequence[str]], folder: Path, *, talk: bool = False
) -> Iterator[Servers]:
    """Run processes, and end them after."""
    running = Servers(commands, folder, talk=talk)
    try:
        running.start()
        yield running
    finally:
        running.end()


async def until_ready(probe: Callable[[], Awaitable[None]], what: str) -> None:
    """Repeat a probe until it raises no OSError; after a time say what did not start."""
    until = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            return await probe()
        except OSError as error:
            if time.monotonic() > until:
                raise RuntimeError(f"{what} did not start: {error}") from error
        await asyncio.sleep(0.1)
