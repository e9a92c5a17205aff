"""What the audit says of its size is what lies in its directory."""

import pytest

from raftlock.audit import AuditLog, Keep
from raftlock.audit.log import Kept
from raftlock.testing.disk import SimDisk
from tests.unit.audit.kit import audit_on, finished_files, records, sim_disk, twin_files


def in_directory(disk: SimDisk) -> Kept:
    """Count what there is."""
    files = finished_files(disk)
    gaps = sum(name.endswith(".gap") for name in files)
    return Kept(len(files) - gaps, gaps, sum(map(len, files.values())))


@pytest.mark.parametrize("keep", [Keep(), Keep(size=4_000), Keep(age_us=1)])
def test_what_is_kept_is_what_lies_there(keep: Keep) -> None:
    """After each record, however much is deleted, and again after a restart."""
    disk = sim_disk()
    log = audit_on(disk, keep=keep)
    said, there = [], []
    for recorded in records():
        log.append([recorded])
        said.append(log.kept)
        there.append(in_directory(disk))
    again = audit_on(disk, keep=keep).kept

    assert said == there
    assert (again, again.segments > 0) == (there[-1], True)
    assert (again == Kept(len(twin_files()), 0, sum(map(len, twin_files().values())))) == (
        keep == Keep()
    )


def test_a_gap_is_told_from_a_segment() -> None:
    """A node that got a snapshot lacks what lies before it: one gap, beside its segments."""
    state = _state_at(150)
    disk = sim_disk()
    log = audit_on(disk)
    log.append(records()[:50])
    log.install(snapshot_index=150, state=state)
    log.append(records()[150:])

    assert (log.kept, log.kept.gaps) == (in_directory(disk), 1)


def _state_at(index: int) -> bytes:
    """Return what a snapshot of another node carries."""
    other: AuditLog = audit_on(sim_disk())
    other.append(records()[:index])
    return other.checkpoint()
