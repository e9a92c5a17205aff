"""What the nodes use while they are abused: memory and connections, sampled; and their own counters."""

import re
import threading
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

SAMPLE_EVERY_S = 0.25
SCRAPE_TIMEOUT_S = 5.0
_LINE = re.compile(r"^(raftlock_\w+)(\{[^}]*\})? (\S+)$", re.MULTILINE)
COUNTERS = {
    "raftlock_refusals_total": "refused: ",
    "raftlock_client_connections_total": "connections ",
}


@dataclass(slots=True)
class Usage:
    """The most that one node used within a phase."""

    memory_mib: float = 0.0
    files: int = 0

    def look(self, pid: int) -> None:
        """Look at a process; one that is gone changes nothing."""
        try:
            text = Path(f"/proc/{pid}/status").read_text()
            files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        except OSError:
            return
        found = re.search(r"^VmRSS:\s+(\d+) kB", text, re.MULTILINE)
        self.memory_mib = max(self.memory_mib, int(found.group(1)) / 1_024 if found else 0.0)
        self.files = max(self.files, files)


@dataclass(slots=True)
class Watch:
    """Looks at some processes for the length of a `with` block."""

    pids: dict[int, int]
    """By node id."""
    usage: dict[int, Usage] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Watch":
        self.usage = {node_id: Usage() for node_id in self.pids}
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()

    def _look(self) -> None:
        while True:
            for node_id, pid in self.pids.items():
                self.usage[node_id].look(pid)
            if self._over.wait(SAMPLE_EVERY_S):
                return

    @property
    def most(self) -> Usage:
        """Return the largest memory and the most open files that any node had."""
        return Usage(
            max((u.memory_mib for u in self.usage.values()), default=0.0),
            max((u.files for u in self.usage.values()), default=0),
        )


def scrape(address: str) -> dict[str, float]:
    """Return a node's metrics, labels and all; nothing when it does not answer."""
    try:
        with urllib.request.urlopen(
            f"http://{address}/metrics", timeout=SCRAPE_TIMEOUT_S
        ) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    return {name + labels: float(value) for name, labels, value in _LINE.findall(text)}


def counted(before: list[dict[str, float]], after: list[dict[str, float]]) -> dict[str, int]:
    """Return what all nodes counted between two scrapes: refusals by their reason, connections by their outcome."""
    found: dict[str, int] = {}
    for old, new in zip(before, after, strict=True):
        for name, value in new.items():
            metric, _, labels = name.partition("{")
            grown = int(value - old.get(name, 0.0))
            if metric in COUNTERS and grown > 0:
                label = COUNTERS[metric] + labels.partition('"')[2].partition('"')[0]
                found[label] = found.get(label, 0) + grown
    return found
