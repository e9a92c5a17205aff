"""Which of our modules a program is made of: those that it imports, directly or through others.

So that evidence of a long run stays good when something is changed that the run never touches.
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

import raftlock
import raftlock_wire

_ROOTS = {
    package.__name__: Path(str(package.__file__)).parent for package in (raftlock, raftlock_wire)
}


def sources_of(module: str) -> dict[str, Path]:
    """Return the files of a module, of the packages that it is in, and of all that these import, by module name."""
    found: dict[str, Path] = {}
    todo = [module]
    while todo:
        name = todo.pop()
        path = _file_of(name)
        if name in found or path is None:
            continue
        found[name] = path
        todo += [name.rpartition(".")[0], *_imports(path.read_bytes())]
    return found


def _file_of(name: str) -> Path | None:
    """Return the file of one of our modules; None for anything else."""
    top, *rest = name.split(".")
    if top not in _ROOTS:
        return None
    path = _ROOTS[top].joinpath(*rest)
    for file in (path / "__init__.py", path.with_name(path.name + ".py")):
        if file.is_file():
            return file
    return None


def _imports(source: bytes) -> Iterator[str]:
    """Yield what a source imports, wherever it does; of `from a import b` both a and a.b, which may be a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            assert not node.level, "imports are absolute here"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def source_id(module: str) -> str:
    """Return a hash of the source that runs when `module` does: right also when something is not committed."""
    digest = hashlib.sha256()
    for name, path in sorted(sources_of(module).items()):
        digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
