"""A simulated disk with what a process and an operator do to it: kills, power cuts, failed syncs, rot, replacement.

SimDisk is the port and its crash. Here is what only a whole node needs: what is durable at a moment, and faults that
know the files of a node.
"""

import random

from raftlock.storage.records import (
    RECORD_HEADER_SIZE,
    SEAL,
    SEGMENT_HEADER_SIZE,
    decode_record_header,
)
from raftlock.testing.disk import SimDisk

LOG_PREFIX = "wal-"
VOTES = ("vote-a", "vote-b")


class FaultyDisk(SimDisk):
    """The disk of a simulated node."""

    def __init__(self, *, rng: random.Random) -> None:
        super().__init__(rng=rng)
        self.slow = 1.0
        """What every call takes longer."""

    def kill(self) -> None:
        """End the process and nothing else: the page cache stays, and is not durable."""
        self.end_process()

    # what is durable

    def durable_vote(self) -> list[bytes]:
        """Return what both copies of the vote hold on the disk itself."""
        found = [self._durable_names.get(name) for name in VOTES]
        return [bytes(file.durable) for file in found if file is not None]

    def unsynced(self) -> list[str]:
        """Return the files of log and vote that hold writes which are not on the disk, or have no durable name."""
        return [
            name
            for name, file in self._files.items()
            if (name.startswith(LOG_PREFIX) or name in VOTES)
            and (file.unsynced or self._durable_names.get(name) is not file)
        ]

    # rot

    def rot(self, pick: float) -> str:
        """Flip a bit of what is at rest, where a start must notice it. Return where; "" if there is no such place.

        Not behind the last seal: rot of exactly the last unsealed record cannot be told from a torn tail (decision 10).
        """
        places = self._noticeable()
        total = sum(size for _, _, size in places)
        at = int(pick * total)
        for name, start, size in places:
            if at < size:
                self.flip_bit(name, start + at, at % 8)
                return f"{name} at {start + at}"
            at -= size
        return ""

    def _noticeable(self) -> list[tuple[str, int, int]]:
        """Return (file, offset, size) of ranges: the log up to its last seal, and the newest snapshot."""
        found: list[tuple[str, int, int]] = []
        names = [name for name in self.list() if name.startswith(LOG_PREFIX)]
        for name in names:
            sealed = self._sealed_size(name)
            if sealed:
                found.append((name, 0, sealed))
        snapshots = [name for name in self.list() if name.endswith(".snap")]
        for name in snapshots[-1:]:
            found.append((name, 0, self.size(name)))
        return found

    def _sealed_size(self, name: str) -> int:
        data = self.pread(name, 0, self.size(name))
        offset, sealed = SEGMENT_HEADER_SIZE, 0
        while True:
            header = decode_record_header(data[offset : offset + RECORD_HEADER_SIZE])
            if header is None:
                return sealed
            if header.kind == SEAL:
                sealed = offset
            offset += RECORD_HEADER_SIZE + header.size
