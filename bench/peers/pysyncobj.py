"""PySyncObj: three processes with its ReplLockManager. It is a library: the load runs inside the leader's process.

Its log is in memory, and nothing is synced to a disk. Its calls are made as a user makes them: tryAcquire and release
with callbacks, `connections x depth` of them under way.
"""

import asyncio
import contextlib
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.peers.base import LEASE_MS, WARM_UP_S, PeerTally, free_ports, result_of, until_ready

NODES = 3
ANSWER_TIMEOUT_S = 30.0


class PySyncObj:
    """Three PySyncObj nodes."""

    name = "pysyncobj"
    differs = (
        "three nodes, nothing on disk; no fencing token, no queue; the load is inside the leader, "
        "append entries each 2 ms instead of 100"
    )

    def __init__(self) -> None:
        self.version = ""
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def missing(self) -> str | None:
        """Look for the library."""
        try:
            self.version = version("pysyncobj")
        except PackageNotFoundError:
            return "pysyncobj is not installed (PyPI: pysyncobj==0.3.17)"
        return None

    @contextlib.contextmanager
    def running(self, folder: Path) -> Iterator[Sequence[str]]:
        """Run three nodes on free ports."""
        addresses = [f"127.0.0.1:{port}" for port in free_ports(NODES)]
        try:
            for i, address in enumerate(addresses):
                others = [other for other in addresses if other != address]
                with (folder / f"server-{i}.log").open("ab") as log:
                    self._processes[address] = subprocess.Popen(
                        [sys.executable, "-m", "bench.peers.pysyncobj", address, *others],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        text=True,
                    )

            async def probe() -> None:
                if not any([await self._ask(a, {"leads": True}) for a in addresses]):
                    raise ConnectionError("no node leads yet")

            asyncio.run(until_ready(probe, self.name))
            yield addresses
        finally:
            for process in self._processes.values():
                process.kill()
            for process in self._processes.values():
                process.wait()
            self._processes.clear()

    async def _ask(self, address: str, question: dict[str, Any]) -> Any:
        """Ask a node's process over its standard input; its answer is one line."""
        process = self._processes[address]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
        line = await asyncio.to_thread(process.stdout.readline)
        if not line:
            raise RuntimeError(f"pysyncobj's node {address} ended")
        return json.loads(line)

    async def measure(
        self, addresses: Sequence[str], *, connections: int, depth: int, seconds: float
    ) -> dict[str, Any]:
        """Let the leader's process run the load."""
        for address in addresses:
            if await self._ask(address, {"leads": True}):
                answer: dict[str, Any] = await self._ask(
                    address, {"slots": connections * depth, "seconds": seconds}
                )
                return answer
        return result_of(PeerTally(errors={"no leader": 1}), seconds)


class Slot:
    """One lock that is taken and released by turns, each from the callback of the one before."""

    def __init__(self, locks: Any, name: str, tally: PeerTally) -> None:
        self._locks = locks
        self._name = name
        self._tally = tally
        self._held = False
        self._began = 0.0
        self.running = True

    def next(self) -> None:
        """Make the next call."""
        self._began = time.perf_counter()
        call = self._locks.release if self._held else self._locks.tryAcquire
        call(self._name, callback=self._done)

    def _done(self, result: Any, error: Any) -> None:
        if error or (not self._held and not result):
            self._tally.failed(f"error {error}")
            self._held = False
        else:
            self._tally.operations += 1
            self._tally.latencies.append(time.perf_counter() - self._began)
            self._held = not self._held
        if self.running:
            self.next()


def load(locks: Any, slots: int, seconds: float, run: int) -> dict[str, Any]:
    """Run the load in this process, which leads."""
    tally = PeerTally()
    all_slots = [Slot(locks, f"bench:{run}:{i}", tally) for i in range(slots)]
    for slot in all_slots:
        slot.next()
    time.sleep(WARM_UP_S)
    tally.operations = 0
    del tally.latencies[:]
    tally.errors.clear()
    began = time.perf_counter()
    time.sleep(seconds)
    result = result_of(tally, time.perf_counter() - began)
    for slot in all_slots:
        slot.running = False
    return result


def main(own: str, others: list[str]) -> None:
    """Be one node, and do what the lines of standard input ask."""
    locks = importlib.import_module("pysyncobj.batteries").ReplLockManager(
        autoUnlockTime=LEASE_MS / 1_000
    )
    library = importlib.import_module("pysyncobj")
    # By default a command waits for the next round of append entries, 100 ms: ten operations a second of one caller.
    conf = library.SyncObjConf(autoTickPeriod=0.001, appendEntriesPeriod=0.002)
    node = library.SyncObj(own, others, conf, consumers=[locks])
    for number, line in enumerate(sys.stdin):
        question = json.loads(line)
        if "leads" in question:
            answer: Any = node.isReady() and str(node._getLeader()) == own
        else:
            answer = load(locks, question["slots"], question["seconds"], number)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
