"""The hunt for planted bugs: runs of the simulator, or one directed test, until something notices.

It owns what counts as caught. It must not know what the bugs are.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from raftlock.testing.mutants.bugs import BUGS
from raftlock.testing.mutants.directed import play
from raftlock.testing.mutants.planting import DoesNotApply, Mutant, planted
from raftlock.testing.run import run_seed

Run = tuple[str, int]
"""(profile, seed)"""
DIRECTED = "directed test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunted:
    """How the hunt for one bug went."""

    name: str
    by: str
    """The invariant that was violated, "crash" for a check of production code, or a directed test; empty: nobody noticed."""
    at: str
    """Profile and seed, or the test's name."""
    text: str
    runs: tuple[Run, ...]
    """The seeds that were run."""
    took_s: float
    error: str = ""
    """Why the bug could not be planted."""


def hunt(name: str, seeds: Sequence[int], budget_s: float) -> Hunted:
    """Run with a bug planted until something notices, the seeds are used up, or the time is."""
    mutant = BUGS[name]
    began = time.perf_counter()
    runs: list[Run] = []
    by = at = text = error = ""
    try:
        with planted(mutant):
            if mutant.directed:
                text = play(mutant.directed)
                by, at = (DIRECTED, mutant.directed.split("::")[-1]) if text else ("", "")
            else:
                by, at, text = _search(mutant, seeds, began + budget_s, runs)
    except DoesNotApply as problem:
        error = str(problem)
    return Hunted(
        name=name,
        by=by,
        at=at,
        text=text,
        runs=tuple(runs),
        took_s=time.perf_counter() - began,
        error=error,
    )


def _search(
    mutant: Mutant, seeds: Sequence[int], until: float, runs: list[Run]
) -> tuple[str, str, str]:
    for seed in seeds:
        for profile in mutant.profiles:
            runs.append((profile, seed))
            result = run_seed(seed, profile)
            if result.failure:
                last = result.failure.strip().splitlines()[-1]
                return result.invariant, f"{profile} {seed}", last
            if time.perf_counter() >= until:
                return "", "", ""
    return "", "", ""


def sound(run: Run) -> str:
    """Run a seed of the unchanged code. Return how it failed; empty if it did not."""
    profile, seed = run
    result = run_seed(seed, profile)
    return result.failure.strip().splitlines()[-1] if result.failure else ""


def plays_sound(test: str) -> str:
    """Play a directed test with the unchanged code. Return how it failed; empty if it did not."""
    return play(test)
