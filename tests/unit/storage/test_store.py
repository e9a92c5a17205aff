"""The Store's own part: the order between files, what does not fit together, and errors at its edge (decisions 12 to 14)."""

import errno
from collections.abc import Callable

import pytest

from raftlock.storage import (
    Damaged,
    DiskFailed,
    NoRoom,
    NotOurs,
    Prepared,
    StorageError,
    Store,
    StoreConfig,
)
from raftlock.storage.small_files import VOTES
from raftlock.testing.disk import Kept, SimDisk
from raftlock.testing.memory_disk import MemoryDisk
from raftlock.testing.storage_run import CONFIG, MEMBERS, NODE, Run
from raftlock_wire.entry import HardState, Write
from raftlock_wire.ids import Index, NodeId, Term
from tests.unit.storage.kit import Diary, entries, run_on, sim_disk


def refusal(disk: MemoryDisk) -> str:
    """Return what a start says that refuses a directory."""
    with pytest.raises(Damaged) as caught:
        Store.open(disk, node_id=NODE, config=CONFIG)
    return str(caught.value)


def test_a_directory_is_a_node_s_once_it_has_an_identity() -> None:
    """Votes first, synced with their names; the identity last."""
    disk = Diary()

    Store.format(disk, node_id=NODE, incarnation="1" * 32)

    a, b = VOTES
    assert disk.calls == [
        f"create {a}", f"create {b}", f"pwrite {a}", f"fdatasync {a}", f"pwrite {b}", f"fdatasync {b}", "fsync_dir",
        "create identity.tmp", "pwrite identity.tmp", "fdatasync identity.tmp", "rename identity.tmp identity", "fsync_dir",
    ]  # fmt: skip


def test_a_vote_is_durable_before_the_entries_of_the_same_write() -> None:
    """An entry of a term is never on the disk before the term is."""
    disk = Diary()
    run = run_on(disk)
    run.append(1)
    disk.calls.clear()

    run.append(1, vote=HardState(Term(2), NodeId(1)))

    writes = [call.split()[1][:4] for call in disk.calls if call.startswith("pwrite")]
    assert writes == ["vote", "vote", "wal-"]


def test_a_term_below_the_log_s_is_refused() -> None:
    """Votes that are older than the last entry are not this log's (decision 13)."""
    disk = MemoryDisk()
    run = run_on(disk)
    old = {name: disk.files[name] for name in VOTES}
    run.vote(2, 1)
    run.append(1)
    disk.files |= old

    assert refusal(disk) == (
        "vote-a and vote-b at offset 0: term 1 is below term 2 of the last entry"
    )


def test_a_log_behind_a_gap_is_refused() -> None:
    """Entries that follow neither the beginning nor the snapshot have lost what was before them."""
    disk = MemoryDisk()
    run = run_on(disk)
    for _ in range(6):
        run.append(3_000)
    run.save_snapshot(4, 10)
    run.compact()
    snapshot = next(name for name in disk.list() if name.startswith("snapshot-"))
    del disk.files[snapshot]

    assert refusal(disk) == (
        "wal-0000000000000003.log at offset 0: the log begins at entry 5, and the snapshot ends at 0"
    )


def test_a_log_that_the_snapshot_does_not_fit_is_dropped_at_a_start() -> None:
    """A crash between an installation's rename and the removal of the log is finished by the next start (decision 12)."""
    left = []
    for index, term in ((2, 9), (40, 9)):
        disk = MemoryDisk()
        run = run_on(disk)
        run.append(10, 10, 10)
        run.write_snapshot(run.store, index, 100, term=term)
        _, recovered = Store.open(disk, node_id=NODE, config=CONFIG)
        left.append((recovered.entries, [n for n in disk.list() if n.startswith("wal-")]))

    assert left == [((), []), ((), [])]


def test_a_log_that_begins_right_behind_the_snapshot_is_kept() -> None:
    """It need not hold the snapshot's index itself: what a drop and new entries leave."""
    disk = MemoryDisk()
    run = run_on(disk)
    run.append(10)
    run.receive_snapshot(5, 10)
    run.install()
    run.append(20, 20)

    assert (run.open(), run.twin.entries[0].index) == (run.twin.recovered(), 6)


def test_a_snapshot_is_durable_before_the_log_is_cut() -> None:
    """Compaction removes nothing until it is asked for, and then older snapshots first (decision 14)."""
    disk = Diary()
    run = run_on(disk)
    for _ in range(6):
        run.append(3_000)
    run.save_snapshot(2, 10)
    run.compact()
    disk.calls.clear()
    run.save_snapshot(5, 10)
    saved = [call for call in disk.calls if call.startswith("unlink")]
    disk.calls.clear()

    run.compact()

    assert (saved, [call.split("-")[0] for call in disk.calls]) == (
        [],
        ["unlink snapshot", "fsync_dir", "unlink wal", "fsync_dir"],
    )


def test_no_room_is_an_answer() -> None:
    """prepare says so and may be asked again; a write that needs the segment is refused as a whole."""
    disk = sim_disk()
    run = run_on(disk)
    disk.capacity = sum(disk.size(name) for name in disk.list()) + 5_000
    refused = run.store.prepare()
    with pytest.raises(NoRoom, match=r"segment\.spare"):
        run.store.write([Write(1, None, tuple(entries(1, 1)))])
    disk.capacity = None
    again = run.store.prepare()

    run.append(5)

    assert (refused, again, run.open()) == (
        Prepared.NO_ROOM,
        Prepared.READY,
        run.twin.recovered(),
    )


def test_no_room_within_a_segment_is_a_failure() -> None:
    """A preallocated segment has room; a file system that has none for it has failed (decision 12)."""
    disk = sim_disk()
    run = run_on(disk)
    run.append(1)
    disk.fail_once("pwrite", errno.ENOSPC)

    with pytest.raises(DiskFailed, match="writing the log"):
        run.append(1)


@pytest.mark.parametrize(
    ("step", "call", "says"),
    [
        (lambda run: run.vote(2, 2), "fdatasync", "writing the vote file"),
        (lambda run: run.append(5), "fdatasync", "writing the log"),
        (lambda run: run.append(5), "pwrite", "writing the log"),
        (lambda run: run.store.seal(), "pwrite", "sealing the log"),
        (lambda run: run.store.prepare(), "append_zeros", "preallocating a segment"),
        (lambda run: run.store.prepare(), "fdatasync", "preallocating a segment"),
        (lambda run: run.save_snapshot(1, 5), "pwrite", "writing a snapshot"),
        (lambda run: run.save_snapshot(1, 5), "rename", "giving a snapshot its name"),
        (lambda run: run.receive_snapshot(9, 5), "create", "storing a received snapshot"),
        (lambda run: list(run.store.snapshot_chunks(run.received)), "pread", "reading a snapshot"),
        (lambda run: run.store.read_snapshot(run.received, 0, 1), "list", "reading a snapshot"),
        (lambda run: run.install(), "rename", "installing a snapshot"),
        (lambda run: run.compact(), "fsync_dir", "removing what a snapshot replaces"),
        (lambda run: run.open(), "pread", "reading the data directory"),
        (lambda run: run.open(), "rename", "reading the data directory"),
        (lambda run: run.open(), "list", "listing the data directory"),
    ],
)
def test_an_error_of_the_disk_is_a_failure(
    step: Callable[[Run], object], call: str, says: str
) -> None:
    """Every OSError leaves the Store as DiskFailed, which says what was being done and keeps its cause."""
    disk = sim_disk()
    run = run_on(disk)
    run.append(5, 5)
    run.save_snapshot(1, 5)
    run.receive_snapshot(8, 5)
    disk.fail_once(call, errno.EIO)

    with pytest.raises(DiskFailed, match=says) as caught:
        step(run)

    assert isinstance(caught.value.__cause__, OSError)


def test_an_error_while_bootstrapping_or_formatting_is_a_failure() -> None:
    """The same for the two that come before there is a log."""
    says = []
    disk = sim_disk()
    disk.fail_once("create")
    with pytest.raises(DiskFailed) as caught:
        Store.format(disk, node_id=NODE, incarnation="1" * 32)
    says.append(str(caught.value).split(":")[0])
    run = Run(sim_disk())
    run.format()
    assert isinstance(run.disk, SimDisk)
    run.disk.fail_once("rename")
    with pytest.raises(DiskFailed) as caught:
        run.set_cluster()
    says.append(str(caught.value).split(":")[0])

    assert says == ["formatting the data directory", "writing the identity file"]


def test_a_failed_sync_is_lost_with_the_power() -> None:
    """What was refused may be gone, and what was acknowledged before is there."""
    disk = sim_disk()
    run = run_on(disk)
    run.append(5)
    kept = run.twin.recovered()
    disk.fail_once("fdatasync")
    with pytest.raises(DiskFailed):
        run.append(6)

    disk.crash(Kept.NOTHING)
    found = run.open()

    assert found == kept or found.entries[: len(kept.entries)] == kept.entries


def test_a_failure_is_a_storage_error() -> None:
    """One base for all of them: the edge catches that."""
    assert all(issubclass(e, StorageError) for e in (Damaged, DiskFailed, NoRoom, NotOurs))


def test_a_segment_size_has_a_least() -> None:
    """Smaller ones are refused with the number that is allowed."""
    with pytest.raises(ValueError, match="segment_size is 100, and 4096 is the least"):
        StoreConfig(segment_size=100)


def test_the_log_s_size_is_that_of_its_segments() -> None:
    """Preallocated bytes count, the spare does not."""
    run = run_on(MemoryDisk())
    sizes = [run.store.log_bytes]
    run.append(1)
    run.store.prepare()
    sizes.append(run.store.log_bytes)

    assert (sizes, run.store.free_bytes()) == ([0, CONFIG.segment_size], 1 << 60)


def test_membership_and_cluster_come_back() -> None:
    """What bootstrap wrote is what a start says."""
    run = run_on(MemoryDisk())

    found = run.open()

    assert (found.first_membership, found.cluster_id) == (MEMBERS, run.twin.cluster_id)


def test_several_writes_make_one_record() -> None:
    """One write and one sync for all that came meanwhile (decision 10)."""
    disk = Diary()
    run = run_on(disk)
    run.append(1)
    disk.calls.clear()
    log = entries(2, 4)

    run.store.write(
        [
            Write(7, None, tuple(log[:3])),
            Write(8, None, ()),
            Write(9, None, tuple(log[2:])),
        ]
    )

    calls = disk.calls[:]
    name = "wal-0000000000000001.log"
    assert (calls, [e.index for e in run.open().entries]) == (
        [f"pwrite {name}", f"fdatasync {name}"],
        [Index(i) for i in range(1, 6)],
    )


def test_a_later_write_of_several_replaces_an_earlier_one() -> None:
    """Also from its first entry on: only what the last write placed is there (decision 11)."""
    run = run_on(MemoryDisk())
    run.append(1)
    newer = entries(2, 2, term=1, size=7)

    run.store.write([Write(7, None, tuple(entries(2, 4))), Write(8, None, tuple(newer))])

    assert run.open().entries[1:] == tuple(newer)
