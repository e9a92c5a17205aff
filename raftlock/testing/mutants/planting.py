"""How a bug is planted: a piece of one production function's source is replaced, and the function's code with it.

It owns the way of a patch into a running process and out again. A function keeps its identity, so every module that
imported it, and every table that refers to it, has the bug too. It must not know which bugs there are.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any


class DoesNotApply(Exception):
    """The production code has changed: the patch must follow it, or the bug would be planted nowhere."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One piece of one function replaced by another."""

    where: str
    """module:name or module:Class.name"""
    old: str
    """Stands exactly once in the function's source, whose first line begins at column 0."""
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One bug of the kind that real systems had."""

    name: str
    breaks: str
    """What goes wrong, and against which rule or decision."""
    edits: tuple[Edit, ...]
    profiles: tuple[str, ...] = ("default",)
    """Under which the simulator should catch it, tried in this order at each seed."""
    directed: str = ""
    """A test (file::name, below tests/) that must fail, where random seeds would take too long: a hand-made world for
    exactly this. It is played instead of the profiles."""


def find(where: str) -> FunctionType:
    """Return the function that an edit names."""
    module_name, _, path = where.partition(":")
    try:
        owner: Any = import_module(module_name)
        *classes, name = path.split(".")
        for part in classes:
            owner = getattr(owner, part)
        found: Any = vars(owner)[name]
    except (ImportError, AttributeError, KeyError) as error:
        raise DoesNotApply(f"{where} is not there: {error!r}") from error
    if isinstance(found, staticmethod):
        found = found.__func__
    elif isinstance(found, property):
        found = found.fget
    if not isinstance(found, FunctionType):
        raise DoesNotApply(f"{where} is no function")
    return found


def edited_source(where: str, edits: tuple[Edit, ...]) -> str:
    """Return a function's source with all of its edits made. Raise DoesNotApply where one does not fit."""
    source = textwrap.dedent(inspect.getsource(find(where)))
    for edit in edits:
        count = source.count(edit.old)
        if count != 1:
            raise DoesNotApply(f"{where}: {edit.old!r} stands there {count} times, not once")
        source = source.replace(edit.old, edit.new)
    return source


def _code_of(source: str, function: FunctionType) -> CodeType:
    """Compile a function's source, and return its code alone: nothing of it is run here."""
    name = function.__name__
    tree = ast.parse(source)
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list.clear()
    module = compile(tree, f"<planted in {function.__module__}>", "exec", dont_inherit=True)
    for constant in module.co_consts:
        if isinstance(constant, CodeType) and constant.co_name == name:
            return constant
    raise DoesNotApply(f"{function.__qualname__} has no code of its own")


def codes(mutant: Mutant) -> list[tuple[FunctionType, CodeType]]:
    """Return each function that a bug changes, with the code that it shall have."""
    found: list[tuple[FunctionType, CodeType]] = []
    for where in dict.fromkeys(edit.where for edit in mutant.edits):
        function = find(where)
        edits = tuple(edit for edit in mutant.edits if edit.where == where)
        try:
            code = _code_of(edited_source(where, edits), function)
        except SyntaxError as error:
            raise DoesNotApply(f"{where}: what it becomes is no Python: {error}") from error
        if code.co_freevars != function.__code__.co_freevars:
            raise DoesNotApply(f"{where} is a closure, whose code cannot be replaced")
        found.append((function, code))
    return found


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """Run with a bug in the production code, and take it out again. Raise DoesNotApply if it does not fit."""
    changes = codes(mutant)
    sound = [(function, function.__code__) for function, _ in changes]
    try:
        for function, code in changes:
            function.__code__ = code
        yield
    finally:
        for function, code in sound:
            function.__code__ = code
