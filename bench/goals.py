"""`python -m bench goals RESULT.json …`: what was measured beside what is wanted, from results written with --json.

A goal is met, not met, or not measured. It is judged on the figures as they are, also on those of a busy machine, whose
load average stands in each result.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import table

HELP = "what was measured beside what is wanted"
Results = Mapping[str, Any]
"""By command: what its latest result holds under `results`."""
Measure = Callable[[Results], float | None]


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure, and its limit: at least, or at most."""

    workload: str
    text: str
    limit: float
    measure: Measure
    at_most: bool = False

    def met(self, measured: float | None) -> bool | None:
        """Return whether it is met; None if it was not measured."""
        if measured is None:
            return None
        return measured <= self.limit if self.at_most else measured >= self.limit


def at(*path: str | int) -> Measure:
    """Return what reads the value at a path; None where one of its steps is not there."""

    def read(results: Results) -> float | None:
        value: Any = results
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return float(value) if isinstance(value, int | float) else None

    return read


def ratio(workload: str, peer: str) -> Measure:
    """Return what reads raftlock's ratio to a peer."""
    return at("compare", workload, "ratio", peer)


def first_of(*measures: Measure) -> Measure:
    """Return what reads the first of several that was measured."""

    def read(results: Results) -> float | None:
        return next((value for one in measures if (value := one(results)) is not None), None)

    return read


def over(above: Measure, below: Measure) -> Measure:
    """Return what divides one figure by another."""

    def read(results: Results) -> float | None:
        top, bottom = above(results), below(results)
        return round(top / bottom, 3) if top is not None and bottom else None

    return read


def backlog(results: Results) -> float | None:
    """Return how much of a second's operations an open loop could not send at all; 1 if it gave up."""
    one = _of_rate(results)
    if one is None:
        return None
    if one["overflowed"]:
        return 1.0
    return float(one["errors"].get("not sent", 0) / one["rate"])


def _of_rate(results: Results) -> dict[str, Any] | None:
    runs = results.get("latency", ())
    return next((one for one in runs if one["rate"] == OPEN_RATE), None)


def open_loop(key: str) -> Measure:
    """Return what reads a percentile of the open loop at the study's rate."""

    def read(results: Results) -> float | None:
        one = _of_rate(results)
        return None if one is None else float(one[key])

    return read


def expiry(*path: str) -> Measure:
    """Return what reads a figure of `expiry` with a million leases. After an election it says nothing: leases began anew."""

    def read(results: Results) -> float | None:
        one = results.get("expiry", {})
        counts = one.get("leases", 0) >= LEASES and not one.get("terms_passed")
        return at(*path)(one) if counts else None

    return read


def at_locks(locks: int, key: str) -> Measure:
    """Return what reads a figure of `scale` at a number of locks."""

    def read(results: Results) -> float | None:
        for one in results.get("scale", ()):
            if isinstance(one, Mapping) and one.get("locks") == locks:
                return at(key)(one)
        return None

    return read


def struck(fault: str, key: str, system: str = "raftlock") -> Measure:
    """Return what reads a gap: of `failover`, else of the kills in `compare`."""
    path = ("systems", system, fault, key)
    return first_of(at("failover", *path), at("compare", "failover", *path))


OPEN_RATE = 67_000.0
LOCKS = 10_000_000
LEASES = 1_000_000
PIPELINED, THOUSAND, ONE = "pipelined", "closed_1000", "closed_1"
GOALS = (
    Goal(PIPELINED, "op/s, 8 x 256", 200_000, at("compare", PIPELINED, "raftlock")),
    Goal(PIPELINED, "p50 ms", 10, at("compare", "latency", PIPELINED, "raftlock", "p50_ms"), at_most=True),
    Goal(PIPELINED, "x Redis AOF-always, redis-benchmark -P 32", 1.0, over(at("compare", PIPELINED, "raftlock"), at("compare", "native", "redis", "operations_per_second"))),
    Goal(PIPELINED, "x Redis AOF-always, 8 x 256", 1.0, ratio(PIPELINED, "redis")),
    Goal(PIPELINED, "x PySyncObj", 13, ratio(PIPELINED, "pysyncobj")),
    Goal(PIPELINED, "x etcd", 40, ratio(PIPELINED, "etcd")),
    Goal(THOUSAND, "op/s", 40_000, at("compare", THOUSAND, "raftlock")),
    Goal(THOUSAND, "x Redis AOF-always", 1.0, ratio(THOUSAND, "redis")),
    Goal("closed_64", "op/s", 30_000, at("compare", "closed_64", "raftlock")),
    Goal(ONE, "p50 ms", 0.6, at("compare", "latency", ONE, "raftlock", "p50_ms"), at_most=True),
    Goal("open loop 67,000/s", "backlog at the end, s", 0.0, backlog, at_most=True),
    Goal("open loop 67,000/s", "p50 ms", 3, open_loop("p50_ms"), at_most=True),
    Goal("open loop 67,000/s", "p99 ms", 15, open_loop("p99_ms"), at_most=True),
    Goal("failover, kill -9", "median ms", 100, struck("kill", "gap_median_ms"), at_most=True),
    Goal("failover, kill -9", "max ms", 500, struck("kill", "gap_max_ms"), at_most=True),
    Goal("failover, kill -9", "x etcd's", 0.1, over(struck("kill", "gap_median_ms"), struck("kill", "gap_median_ms", "etcd")), at_most=True),
    Goal("failover, SIGSTOP", "median ms", 600, struck("stop", "gap_median_ms"), at_most=True),
    Goal("failover, SIGSTOP", "max ms", 600, struck("stop", "gap_max_ms"), at_most=True),
    Goal("failover, cut network", "median ms", 600, struck("cut", "gap_median_ms"), at_most=True),
    Goal("failover, cut network", "max ms", 600, struck("cut", "gap_max_ms"), at_most=True),
    Goal("10 M locks", "memory of a node, GB", 2.5, over(at_locks(LOCKS, "rss_bytes"), lambda _: 1e9), at_most=True),
    Goal("10 M locks", "longest stall ms", 50, at_locks(LOCKS, "longest_stall_ms"), at_most=True),
    Goal("10 M locks", "restart s", 30, at_locks(LOCKS, "restart_s"), at_most=True),
    Goal("1 M leases expire together", "the last late by ms", 5_000, expiry("last_late_ms"), at_most=True),
    Goal("1 M leases expire together", "others p99 ms", 50, expiry("others_meanwhile", "p99_ms"), at_most=True),
    Goal("one contended lock", "handovers, x etcd's", 5, ratio("contended", "etcd")),
)  # fmt: skip


def by_command(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the results by command. A later document of a command stands over an earlier one, figure by figure."""
    found: dict[str, Any] = {}
    for document in documents:
        if "command" not in document or "results" not in document:
            continue
        command, results = document["command"], document["results"]
        before = found.get(command)
        if isinstance(before, dict) and isinstance(results, dict):
            found[command] = before | results
        elif isinstance(before, list) and isinstance(results, list):
            # Runs of one command at several sizes or rates: the later ones are looked at first.
            found[command] = results + before
        else:
            found[command] = results
    return found


def judged(documents: Sequence[Mapping[str, Any]]) -> list[tuple[Goal, float | None, str]]:
    """Return each goal, what was measured, and the verdict."""
    results = by_command(documents)
    verdicts = {True: "met", False: "not met", None: "not measured"}
    rows = []
    for goal in GOALS:
        measured = goal.measure(results)
        rows.append((goal, measured, verdicts[goal.met(measured)]))
    return rows


def show(documents: Sequence[Mapping[str, Any]], *, all_of_them: bool = True) -> str:
    """Return the table of the goals, or of those that something was measured for."""
    rows = [
        (goal.workload, goal.text, measured, f"{'<=' if goal.at_most else '>='} {goal.limit:,g}", verdict)
        for goal, measured, verdict in judged(documents)
        if all_of_them or measured is not None
    ]  # fmt: skip
    return table(("workload", "figure", "measured", "goal", "verdict"), rows)


def run(options: argparse.Namespace) -> int:
    """Print the goals beside what the files hold. Return 1 if a file is no result, or with --strict if one is not met."""
    documents: list[Mapping[str, Any]] = []
    for name in options.results:
        try:
            document = json.loads(Path(name).read_text())
            documents.append({"command": document["command"], "results": document["results"]})
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(f"{name}: {error!r}: not a result of this bench", file=sys.stderr)
            return 1
        if isinstance(document["results"], dict):
            documents += _within(document["results"])
        about = document.get("machine", {})
        print(f"{name}: {document['command']}, load average {about.get('load_average')}")
    print(show(documents))
    return 1 if options.strict and any(v == "not met" for *_, v in judged(documents)) else 0


def _within(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the results of commands of their own that a comparison holds."""
    return [one for one in results.values() if isinstance(one, Mapping) and {"command", "results"} <= set(one)]  # fmt: skip


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("results", nargs="+", metavar="RESULT.json", help="written by --json FILE")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a goal is not met")
