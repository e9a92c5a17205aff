"""The guarded resource: a register in a file that takes only growing tokens, as a real one behind locks should.

Each holder reads the value, adds one, and writes it back with its token. Two holders at once would read the same value
twice: the lost update is then in the register's own journal, whatever the lock service says.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path


class StaleToken(Exception):
    """The register has seen a larger token: the lock is not this writer's any more."""


class Register:
    """One register and its journal: a line for each write that was taken."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            os.close(fd)

    def read(self, token: int) -> int:
        """Return the value. Raise StaleToken for a token that is not the largest; a reader's token counts as seen."""
        with self._locked() as fd:
            return self._check(fd, token, note=True)

    def write(self, token: int, value: int) -> None:
        """Set the value. Raise StaleToken as `read` does."""
        with self._locked() as fd:
            self._check(fd, token, note=False)
            os.write(fd, (json.dumps({"token": token, "value": value}) + "\n").encode())

    def _check(self, fd: int, token: int, *, note: bool) -> int:
        value = largest = 0
        for line in self.lines():
            largest = max(largest, line["token"])
            value = line.get("value", value)
        if token < largest:
            raise StaleToken(f"token {token} is below {largest}")
        if note and token > largest:
            os.write(fd, (json.dumps({"token": token}) + "\n").encode())
        return value

    def lines(self) -> list[dict[str, int]]:
        """Return the journal."""
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines()]


def lost_updates(path: Path) -> list[str]:
    """Return what is wrong in a register's journal: every write adds one to the value before, and tokens never shrink."""
    problems: list[str] = []
    value = token = 0
    for number, line in enumerate(Register(path).lines(), 1):
        if line["token"] < token:
            problems.append(f"{path.name} line {number}: token {line['token']} after {token}")
        token = line["token"]
        if "value" in line:
            if line["value"] != value + 1:
                problems.append(f"{path.name} line {number}: {line['value']} written over {value}")
            value = line["value"]
    return problems
