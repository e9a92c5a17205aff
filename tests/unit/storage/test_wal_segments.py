"""The log's segments: preallocated, rolled, compacted and dropped (decisions 10 and 12)."""

import errno

import pytest

from raftlock.storage import NoRoom
from raftlock.storage.records import (
    RECORD_HEADER_SIZE,
    SEGMENT_HEADER_SIZE,
)
from raftlock.storage.wal import SLICE_SIZE, SPARE, Wal
from raftlock.testing.memory_disk import MemoryDisk
from raftlock_wire.ids import Index
from tests.unit.storage.kit import (
    FIRST,
    SECOND,
    SEGMENT_SIZE,
    THIRD,
    Diary,
    entries,
    entry,
    sim_disk,
    wal_on,
)

# segments


def test_a_roll_syncs_the_directory_before_the_record() -> None:
    """A segment's zeros, then its name, then its first record are durable, in this order."""
    disk = Diary()
    wal, _ = wal_on(disk)
    disk.calls.clear()

    wal.append(entries(1, 1))

    assert disk.calls == [
        f"create {SPARE}",
        f"append_zeros {SPARE}",
        f"fdatasync {SPARE}",
        f"rename {SPARE} {FIRST}",
        "fsync_dir",
        f"pwrite {FIRST}",
        f"fdatasync {FIRST}",
    ]


def test_a_record_is_one_write_and_one_sync() -> None:
    """So at most the last record can be torn (decision 10)."""
    disk = Diary()
    wal, _ = wal_on(disk)
    wal.append(entries(1, 1))
    disk.calls.clear()

    wal.append(entries(2, 30))
    wal.seal()

    assert disk.calls == [f"pwrite {FIRST}", f"fdatasync {FIRST}"] * 2


@pytest.mark.parametrize("spare", [32, 33, 34, 65, 66])
def test_a_seal_always_has_room_in_its_segment(spare: int) -> None:
    """A record leaves room for its seal or goes to the next segment, so a seal never waits for one."""
    disk = MemoryDisk()
    wal, _ = wal_on(disk)
    size = SEGMENT_SIZE - SEGMENT_HEADER_SIZE - RECORD_HEADER_SIZE - 37 - spare
    wal.append([entry(1, data=bytes(size))])
    segments = len(wal.segments)

    wal.seal()

    assert (len(wal.segments), wal_on(disk)[1]) == (segments, [entry(1, data=bytes(size))])


def test_segments_are_preallocated_in_slices() -> None:
    """One slice a call, so that a log write waits for no more than that."""
    disk = MemoryDisk()
    wal, _ = wal_on(disk, segment_size=5 * SLICE_SIZE // 2)
    sizes = []
    while not wal.spare_is_ready:
        wal.prepare_slice()
        sizes.append(disk.size(SPARE))

    assert sizes == [SLICE_SIZE, 2 * SLICE_SIZE, 5 * SLICE_SIZE // 2]


def test_a_full_disk_refuses_a_segment_and_harms_nothing() -> None:
    """A roll without room writes nothing; once there is room again, the same record is written."""
    disk = sim_disk()
    wal, _ = wal_on(disk)
    wal.append([entry(1, data=bytes(3_000))])
    disk.capacity = SEGMENT_SIZE + 1_000
    with pytest.raises(NoRoom, match=r"segment\.spare"):
        wal.append([entry(2, data=bytes(3_000))])
    disk.capacity = None

    wal.append([entry(2, data=bytes(3_000))])

    assert wal_on(disk)[1] == [entry(1, data=bytes(3_000)), entry(2, data=bytes(3_000))]


def test_a_slice_that_failed_half_way_is_not_counted() -> None:
    """What an append that met a full disk has left is begun anew, and the segment gets exactly its size."""
    disk = sim_disk()
    wal, _ = wal_on(disk, segment_size=3 * SLICE_SIZE)
    wal.prepare_slice()
    disk.capacity = SLICE_SIZE + 5_000
    with pytest.raises(NoRoom):
        wal.prepare_slice()
    disk.capacity = None
    while not wal.spare_is_ready:
        wal.prepare_slice()

    wal.append(entries(1, 1))

    assert (disk.size(FIRST), wal_on(disk, segment_size=3 * SLICE_SIZE)[1]) == (
        3 * SLICE_SIZE,
        entries(1, 1),
    )


def test_another_error_while_preallocating_is_no_lack_of_room() -> None:
    """EIO stays what it is: the process ends."""
    disk = sim_disk()
    wal, _ = wal_on(disk)
    disk.fail_once("append_zeros", errno.EIO)

    with pytest.raises(OSError, match="append_zeros") as caught:
        wal.prepare_slice()

    assert caught.value.errno == errno.EIO


# compaction and dropping


def rolled(disk: MemoryDisk) -> Wal:
    """Write a log of three segments. Return it."""
    wal, _ = wal_on(disk)
    for first in range(1, 161, 20):
        wal.append(entries(first, 20))
    assert [segment.name for segment in wal.segments] == [FIRST, SECOND, THIRD]
    return wal


@pytest.mark.parametrize(
    ("beyond", "left"),
    [
        ((0, -1), [FIRST, SECOND, THIRD]),
        ((0, 0), [SECOND, THIRD]),
        ((1, -1), [SECOND, THIRD]),
        ((1, 0), [THIRD]),
        ((2, 0), [THIRD]),
        ((2, 999), [THIRD]),
    ],
)
@pytest.mark.parametrize("restarted", [False, True])
def test_compaction_keeps_what_lies_after_the_index(
    beyond: tuple[int, int], left: list[str], restarted: bool
) -> None:
    """A segment goes when nothing in it is after the index, the oldest first, and never the last one."""
    disk = MemoryDisk()
    wal = rolled(disk)
    last = [segment.last_index for segment in wal.segments]
    if restarted:
        wal, _ = wal_on(disk)
    segment, more = beyond

    wal.compact(Index(last[segment] + more))

    assert disk.list() == left


def test_a_replaced_index_keeps_its_segment() -> None:
    """A segment's last index is the highest that any of its records placed: it is removed rather too late."""
    disk = MemoryDisk()
    wal, _ = wal_on(disk)
    wal.append(entries(1, 20))
    wal.append(entries(5, 3, term=2))

    assert [segment.last_index for segment in (*wal.segments, *wal_on(disk)[0].segments)] == [
        20,
        20,
    ]


def test_a_log_is_dropped_from_its_end() -> None:
    """The newest segment goes first, so that a crash leaves a log's beginning (decision 12)."""
    disk = Diary()
    wal = rolled(disk)
    disk.calls.clear()

    wal.drop()

    assert (disk.calls, wal.size) == (
        [f"unlink {THIRD}", f"unlink {SECOND}", f"unlink {FIRST}", "fsync_dir"],
        0,
    )


def test_a_log_begins_anew_after_it_was_dropped() -> None:
    """Segment 1 again, with no predecessor, and the next start reads it."""
    disk = MemoryDisk()
    wal = rolled(disk)
    wal.drop()

    wal.append(entries(901, 3))

    assert (disk.list(), disk.files[FIRST][24:28], wal_on(disk)[1]) == (
        [FIRST],
        bytes(4),
        entries(901, 3),
    )
