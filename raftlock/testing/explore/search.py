"""Breadth-first search of a world: every state that its choices lead to, each looked at once.

It owns what was seen and how each state was reached, so that a violation comes with the shortest way to it. It must not
know what a state is.
"""

import marshal
import time
from array import array
from collections import deque
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Protocol

from raftlock.testing.invariants import Violation
from raftlock_wire.invariant import InvariantViolation

State = tuple[Any, ...]
Choice = tuple[Any, ...]


class World(Protocol):
    """What is searched. States are tuples of numbers, text, bytes and tuples of these, and never change."""

    name: str
    bounds: str
    """Within what the search is exhaustive, in words."""

    def start(self) -> State:
        """Return the first state."""

    def choices(self, state: State) -> list[Choice]:
        """Return everything that may happen next."""

    def take(self, state: State, choice: Choice) -> State:
        """Return the state after a choice. Raise Violation or InvariantViolation when that breaks a property."""

    def check(self, state: State) -> None:
        """Raise Violation when a state that was not seen before breaks a property."""

    def canonical(self, state: State) -> Any:
        """Return the same for states that differ only in names that mean nothing."""

    def words(self, state: State, choice: Choice) -> str:
        """Say what a choice is, in the state where it was taken."""

    def runs(self) -> int:
        """Return how often the code under test was run; other transitions were looked up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What a search found."""

    world: str
    bounds: str
    states: int
    transitions: int
    runs: int
    """How many transitions ran the code under test: the others were the same input on the same state of a core."""
    depth: int
    """Choices on the longest of the shortest ways to a state."""
    seconds: float
    closed: bool
    """Whether every state within the bounds was reached."""
    broken: str = ""
    """The property that does not hold; empty when all do."""
    text: str = ""
    way: tuple[str, ...] = field(default=())
    """The shortest way to the violation, in words."""


class Search:
    """One search, from the first state until it closes, breaks a property or reaches its bound."""

    def __init__(self, world: World, *, states_max: int) -> None:
        self._world = world
        self._states_max = states_max
        self._seen: set[bytes] = set()
        self._parents = array("q")
        self._choices: list[Choice] = []
        self._depths = array("l")
        self._frontier: deque[tuple[int, State]] = deque()
        self._transitions = 0

    def run(self) -> Searched:
        """Search. A violation ends it: it was reached by one of the shortest ways."""
        began = time.monotonic()
        start = self._world.start()
        self._meet(start, -1, ())
        closed = True
        broken: tuple[int, Choice, Exception] | None = None
        while self._frontier and broken is None:
            if len(self._parents) >= self._states_max:
                closed = False
                break
            number, state = self._frontier.popleft()
            broken = self._expand(number, state)
        seconds = time.monotonic() - began
        return self._result(closed=closed and broken is None, seconds=seconds, broken=broken)

    def _expand(self, number: int, state: State) -> tuple[int, Choice, Exception] | None:
        world = self._world
        for choice in world.choices(state):
            self._transitions += 1
            try:
                following = world.take(state, choice)
                if self._meet(following, number, choice):
                    world.check(following)
            except (Violation, InvariantViolation) as error:
                return number, choice, error
        return None

    def _meet(self, state: State, parent: int, choice: Choice) -> bool:
        """Note a state, unless it or one like it was met before. Return whether it is new."""
        # Version 2 of marshal writes equal values as equal bytes: later ones refer back to shared objects.
        key = blake2b(
            marshal.dumps(self._world.canonical(state), 2), digest_size=16, usedforsecurity=False
        ).digest()
        if key in self._seen:
            return False
        self._seen.add(key)
        self._frontier.append((len(self._parents), state))
        self._parents.append(parent)
        self._choices.append(choice)
        self._depths.append(self._depths[parent] + 1 if parent >= 0 else 0)
        return True

    def _result(
        self, *, closed: bool, seconds: float, broken: tuple[int, Choice, Exception] | None
    ) -> Searched:
        property_ = text = ""
        way: tuple[str, ...] = ()
        if broken is not None:
            number, choice, error = broken
            if isinstance(error, Violation):
                property_, text = error.invariant, str(error).partition(": ")[2]
            else:
                property_, text = "a check of the code itself", str(error)
            way = self._way(number, choice)
        return Searched(
            world=self._world.name,
            bounds=self._world.bounds,
            states=len(self._parents),
            transitions=self._transitions,
            runs=self._world.runs(),
            depth=max(self._depths),
            seconds=seconds,
            closed=closed,
            broken=property_,
            text=text,
            way=way,
        )

    def _way(self, number: int, last: Choice) -> tuple[str, ...]:
        choices: list[Choice] = []
        while number > 0:
            choices.append(self._choices[number])
            number = self._parents[number]
        state, words = self._world.start(), []
        for choice in reversed(choices):
            words.append(self._world.words(state, choice))
            state = self._world.take(state, choice)
        return (*words, self._world.words(state, last))


def search(world: World, *, states_max: int) -> Searched:
    """Search a world, until `states_max` states were met at the latest."""
    return Search(world, states_max=states_max).run()
