"""The Disk port: what every implementation does."""

import pytest

from raftlock.storage import Disk
from tests.contract.disks import Opened


@pytest.fixture
def disk(opened: Opened) -> Disk:
    """Give an empty directory."""
    return opened.disk


def content(disk: Disk, name: str) -> bytes:
    """Return a whole file."""
    return disk.pread(name, 0, disk.size(name))


def test_a_new_directory_is_empty(disk: Disk) -> None:
    """Nothing is listed before anything was made."""
    assert disk.list() == []


def test_names_are_listed_in_order(disk: Disk) -> None:
    """list gives every file, sorted, whenever it was made."""
    for name in ("wal-2", "identity", "wal-10", "vote-a"):
        disk.create(name)

    assert disk.list() == ["identity", "vote-a", "wal-10", "wal-2"]


def test_what_is_written_is_read(disk: Disk) -> None:
    """A write lands at its offset and changes nothing beside it."""
    disk.create("f")
    disk.pwrite("f", 0, b"0123456789")

    disk.pwrite("f", 3, b"abc")

    assert content(disk, "f") == b"012abc6789"


def test_a_write_behind_the_end_leaves_zeros(disk: Disk) -> None:
    """The gap reads as zeros."""
    disk.create("f")
    disk.pwrite("f", 0, b"ab")

    disk.pwrite("f", 4, b"cd")

    assert content(disk, "f") == b"ab\0\0cd"


def test_a_read_ends_at_the_end_of_the_file(disk: Disk) -> None:
    """A read gives fewer bytes at the end, and none behind it."""
    disk.create("f")
    disk.pwrite("f", 0, b"abc")

    assert [disk.pread("f", o, 2) for o in range(5)] == [b"ab", b"bc", b"c", b"", b""]


def test_zeros_are_appended(disk: Disk) -> None:
    """append_zeros lengthens a file, also by more than one buffer and by nothing."""
    disk.create("f")
    disk.pwrite("f", 0, b"ab")
    size = (1 << 20) + 17

    disk.append_zeros("f", size)
    disk.append_zeros("f", 0)

    assert content(disk, "f") == b"ab" + bytes(size)


def test_create_empties_what_is_there(disk: Disk) -> None:
    """A file that is made again begins empty."""
    disk.create("f")
    disk.pwrite("f", 0, b"old")

    disk.create("f")

    assert (content(disk, "f"), disk.list()) == (b"", ["f"])


def test_a_rename_takes_the_other_file_s_place(disk: Disk) -> None:
    """The target has the source's content, to read and to write, and the source is gone."""
    disk.create("old")
    disk.pwrite("old", 0, b"old content")
    disk.create("new")
    disk.pwrite("new", 0, b"new")

    disk.rename("new", "old")
    disk.pwrite("old", 3, b"er")

    assert (disk.list(), content(disk, "old")) == (["old"], b"newer")


def test_a_name_can_be_used_again_after_a_rename(disk: Disk) -> None:
    """A new file under a name that was renamed away is another file."""
    disk.create("f")
    disk.pwrite("f", 0, b"first")
    disk.rename("f", "g")

    disk.create("f")
    disk.pwrite("f", 0, b"second")

    assert (content(disk, "f"), content(disk, "g")) == (b"second", b"first")


def test_an_unlinked_file_is_gone(disk: Disk) -> None:
    """It is not listed, and its name makes a new, empty file."""
    disk.create("f")
    disk.pwrite("f", 0, b"x")

    disk.unlink("f")
    gone = disk.list()
    disk.create("f")

    assert (gone, content(disk, "f")) == ([], b"")


@pytest.mark.parametrize(
    "call",
    [
        lambda disk: disk.pread("f", 0, 1),
        lambda disk: disk.pwrite("f", 0, b"x"),
        lambda disk: disk.append_zeros("f", 1),
        lambda disk: disk.size("f"),
        lambda disk: disk.fdatasync("f"),
        lambda disk: disk.rename("f", "g"),
        lambda disk: disk.unlink("f"),
    ],
    ids=["pread", "pwrite", "append_zeros", "size", "fdatasync", "rename", "unlink"],
)
def test_a_missing_file_is_an_error(disk: Disk, call: object) -> None:
    """Every call but create wants the file to be there, and makes none."""
    with pytest.raises(FileNotFoundError):
        call(disk)  # type: ignore[operator]

    assert disk.list() == []


def test_syncs_change_nothing_that_is_seen(disk: Disk) -> None:
    """A reader sees the same before and after fdatasync and fsync_dir."""
    disk.create("f")
    disk.pwrite("f", 0, b"abc")

    disk.fdatasync("f")
    disk.fsync_dir()

    assert (disk.list(), content(disk, "f")) == (["f"], b"abc")


def test_one_process_has_the_lock(opened: Opened) -> None:
    """A second one is refused, the first may ask again, and the lock is free once the first has closed."""
    first, second, third = opened.disk, opened.beside(), opened.beside()
    first.lock()
    first.lock()

    with pytest.raises(BlockingIOError):
        second.lock()
    first.close()

    third.lock()


def test_the_lock_is_no_file_of_the_node(disk: Disk) -> None:
    """A locked directory lists nothing."""
    disk.lock()

    assert disk.list() == []


def test_another_process_sees_what_was_written(opened: Opened) -> None:
    """Files are the directory's, not the object's."""
    opened.disk.create("f")
    opened.disk.pwrite("f", 0, b"abc")

    other = opened.beside()

    assert (other.list(), content(other, "f")) == (["f"], b"abc")


def test_there_is_room(disk: Disk) -> None:
    """free_bytes is a count of bytes."""
    assert disk.free_bytes() > 0
