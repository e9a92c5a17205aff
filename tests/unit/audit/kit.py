"""Records of a log that was really applied, and audit directories on simulated disks."""

import random
from collections.abc import Sequence
from functools import cache

from raftlock.audit import AuditLog, CutRule, Keep, Recorded, encode_results
from raftlock.audit.format import parse_name
from raftlock.audit.verify import Report, verify
from raftlock.locks import LockTable
from raftlock.testing.audit import SimSource
from raftlock.testing.disk import SimDisk
from raftlock_wire.codec import pack
from raftlock_wire.entry import Entry, EntryKind
from raftlock_wire.ids import Index, Term
from tests.model.logs import random_log

CLUSTER = "0123456789abcdef0123456789abcdef"
RULE = CutRule(block_size=700, segment_size=3_000, span_us=150_000)
"""Small: a log of 300 entries makes some twenty segments, cut by size and by time."""


@cache
def records(seed: int = 1, length: int = 300, *, snapshot_open: bool = False) -> list[Recorded]:
    """Return a random log's entries with their results. `snapshot_open`: nothing takes the table's hot path."""
    table = LockTable()
    found: list[Recorded] = []
    for index, stamp_us, wall_us, groups in random_log(seed, length):
        applied = table.apply(index, stamp_us, wall_us, groups)
        if snapshot_open and index == 1:
            table.begin_snapshot()
        entry = Entry(Index(index), Term(1), EntryKind.BATCH, stamp_us, wall_us, pack(groups))
        results = encode_results([*map(pack, applied.answers)], applied.effects)
        commands = sum(map(len, applied.answers))
        found.append(Recorded(entry, results, commands, table.version))
    return found


def sim_disk(seed: int = 0, *, capacity: int | None = None) -> SimDisk:
    """Return an empty disk."""
    return SimDisk(rng=random.Random(seed), capacity=capacity)


def audit_on(
    disk: SimDisk, *, snapshot_index: int = 0, state: bytes | None = None, keep: Keep | None = None
) -> AuditLog:
    """Open a directory, as a node does at its start."""
    log = AuditLog(disk, cluster_id=CLUSTER, rule=RULE, keep=keep)
    log.recover(snapshot_index=snapshot_index, state=state)
    return log


def finished_files(disk: SimDisk) -> dict[str, bytes]:
    """Return the finished segments of a directory."""
    source = SimSource(disk)
    return {name: source.read(name) for name in source.list() if parse_name(name) is not None}


@cache
def twin_files(seed: int = 1, length: int = 300) -> dict[str, bytes]:
    """Return the segments of a node that nothing happened to."""
    disk = sim_disk()
    audit_on(disk).append(records(seed, length))
    return finished_files(disk)


def report_of(disk: SimDisk) -> Report:
    """Verify a directory."""
    return verify(SimSource(disk))


def problems(report: Report) -> Sequence[tuple[str, int]]:
    """Return (file, offset) of what is damaged."""
    return [(damage.file, damage.offset) for damage in report.damages]
