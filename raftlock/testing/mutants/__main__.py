"""`python -m raftlock.testing.mutants`: plant each bug, and see what catches it.

Prints a line a bug: what caught it, at which profile and seed, after how many runs and seconds. Then it runs the same
seeds with the unchanged code, which must pass. Exit codes: 0 all caught and the unchanged code passes; 1 otherwise, or
when a bug cannot be planted any more.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from typing import TypeVar

from raftlock.testing.mutants.bugs import BUGS, share
from raftlock.testing.mutants.hunt import Hunted, hunt, plays_sound, sound
from raftlock.testing.sim import seeds_of

Item = TypeVar("Item")
Result = TypeVar("Result")

BUDGET_S = 300.0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m raftlock.testing.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="NAME", help="bugs whose name contains this")
    parser.add_argument("--list", action="store_true", help="print the bugs, and what each breaks")
    parser.add_argument(
        "--seeds", type=seeds_of, default="0-19", help="FIRST-LAST or one (default: 0-19)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument(
        "--budget",
        type=float,
        default=BUDGET_S,
        metavar="SECONDS",
        help=f"a bug that is not caught by then is missed (default: {BUDGET_S:.0f})",
    )
    parser.add_argument(
        "--share", type=int, metavar="N", help="only N of the bugs, spread over the table"
    )
    return parser.parse_args(argv)


def _names(options: argparse.Namespace) -> list[str]:
    names = share(options.share) if options.share else list(BUGS)
    return [name for name in names if not options.only or options.only in name]


def _each(
    do: Callable[[Item], Result], items: Sequence[Item], jobs: int
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with what came of it, as it comes."""
    if jobs <= 1:
        for item in items:
            yield item, do(item)
        return
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        futures = {pool.submit(do, item): item for item in items}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _line(hunted: Hunted) -> str:
    by = hunted.by or ("DOES NOT APPLY" if hunted.error else "NOT CAUGHT")
    took = f"{len(hunted.runs):>3} runs {hunted.took_s:>6.1f} s"
    return f"{hunted.name:<58} {by:<30} {hunted.at:<16} {took}  {(hunted.error or hunted.text)[:120]}".rstrip()


def _check_sound(hunted: Sequence[Hunted], names: Sequence[str], jobs: int) -> int:
    """Run what was run with bugs once more without. Return how much failed."""
    runs = sorted({run for one in hunted for run in one.runs})
    failed = 0
    for (profile, seed), failure in _each(sound, runs, jobs):
        if failure:
            failed += 1
            print(f"the unchanged code fails too: {profile} {seed}: {failure}", flush=True)
    tests = sorted({BUGS[name].directed for name in names} - {""})
    for test, failure in _each(plays_sound, tests, jobs):
        if failure:
            failed += 1
            print(f"the unchanged code fails too: {test}: {failure}", flush=True)
    print(f"unchanged code: {len(runs)} runs, {len(tests)} directed tests, {failed} failures")
    return failed


def main(argv: Sequence[str] | None = None) -> int:
    """Hunt, and print the table. Return the exit code."""
    options = _arguments(argv)
    names = _names(options)
    if not names:
        print(f"no bug has {options.only!r} in its name: --list shows them", file=sys.stderr)
        return 1
    if options.list:
        for name in names:
            print(f"{name:<58} {BUGS[name].breaks}")
        return 0
    began = time.perf_counter()
    hunted: list[Hunted] = []
    search = partial(hunt, seeds=options.seeds, budget_s=options.budget)
    for _, one in _each(search, names, options.jobs):
        hunted.append(one)
        print(_line(one), flush=True)
    missed = [one.name for one in hunted if not one.by]
    failed = _check_sound(hunted, names, options.jobs)
    took_s = time.perf_counter() - began
    print(
        f"{len(hunted)} bugs, {len(hunted) - len(missed)} caught, {len(missed)} missed, {took_s:.0f} s"
    )
    return 1 if missed or failed else 0


if __name__ == "__main__":
    sys.exit(main())
