"""The whole check of a history: each lock by itself, then what holds across them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from raftlock.testing.linearizability.history import Operation, Outcome
from raftlock.testing.linearizability.lock_model import LockState, has_no_effect, step
from raftlock.testing.linearizability.orders import CHECKS
from raftlock.testing.linearizability.search import Found, Limits, Search, Verdict

CONTEXT = 8
"""Operations of the longest possible order that a report shows."""


@dataclass(slots=True)
class Report:
    """What a check found."""

    operations: int = 0
    resources: int = 0
    configurations: int = 0
    violations: list[str] = field(default_factory=list)
    """In words, each with the operations around it."""
    undecided: list[str] = field(default_factory=list)
    """Resources whose search reached its bounds: the run has failed."""

    @property
    def passed(self) -> bool:
        """Return whether everything was decided, and nothing was violated."""
        return not self.violations and not self.undecided

    def __str__(self) -> str:
        verdict = "linearizable" if self.passed else "NOT PASSED"
        lines = [
            f"{verdict}: {self.operations} operations on {self.resources} resources, "
            f"{len(self.violations)} violations, {len(self.undecided)} undecided, "
            f"{self.configurations} configurations"
        ]
        lines += [f"violation: {text}" for text in self.violations]
        lines += [f"undecided: {resource!r}" for resource in self.undecided]
        return "\n".join(lines)


def check_history(operations: Sequence[Operation], limits: Limits | None = None) -> Report:
    """Check a history of locks. It is checked a resource at a time: locks do not know each other (Lowe 2017, 4)."""
    limits = limits or Limits()
    report = Report(operations=len(operations))
    by_resource: dict[str, list[Operation]] = defaultdict(list)
    for op in operations:
        by_resource[op.resource].append(op)
    report.resources = len(by_resource)
    for resource, mine in by_resource.items():
        found = check_lock(mine, limits)
        report.configurations += found.configurations
        if found.verdict is Verdict.UNDECIDED:
            report.undecided.append(resource)
        elif found.verdict is Verdict.VIOLATION:
            report.violations.append(_in_words(resource, found))
    for name, check in CHECKS.items():
        report.violations += [f"{name}: {text}" for text in check(operations)]
    return report


def check_lock(operations: Sequence[Operation], limits: Limits) -> Found:
    """Search one resource's operations for an order."""
    known = frozenset(
        op.token for op in operations if op.f == "acquire" and op.outcome is Outcome.OK
    )
    search = Search(
        [op for op in operations if not has_no_effect(op)],
        initial=LockState(),
        step=partial(step, known=known),
        limits=limits,
    )
    return search.run()


def _in_words(resource: str, found: Found) -> str:
    lines = [f"{resource!r} has no order. The longest one ends with:"]
    lines += [f"    {op}" for op in found.longest[-CONTEXT:]]
    lines.append("  after which none of these is possible:")
    lines += [f"    {op}" for op in found.stuck]
    return "\n".join(lines)
