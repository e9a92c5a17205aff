"""The layering and purity rules of ARCHITECTURE.md, checked on the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {
    "raftlock_wire": set(),
    "raftlock.raft": {"raftlock_wire"},
    "raftlock.locks": {"raftlock_wire"},
    "raftlock.storage": {"raftlock_wire"},
    "raftlock.transport": {"raftlock_wire"},
    "raftlock.audit": {"raftlock_wire"},
    "raftlock.client": {"raftlock_wire", "raftlock.transport"},
    "raftlock.telemetry": {"raftlock_wire"},
    "raftlock.server": {
        "raftlock_wire",
        "raftlock.raft",
        "raftlock.locks",
        "raftlock.storage",
        "raftlock.transport",
        "raftlock.telemetry",
        "raftlock.audit",
    },
    "raftlock.cli": {
        "raftlock_wire",
        "raftlock.client",
        "raftlock.server",
        "raftlock.storage",
        "raftlock.audit",
    },
}
IMPURE = {
    "asyncio", "uvloop", "socket", "os", "pathlib", "time", "datetime", "random", "threading", "logging", "queue",
    "secrets", "signal", "subprocess",
}  # fmt: skip
PURE = [
    "wire/raftlock_wire",
    "raftlock/raft",
    "raftlock/locks",
    *(f"raftlock/storage/{name}.py" for name in ("disk", "errors", "records", "small_files", "snapshots", "store", "wal")),
    *(f"raftlock/audit/{name}.py" for name in ("chain", "format", "log", "verify")),
    *(f"raftlock/client/{name}.py" for name in ("acquiring", "asking", "errors", "handles", "leases", "session", "sessions", "slots", "timetable", "values")),
    *(f"raftlock/telemetry/{name}.py" for name in ("counters", "histogram", "metrics")),
    *(
        f"raftlock/server/{name}.py"
        for name in (
            "applying", "audit_jobs", "auditing", "batcher", "clients", "door", "driver", "effects", "fair_queue", "front", "handshake", "jobs",
            "leading", "lease_clock", "leases", "members", "origin", "outbox", "peer_codec", "proposals", "reads", "records", "removal",
            "snapshots", "timers", "versions", "writing",
        )
    ),
]  # fmt: skip


def imports_of(source: str) -> set[str]:
    """Return every module that a source imports, wherever it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def package_of(module: str) -> str:
    """Return the package that a module belongs to, in the names of ALLOWED."""
    parts = module.split(".")
    return parts[0] if parts[0] != "raftlock" or len(parts) < 2 else ".".join(parts[:2])


def files_of(path: str) -> list[Path]:
    """Return the Python files of a package or the one file."""
    target = ROOT / path
    return sorted(target.rglob("*.py")) if target.is_dir() else [target]


def wrong_imports(package: str, source: str) -> set[str]:
    """Return the project's packages that a source of `package` must not import."""
    ours = {
        package_of(m)
        for m in imports_of(source)
        if m.split(".")[0] in ("raftlock", "raftlock_wire")
    }
    return ours - ALLOWED[package] - {package, "raftlock"}


def impure_imports(source: str) -> set[str]:
    """Return the modules that a pure source must not import."""
    return {module for module in imports_of(source) if module.split(".")[0] in IMPURE}


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_point_one_way(package: str) -> None:
    """A package imports only what stands below it, and siblings never import each other."""
    folder = "wire/raftlock_wire" if package == "raftlock_wire" else package.replace(".", "/")

    wrong = {
        f"{file.relative_to(ROOT)}: {bad}"
        for file in files_of(folder)
        for bad in wrong_imports(package, file.read_text())
    }

    assert wrong == set()


@pytest.mark.parametrize("path", PURE)
def test_the_cores_are_pure(path: str) -> None:
    """What the simulator runs imports no clock, socket, file, thread, logger or random source."""
    wrong = {
        f"{file.relative_to(ROOT)}: {bad}"
        for file in files_of(path)
        for bad in impure_imports(file.read_text())
    }

    assert wrong == set()


def test_nothing_imports_the_test_kit() -> None:
    """`raftlock.testing` may import everything, and nothing of the product imports it."""
    outside = [f for f in files_of("raftlock") if "testing" not in f.parts]

    assert [
        f
        for f in outside
        if any(m.startswith("raftlock.testing") for m in imports_of(f.read_text()))
    ] == []


def test_the_checks_see_what_is_wrong() -> None:
    """The rules fail on a source that breaks them, also inside a function."""
    bad = "def f():\n    import time\n    from raftlock.storage import Store\n"

    assert (impure_imports(bad), wrong_imports("raftlock.raft", bad)) == (
        {"time"},
        {"raftlock.storage"},
    )
