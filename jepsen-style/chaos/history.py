"""Writing histories: one file a process, one JSON object a line, in the format of raftlock.testing.linearizability."""

import json
import time
from pathlib import Path
from typing import Any


class Recorder:
    """Writes the events of one worker process. Flushed line by line: a killed worker leaves what it did."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", buffering=1, encoding="utf-8")

    def event(self, process: str, kind: str, f: str, value: dict[str, Any], node: Any) -> int:
        """Write an event with the time now, on the machine's monotonic clock. Return that time."""
        now = time.monotonic_ns()
        line = {
            "process": process,
            "type": kind,
            "f": f,
            "value": value,
            "time_ns": now,
            "node": node,
        }
        self._file.write(json.dumps(line) + "\n")
        return now

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def merged(paths: list[Path]) -> list[dict[str, Any]]:
    """Return the events of all files in the order of time. A last line that was cut off by a kill is left out."""
    events: list[dict[str, Any]] = []
    for path in paths:
        lines = path.read_text(encoding="utf-8").split("\n")
        # What follows the last newline was not written whole.
        events += [json.loads(line) for line in lines[:-1]]
    events.sort(key=lambda event: int(event["time_ns"]))
    return events
