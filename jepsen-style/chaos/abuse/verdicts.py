"""What an abuse did to the honest clients and to the nodes, as values; and the verdicts, none of which knows a clock.

Percentiles are shown and never judged: they say as much about the machine as about the nodes.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from chaos.abuse.watching import Usage

MEMORY_GROWTH_MIB = {
    "random bytes": 96,
    "slow-loris": 96,
    # 10,000 connections with their buffers, at 24 KiB each.
    "10,000 connections": 96 + 240,
    # 16 clients over three nodes, each with the backlog at which it is disconnected (WRITE_BUFFER_CLOSE_SIZE), what the
    # kernel of the frames holds, and as much again while a turn encodes more.
    "clients that never read": 96 + 6 * 2 * 16,
    # WAITERS_PER_RESOURCE_MAX waiters at 4 KiB: the acquire, its slot, its entry in the log and in the batch.
    "a flood of waiters": 96 + 400,
    "a peer that lies": 96,
}
"""How much any node's memory may grow while it is abused: a bound for each, from the limits in raftlock_wire."""


class Sample(NamedTuple):
    """One call of an honest client, at the time at which it was due."""

    f: str
    due_s: float
    ms: float
    outcome: str


@dataclass(frozen=True, slots=True)
class Phase:
    """One stretch of a run: a baseline, or an abuse."""

    name: str
    begin_s: float
    end_s: float
    usage: Usage
    counted: dict[str, int] = field(default_factory=dict)
    """By the nodes: refusals and connections."""
    abuser: dict[str, int] = field(default_factory=dict)
    """By the abuser: what it tried, and what was done to it."""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    phase: Phase
    calls: int
    p50_ms: float
    p99_ms: float
    longest_ms: float
    failed: dict[str, int]
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Return whether nothing was wrong."""
        return not self.problems


def read_samples(path: Path) -> list[Sample]:
    """Return the honest clients' calls; a last line that was cut off is left out."""
    lines = path.read_text().split("\n")[:-1]
    found = [json.loads(line) for line in lines]
    return [Sample(s["f"], s["due_s"], s["ms"], s["is"]) for s in found]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of all is not above."""
    ordered = sorted(values)
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]


def row(phase: Phase, samples: Sequence[Sample], before: Phase) -> Row:
    """Judge a phase against the baseline before it."""
    mine = [s for s in samples if phase.begin_s <= s.due_s < phase.end_s]
    answered = [s.ms for s in mine if s.outcome == "answered"]
    failed = Counter(s.outcome for s in mine if s.outcome != "answered")
    problems = list(phase.problems)
    problems += [f"{n} x {what}" for what, n in failed.items() if what.startswith("WRONG")]
    grown = phase.usage.memory_mib - before.usage.memory_mib
    allowed = MEMORY_GROWTH_MIB.get(phase.name)
    if allowed is not None and grown > allowed:
        problems.append(f"a node's memory grew by {grown:.0f} MiB; {allowed} MiB are allowed")
    if not answered:
        problems.append("no call of an honest client was answered")
    return Row(
        phase,
        len(mine),
        percentile(answered, 0.5),
        percentile(answered, 0.99),
        max(answered, default=0.0),
        dict(failed),
        tuple(problems),
    )
