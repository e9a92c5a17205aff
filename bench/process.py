"""What the system says of a node's process, and which nodes answer."""

import contextlib
import os
from pathlib import Path

from raftlock.client import NodeStatus, Unavailable
from raftlock.client.connection import fetch_status

TICKS = os.sysconf("SC_CLK_TCK")


def rss(pid: int) -> int:
    """Return a process' resident bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1_024
    raise ProcessLookupError(f"{pid} has no VmRSS: it is gone")


def available() -> int:
    """Return the bytes that processes may still take before the machine is short of memory."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1_024
    raise OSError("/proc/meminfo has no MemAvailable")


def descriptors(pid: int) -> int:
    """Return how many files and sockets a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def age_s(pid: int) -> float:
    """Return how long ago a process was started."""
    started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]) / TICKS
    return float(Path("/proc/uptime").read_text().split()[0]) - started


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def statuses(endpoints: list[str]) -> dict[str, NodeStatus]:
    """Return the status of each node that answers."""
    found: dict[str, NodeStatus] = {}
    for endpoint in endpoints:
        with contextlib.suppress(OSError, TimeoutError, Unavailable):
            found[endpoint] = await fetch_status(endpoint, timeout=5.0)
    return found
