"""`python jepsen-style known-bad`: the rig must find what is wrong where something is known to be wrong.

It runs the rig on the product with one bug of raftlock.testing.mutants planted after the other, and on PySyncObj's lock
under SIGSTOP and restarts. Exit codes: 0 everything was found; 1 something was not.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from chaos.checks import no_two_believe
from chaos.history import merged
from chaos.network import die_with_parent
from chaos.nodes import RIG
from chaos.register import lost_updates
from chaos.wiring import free_ports
from raftlock.testing.linearizability import operations

PROVES = ("linearizable", "no two holders", "no lost update")
"""The checks whose failure says that a bug was found. A node that stops itself is no finding about its answers."""
PYSYNCOBJ = "pysyncobj"
TRIES = 3
PAUSE_S = 5.0
"""Less than the lease of chaos.pysyncobj_node: whoever is paused goes on to believe."""
QUIET_S = 4.0


@dataclass(frozen=True, slots=True)
class Known:
    """A planted bug and the faults under which real time can show it."""

    name: str
    faults: tuple[str, ...] = ()
    """These alone; none: any."""


KNOWN = (
    Known("a token given twice", ("rolling restart", "pause leader")),
    Known("the newest waiter served first", ("rolling restart", "pause leader")),
    Known("a renewal that re-arms nothing", ("slow disk", "pause one")),
    Known("a release that ignores the token", ("kill -9 leader", "pause leader")),
    Known("a keep-alive that re-arms nothing", ("slow disk", "pause one")),
    Known("the same n executed again", ("links reset", "kill -9 leader")),
)


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one run."""

    name: str
    by: tuple[str, ...]
    """The checks that failed."""
    first: str
    """The first problem."""
    seed: int
    minutes: float
    folder: Path


def look_for(known: Known, seed: int, minutes: float, folder: Path, *, proxies: bool) -> Found:
    """Run the rig with a bug planted, and return what it found."""
    command = [
        sys.executable, str(RIG), "--planted", known.name, "--seed", str(seed), "--minutes", str(minutes),
        "--folder", str(folder), *(["--proxies"] if proxies else []),
    ]  # fmt: skip
    for fault in known.faults:
        command += ["--only", fault]
    folder.mkdir(parents=True)
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        subprocess.run(
            command, stdout=log, stderr=log, check=False, preexec_fn=die_with_parent,
            timeout=minutes * 60 + 300,
        )  # fmt: skip
    try:
        verdicts = json.loads((folder / "verdicts.json").read_text())
    except FileNotFoundError:
        return Found(known.name, (), f"the run ended without verdicts; see {log.name}", seed, minutes, folder)  # fmt: skip
    return found_in(known.name, verdicts, seed, minutes, folder)


def found_in(
    name: str, verdicts: dict[str, list[str]], seed: int, minutes: float, folder: Path
) -> Found:
    """Return which of the checks that prove something failed. "Undecided" proves nothing."""
    problems = {
        check: [p for p in verdicts.get(check, []) if not p.startswith("undecided")]
        for check in PROVES
    }
    by = tuple(check for check, found in problems.items() if found)
    first = next((found[0] for found in problems.values() if found), "")
    return Found(name, by, first, seed, minutes, folder)


class PySyncObjRun:
    """Three processes of PySyncObj: one paused, the two others restarted, for it keeps nothing on a disk."""

    def __init__(self, seed: int, minutes: float, folder: Path) -> None:
        self._rng = random.Random(seed)
        self._seed, self._minutes, self._folder = seed, minutes, folder
        self._addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._until = 0.0

    def run(self) -> Found:
        """Do it, and check what is left."""
        self._folder.mkdir(parents=True)
        self._until = until = time.monotonic() + self._minutes * 60
        try:
            for address in self._addresses:
                self._start(address, until)
            time.sleep(QUIET_S)
            while time.monotonic() < until:
                self._pause_and_restart(self._rng.choice(self._addresses))
                time.sleep(QUIET_S)
        finally:
            for address in list(self._processes):
                self._end(address)
        ops = operations(merged(sorted(self._folder.glob("history-*.jsonl"))))
        verdicts = {
            "no two holders": no_two_believe(ops),
            "no lost update": [
                problem
                for path in sorted(self._folder.glob("register-*"))
                for problem in lost_updates(path)
            ],
        }
        (self._folder / "verdicts.json").write_text(json.dumps(verdicts, indent=1) + "\n")
        name = "PySyncObj's ReplLockManager"
        return found_in(name, verdicts, self._seed, self._minutes, self._folder)

    def _start(self, address: str, until: float) -> None:
        others = ",".join(other for other in self._addresses if other != address)
        number = self._addresses.index(address)
        with (self._folder / f"pysyncobj-{number}.log").open("ab") as log:
            self._processes[address] = subprocess.Popen(
                [
                    sys.executable, "-m", "chaos.pysyncobj_node", "--own", address, "--others", others,
                    "--folder", str(self._folder), "--name", f"p{number}",
                    "--seconds", str(max(1.0, until - time.monotonic())),
                ],
                cwd=RIG, stdout=log, stderr=log, preexec_fn=die_with_parent,
            )  # fmt: skip

    def _end(self, address: str) -> None:
        process = self._processes.pop(address)
        process.kill()
        process.wait()

    def _pause_and_restart(self, address: str) -> None:
        """Stop one for less than its lease, and restart the two others: a majority, and nothing on any disk."""
        process = self._processes[address]
        process.send_signal(signal.SIGSTOP)
        for other in self._addresses:
            if other != address:
                self._end(other)
                self._start(other, self._until)
        time.sleep(PAUSE_S)
        process.send_signal(signal.SIGCONT)


def _line(found: Found) -> str:
    by = ", ".join(found.by) or "NOT FOUND"
    first = found.first.replace("\n", " ")[:160]
    return f"{found.name:<46} {by:<48} seed {found.seed:<4} {found.minutes:.1f} min  {first}"


def main(argv: list[str]) -> int:
    """Run them all. Return the exit code."""
    names = [known.name for known in KNOWN]
    parser = argparse.ArgumentParser(prog="python jepsen-style known-bad", description=__doc__)
    parser.add_argument("--only", action="append", default=[], choices=[*names, PYSYNCOBJ])
    parser.add_argument("--minutes", type=float, default=0.6, help="of each run (default: 0.6)")
    parser.add_argument("--seed", type=int, default=1, help="of the first try of each (default: 1)")
    parser.add_argument("--proxies", action="store_true", help="no namespaces")
    options = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="raftlock-known-bad-"))
    print(f"everything is left in {folder}")
    missed = 0
    for name in options.only or [*names, PYSYNCOBJ]:
        for seed in range(options.seed, options.seed + TRIES):
            place = folder / f"{name.replace(' ', '-')}-{seed}"
            if name == PYSYNCOBJ:
                found = PySyncObjRun(seed, options.minutes, place).run()
            else:
                known = KNOWN[names.index(name)]
                found = look_for(known, seed, options.minutes, place, proxies=options.proxies)
            if found.by:
                break
        print(_line(found), flush=True)
        missed += not found.by
    print(f"{missed} not found" if missed else "all found")
    return 1 if missed else 0
