"""`python -m raftlock.testing.sim --seeds 0-199`: run seeds of the simulated cluster, each with its own faults.

Exit codes: 0 all well, 127 a crash, 128 liveness, 129 safety, 1 a rare situation was never met (--require-all).
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from raftlock.testing import situations
from raftlock.testing.ledger import Ledger
from raftlock.testing.profiles import PROFILES, Fault
from raftlock.testing.run import SeedResult, run_seed
from raftlock.testing.shrink import shrink
from raftlock.testing.sources import source_id

THIS = "raftlock.testing.sim"
EXIT_RARE, EXIT_CRASH, EXIT_LIVENESS, EXIT_SAFETY = 1, 127, 128, 129
CODES = {"crash": EXIT_CRASH, "liveness": EXIT_LIVENESS, "safety": EXIT_SAFETY}
SHRINK_RUNS_MAX = 200


def seeds_of(text: str) -> range:
    """Return the seeds that FIRST-LAST, or one number, names."""
    first, _, last = text.partition("-")
    try:
        seeds = range(int(first), int(last or first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIRST-LAST or one number") from None
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text!r} names no seed: the first is above the last")
    return seeds


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m raftlock.testing.sim",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seeds", type=seeds_of, default="0-19", help="FIRST-LAST or one (default: 0-19)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument(
        "--profile", choices=sorted(PROFILES), default="default", help="which faults strike"
    )
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="FILE",
        help="a ledger: leave out what it holds, and add to it",
    )
    parser.add_argument(
        "--trace", type=Path, metavar="FILE", help="write every event of each seed here"
    )
    parser.add_argument(
        "--history",
        type=Path,
        metavar="FILE",
        help="write what the clients saw here, as JSON lines",
    )
    parser.add_argument(
        "--shrink",
        action="store_true",
        help="of the first failure, look for fewer faults that fail",
    )
    parser.add_argument(
        "--situations", action="store_true", help="print how often each rare situation was met"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write what the whole run showed here"
    )
    parser.add_argument(
        "--require-all", action="store_true", help="fail unless every rare situation was met"
    )
    return parser.parse_args()


def _results(
    seeds: Iterable[int], *, profile: str, jobs: int, keep_trace: bool
) -> Iterator[SeedResult]:
    """Yield results as they come."""
    if jobs <= 1:
        for seed in seeds:
            yield run_seed(seed, profile, keep_trace=keep_trace)
        return
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        futures = [pool.submit(run_seed, seed, profile, keep_trace=keep_trace) for seed in seeds]
        for future in as_completed(futures):
            yield future.result()


def _line(result: SeedResult) -> dict[str, Any]:
    """Return what the ledger keeps of a seed."""
    return {
        "seed": result.seed,
        "failure": result.failure.strip().splitlines()[-1] if result.failure else "",
        "kind": result.kind,
        "invariant": result.invariant,
        "trace_hash": result.trace_hash,
        "events": result.events,
        "simulated_us": result.simulated_us,
        "elections": result.elections,
        "crashes": result.crashes,
        "granted": result.granted,
        "took_s": round(result.took_s, 2),
        "situations": result.situations,
    }


def _tell(result: SeedResult) -> None:
    print(f"seed {result.seed} ({result.profile}): {result.kind}: {result.failure.strip()}")
    print("\n".join(f"    {line}" for line in result.recent[-60:]), flush=True)


def _write(options: argparse.Namespace, result: SeedResult) -> None:
    if options.trace is not None:
        with options.trace.open("a") as file:
            file.write("\n".join((f"seed {result.seed} {result.profile}", *result.recent)) + "\n")
    if options.history is not None:
        with options.history.open("a") as file:
            for op in result.history:
                file.write(json.dumps({"seed": result.seed, **op}) + "\n")


def shrunk(result: SeedResult, *, runs_max: int = SHRINK_RUNS_MAX) -> tuple[list[Fault], int]:
    """Return a part of a failed run's faults that breaks the same invariant, and how many runs it took to find."""

    def fails(faults: Sequence[Fault]) -> bool:
        return run_seed(result.seed, result.profile, faults=faults).invariant == result.invariant

    # What strikes after the failure is out at once.
    before = [fault for fault in result.faults if fault.at_us <= result.simulated_us]
    return shrink(before if fails(before) else list(result.faults), fails, runs_max=runs_max)


def _tell_shrunk(result: SeedResult) -> None:
    kept, runs = shrunk(result)
    print(
        f"seed {result.seed} breaks {result.invariant!r} with {len(kept)} of {len(result.faults)} faults ({runs} runs):"
    )
    for fault in kept:
        print(
            f"    {fault.at_us / 1e6:.6f} {fault.kind} pick={fault.pick} amount={fault.amount} way={fault.way}"
        )
    again = run_seed(result.seed, result.profile, faults=kept)
    print(f"    {again.failure.strip().splitlines()[-1]}")
    print("\n".join(f"    {line}" for line in again.recent[-60:]))


def _summary(lines: Sequence[dict[str, Any]], ran: int, took_s: float) -> str:
    hours = sum(line["simulated_us"] for line in lines) / 3.6e9
    return (
        f"{len(lines)} seeds ({ran} run now, {took_s:.1f} s), {sum(bool(line['failure']) for line in lines)} failed, "
        f"{hours:.2f} simulated hours, {sum(line['elections'] for line in lines)} terms led, "
        f"{sum(line['crashes'] for line in lines)} crashes, {sum(line['granted'] for line in lines)} locks held, "
        f"{sum(line['events'] for line in lines)} events"
    )


def evidence(profile: str, source: str, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what a run showed, small enough to keep beside the code: totals, failures, rare situations."""
    ordered = sorted(lines, key=lambda line: int(line["seed"]))
    counts, seeds = situations.total(line["situations"] for line in ordered)
    keys = ("events", "elections", "crashes", "granted")
    hashes = "".join(line["trace_hash"] for line in ordered)
    return {
        "profile": profile,
        "source": source,
        "seeds": len(ordered),
        "first_seed": ordered[0]["seed"],
        "last_seed": ordered[-1]["seed"],
        "failed": [
            {key: line[key] for key in ("seed", "kind", "invariant", "failure")}
            for line in ordered
            if line["failure"]
        ],
        "simulated_hours": round(sum(line["simulated_us"] for line in ordered) / 3.6e9, 3),
        "processor_hours": round(sum(line["took_s"] for line in ordered) / 3_600, 3),
        **{key: sum(line[key] for line in ordered) for key in keys},
        "hash_of_all_traces": hashlib.sha256(hashes.encode()).hexdigest(),
        "never_met": situations.missing(counts),
        "situations": {name: [counts[name], seeds[name]] for name in situations.SITUATIONS},
    }


def main() -> int:
    """Run the seeds that the command line names. Return the exit code."""
    options = _arguments()
    for path in (options.trace, options.history):
        if path is not None:
            path.write_text("")
    ledger = None
    source = source_id(THIS)
    if options.resume is not None:
        ledger = Ledger(options.resume, source=source, profile=options.profile)
    done = {} if ledger is None else {s: ledger.done[s] for s in options.seeds if s in ledger.done}
    lines = list(done.values())
    todo = [seed for seed in options.seeds if seed not in done]
    began = time.perf_counter()
    keep_trace = options.trace is not None or options.history is not None
    first: SeedResult | None = None
    for result in _results(todo, profile=options.profile, jobs=options.jobs, keep_trace=keep_trace):
        lines.append(_line(result))
        if ledger is not None:
            ledger.add(lines[-1])
        _write(options, result)
        if result.failure:
            _tell(result)
            first = first or result
    if options.shrink and first is not None:
        _tell_shrunk(first)
    print(_summary(lines, len(todo), time.perf_counter() - began))
    counts, seeds = situations.total(line["situations"] for line in lines)
    if options.situations or options.require_all:
        print(
            "\n".join(
                [
                    "rare situations: how often, and in how many seeds",
                    *situations.table(counts, seeds),
                ]
            )
        )
    if options.json is not None:
        text = json.dumps(evidence(options.profile, source, lines), indent=1)
        options.json.write_text(text + "\n")
    missing = situations.missing(counts)
    if options.require_all and missing:
        print(f"never met: {', '.join(missing)}")
    code = max((CODES[line["kind"]] for line in lines if line["kind"]), default=0)
    return code or (EXIT_RARE if options.require_all and missing else 0)


if __name__ == "__main__":
    sys.exit(main())
