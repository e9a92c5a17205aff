"""The clients' own record: what each one asked, what it was told, and how often it asked.

One file a process, one msgpack array an operation, written when the operation has ended for its client: with an answer,
or without one when the run is over. It must not know the audit.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgpack

UNKNOWN = ""
"""The status of an operation that was never answered: it may be recorded or not."""


class Said(NamedTuple):
    """One operation as its client knows it."""

    operation: str
    """As the audit names it; `offer` and `timeout`: what an event told a waiter."""
    resource: str = ""
    token: int = 0
    """Of an acquire: the grant. Of anything else: what it named."""
    session: int = 0
    slot: int = 0
    n: int = 0
    owner: str = ""
    detail: str = ""
    """What tells one operation on a token from another: the new ttl, or the reason."""
    status: str = UNKNOWN
    attempts: int = 1
    """How often it was sent, without those attempts that were answered "not taken"."""


class Ledger:
    """Writes the operations of one process."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=1 << 20)
        self._pack = msgpack.Packer().pack

    def write(self, said: Said) -> None:
        """Write one."""
        self._file.write(self._pack(said))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(paths: Iterable[Path]) -> Iterator[Said]:
    """Return the operations of all files."""
    for path in paths:
        with path.open("rb") as file:
            for fields in msgpack.Unpacker(file, use_list=False):
                yield Said(*fields)
