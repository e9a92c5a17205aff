"""One run: nodes that ship their audit, clients that keep a ledger, faults, and at the end the two compared."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.audit.judge import Judge
from chaos.audit.store import Store
from chaos.checks import Check
from chaos.nemesis import Nemesis, Strike
from chaos.network import die_with_parent
from chaos.nodes import RIG, Nodes
from chaos.wiring import Wiring

NODES = 3
FAULTS = (
    "kill -9 leader", "kill -9 leader", "kill -9 one", "kill -9 all", "cut off the leader",
    "leader with clients alone", "cut off one node", "pause leader",
)  # fmt: skip
"""Killed and cut-off leaders come most often."""
FIRST_FAULT = "kill -9 leader"
"""Every run has it, however short it is."""
FAULT_S, QUIET_S = (1.0, 6.0), (3.0, 8.0)
SHIPPER_KILL_S = (3.0, 12.0)
FIRST_AWAY_S = 5.0
SETTLE_S = 180.0
SHIPPED_S = 240.0
SNAPSHOT_LOG_SIZE = 64 << 20
"""Large, so that a node that was away for seconds gets the log: one that gets a snapshot has a gap in its audit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a run is to be."""

    seed: int
    operations: int
    seconds: float
    rate: float
    logged_renewal_ttl: float
    segment_size: int
    processes: int
    clients: int
    depth: int
    away_s: float
    plant: str
    folder: Path


@dataclass(slots=True)
class Struck:
    """What was done to the cluster."""

    faults: dict[str, int] = field(default_factory=dict)
    shipper_kills: int = 0
    store_away_s: float = 0.0
    store_outages: int = 0
    whole_outages: int = 0
    """Those that lasted as long as they were meant to, and not to the end of the load."""
    lines: list[str] = field(default_factory=list)


class AuditRun:
    """Owns everything that one run has started, and ends it."""

    def __init__(self, options: Options, network: Wiring, store: Store) -> None:
        self._options, self._network, self._store = options, network, store
        self._nodes = Nodes(
            network, options.folder,
            program=("-m", "chaos.audit.node", str(options.segment_size)),
            settings={**store.settings(), "RAFTLOCK_AUDIT_EVERY_S": "1"},
            snapshot_log_size=SNAPSHOT_LOG_SIZE,
        )  # fmt: skip
        self._nemesis = Nemesis(network, self._nodes, self._leader)
        self._rng = random.Random(options.seed)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._statuses = options.folder / "statuses.jsonl"
        self.struck = Struck()
        self.results: dict[str, Any] = {}

    def run(self) -> list[Check]:
        """Do it, and leave no process behind."""
        options, checks = self._options, []
        try:
            self._network.up()
            for node_id in self._nodes.ids:
                self._nodes.data(node_id).parent.mkdir(parents=True)
            self._store.start()
            self._nodes.bootstrap("--logged-renewal-ttl", f"{options.logged_renewal_ttl:g}")
            began = time.monotonic()
            loads = self._start_loads()
            self._strike_while(loads, began)
            ended = Check("clients", "each came to its end", self._ends_of(loads))
            worked_s = time.monotonic() - began
            self._nodes.heal()
            judge = Judge(self._nodes, self._store, options.folder)
            checks = [ended, judge.shipped(SHIPPED_S)]
        finally:
            for process in self._processes:
                process.kill()
                process.wait()
            self._nodes.stop()
        try:
            # The store is asked once more, without any node.
            checks += judge.all_checks(plant=options.plant)
        finally:
            self._store.stop()
            self._network.down()
        problems = [*self._nodes.unexpected, *self._nodes.bad_words(), *self._nemesis.findings]
        checks.append(Check("nodes", "no crash, no traceback", problems))
        checks.append(self._enough(judge))
        self.results = {
            **judge.results, "seconds": round(worked_s, 1), "seed": options.seed,
            "faults": self.struck.faults, "shipper_kills": self.struck.shipper_kills,
            "store_outages": self.struck.store_outages,
            "store_whole_outages": self.struck.whole_outages,
            "store_away_seconds": round(self.struck.store_away_s, 1),
            "store": self._store.how, "logged_renewal_ttl": options.logged_renewal_ttl,
            "segment_size": options.segment_size,
        }  # fmt: skip
        return checks

    # clients

    def _start_loads(self) -> list[subprocess.Popen[bytes]]:
        options, endpoints = self._options, ",".join(self._nodes.endpoints)
        self._spawn("chaos.observer", "--endpoints", endpoints, "--file", str(self._statuses))
        return [
            self._spawn(
                "chaos.audit.load", "--endpoints", endpoints, "--seed", str(options.seed),
                "--name", f"load{number}", "--clients", str(options.clients),
                "--ledger", str(options.folder / f"ledger-{number}"),
                "--progress", str(self._progress(number)),
                "--depth", str(options.depth), "--rate", str(options.rate / options.processes), "--seconds", str(options.seconds),
                "--operations", str(-(-options.operations // options.processes)),
                *(["--renew-all"] if not options.logged_renewal_ttl else []),
            )
            for number in range(options.processes)
        ]  # fmt: skip

    def _spawn(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        name = f"{module.rpartition('.')[2]}-{len(self._processes)}"
        with (self._options.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=RIG, stdout=log, stderr=log, preexec_fn=die_with_parent,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def _progress(self, number: int) -> Path:
        return self._options.folder / f"progress-{number}"

    def _acknowledged(self) -> int:
        found = (self._progress(n) for n in range(self._options.processes))
        return sum(int(path.read_text() or 0) for path in found if path.exists())

    def _ends_of(self, loads: list[subprocess.Popen[bytes]]) -> list[str]:
        problems = []
        for number, load in enumerate(loads):
            try:
                code = load.wait(SETTLE_S)
            except subprocess.TimeoutExpired:
                code = -1
            if code:
                problems.append(f"load {number} ended with {code}; see load-{number + 1}.log")
        return problems

    def _enough(self, judge: Judge) -> Check:
        options, done = self._options, self._acknowledged()
        problems = []
        if options.operations < 1 << 62 and done < options.operations:
            problems.append(f"only {done} of {options.operations} operations were answered")
        if not judge.results.get("objects"):
            problems.append("nothing was shipped")
        problems += too_little(self.struck)
        says = f"{done} logged operations answered, {sum(self.struck.faults.values())} faults"
        return Check("enough was tried", says, problems)

    # faults

    def _strike_while(self, loads: list[subprocess.Popen[bytes]], began: float) -> None:
        streams = (self._strikes(), self._outages(), self._shipper_kills())
        due = [(began + next(stream), stream) for stream in streams]
        told_s = began
        while any(load.poll() is None for load in loads):
            now = time.monotonic()
            if now - began > self._options.seconds:
                break
            if now - told_s >= 10:
                told_s = now
                print(f"{now - began:6.0f} s  {self._acknowledged()} operations", flush=True)
            due = [
                (now + next(stream), stream) if at <= now else (at, stream) for at, stream in due
            ]
            for node_id in self._nodes.ids:
                self._nodes.is_up(node_id)
            time.sleep(0.1)
        for _, stream in due:
            stream.close()
        self._nemesis.end()

    def _strikes(self) -> Generator[float]:
        """Strike the cluster; gives how long to wait until it is called again."""
        bag = [FIRST_FAULT]
        yield 3.0
        while True:
            bag = bag or self._rng.sample(FAULTS, len(FAULTS))
            strike = Strike(
                bag.pop(), 0.0, self._rng.uniform(*FAULT_S), self._rng.randrange(1 << 32)
            )
            self.struck.faults[strike.name] = self.struck.faults.get(strike.name, 0) + 1
            self._note(f"{strike.name}: {self._nemesis.begin(strike)}")
            yield strike.lasts_s
            self._nemesis.end()
            yield self._rng.uniform(*QUIET_S)

    def _outages(self) -> Generator[float]:
        """Take the store away, refusing and silent in turn."""
        silent = False
        yield FIRST_AWAY_S
        while True:
            began = time.monotonic()
            try:
                self._store.away(silent=silent)
                self.struck.store_outages += 1
                self._note(f"the store is away, {'silent' if silent else 'refusing'}")
                yield self._options.away_s * self._rng.uniform(0.7, 1.3)
                self.struck.whole_outages += 1
            finally:
                self._store.back()
                self.struck.store_away_s += time.monotonic() - began
            self._note("the store is back")
            silent = not silent
            yield self._options.away_s * self._rng.uniform(0.3, 0.6)

    def _shipper_kills(self) -> Generator[float]:
        while True:
            yield self._rng.uniform(*SHIPPER_KILL_S)
            pids = [pid for node in self._nodes.pids.values() for pid in shippers_of(node)]
            if pids:
                # Most of the time the leader's is at work, and any may be hit.
                for pid in pids if self._rng.random() < 0.3 else [self._rng.choice(pids)]:
                    self.struck.shipper_kills += kill_9(pid)

    def _note(self, words: str) -> None:
        self.struck.lines.append(words)
        print(f"          {words}", flush=True)

    def _leader(self) -> int:
        """Return who led when the observer looked last; the first node if nobody did."""
        lines = self._statuses.read_text().split("\n")[-11:-1] if self._statuses.exists() else []
        for line in reversed(lines):
            nodes = json.loads(line)["nodes"]
            leaders = [n for n in nodes if n and n["role"] == "leader" and n["healthy"]]
            if leaders:
                return int(max(leaders, key=lambda n: n["term"])["id"])
        return self._nodes.ids[0]


def too_little(struck: Struck) -> list[str]:
    """Return what must have happened in a run that shows something, and did not in this one."""
    return [
        f"no {what}: more operations, or a lower --rate, take longer"
        for what, count in (
            ("leader was killed", struck.faults.get(FIRST_FAULT, 0)),
            ("shipper was killed", struck.shipper_kills),
            ("outage of the store ran its time", struck.whole_outages),
        )
        if not count
    ]


def shippers_of(node: int) -> list[int]:
    """Return the shippers that a node's process runs."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == node and b"raftlock.audit.worker" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except (OSError, ValueError, IndexError):
            # It ended meanwhile.
            continue
    return found


def kill_9(pid: int) -> int:
    """Kill a process. Return how many were: it may be gone."""
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return 0
    return 1
