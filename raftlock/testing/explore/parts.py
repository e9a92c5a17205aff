"""The parts of a world: production cores, each state of which is a number.

A core without input and output is a function of what went in. So a state is kept as the shortest list of inputs that
led to it, and made again from them when it is needed: nothing is copied, and closures, heaps and generators are as
right as the code that made them. Two lists of inputs that lead to the same picture of the core are one state. Each
input is run once on each state; afterwards the step is looked up.
"""

from collections.abc import Callable, Hashable
from hashlib import blake2b
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from raftlock_wire.invariant import InvariantViolation

Input = tuple[Any, ...]
Facts = TypeVar("Facts", covariant=True)
F = TypeVar("F")

WARM_MAX = 4_096


class Core(Protocol[Facts]):
    """One running core, with what stands for its disk and clock."""

    def take(self, given: Input) -> tuple[Any, ...]:
        """Do what an input says. Return what goes out."""

    def picture(self) -> Hashable:
        """Return everything that its future depends on, as nested tuples of numbers, text and bytes."""

    def facts(self) -> Facts:
        """Return what choices and properties need to know of it."""


class Step(NamedTuple):
    """What an input does to a state."""

    part: int
    out: tuple[Any, ...]
    broken: str
    """The check of the production code that failed; empty when none did."""


class Parts(Generic[F]):
    """All states of one kind of core that a search has met."""

    def __init__(self, build: Callable[[Input], Core[F]]) -> None:
        self._build = build
        self._numbers: dict[bytes, int] = {}
        self._came_by: list[tuple[int, Input]] = []
        """Of each state: the state before and the input, or -1 and what it was built of."""
        self._facts: list[F] = []
        self._steps: dict[tuple[int, Input], Step] = {}
        self._warm: dict[int, Core[F]] = {}
        """Cores in the states met last: the first step from each need not make it again."""

    def __len__(self) -> int:
        return len(self._facts)

    def built(self, of: Input) -> int:
        """Return the state of a core that was just built."""
        return self._number(self._build(of), -1, of)

    @property
    def runs(self) -> int:
        """Return how many steps were run and not looked up."""
        return len(self._steps)

    def facts(self, part: int) -> F:
        """Return what is known of a state."""
        return self._facts[part]

    def step(self, part: int, given: Input) -> Step:
        """Return what an input does to a state. Raise InvariantViolation when the code's own check fails."""
        known = self._steps.get((part, given))
        if known is None:
            core = self._warm.pop(part, None) or self.made(part)
            try:
                out = core.take(given)
                known = Step(self._number(core, part, given), out, "")
                self._warm[known.part] = core
                if len(self._warm) > WARM_MAX:
                    del self._warm[next(iter(self._warm))]
            except InvariantViolation as error:
                known = Step(part, (), str(error))
            self._steps[part, given] = known
        if known.broken:
            raise InvariantViolation(known.broken)
        return known

    def made(self, part: int) -> Core[F]:
        """Return a core in a state, made again from what went in."""
        inputs: list[Input] = []
        while part >= 0:
            part, given = self._came_by[part]
            inputs.append(given)
        core = self._build(inputs.pop())
        while inputs:
            core.take(inputs.pop())
        return core

    def _number(self, core: Core[F], part: int, given: Input) -> int:
        key = blake2b(repr(core.picture()).encode(), digest_size=16).digest()
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._facts)
            self._came_by.append((part, given))
            self._facts.append(core.facts())
        return number
