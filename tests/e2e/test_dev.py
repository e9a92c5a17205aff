"""`raftlock dev`: what a person sees of a cluster on this machine, and how it ends when it cannot begin."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import free_ports

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


def base_port() -> int:
    """Return a port that is free, as are the ones 10 and 20 above it."""
    while True:
        (port,) = free_ports(1)
        with contextlib.suppress(OSError), contextlib.ExitStack() as taken:
            for number in (port, port + 10, port + 20):
                taken.enter_context(socket.create_server(("127.0.0.1", number)))
            return port


@contextlib.contextmanager
def dev(data: Path, port: int, *flags: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a cluster of one node, and end it whatever happens."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "raftlock.cli.main", "dev", "--nodes", "1"),
            *("--data", str(data), "--base-port", str(port), *flags),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def lines_until(process: "subprocess.Popen[str]", pattern: str) -> list[str]:
    """Read lines up to the one that begins so. Fail if the process ends before."""
    assert process.stdout is not None
    found: list[str] = []
    for line in process.stdout:
        found.append(line.rstrip())
        if re.match(pattern, line):
            return found
    raise AssertionError(f"no line begins with {pattern!r}: {found}")


def test_a_killed_node_comes_back_and_sigterm_ends_all(tmp_path: Path) -> None:
    """It says where the cluster is, that a node was killed and is back, and that it stopped; the exit code is 0."""
    port = base_port()
    with dev(tmp_path, port, "--json") as process:
        ready = json.loads(lines_until(process, r'\{"event": "cluster ready')[-1])
        pid = json.loads((tmp_path / "node-1.log").read_text().splitlines()[0])["pid"]
        os.kill(pid, signal.SIGKILL)
        seen = lines_until(process, r'\{"event": "node 1 back')
        process.send_signal(signal.SIGTERM)
        lines_until(process, r'\{"event": "stopped')
        code = process.wait(timeout=60)

    assert (ready["endpoints"], code) == ([f"127.0.0.1:{port}"], 0)
    assert any("node 1 lost (signal SIGKILL)" in line for line in seen)


def test_a_node_that_cannot_start_ends_it_with_the_reason(tmp_path: Path) -> None:
    """No node is started again and again in vain: the first one's own words are said, and the exit code is 1."""
    (tmp_path / "node-1").write_text("not a directory")
    with dev(tmp_path, base_port()) as process:
        out, err = process.communicate(timeout=120)

    assert (process.returncode, out) == (1, "")
    assert err.startswith("raftlock: node 1 ended with exit code 1: data_dir ")


def test_a_port_in_use_ends_it_before_anything_is_made(tmp_path: Path) -> None:
    """Another cluster's ports are not called ours: the port is named, and no node was started."""
    port = base_port()
    with socket.create_server(("127.0.0.1", port)), dev(tmp_path, port) as process:
        out, err = process.communicate(timeout=120)

    assert (process.returncode, out) == (1, "")
    assert err.startswith(f"raftlock: 127.0.0.1:{port} is in use")
    assert list(tmp_path.glob("node-*")) == []
