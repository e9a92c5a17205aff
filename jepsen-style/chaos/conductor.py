"""One run from its beginning to its end: network, nodes, workers, observer, faults, checks, report."""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.checks import Check, all_checks
from chaos.history import merged
from chaos.nemesis import Nemesis, Strike, schedule
from chaos.network import Network, die_with_parent
from chaos.nodes import Nodes
from chaos.proxies import ProxyNetwork
from chaos.report import Fault, Run, write_report
from chaos.wiring import Wiring
from chaos.worker import FAIR_RESOURCE, RESOURCES
from raftlock.client import AsyncClient, RaftlockError

SETTLE_S = 8.0
"""Time without faults at the end, in which the workers go on."""
AFTERWARDS_S = 30.0
HERE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a run is to be."""

    seed: int
    seconds: float
    nodes: int
    workers: int
    clients: int
    folder: Path
    only: tuple[str, ...] = ()
    proxies: bool = False
    """TCP proxies on the loopback device, and no namespaces."""
    planted: str = ""
    """A bug of raftlock.testing.mutants that all nodes and workers get: the run must fail."""


class Conductor:
    """Owns everything that one run has started, and ends it."""

    def __init__(self, options: Options) -> None:
        self._options = options
        make = ProxyNetwork if options.proxies else Network
        self._network: Wiring = make(range(1, options.nodes + 1))
        self._nodes = Nodes(self._network, options.folder, planted=options.planted)
        self._nemesis = Nemesis(self._network, self._nodes, self._leader)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._statuses = options.folder / "statuses.jsonl"
        self._faults: list[Fault] = []

    def run(self) -> bool:
        """Do it. Return whether every check passed."""
        options = self._options
        try:
            self._network.up()
            self._nodes.make_disks()
            self._nodes.bootstrap()
            asyncio.run(self._serves())
            names = [n for n in self._nemesis.names if not options.only or n in options.only]
            strikes = schedule(options.seed, options.seconds, names)
            for name, why in sorted(self._nemesis.left_out.items()):
                print(f"left out: {name}: {why}")
            began = time.monotonic()
            workers = self._start_workers(options.seconds + SETTLE_S)
            self._strike_all(strikes, began)
            lost = self._wait(workers)
            afterwards = asyncio.run(self._afterwards())
        finally:
            for process in self._processes:
                process.kill()
                process.wait()
            self._nodes.stop()
            self._network.down()
        problems = [*self._nodes.unexpected, *self._nodes.bad_words(), *self._nemesis.findings]
        return self._judge([*problems, *lost], afterwards)

    # workers

    def _spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        name = arguments[1].rpartition(".")[2] + f"-{len(self._processes)}"
        with (self._options.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=HERE, stdout=log, stderr=log, preexec_fn=die_with_parent,
            )  # fmt: skip
        self._processes.append(process)
        return process

    @property
    def _program(self) -> list[str]:
        planted = self._options.planted
        return ["-m", "chaos.planted_worker", planted] if planted else ["-m", "chaos.worker"]

    def _start_workers(self, seconds: float) -> list[subprocess.Popen[bytes]]:
        options, endpoints = self._options, ",".join(self._nodes.endpoints)
        self._spawn("-m", "chaos.observer", "--endpoints", endpoints, "--file", str(self._statuses))
        return [
            self._spawn(
                *self._program, "--endpoints", endpoints, "--folder", str(options.folder),
                "--seed", str(options.seed), "--name", f"w{number}", "--seconds", str(seconds),
                "--clients", str(options.clients), "--raw", "3",
            )
            for number in range(options.workers)
        ]  # fmt: skip

    def _wait(self, workers: list[subprocess.Popen[bytes]]) -> list[str]:
        problems = []
        for number, worker in enumerate(workers):
            try:
                code = worker.wait(timeout=self._options.seconds + SETTLE_S + 60)
            except subprocess.TimeoutExpired:
                problems.append(f"worker {number} did not end")
                continue
            if code:
                log = self._options.folder / f"worker-{number + 1}.log"
                problems.append(f"worker {number} failed with code {code}; see {log}")
        return problems

    # faults

    def _strike_all(self, strikes: list[Strike], began: float) -> None:
        position = 0
        while position < len(strikes):
            together = [s for s in strikes[position:] if s.at_s == strikes[position].at_s]
            position += len(together)
            self._sleep_until(began + together[0].at_s)
            for strike in together:
                at_ns = time.monotonic_ns()
                words = self._nemesis.begin(strike)
                print(f"{strike.at_s:6.1f} s  {strike.name}: {words}", flush=True)
                end_ns = max(time.monotonic_ns(), int((began + strike.at_s + strike.lasts_s) * 1e9))
                self._faults.append(Fault(strike.name, words, at_ns, end_ns))
            self._sleep_until(began + together[0].at_s + together[0].lasts_s)
            self._nemesis.end()

    def _sleep_until(self, when: float) -> None:
        while (left := when - time.monotonic()) > 0:
            time.sleep(min(left, 0.25))
            for node_id in self._nodes.ids:
                self._nodes.is_up(node_id)

    def _leader(self) -> int:
        """Return who led when the observer looked last; the first node if nobody did."""
        for look in reversed(self._looks()[-10:]):
            leaders = [n for n in look["nodes"] if n and n["role"] == "leader" and n["healthy"]]
            if leaders:
                return int(max(leaders, key=lambda n: n["term"])["id"])
        return self._nodes.ids[0]

    def _looks(self) -> list[Any]:
        try:
            lines = self._statuses.read_text().split("\n")[:-1]
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines]

    # before and after

    async def _serves(self) -> None:
        async with AsyncClient(self._nodes.endpoints) as client, asyncio.timeout(AFTERWARDS_S):
            lock = await client.acquire("ready", wait=AFTERWARDS_S)
            assert lock is not None

    async def _afterwards(self) -> list[str]:
        """With all faults gone, acquire every lock: dead holders must have run out, and queues must have drained."""
        problems = []
        async with AsyncClient(self._nodes.endpoints) as client:
            for resource in (*RESOURCES, FAIR_RESOURCE):
                try:
                    lock = await client.acquire(resource, wait=AFTERWARDS_S)
                except RaftlockError as error:
                    problems.append(f"{resource}: {error}")
                    continue
                if lock is None:
                    problems.append(f"{resource} was still held after {AFTERWARDS_S:.0f} s")
        return problems

    # the end

    @property
    def _how(self) -> str:
        """Say what kind of run this was."""
        kind = "proxies on the loopback device" if self._options.proxies else "network namespaces"
        planted = self._options.planted
        return kind + (f"; planted: {planted}" if planted else "")

    def _judge(self, node_problems: list[str], afterwards: list[str]) -> bool:
        options = self._options
        events = merged(sorted(options.folder.glob("history-*.jsonl")))
        (options.folder / "history.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
        checks, ops = all_checks(
            events, options.folder, node_problems=node_problems, afterwards=afterwards
        )
        run = Run(
            seed=options.seed,
            seconds=options.seconds,
            node_ids=tuple(self._nodes.ids),
            faults=tuple(self._faults),
            operations=tuple(ops),
            looks=tuple(self._looks()),
            left_out=self._nemesis.left_out,
            how=self._how,
            checks=tuple(checks),
        )
        verdicts = {check.name: check.problems for check in checks}
        (options.folder / "verdicts.json").write_text(json.dumps(verdicts, indent=1) + "\n")
        write_report(run, options.folder / "report.html")
        _print(checks, run)
        return all(check.passed for check in checks)


def _print(checks: list[Check], run: Run) -> None:
    print(f"seed {run.seed}: {len(run.operations)} operations, {len(run.faults)} faults, {run.gap}")
    for check in checks:
        print(f"{'passed' if check.passed else 'FAILED':>7}  {check.name}: {check.says}")
        for problem in check.problems[:10]:
            print(f"         {problem}")
        if len(check.problems) > 10:
            print(f"         and {len(check.problems) - 10} more")
