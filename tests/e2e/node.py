"""One server process for tests of how it starts and ends, and the C library that lets its disk or clock fail."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.conftest import free_ports

SHIM = Path(__file__).parents[2] / "jepsen-style" / "chaos" / "faults.c"


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    stderr: str


def events(log: str, name: str) -> list[dict[str, object]]:
    """Return the events of a name out of a node's log (one JSON object a line)."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


def server_command(folder: Path, *, node_id: int = 1, ports: list[int] | None = None) -> list[str]:
    """Return the command of a node with its data in `folder`."""
    client, peer, http = ports or free_ports(3)
    return [
        sys.executable, "-m", "raftlock.cli.main", "server",
        "--node-id", str(node_id),
        "--data-dir", str(folder),
        "--client", f"127.0.0.1:{client}",
        "--peer", f"127.0.0.1:{peer}",
        "--http", f"127.0.0.1:{http}",
        "--segment-size", str(1 << 20),
    ]  # fmt: skip


def run_to_the_end(command: Sequence[str], **environment: str) -> Ended:
    """Run a server that cannot start."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    # What the node logged is not what it says to the one who started it.
    said = [line for line in done.stderr.splitlines(keepends=True) if not line.startswith("{")]
    return Ended(done.returncode, "".join(said))


def fault_library(folder: Path) -> Path:
    """Compile what lets a process's disk or wall clock fail."""
    library = folder / "faults.so"
    try:
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-o", str(library), str(SHIM), "-ldl"],
            check=True,
            capture_output=True,
            timeout=60,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no C compiler: {error}")
    return library
