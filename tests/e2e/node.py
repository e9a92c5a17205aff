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

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* The disk fails while the file FAIL_SYNC_IF exists. */
int fdatasync(int fd) {
    const char *flag = getenv("FAIL_SYNC_IF");
    if (flag && access(flag, F_OK) == 0) { errno = EIO; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}

/* The wall clock is off by the seconds in the file WALL_OFFSET; the monotonic clocks are not. */
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, t);
    const char *path = getenv("WALL_OFFSET");
    if (id == CLOCK_REALTIME && path && result == 0) {
        long offset = 0;
        FILE *file = fopen(path, "r");
        if (file) { if (fscanf(file, "%ld", &offset) != 1) offset = 0; fclose(file); }
        t->tv_sec += offset;
    }
    return result;
}
"""
"""libfaketime would do for the clock, but its version in Debian 12 breaks the interpreter's timed waits."""


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
    source, library = folder / "faults.c", folder / "faults.so"
    source.write_text(SHIM)
    try:
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"],
            check=True,
            capture_output=True,
            timeout=60,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no C compiler: {error}")
    return library
