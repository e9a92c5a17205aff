"""What the clients saw of one run, and whether it fits one order of grants and ends (guarantee 1).

It owns the record, as plain data that any checker can read. It must not know nodes or the log.
"""

from itertools import pairwise
from typing import Any, NamedTuple

from raftlock.testing.invariants import Violation


class Op(NamedTuple):
    """One operation of a client. Times are microseconds of real (simulated) time."""

    client: int
    kind: str
    """acquire, release, lost, check, get"""
    resource: str
    token: int
    called_us: int
    returned_us: int
    result: str
    """OK; NOT_HELD for a check that says so; the last moment of belief for lost is `returned_us`."""


class History:
    """The operations of one run, in the order in which they were answered."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.forced: set[int] = set()
        """Tokens that an administrator may have ended at once: their holders may overlap with the next."""

    def add(self, op: Op) -> None:
        """Record an operation."""
        self.ops.append(op)

    def as_json(self) -> list[dict[str, Any]]:
        """Return the record for json.dump."""
        return [op._asdict() for op in self.ops]

    def check(self) -> None:
        """Raise Violation where no order of grants and ends explains what was seen."""
        self._check_tokens()
        self._check_holds()
        self._check_looks()

    def _check_tokens(self) -> None:
        """An acquire that began after another one had returned has the larger token."""
        grants = [op for op in self.ops if op.kind == "acquire"]
        returned = sorted(grants, key=lambda op: op.returned_us)
        highest, position = 0, 0
        for op in sorted(grants, key=lambda op: op.called_us):
            while position < len(returned) and returned[position].returned_us < op.called_us:
                highest = max(highest, returned[position].token)
                position += 1
            if op.token <= highest:
                raise Violation(
                    "history",
                    f"c{op.client} asked after token {highest} was known, and got {op.token}",
                )

    def _holds(self) -> dict[str, list[tuple[int, int, Op]]]:
        """Return when each grant was surely held, by resource: (from, until, acquire)."""
        ends: dict[int, int] = {}
        for op in self.ops:
            if op.kind == "release":
                ends[op.token] = min(ends.get(op.token, op.called_us), op.called_us)
            elif op.kind == "lost":
                ends[op.token] = min(ends.get(op.token, op.returned_us), op.returned_us)
        holds: dict[str, list[tuple[int, int, Op]]] = {}
        for op in self.ops:
            if op.kind == "acquire" and op.token in ends and op.token not in self.forced:
                holds.setdefault(op.resource, []).append((op.returned_us, ends[op.token], op))
        return holds

    def _check_holds(self) -> None:
        for resource, intervals in self._holds().items():
            intervals.sort(key=lambda hold: (hold[0], hold[1]))
            for (_, until, one), (since, _, other) in pairwise(intervals):
                if since < until:
                    raise Violation(
                        "history",
                        f"{resource} was held by c{one.client} with {one.token} until {until} us, "
                        f"and by c{other.client} with {other.token} from {since} us on",
                    )

    def _check_looks(self) -> None:
        """A check says OK to no token whose release had returned, and NOT_HELD to none that was surely held."""
        released: dict[int, int] = {}
        for op in self.ops:
            if op.kind == "release" and op.result == "OK":
                released.setdefault(op.token, op.returned_us)
        held = {
            op.token: (since, until)
            for holds in self._holds().values()
            for since, until, op in holds
        }
        for op in self.ops:
            if op.kind != "check":
                continue
            if op.result == "OK" and released.get(op.token, op.called_us) < op.called_us:
                raise Violation(
                    "history", f"c{op.client} was told that {op.token} is held after its release"
                )
            since, until = held.get(op.token, (0, 0))
            if op.result == "NOT_HELD" and since < op.called_us and op.returned_us < until:
                raise Violation(
                    "history", f"c{op.client} was told that {op.token} is not held while it was"
                )
