"""`python jepsen-style abuse`: honest clients beside one abuser after the other, on three real nodes.

Verdicts that do not depend on the machine's speed: no node ends, no honest client gets a wrong answer, memory stays
within a stated bound, the honest clients finish, and nothing of the abuse is left afterwards. Latencies are shown.
Exit codes: 0 every verdict passed; 1 one did not.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from chaos.abuse import page
from chaos.abuse.abuser import ABUSES
from chaos.abuse.verdicts import Phase, read_samples, row
from chaos.abuse.watching import Usage, Watch, counted, scrape
from chaos.checks import Check, no_two_believe
from chaos.history import merged
from chaos.network import die_with_parent
from chaos.nodes import RIG, Nodes
from chaos.wiring import Loopback
from raftlock.client import AsyncClient
from raftlock.client.async_client import fetch_status
from raftlock.testing.linearizability import Limits, check_history, operations

LIES = "a peer that lies"
NAMES = (*ABUSES, LIES)
NODES = 3
CALM_S = 2.0
"""Between the end of an abuse and the next phase."""
END_S = 90.0
"""How long what is left of an abuse may take to run out: sessions of 10 s, on a machine of any speed."""
SERVES_S = 60.0


class AbuseRun:
    """One run: nodes, honest clients, abusers, and what was seen."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options, self._folder = options, folder
        self._nodes = Nodes(Loopback(range(1, NODES + 1)), folder)
        self._honest: subprocess.Popen[bytes] | None = None
        self.phases: list[Phase] = []
        self.checks: list[Check] = []

    def run(self) -> None:
        """Do it, and leave no process behind."""
        abuses = self._options.only or list(NAMES)
        seconds = self._options.seconds
        try:
            self._nodes.make_disks()
            self._nodes.bootstrap()
            asyncio.run(self._serves())
            # The honest clients stop when they are told to: how long the run takes is not known yet.
            whole = 2 * seconds * (2 * len(abuses) + 2) + 300
            self._start_honest(whole)
            time.sleep(CALM_S)
            self._phase("before", seconds)
            for name in abuses:
                self._abuse(name, seconds)
                self._phase(f"after {name}", seconds / 2)
            self._phase("after all", seconds)
            self._stop_honest()
            self._look_for_rest()
        finally:
            if self._honest is not None and self._honest.poll() is None:
                self._honest.kill()
                self._honest.wait()
            self._nodes.stop()
        self._judge()

    async def _serves(self) -> None:
        async with AsyncClient(self._nodes.endpoints) as client, asyncio.timeout(SERVES_S):
            assert await client.acquire("ready", wait=SERVES_S) is not None

    # honest clients

    def _start_honest(self, seconds: float) -> None:
        with (self._folder / "honest.log").open("wb") as log:
            self._honest = subprocess.Popen(
                [
                    sys.executable, "-m", "chaos.abuse.honest", "--endpoints", ",".join(self._nodes.endpoints),
                    "--folder", str(self._folder), "--rate", str(self._options.rate), "--seconds", str(seconds),
                ],
                cwd=RIG, stdout=log, stderr=log, preexec_fn=die_with_parent,
            )  # fmt: skip

    def _stop_honest(self) -> None:
        assert self._honest is not None
        finish = Check("honest clients finish", "all rounds that were begun have ended", [])
        self._honest.terminate()
        try:
            code = self._honest.wait(timeout=END_S)
        except subprocess.TimeoutExpired:
            code = -1
        if code:
            finish.problems.append(f"code {code}; see {self._folder / 'honest.log'}")
        self.checks.append(finish)

    # phases

    def _phase(self, name: str, seconds: float) -> None:
        with Watch(self._nodes.pids) as watch:
            begin = time.monotonic()
            time.sleep(seconds)
            end = time.monotonic()
        self._keep(Phase(name, begin, end, watch.most, problems=self._ended()))

    def _keep(self, phase: Phase) -> None:
        self.phases.append(phase)
        print(f"{phase.name}: {phase.end_s - phase.begin_s:.0f} s", flush=True)

    def _ended(self) -> tuple[str, ...]:
        """Return which nodes have ended since the last look, and start them again: the next phase is another one's."""
        known = len(self._nodes.unexpected)
        for node_id in self._nodes.ids:
            self._nodes.is_up(node_id)
        found = tuple(self._nodes.unexpected[known:])
        if found:
            self._nodes.heal()
        return found

    def _scrapes(self) -> list[dict[str, float]]:
        return [scrape(self._nodes.network.addresses(n).http) for n in self._nodes.ids]

    def _abuse(self, name: str, seconds: float) -> None:
        arguments = self._liar() if name == LIES else self._abuser(name)
        before = self._scrapes()
        log = self._folder / f"{name.replace(' ', '-').replace(',', '')}.log"
        with log.open("wb") as errors, Watch(self._nodes.pids) as watch:
            begin = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, *arguments, "--seconds", str(seconds)],
                cwd=RIG, stdout=subprocess.PIPE, stderr=errors, preexec_fn=die_with_parent,
            )  # fmt: skip
            try:
                said = process.communicate(timeout=seconds + END_S)[0]
            except subprocess.TimeoutExpired:
                process.kill()
                said = process.communicate()[0]
            end = time.monotonic()
        problems = self._ended()
        if process.returncode:
            problems += (f"the abuser failed with code {process.returncode}; see {log}",)
        counts = counted(before, self._scrapes())
        told = {} if process.returncode else json.loads(said)
        self._keep(Phase(name, begin, end, watch.most, counts, told, problems))
        self._nodes.heal()
        time.sleep(CALM_S)

    def _abuser(self, name: str) -> list[str]:
        where = [self._nodes.network.addresses(n) for n in self._nodes.ids]
        return [
            "-m", "chaos.abuse.abuser", name,
            "--clients", ",".join(a.client for a in where), "--peers", ",".join(a.peer for a in where),
            "--http", ",".join(a.http for a in where),
        ]  # fmt: skip

    def _liar(self) -> list[str]:
        """Kill a follower, and give its identity and address to the liar."""
        node_id = asyncio.run(self._follower())
        self._nodes.kill(node_id)
        copy = self._folder / "liar-data"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self._nodes.data(node_id), copy)
        return [
            "-m", "chaos.abuse.liar", "--data", str(copy), "--node-id", str(node_id),
            "--peer", self._nodes.network.addresses(node_id).peer,
        ]  # fmt: skip

    async def _follower(self) -> int:
        for node_id in self._nodes.ids:
            status = await fetch_status(self._nodes.endpoint(node_id), timeout=10.0)
            if status.role != "leader":
                return node_id
        return self._nodes.ids[-1]

    # the end

    def _look_for_rest(self) -> None:
        """Wait until nothing of the abusers is left: no waiter, and no session that nobody keeps alive."""
        check = Check("nothing is left", f"waiters, sessions, connections within {END_S:.0f} s")
        until = time.monotonic() + END_S
        rest: list[str] = []
        while time.monotonic() < until:
            rest = [
                f"node {node_id}: {seen.get(name, -1.0):.0f} {name}"
                for node_id, seen in zip(self._nodes.ids, self._scrapes(), strict=True)
                for name in ("raftlock_waiters", "raftlock_sessions", "raftlock_locks")
                if seen.get(name) != 0.0
            ]
            if not rest:
                break
            time.sleep(1.0)
        check.problems += rest
        self.checks.append(check)

    def _judge(self) -> None:
        events = merged([self._folder / "history-honest.jsonl"])
        ops = operations(events)
        report = check_history(ops, Limits())
        self.checks += [
            Check(
                "linearizable",
                f"{report.operations} operations on {report.resources} locks",
                [*report.violations, *(f"undecided: {name}" for name in report.undecided)],
            ),
            Check("no two holders", "of the honest clients' locks", no_two_believe(ops)),
            Check(
                "nodes",
                "no crash, no traceback",
                [*self._nodes.unexpected, *self._nodes.bad_words()],
            ),
        ]

    def write(self) -> bool:
        """Print the table and leave it as JSON and as a page. Return whether every verdict passed."""
        samples = read_samples(self._folder / "samples.jsonl")
        base = Phase("", 0, 0, Usage(min(p.usage.memory_mib for p in self.phases)))
        rows = []
        for phase in self.phases:
            rows.append(row(phase, samples, base))
            base = phase
        print(page.text(rows, self.checks))
        values = page.as_json(rows, self.checks)
        (self._folder / "abuse.json").write_text(json.dumps(values, indent=1) + "\n")
        (self._folder / "abuse.html").write_text(page.page(rows, self.checks, samples))
        return all(one.passed for one in rows) and all(check.passed for check in self.checks)


def main(argv: list[str]) -> int:
    """Read the command line and run. Return the exit code."""
    parser = argparse.ArgumentParser(prog="python jepsen-style abuse", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each abuse (default: 8)")
    parser.add_argument(
        "--rate", type=float, default=40.0, help="rounds a second of the honest (default: 40)"
    )
    parser.add_argument("--only", action="append", choices=NAMES, help="this one; repeatable")
    parser.add_argument(
        "--folder", type=Path, help="where to leave everything (default: a new one)"
    )
    options = parser.parse_args(argv)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="raftlock-abuse-"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        parser.error(f"--folder: {folder} is not empty")
    run = AbuseRun(options, folder.resolve())
    run.run()
    passed = run.write()
    print(f"page: {folder / 'abuse.html'}")
    return 0 if passed else 1
