"""PySyncObj: three processes with its ReplLockManager. It is a library: the load runs inside the leader's process.

Its log is in memory, and nothing is synced to a disk. Its calls are made as a user makes them: tryAcquire and release
with callbacks, `connections x depth` of them under way.
"""

import asyncio
import contextlib
import importlib
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.gaps import Probe, Witness
from bench.peers.base import (
    LEASE_MS,
    LOOPBACK,
    WARM_UP_S,
    PeerTally,
    Place,
    Running,
    Servers,
    free_ports,
    result_of,
    servers,
    until_ready,
)

NODES = 3
PACE_S = 0.001
RETRY_AFTER_S = 0.01
ATTEMPT_TIMEOUT_S = 0.2
POLL_S = 0.05
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
        self._servers: Servers
        self._asking = [asyncio.Lock() for _ in range(NODES)]

    def missing(self) -> str | None:
        """Look for the library."""
        try:
            self.version = version("pysyncobj")
        except PackageNotFoundError:
            return "pysyncobj is not installed (PyPI: pysyncobj==0.3.17)"
        return None

    @contextlib.contextmanager
    def running(self, folder: Path, places: Sequence[Place] = LOOPBACK) -> Iterator[Running]:
        """Run three nodes on free ports."""
        ports = free_ports(NODES)
        addresses = [f"{place.host}:{port}" for place, port in zip(places, ports, strict=True)]
        commands = [
            [
                *places[i].prefix, sys.executable, "-m", "bench.peers.pysyncobj", own,
                *(other for other in addresses if other != own),
            ]
            for i, own in enumerate(addresses)
        ]  # fmt: skip
        with servers(commands, folder, talk=True) as started:
            self._servers = started
            running = Running(addresses, started)

            async def probe() -> None:
                if not any(await self.roles(running)):
                    raise ConnectionError("no node leads yet")

            asyncio.run(until_ready(probe, self.name))
            yield running

    async def _ask(self, number: int, question: dict[str, Any]) -> Any:
        """Ask a node's process over its standard input; its answer is one line."""
        async with self._asking[number]:
            process = self._servers.processes[number]
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps(question).encode() + b"\n")
                process.stdin.flush()
                line = await asyncio.to_thread(process.stdout.readline)
            except OSError:
                line = b""
            if not line:
                raise ConnectionResetError(f"pysyncobj's node {number} ended")
            return json.loads(line)

    async def measure(
        self,
        addresses: Sequence[str],  # noqa: ARG002 - the load is inside a node
        *,
        connections: int,
        depth: int,
        seconds: float,
    ) -> dict[str, Any]:
        """Let the leader's process run the load."""
        for number in range(NODES):
            if await self._ask(number, {"leads": True}):
                question = {"slots": connections * depth, "seconds": seconds}
                answer: dict[str, Any] = await self._ask(number, question)
                return answer
        return result_of(PeerTally(errors={"no leader": 1}), seconds)

    async def roles(self, running: Running) -> list[bool | None]:
        """See Replicated."""

        async def ask(number: int) -> bool | None:
            try:
                answer: bool | None = await self._ask(number, {"leads": True})
            except ConnectionResetError:
                return None
            return answer

        return list(await asyncio.gather(*(ask(n) for n in range(len(running.addresses)))))

    async def acquire_all_the_time(self, running: Running, probe: Probe, clients: int) -> None:
        """See Replicated. A client lives in a node: one of the leader's dies with it."""
        # A lock belongs to the loop in which it was first waited for, and each run has a loop of its own.
        self._asking = [asyncio.Lock() for _ in range(NODES)]
        async with asyncio.TaskGroup() as group:
            for number in range(len(running.addresses)):
                share = len(range(number, clients, len(running.addresses)))
                group.create_task(self._acquire_in(number, share, probe))

    async def _acquire_in(self, number: int, clients: int, probe: Probe) -> None:
        """Let a node's process acquire, and fetch its times; begin anew when it was started again."""
        while not probe.over.is_set():
            witnesses = [probe.witness() for _ in range(clients)]
            try:
                await self._ask(number, {"acquire": clients})
                while not probe.over.is_set():
                    await self._fetch(number, witnesses)
                    await asyncio.sleep(POLL_S)
                await self._fetch(number, witnesses)
            except ConnectionResetError:
                for witness in witnesses:
                    witness.gone = True
                await asyncio.sleep(POLL_S)

    async def _fetch(self, number: int, witnesses: Sequence[Witness]) -> None:
        times = await self._ask(number, {"granted": True})
        for witness, since in zip(witnesses, times, strict=True):
            witness.granted_at += since


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


class Client(threading.Thread):
    """One client inside a node: it takes locks one after the other, and notes when it got one."""

    def __init__(self, locks: Any, name: str) -> None:
        super().__init__(daemon=True)
        self._locks = locks
        self._prefix = name
        self.granted_at: list[float] = []

    def run(self) -> None:
        """Go on for as long as the process lives."""
        taken = 0
        while True:
            taken += 1
            try:
                name = f"{self._prefix}:{taken}"
                if self._locks.tryAcquire(name, sync=True, timeout=ATTEMPT_TIMEOUT_S):
                    self.granted_at.append(time.monotonic())
                    self._locks.release(name, sync=True, timeout=ATTEMPT_TIMEOUT_S)
                else:
                    time.sleep(RETRY_AFTER_S)
            except Exception:  # noqa: BLE001 - its SyncObjException and what else it raises while nobody leads
                time.sleep(RETRY_AFTER_S)
            time.sleep(PACE_S)

    def fetched(self) -> list[float]:
        """Return the times since the last call."""
        times, self.granted_at = self.granted_at, []
        return times


def main(own: str, others: list[str]) -> None:
    """Be one node, and do what the lines of standard input ask."""
    locks = importlib.import_module("pysyncobj.batteries").ReplLockManager(
        autoUnlockTime=LEASE_MS / 1_000
    )
    library = importlib.import_module("pysyncobj")
    # By default a command waits for the next round of append entries, 100 ms: ten operations a second of one caller.
    conf = library.SyncObjConf(autoTickPeriod=0.001, appendEntriesPeriod=0.002)
    node = library.SyncObj(own, others, conf, consumers=[locks])
    clients: list[Client] = []
    for number, line in enumerate(sys.stdin):
        question = json.loads(line)
        answer: Any
        if "leads" in question:
            leader = node._getLeader()
            answer = None if leader is None or not node.isReady() else str(leader) == own
        elif "acquire" in question:
            names = (f"{own}:{number}:{client}" for client in range(question["acquire"]))
            clients = [Client(locks, name) for name in names]
            for client in clients:
                client.start()
            answer = True
        elif "granted" in question:
            answer = [client.fetched() for client in clients]
        else:
            answer = load(locks, question["slots"], question["seconds"], number)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
