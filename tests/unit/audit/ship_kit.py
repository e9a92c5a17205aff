"""Nodes' audit directories on the real disk, over several days, and a store that fails when it is told to."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar

from raftlock.audit import AuditLog, CutRule
from raftlock.audit.reader import Directory
from raftlock.audit.tiers import Listed, Tier, TierUnavailable, sha256_of
from tests.unit.audit.kit import CLUSTER, finished_files, records, sim_disk

RULE = CutRule(block_size=700, segment_size=3_000)
START_US = 1_795_600_000_000_000
"""2026-11-25T09:46:40Z."""
Value = TypeVar("Value")
STEP_US = 10 * 60_000_000
"""A log of 300 entries, one each ten minutes, goes over three days."""


@cache
def files_of_days(seed: int = 1, length: int = 300, cluster: str = CLUSTER) -> dict[str, bytes]:
    """Return the finished segments of a log over three days."""
    log = AuditLog(disk := sim_disk(), cluster_id=cluster, rule=RULE, keep=None)
    log.recover(snapshot_index=0, state=None)
    log.append(
        [
            recorded._replace(
                entry=recorded.entry._replace(wall_us=START_US + i * STEP_US + i % 1_000_000)
            )
            for i, recorded in enumerate(records(seed, length))
        ]
    )
    return finished_files(disk)


def node(folder: Path, files: dict[str, bytes] | None = None) -> Directory:
    """Return a node's audit directory with these segments."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in (files_of_days() if files is None else files).items():
        (folder / name).write_bytes(data)
    return Directory(folder)


def contents(tier: Tier) -> dict[str, bytes]:
    """Return every object of a store."""
    return {listed.key: tier.read(listed.key) for listed in tier.list("")}


class MemoryTier:
    """A store in memory. `versions`: it takes a second object of a name, as a bucket with versions does."""

    def __init__(self, *, versions: bool = False) -> None:
        self.url = "memory:/"
        self.objects: dict[str, list[bytes]] = {}
        self._versions = versions

    def put_new(self, key: str, data: bytes) -> bool:
        """See Tier."""
        if key in self.objects and not self._versions:
            return False
        self.objects.setdefault(key, []).append(data)
        return True

    def hashes(self, key: str) -> frozenset[str]:
        """See Tier."""
        return frozenset(map(sha256_of, self.objects.get(key, ())))

    def list(self, prefix: str, *, after: str = "") -> Iterator[Listed]:
        """See Tier."""
        for key in sorted(self.objects):
            if key.startswith(prefix) and key > after:
                yield Listed(key, len(self.objects[key][-1]))

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        """See Tier."""
        if key not in self.objects:
            raise FileNotFoundError(key)
        return self.objects[key][-1][start : None if size is None else start + size]


class ShakyTier:
    """A store of which each call may fail, before it has an effect or behind it, as `fails` says."""

    def __init__(self, inner: Tier, fails: Callable[[], str]) -> None:
        self._inner, self._fails = inner, fails
        self.url = inner.url

    def _call(self, call: Callable[[], Value]) -> Value:
        how = self._fails()
        if how == "before":
            raise TierUnavailable("it does not answer")
        result = call()
        if how == "behind":
            raise TierUnavailable("the answer was lost")
        return result

    def put_new(self, key: str, data: bytes) -> bool:
        """See Tier."""
        return self._call(lambda: self._inner.put_new(key, data))

    def hashes(self, key: str) -> frozenset[str]:
        """See Tier."""
        return self._call(lambda: self._inner.hashes(key))

    def list(self, prefix: str, *, after: str = "") -> Iterator[Listed]:
        """See Tier."""
        return iter(self._call(lambda: list(self._inner.list(prefix, after=after))))

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        """See Tier."""
        return self._call(lambda: self._inner.read(key, start=start, size=size))
