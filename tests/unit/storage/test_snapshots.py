"""Snapshot files (decision 14)."""

import errno
import hashlib
import tracemalloc

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from raftlock.storage import BadSnapshot, Damaged, DiskFailed, NoRoom, SnapshotWriter
from raftlock.storage.snapshots import MAGIC, RECEIVING, SAVING, SnapshotFiles, file_name
from raftlock.testing.memory_disk import MemoryDisk, overwritten
from raftlock_wire.codec import pack
from raftlock_wire.entry import SnapshotMeta
from raftlock_wire.ids import Index, Term
from tests.unit.storage.kit import Diary, sim_disk

META = SnapshotMeta(Index(5), Term(2), 30, 40, b"members", 0, b"")
NAME = file_name(META)
HEAD_SIZE = 16 + len(pack([5, 2, 30, 40, b"members"]))


def saved(*chunks: bytes, disk: MemoryDisk | None = None, meta: SnapshotMeta = META) -> MemoryDisk:
    """Save a snapshot."""
    disk = MemoryDisk() if disk is None else disk
    writer = SnapshotWriter(disk, meta)
    for chunk in chunks:
        writer.append(chunk)
    writer.finish()
    return disk


def refusal(disk: MemoryDisk) -> tuple[str, int, str]:
    """Return file, offset and problem of the refusal to recover a snapshot."""
    before = dict(disk.files)
    with pytest.raises(Damaged) as caught:
        SnapshotFiles(disk).recover()
    assert disk.files == before, "a refusal changes nothing"
    return caught.value.file, caught.value.offset, caught.value.problem


@given(st.lists(st.binary(max_size=50), max_size=6))
def test_a_snapshot_comes_back(chunks: list[bytes]) -> None:
    """What names it, and its chunks, are those that were written."""
    disk = MemoryDisk()
    writer = SnapshotWriter(disk, META)
    for chunk in chunks:
        writer.append(chunk)
    meta = writer.finish()
    files = SnapshotFiles(disk)

    assert (files.recover(), list(files.chunks(meta))) == (meta, chunks)


def test_a_snapshot_gets_its_name_when_it_is_durable() -> None:
    """Temporary file, sync, rename, sync of the directory."""
    disk = Diary()

    saved(b"a", disk=disk)

    assert disk.calls == [
        f"create {SAVING}",
        *[f"pwrite {SAVING}"] * 3,
        f"fdatasync {SAVING}",
        f"rename {SAVING} {NAME}",
        "fsync_dir",
    ]


def test_only_the_newest_snapshot_is_kept() -> None:
    """A start removes older ones and what was under way."""
    disk = saved(b"old")
    saved(b"new", disk=disk, meta=META._replace(index=Index(11)))
    disk.create(SAVING)
    disk.create(RECEIVING)

    found = SnapshotFiles(disk).recover()

    assert found is not None
    assert (found.index, disk.list()) == (11, [file_name(found)])


def test_no_snapshot_is_none() -> None:
    """An empty directory has none."""
    assert SnapshotFiles(MemoryDisk()).recover() is None


def test_older_snapshots_outlive_a_damaged_one() -> None:
    """The newest is verified before anything is removed."""
    disk = saved(b"old")
    newer = META._replace(index=Index(11))
    saved(b"new", disk=disk, meta=newer)
    disk.files[file_name(newer)] = overwritten(disk.files[file_name(newer)], 60, b"?")

    refusal(disk)

    assert disk.list() == [NAME, file_name(newer)]


@pytest.mark.parametrize(
    ("offset", "data", "refused"),
    [
        (0, b"X", (0, "it does not begin as a snapshot does")),
        (8, b"\xff", (16, "the head is damaged")),
        (17, b"X", (16, "the head is damaged")),
        (HEAD_SIZE, b"\x01", (HEAD_SIZE, "a chunk is damaged")),
        (HEAD_SIZE + 7, b"X", (HEAD_SIZE, "a chunk is damaged")),
        (HEAD_SIZE + 9, b"X", (HEAD_SIZE, "a chunk is damaged")),
        (HEAD_SIZE, b"\xff\xff\xff\xff", (HEAD_SIZE, "something follows the end")),
        (-1, b"X", (-8, "the checksum of the file does not fit")),
    ],
)
def test_damage_is_refused(offset: int, data: bytes, refused: tuple[int, str]) -> None:
    """Wherever a snapshot is damaged, file, offset and problem are named."""
    disk = saved(b"first", b"second")
    size = disk.size(NAME)
    disk.files[NAME] = overwritten(disk.files[NAME], offset % size, data)
    at, problem = refused

    assert refusal(disk) == (NAME, at % size if at < 0 else at, problem)


def test_a_missing_chunk_is_seen() -> None:
    """Every chunk is whole, but the file's checksum is of all of them."""
    disk = saved(b"first", b"second")
    content = disk.files[NAME]
    disk.files[NAME] = content[:HEAD_SIZE] + content[HEAD_SIZE + 8 + len(b"first") :]

    assert refusal(disk)[2] == "the checksum of the file does not fit"


def test_a_cut_snapshot_is_refused() -> None:
    """At every length."""
    whole = saved(b"first", b"second").files[NAME]

    for size in range(len(whole)):
        refusal(MemoryDisk({NAME: whole[:size]}))


def test_a_snapshot_under_another_name_is_refused() -> None:
    """The file says what it is a snapshot of."""
    disk = saved(b"a")
    other = file_name(META._replace(index=Index(6)))
    disk.rename(NAME, other)

    assert refusal(disk) == (other, 0, f"it says it is {NAME}")


def snapshot_of(head: bytes) -> MemoryDisk:
    """Return a disk with a snapshot of this head, under right checksums, and no chunk."""
    data = MAGIC + len(head).to_bytes(4, "big") + crc32c(head).to_bytes(4, "big") + head
    return MemoryDisk({NAME: data + b"\xff\xff\xff\xff" + crc32c(data).to_bytes(4, "big")})


@pytest.mark.parametrize(
    "fields",
    [7, [5, 2, 30, 40], ["5", 2, 30, 40, b""], [5, 2, 30, 40, "m"], [5, -2, 30, 40, b""], [5, True, 1, 1, b""]],
)  # fmt: skip
def test_a_head_of_other_fields_is_refused(fields: object) -> None:
    """Under a right checksum each field is checked."""
    assert refusal(snapshot_of(pack(fields)))[:2] == (NAME, 16)


@given(st.binary(max_size=100))
def test_any_head_is_read_or_refused(head: bytes) -> None:
    """Whatever the bytes, the error is a typed one."""
    with pytest.raises(Damaged):
        SnapshotFiles(snapshot_of(head)).recover()


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    """With the magic before them and without."""
    for content in (data, MAGIC + data):
        refusal(MemoryDisk({NAME: content}))


def test_a_size_that_lies_costs_no_memory() -> None:
    """A damaged size of four gigabytes in a file of sixteen megabytes is refused with little memory."""
    disk = saved(bytes(16 << 20))
    disk.files[NAME] = overwritten(disk.files[NAME], HEAD_SIZE, b"\xff\xff\xff\xf0")
    tracemalloc.start()
    try:
        refusal(disk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 4 << 20


def received(data: bytes, meta: SnapshotMeta) -> tuple[SnapshotFiles, MemoryDisk]:
    """Return a directory that has received this."""
    disk = MemoryDisk()
    files = SnapshotFiles(disk)
    files.store_chunk(meta, 0, data)
    return files, disk


def meta_of(data: bytes, meta: SnapshotMeta = META) -> SnapshotMeta:
    """Name a snapshot by what its file holds."""
    return meta._replace(size=len(data), sha256=hashlib.sha256(data).digest())


def test_a_received_snapshot_is_verified_wholly() -> None:
    """One that this node could not read at its next start is refused now, and its file is removed."""
    good = saved(b"state").files[NAME]
    bad = overwritten(good, HEAD_SIZE + 9, b"X")
    problems = []
    for data, meta in (
        (bad, meta_of(bad)),
        (b"junk", meta_of(b"junk")),
        (good, meta_of(good, META._replace(index=Index(6)))),
        (good, meta_of(good, META._replace(membership=b"others"))),
        (good, meta_of(good)._replace(sha256=bytes(32))),
    ):
        files, disk = received(data, meta)
        with pytest.raises(BadSnapshot) as caught:
            files.install(meta)
        assert disk.list() == []
        problems.append(str(caught.value))

    assert [problem[:43] for problem in problems] == [
        "what was received is no snapshot: snapshot.",
        "what was received is no snapshot: snapshot.",
        f"what was received says it is {NAME}"[:43],
        f"what was received says it is {NAME}"[:43],
        "the SHA-256 of what was received is another",
    ]


def test_a_received_snapshot_is_installed() -> None:
    """It is found at the next start under what named it."""
    good = saved(b"state").files[NAME]
    files, disk = received(good, meta_of(good))

    files.install(meta_of(good))

    assert (disk.list(), SnapshotFiles(disk).recover()) == ([NAME], meta_of(good))


def test_a_snapshot_is_received_once() -> None:
    """After its installation there is nothing to install again."""
    good = saved(b"state").files[NAME]
    files, _ = received(good, meta_of(good))
    files.install(meta_of(good))

    with pytest.raises(BadSnapshot):
        files.install(meta_of(good))


@pytest.mark.parametrize("call", ["create", "pwrite"])
def test_no_room_for_a_snapshot_is_no_failure(call: str) -> None:
    """Its temporary file finds no room: NoRoom, and the process goes on (decision 12)."""
    disk = sim_disk()
    disk.fail_once(call, errno.ENOSPC)

    with pytest.raises(NoRoom):
        saved(b"a", disk=disk)  # type: ignore[arg-type]


@pytest.mark.parametrize("call", ["create", "pwrite", "fdatasync", "rename", "fsync_dir"])
def test_a_failing_disk_ends_a_snapshot(call: str) -> None:
    """Every other error is DiskFailed."""
    disk = sim_disk()
    disk.fail_once(call, errno.EIO)

    with pytest.raises(DiskFailed, match="snapshot"):
        saved(b"a", disk=disk)  # type: ignore[arg-type]


def test_a_received_snapshot_is_durable_before_it_has_its_name() -> None:
    """Sync, rename, sync of the directory, as for one of our own."""
    good = saved(b"state").files[NAME]
    disk = Diary()
    files = SnapshotFiles(disk)
    files.store_chunk(meta_of(good), 0, good)
    disk.calls.clear()

    files.install(meta_of(good))

    assert disk.calls == [f"fdatasync {RECEIVING}", f"rename {RECEIVING} {NAME}", "fsync_dir"]


def test_a_chunk_longer_than_its_file_is_refused() -> None:
    """Also when its checksum is that of the bytes that are there."""
    head = saved().files[NAME][:HEAD_SIZE]
    chunk = (9_999).to_bytes(4, "big") + crc32c(b"abc").to_bytes(4, "big") + b"abc"

    assert refusal(MemoryDisk({NAME: head + chunk})) == (NAME, HEAD_SIZE, "a chunk is damaged")
