"""The kept corpus: one text file for each decoder, one input a line in base64, one input of each kind that was met.

It owns these files and their bounds. It must not know decoders.
"""

import base64
from collections.abc import Mapping
from pathlib import Path

INPUT_SIZE_MAX = 2 << 10
"""Larger ones are not kept: they are made of small ones again."""
FILE_SIZE_MAX = 12 << 10


class Corpus:
    """A directory of kept inputs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inputs: dict[str, dict[bytes, None]] = {}
        if path.is_dir():
            for file in sorted(path.glob("*.txt")):
                lines = file.read_text().split()
                self._inputs[file.stem] = dict.fromkeys(base64.b64decode(line) for line in lines)

    def inputs(self, target: str) -> tuple[bytes, ...]:
        """Return the inputs of a decoder."""
        return tuple(self._inputs.get(target, ()))

    def add(self, target: str, kinds: Mapping[str, bytes]) -> None:
        """Take inputs while there is room. The caller gives those of kinds that are not there yet."""
        known = self._inputs.setdefault(target, {})
        size = sum(map(_line_size, known))
        for data in kinds.values():
            if len(data) > INPUT_SIZE_MAX or data in known:
                continue
            size += _line_size(data)
            if size > FILE_SIZE_MAX:
                break
            known[data] = None

    def save(self) -> None:
        """Write all of it."""
        self._path.mkdir(parents=True, exist_ok=True)
        for target, inputs in self._inputs.items():
            lines = sorted(base64.b64encode(data).decode() for data in inputs)
            (self._path / f"{target}.txt").write_text("".join(line + "\n" for line in lines))


def _line_size(data: bytes) -> int:
    return len(base64.b64encode(data)) + 1
