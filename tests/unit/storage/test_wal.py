"""The log's records: written, cut, refused, and durable again at a start (decisions 10 to 12)."""

import pytest

from raftlock.storage import Damaged
from raftlock.storage.records import (
    ENTRIES,
    RECORD_HEADER_SIZE,
    SEAL,
    SEGMENT_HEADER_SIZE,
    SegmentHeader,
    encode_entries,
    encode_record,
    encode_segment_header,
)
from raftlock.storage.wal import REWRITE, SPARE
from raftlock.testing.disk import Kept
from raftlock.testing.memory_disk import MemoryDisk, overwritten
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


def written(*records: int, seal: bool = False) -> MemoryDisk:
    """Return a disk whose log has records of so many entries each, of ten bytes or so."""
    disk = MemoryDisk()
    wal, _ = wal_on(disk)
    index = 1
    for count in records:
        wal.append(entries(index, count))
        index += count
    if seal:
        wal.seal()
    return disk


def record_offsets(disk: MemoryDisk, name: str = FIRST) -> list[int]:
    """Return where the records of a segment begin."""
    content, offset, found = disk.files[name], SEGMENT_HEADER_SIZE, []
    while content[offset : offset + 4] == b"\xd7RLr":
        found.append(offset)
        offset += RECORD_HEADER_SIZE + int.from_bytes(content[offset + 4 : offset + 8], "big")
    return [*found, offset]


def spoil(disk: MemoryDisk, offset: int, name: str = FIRST, data: bytes = b"\xff") -> None:
    """Overwrite a part of a file."""
    disk.files[name] = overwritten(disk.files[name], offset, data)


def refusal(disk: MemoryDisk) -> tuple[str, int, str]:
    """Return file, offset and problem of the refusal to recover a log."""
    before = dict(disk.files)
    with pytest.raises(Damaged) as caught:
        wal_on(disk)
    assert disk.files == before, "a refusal changes nothing"
    return caught.value.file, caught.value.offset, caught.value.problem


# decision 10: a torn tail is cut, damage is refused


def test_a_torn_tail_is_cut() -> None:
    """A last record that is not whole, with nothing behind it, was never acknowledged."""
    disk = written(2, 3, 1)
    spoil(disk, record_offsets(disk)[2] + 40)

    assert wal_on(disk)[1] == entries(1, 5)


def test_a_cut_tail_does_not_come_back() -> None:
    """What was cut is overwritten with zeros before anything is appended, so no later start meets it."""
    disk = written(2, 3, 1)
    end = record_offsets(disk)[2]
    spoil(disk, end + 40)

    wal_on(disk)

    assert (disk.files[FIRST][end:], len(disk.files[FIRST])) == (
        bytes(SEGMENT_SIZE - end),
        SEGMENT_SIZE,
    )


@pytest.mark.parametrize("at", [0, 5, 30, 50], ids=["magic", "head", "checksum", "payload"])
def test_damage_before_a_later_record_is_refused(at: int) -> None:
    """A record that is not whole is damage when a later one can be recognised, and both are named."""
    disk = written(2, 3, 1)
    offsets = record_offsets(disk)
    spoil(disk, offsets[1] + at, data=b"\x00\xff")

    assert refusal(disk) == (
        FIRST,
        offsets[1],
        f"the record is damaged, and a later one stands at offset {offsets[2]}",
    )


def test_damage_before_a_seal_is_refused() -> None:
    """With a seal behind it, damage of the last record is told from a torn write."""
    disk = written(2, 1, seal=True)
    offsets = record_offsets(disk)
    spoil(disk, offsets[1] + 40)

    assert refusal(disk)[:2] == (FIRST, offsets[1])


def test_damage_of_the_seal_itself_loses_nothing() -> None:
    """A seal that is not whole is cut, and every entry is there."""
    disk = written(2, 1, seal=True)
    spoil(disk, record_offsets(disk)[2] + 3)

    assert wal_on(disk)[1] == entries(1, 3)


def test_a_log_is_sealed_once() -> None:
    """A second seal without a write between is none, and an empty log needs none."""
    disk = MemoryDisk()
    wal, _ = wal_on(disk)
    wal.seal()
    none = disk.list()
    wal.append(entries(1, 1))
    wal.seal()
    wal.seal()

    assert (none, len(record_offsets(disk)) - 1) == ([], 2)


def test_a_start_knows_whether_the_log_is_sealed() -> None:
    """A log that ended in a seal gets none after a start, and one that did not gets it."""
    counts = []
    for seal in (True, False):
        disk = written(1, seal=seal)
        wal, _ = wal_on(disk)
        wal.seal()
        counts.append(len(record_offsets(disk)) - 1)

    assert counts == [2, 2]


def test_a_payload_that_looks_like_a_record_does_not_mislead() -> None:
    """A torn record whose data holds the bytes of a later record is cut all the same: its head says how long it is."""
    forged, _ = encode_record(b"", number=9, segment=1, kind=SEAL, seed=0)
    disk = MemoryDisk()
    wal, _ = wal_on(disk)
    wal.append([entry(1)])
    wal.append([entry(2, data=forged * 3 + b"end")])
    spoil(disk, record_offsets(disk)[2] - 1)

    assert wal_on(disk)[1] == [entry(1)]


@pytest.mark.parametrize("size", [0, 10, SEGMENT_HEADER_SIZE, 100, SEGMENT_SIZE - 1])
@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_a_segment_shorter_than_preallocated_is_refused(name: str, size: int) -> None:
    """A cut file is damage wherever it ends, also within its header, also in the last segment."""
    disk = written(*[20] * 5)
    disk.files[name] = disk.files[name][:size]

    assert refusal(disk)[:2] == (name, size)


def test_a_segment_longer_than_its_header_says_is_refused() -> None:
    """Nothing makes a segment longer."""
    disk = written(1)
    disk.files[FIRST] += b"\x00"

    assert refusal(disk) == (
        FIRST,
        SEGMENT_SIZE,
        f"the file has {SEGMENT_SIZE + 1} of {SEGMENT_SIZE} bytes",
    )


def test_damage_of_a_segment_that_another_follows_is_refused() -> None:
    """Its last record was synced before the next segment was begun."""
    disk = written(*[20] * 5)
    offsets = record_offsets(disk)
    spoil(disk, offsets[-2] + 40)

    assert refusal(disk) == (
        FIRST,
        offsets[-2],
        "what follows is no record, and a later segment follows",
    )


def test_a_segment_s_damaged_header_is_refused() -> None:
    """A header that is not whole, over records that are, is damage, in the last segment too."""
    for name in (FIRST, SECOND, THIRD):
        disk = written(*[20] * 8)
        spoil(disk, 9, name)

        assert refusal(disk) == (name, 0, "the segment's header is damaged")


def test_a_lost_first_sector_is_refused() -> None:
    """Records behind a lost beginning show that the segment was in use."""
    disk = written(*[20] * 5)
    spoil(disk, 0, SECOND, bytes(512))

    assert refusal(disk) == (SECOND, 0, "the segment's header is damaged")


def test_a_segment_that_does_not_follow_is_refused() -> None:
    """A missing segment, and one of another log, are seen by number and seed."""
    missing = written(*[20] * 8)
    del missing.files[SECOND]
    foreign = written(*[20] * 5)
    foreign.files[SECOND] = written(*[19] * 5).files[SECOND]

    assert [refusal(missing), refusal(foreign)] == [
        (THIRD, 0, f"it does not follow {FIRST}"),
        (SECOND, 0, f"it does not follow {FIRST}"),
    ]


def test_a_segment_under_another_name_is_refused() -> None:
    """A segment says its number."""
    disk = written(1)
    disk.rename(FIRST, SECOND)

    assert refusal(disk) == (SECOND, 0, "it says it is segment 1")


def forged(*records: bytes, size: int = SEGMENT_SIZE) -> MemoryDisk:
    """Return a disk with one segment of these records."""
    content = encode_segment_header(SegmentHeader(1, size, 0)) + b"".join(records)
    return MemoryDisk({FIRST: content.ljust(size, b"\x00")})


def chain(*parts: tuple[bytes, int, int, int]) -> list[bytes]:
    """Return chained records of (payload, number, segment, kind)."""
    records, seed = [], 0
    for payload, number, segment, kind in parts:
        record, seed = encode_record(payload, number=number, segment=segment, kind=kind, seed=seed)
        records.append(record)
    return records


ONE = (encode_entries([entry(1)]), 1, 1, ENTRIES)


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        ((b"", 3, 1, SEAL), "record 3 follows record 1"),
        ((b"", 2, 4, SEAL), "a record of segment 4 stands in segment 1"),
        ((b"", 2, 1, 7), "the record is of the unknown kind 7"),
        ((b"", 2, 1, ENTRIES), "a record of entries holds none"),
        ((b"junk", 2, 1, ENTRIES), "an entry's head is cut off"),
        ((encode_entries([entry(3)]), 2, 1, ENTRIES), "entry 3 follows entry 1"),
    ],
)
def test_a_whole_record_that_does_not_belong_is_refused(
    second: tuple[bytes, int, int, int], problem: str
) -> None:
    """What no torn write can leave is never cut and never passed over."""
    disk = forged(*chain(ONE, second))

    assert refusal(disk) == (FIRST, SEGMENT_HEADER_SIZE + 33 + 37 + 1, problem)


def test_a_record_longer_than_its_segment_is_refused() -> None:
    """A whole head that points behind the end is damage."""
    (record,) = chain((bytes(9_000), 1, 1, ENTRIES))

    assert refusal(forged(record[:100])) == (
        FIRST,
        SEGMENT_HEADER_SIZE,
        f"the record ends at {SEGMENT_HEADER_SIZE + 33 + 9_000}, behind the segment's end at {SEGMENT_SIZE}",
    )


def test_a_file_that_is_only_named_like_a_segment_is_refused() -> None:
    """A name without a number is no segment that was never used."""
    disk = MemoryDisk({"wal-draft.log": bytes(SEGMENT_SIZE)})

    assert refusal(disk) == ("wal-draft.log", 0, "the segment's header is damaged")


# decision 11: what a record replaces


def test_the_last_write_of_an_index_counts() -> None:
    """An entry of an old term that comes back after it was cut is the one that is there."""
    disk = MemoryDisk()
    wal, _ = wal_on(disk)
    wal.append(entries(1, 4, term=1))
    wal.append(entries(3, 1, term=2))
    wal.append(entries(3, 2, term=1))

    assert wal_on(disk)[1] == entries(1, 4, term=1)


def test_a_record_may_replace_more_than_is_left() -> None:
    """After compaction a record may begin before the first entry that is left."""
    disk = MemoryDisk()
    wal, _ = wal_on(disk)
    for first in range(1, 400, 20):
        wal.append(entries(first, 20))
    wal.append(entries(50, 5, term=2))
    wal.compact(Index(399))
    first = wal_on(disk)[1][0]

    assert (first, wal_on(disk)[1]) == (entry(50, 2, b"50" * 10), entries(50, 5, term=2))


# decision 12: durable again at a start


def test_a_start_makes_the_last_record_durable_again() -> None:
    """A record that only the page cache has, because its sync failed, is on the disk after a start."""
    disk = sim_disk()
    wal, _ = wal_on(disk)
    wal.append(entries(1, 2))
    disk.reseed(2)
    disk.fail_once("fdatasync")
    with pytest.raises(OSError, match="fdatasync"):
        wal.append(entries(3, 2))
    disk.end_process()

    seen = wal_on(disk)[1]
    disk.crash(Kept.NOTHING)

    assert (seen, wal_on(disk)[1]) == (entries(1, 4), entries(1, 4))


def test_a_start_rewrites_the_segment_with_the_last_record() -> None:
    """A segment whose first record was torn is removed, and the one before it is rewritten (decision 12)."""
    disk = Diary()
    wal, _ = wal_on(disk)
    for first in range(1, 101, 20):
        wal.append(entries(first, 20))
    second = disk.files[SECOND]
    kept = len(wal_on(MemoryDisk({FIRST: disk.files[FIRST]}))[1])
    disk.files[SECOND] = second[: SEGMENT_HEADER_SIZE + 40].ljust(SEGMENT_SIZE, b"\x00")
    disk.calls.clear()

    found = wal_on(disk)[1]

    assert (found, disk.calls) == (
        entries(1, kept),
        [
            f"unlink {SECOND}",
            f"create {REWRITE}",
            f"pwrite {REWRITE}",
            f"append_zeros {REWRITE}",
            f"fdatasync {REWRITE}",
            f"rename {REWRITE} {FIRST}",
            "fsync_dir",
            "fsync_dir",
        ],
    )


def test_a_first_segment_that_was_never_written_is_removed() -> None:
    """Zeros of a whole segment are a first write that was torn; a log begins anew."""
    disk = MemoryDisk({FIRST: bytes(SEGMENT_SIZE)})

    wal, found = wal_on(disk)
    wal.append(entries(1, 1))

    assert (found, wal_on(disk)[1]) == ([], entries(1, 1))


def test_a_start_removes_leftovers() -> None:
    """A spare and a rewrite that were under way are of no use."""
    disk = written(1)
    disk.create(SPARE)
    disk.create(REWRITE)

    wal_on(disk)

    assert disk.list() == [FIRST]
