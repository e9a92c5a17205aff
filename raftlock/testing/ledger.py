"""A ledger of seeds that were run: one JSON object a line, by source and profile, so that a long run goes on later."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Ledger:
    """Which seeds are done, on this source and profile."""

    def __init__(self, path: Path, *, source: str, profile: str) -> None:
        self._path = path
        self._key = (source, profile)
        self._drop_half_a_line()
        self.done: dict[int, dict[str, Any]] = {}
        """Seed to its line."""
        for line in self._lines():
            if (line["source"], line["profile"]) == self._key:
                self.done[line["seed"]] = line

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        with self._path.open() as file:
            for number, text in enumerate(file, 1):
                try:
                    line = json.loads(text)
                    complete = {"source", "profile", "seed", "failure", "situations"} <= set(line)
                except (ValueError, TypeError):
                    complete = False
                if not complete:
                    raise SystemExit(
                        f"{self._path}, line {number}: not a line of a ledger of seeds"
                    )
                yield line

    def _drop_half_a_line(self) -> None:
        """Cut off what the end of an earlier run left of its last line."""
        if self._path.exists():
            data = self._path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                with self._path.open("r+b") as file:
                    file.truncate(whole)

    def add(self, line: dict[str, Any]) -> None:
        """Add a seed, at once and as a whole line."""
        source, profile = self._key
        line = {"source": source, "profile": profile, **line}
        self.done[line["seed"]] = line
        with self._path.open("a") as file:
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
