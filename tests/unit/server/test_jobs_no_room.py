"""A snapshot that finds no room is given up, and the node goes on (decision 12)."""

import errno

import pytest

from raftlock.server.jobs import JobRunner, SaveSnapshotJob
from raftlock.testing.disk import SimDisk
from raftlock.testing.storage_run import Run
from raftlock_wire.entry import SnapshotMeta
from raftlock_wire.ids import Index, Term
from tests.unit.storage.kit import run_on, sim_disk

FIRST = SnapshotMeta(Index(1), Term(1), 0, 0, b"", 0, b"")


def runner() -> tuple[JobRunner, Run, SimDisk]:
    """Return a job runner on a node with one entry."""
    disk = sim_disk()
    run = run_on(disk)
    run.append(1)
    return JobRunner(run.store), run, disk


@pytest.mark.parametrize("call", ["create", "pwrite"])
def test_a_snapshot_without_room_is_given_up(call: str) -> None:
    """Its other parts do nothing, its temporary file is gone, and the next snapshot is saved."""
    jobs, run, disk = runner()
    begun = None if call == "create" else jobs.run(SaveSnapshotJob(FIRST, (b"a",), False))
    disk.fail_once(call, errno.ENOSPC)
    failed = jobs.run(SaveSnapshotJob(FIRST if call == "create" else None, (b"b",), False))
    rest = jobs.run(SaveSnapshotJob(None, (b"c",), True))
    left = [name for name in disk.list() if name.startswith("snapshot")]

    saved = jobs.run(SaveSnapshotJob(FIRST, (b"whole",), True))

    assert (begun, failed, rest, left) == (None, None, None, [])
    assert list(run.store.snapshot_chunks(saved)) == [b"whole"]
