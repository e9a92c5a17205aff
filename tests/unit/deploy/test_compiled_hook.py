"""The hook of the compiled build: what it compiles is there and pure, and without being asked it does nothing."""

import sys
import tomllib
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

from deploy.compiled_hook import MODULES

ROOT = Path(__file__).parents[3]


def test_what_is_compiled_is_there() -> None:
    """Each module of the list is a file of the server."""
    missing = [name for name in MODULES if not (ROOT / f"raftlock/server/{name}.py").is_file()]

    assert missing == []


def test_the_build_is_plain_python_unless_asked() -> None:
    """The hook is off by default."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]

    assert hook == {"path": "deploy/compiled_hook.py", "enable-by-default": False}


def test_a_venv_holds_all_of_the_compiled_modules_or_none() -> None:
    """The venv of the compiled build has every module of the list compiled, another one none: what is tested is known."""
    compiled = []
    for name in MODULES:
        spec = find_spec(f"raftlock.server.{name}")
        if spec is not None and str(spec.origin).endswith(tuple(EXTENSION_SUFFIXES)):
            compiled.append(name)

    assert compiled == (list(MODULES) if Path(sys.prefix).name == ".venv-compiled" else [])
