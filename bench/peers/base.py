"""What `bench compare` needs of a system: to start it, to drive it, and to say in what it differs."""

import asyncio
import contextlib
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


class Peer(Protocol):
    """A system to compare with."""

    name: str
    version: str
    differs: str
    """How it differs from raftlock in what the same work means, for the reader of the table."""

    def missing(self) -> str | None:
        """Return what is not installed, and how to get it; None if all is there."""

    def running(self, folder: Path) -> AbstractContextManager[Sequence[str]]:
        """Run its servers with their data in a folder. Give their addresses."""

    async def measure(
        self, addresses: Sequence[str], *, connections: int, depth: int, seconds: float
    ) -> dict[str, Any]:
        """Drive it, and return `result_of` the tally."""


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
def servers(commands: Sequence[Sequence[str]], folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:  # fmt: skip
    """Run processes, each with a log in the folder, and end them after, by their own pids."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for number, command in enumerate(commands):
            with (folder / f"server-{number}.log").open("ab") as log:
                processes.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=folder))
        yield processes
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


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
