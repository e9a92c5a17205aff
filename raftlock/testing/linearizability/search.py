"""The search for an order: Wing and Gong's algorithm with Lowe's memory of what was tried, bounded in time and size.

It knows operations by their intervals and a model by its `step`. It must not know what a lock is.
"""

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

from raftlock.testing.linearizability.history import NEVER_NS, Operation

State = TypeVar("State", bound=Hashable)
Step = Callable[[State, Operation], tuple[State, ...]]


class Verdict(Enum):
    """What a search found."""

    LINEARIZABLE = "linearizable"
    VIOLATION = "violation"
    UNDECIDED = "undecided"
    """The bounds were reached. A run that ends so has proved nothing, and counts as failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far a search of one resource may go."""

    configurations_max: int = 2_000_000
    """Pairs of what was put in order and the states it leads to; about 200 bytes each."""
    seconds_max: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How a search ended."""

    verdict: Verdict
    configurations: int
    longest: tuple[Operation, ...] = ()
    """A violation: the longest order that was possible."""
    stuck: tuple[Operation, ...] = ()
    """A violation: the operations that were open then, none of which could come next."""


class _Frame(NamedTuple, Generic[State]):
    """A point to come back to: what was placed there, and what may be tried next."""

    length: int
    placed: "_Placed"
    states: frozenset[State]
    candidates: "list[tuple[int, frozenset[State]]]"


class _Placed(NamedTuple):
    """Which operations are in the order, as bits."""

    first: int
    """All answered operations before this one are."""
    window: int
    """The answered ones from `first` on."""
    unanswered: int


class Search(Generic[State]):
    """One search over one history."""

    def __init__(
        self,
        operations: Sequence[Operation],
        *,
        initial: State,
        step: Step[State],
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        ops = sorted(operations, key=lambda op: (op.call_ns, op.id))
        self._ops = [op for op in ops if op.return_ns != NEVER_NS]
        # Apart, for they stay open for ever: a search must not walk past them again and again. Their places go on.
        self._unanswered = [op for op in ops if op.return_ns == NEVER_NS]
        self._initial = frozenset((initial,))
        self._step = step
        self._limits = limits
        self._clock = clock

    def run(self) -> Found:
        """Look for an order in which every answered operation takes effect between its call and its return."""
        until = self._clock() + self._limits.seconds_max
        seen: set[tuple[_Placed, frozenset[State]]] = set()
        order: list[int] = []
        best: list[int] = []
        frames: list[_Frame[State]] = []
        states = self._initial
        placed = self._settle(_Placed(0, 0, 0), states, order)
        while placed.first < len(self._ops):
            if (placed, states) not in seen:
                seen.add((placed, states))
                if len(seen) >= self._limits.configurations_max or (
                    len(seen) % 1_000 == 0 and self._clock() > until
                ):
                    return Found(verdict=Verdict.UNDECIDED, configurations=len(seen))
                candidates = self._candidates(placed, states)
                frames.append(_Frame(len(order), placed, states, candidates))
            if len(order) > len(best) and not frames[-1].candidates:
                best = list(order)
            while frames and not frames[-1].candidates:
                frames.pop()
            if not frames:
                return self._violation(best, len(seen))
            frame = frames[-1]
            # Take back what later frames placed, and try the next one.
            del order[frame.length :]
            position, states = frame.candidates.pop()
            order.append(position)
            placed = self._settle(self._with(frame.placed, position), states, order)
        return Found(verdict=Verdict.LINEARIZABLE, configurations=len(seen))

    def _operation(self, position: int) -> Operation:
        count = len(self._ops)
        return self._ops[position] if position < count else self._unanswered[position - count]

    def _with(self, placed: _Placed, position: int) -> _Placed:
        first, window, unanswered = placed
        if position >= len(self._ops):
            return _Placed(first, window, unanswered | 1 << (position - len(self._ops)))
        window |= 1 << (position - first)
        while window & 1:
            first += 1
            window >>= 1
        return _Placed(first, window, unanswered)

    def _open(self, placed: _Placed) -> tuple[list[int], int]:
        """Return the answered operations that may come next, and when the first of them returned.

        Such an operation was called before any other one that is not in the order had returned.
        """
        ops = self._ops
        first, window, _ = placed
        found: list[int] = []
        earliest = NEVER_NS
        for position in range(first, len(ops)):
            op = ops[position]
            if op.call_ns > earliest:
                break
            if not window >> (position - first) & 1:
                found.append(position)
                earliest = min(earliest, op.return_ns)
        return found, earliest

    def _settle(self, placed: _Placed, states: frozenset[State], order: list[int]) -> _Placed:
        """Place every open operation that changes nothing: to place it at once never hurts, and saves its permutations.

        (It left every state as it is, so it needs none of the steps before; and what it says of the state, such as which
        token holds a lock, does not come true a second time.)
        """
        again = True
        while again:
            again = False
            for position in self._open(placed)[0]:
                if self._after(states, self._ops[position]) == states:
                    placed = self._with(placed, position)
                    order.append(position)
                    again = True
        return placed

    def _candidates(
        self, placed: _Placed, states: frozenset[State]
    ) -> list[tuple[int, frozenset[State]]]:
        """Return what may come next with the states it leads to; the most promising last."""
        answered, earliest = self._open(placed)
        answered.sort(key=lambda position: -self._ops[position].return_ns)
        count = len(self._ops)
        unanswered = [
            count + number
            for number, op in enumerate(self._unanswered)
            if op.call_ns <= earliest and not placed.unanswered >> number & 1
        ]
        found = []
        for position in (*unanswered, *answered):
            after = self._after(states, self._operation(position))
            if after and after != states:
                found.append((position, after))
        return found

    def _after(self, states: frozenset[State], op: Operation) -> frozenset[State]:
        return frozenset(after for state in states for after in self._step(state, op))

    def _violation(self, best: list[int], configurations: int) -> Found:
        placed = _Placed(0, 0, 0)
        for position in best:
            placed = self._with(placed, position)
        return Found(
            verdict=Verdict.VIOLATION,
            configurations=configurations,
            longest=tuple(self._operation(p) for p in best),
            stuck=tuple(self._ops[p] for p in self._open(placed)[0]),
        )
