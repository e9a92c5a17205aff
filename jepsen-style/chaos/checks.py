"""The verdicts of a run: what the histories, the registers, the nodes and the cluster afterwards say."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.register import lost_updates
from raftlock.testing.linearizability import Limits, Operation, Outcome, check_history, operations

ACQUIRES_MIN = 50
"""A run with fewer locks held has tested nothing."""


@dataclass(slots=True)
class Check:
    """One verdict."""

    name: str
    says: str
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Return whether nothing was found."""
        return not self.problems


def no_two_believe(ops: Sequence[Operation]) -> list[str]:
    """Return each pair of holders of one lock that both counted on it at one moment.

    A holder's time begins when it was told, and ends with `held_until_ns` of its release: the last moment at which it
    still counted on it. Renewals in between show here, for a history has none of them.
    """
    forced = {
        (op.resource, op.token)
        for op in ops
        if op.f == "force_release" and op.asked.get("now") and op.outcome is not Outcome.FAIL
    }
    ends = {
        (op.resource, op.token): int(op.asked["held_until_ns"])
        for op in ops
        if op.f == "release" and op.asked.get("held_until_ns")
    }
    grants: dict[str, list[Operation]] = {}
    for op in ops:
        if op.f == "acquire" and op.outcome is Outcome.OK:
            grants.setdefault(op.resource, []).append(op)
    problems = []
    for resource, mine in grants.items():
        mine.sort(key=lambda op: op.token)
        latest_end, latest = 0, None
        for op in mine:
            if latest is not None and latest_end > op.return_ns:
                overlap_ms = (latest_end - op.return_ns) / 1e6
                problems.append(f"for {overlap_ms:.1f} ms both of these held it: {latest}; {op}")
            end = ends.get((resource, op.token), 0)
            # Who was deprived at once may count on the lock until it hears of it, and the docs say so.
            if end > latest_end and (resource, op.token) not in forced:
                latest_end, latest = end, op
    return problems


def longest_gap(ops: Sequence[Operation]) -> tuple[float, int]:
    """Return the longest time in seconds in which no operation was answered OK, and when it began (ns)."""
    times = sorted(op.return_ns for op in ops if op.outcome is Outcome.OK)
    gaps = [(b - a, a) for a, b in itertools.pairwise(times)]
    gap, began = max(gaps, default=(0, 0))
    return gap / 1e9, began


def all_checks(
    events: list[dict[str, Any]],
    folder: Path,
    *,
    node_problems: list[str],
    afterwards: list[str],
) -> tuple[list[Check], list[Operation]]:
    """Check everything that a run left behind."""
    ops = operations(events)
    held = [op for op in ops if op.f == "acquire" and op.outcome is Outcome.OK]
    report = check_history(ops, Limits())
    registers = sorted(folder.glob("register-*"))
    writes = sum(len(path.read_text().splitlines()) for path in registers)
    checks = [
        Check(
            "linearizable",
            f"{report.operations} operations on {report.resources} locks, "
            f"{report.configurations} configurations looked at",
            [*report.violations, *(f"undecided: {name}" for name in report.undecided)],
        ),
        Check("no two holders", f"{len(held)} locks held", no_two_believe(ops)),
        Check(
            "no lost update",
            f"{len(registers)} registers, {writes} lines in their journals",
            [problem for path in registers for problem in lost_updates(path)],
        ),
        Check("nodes", "no crash, no traceback, damage refused", node_problems),
        Check("service afterwards", "every lock can be acquired when all is well", afterwards),
        Check(
            "enough was tried",
            f"at least {ACQUIRES_MIN} locks held",
            [] if len(held) >= ACQUIRES_MIN else [f"only {len(held)} locks were held"],
        ),
    ]
    return checks, ops
