"""A picture of any object: nested tuples that are equal for objects that will behave alike.

It goes through fields, containers, enums, closures and bound methods; what is met twice is drawn once and referred to
by its number afterwards, so that two equal objects that are changed apart are told from one that is shared. It must not
know what it draws: a kind that needs more than that comes with its own way.
"""

from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from types import FunctionType, GeneratorType, MethodType
from typing import Any

Way = Callable[["Painter", Any], Any]
_PLAIN = (int, str, bytes, float, bool, type(None))


class Painter:
    """One drawing."""

    def __init__(self, ways: Mapping[type, Way]) -> None:
        self._ways = ways
        self._met: dict[int, int] = {}

    def draw(self, thing: Any) -> Any:
        """Return the picture of anything."""
        kind = type(thing)
        if kind in _PLAIN:
            return thing
        if kind in (tuple, frozenset) or isinstance(thing, tuple):
            items = [self.draw(item) for item in thing]
            return tuple(sorted(items, key=repr) if kind is frozenset else items)
        if isinstance(thing, Enum):
            return str(thing)
        if isinstance(thing, int):
            return int(thing)
        # `thing` lives as long as the drawing: its id stays its own.
        known = self._met.get(id(thing))
        if known is not None:
            return ("again", known)
        self._met[id(thing)] = len(self._met)
        way = self._ways.get(kind)
        return way(self, thing) if way is not None else self._draw_whole(thing)

    def _draw_whole(self, thing: Any) -> Any:
        if isinstance(thing, Mapping):
            return ("map", *((self.draw(k), self.draw(v)) for k, v in thing.items()))
        if isinstance(thing, list | deque):
            return ("list", *map(self.draw, thing))
        if isinstance(thing, set):
            return ("set", *sorted(map(self.draw, thing), key=repr))
        if isinstance(thing, MethodType):
            return ("method", thing.__func__.__qualname__, self.draw(thing.__self__))
        if isinstance(thing, FunctionType):
            return ("function", thing.__qualname__, *map(self._draw_cell, thing.__closure__ or ()))
        if isinstance(thing, GeneratorType):
            # Where it stands, and the whole numbers that it counts with.
            frame = thing.gi_frame
            counts = {} if frame is None else frame.f_locals
            numbers = sorted((k, v) for k, v in counts.items() if type(v) is int)
            return ("generator", 0 if frame is None else frame.f_lasti, *numbers)
        return self.fields(thing, frozenset())

    def _draw_cell(self, cell: Any) -> Any:
        try:
            return self.draw(cell.cell_contents)
        except ValueError:
            return "empty"

    def fields(self, thing: Any, without: frozenset[str]) -> Any:
        """Draw an object field by field."""
        names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
        names += getattr(thing, "__dict__", {})
        drawn = [
            (name, self.draw(getattr(thing, name)))
            for name in names
            if name not in without and not name.startswith("__") and hasattr(thing, name)
        ]
        return (type(thing).__name__, *drawn)


def without(*names: str) -> Way:
    """Return the way to draw a kind less the fields that nothing depends on."""
    left_out = frozenset(names)
    return lambda painter, thing: painter.fields(thing, left_out)


def draw(thing: Any, ways: Mapping[type, Way]) -> Any:
    """Return the picture of an object."""
    return Painter(ways).draw(thing)
