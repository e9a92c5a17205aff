"""The simulated disk: what it forgets, and what it does not."""

import errno

import pytest

from raftlock.testing.disk import CrashPoint, Kept, SimDisk
from tests.unit.storage.kit import sim_disk


def with_file(*, synced: bytes, then: bytes = b"") -> SimDisk:
    """Return a disk with a durable file, and bytes behind it that are not."""
    disk = sim_disk()
    disk.create("f")
    disk.pwrite("f", 0, synced)
    disk.fdatasync("f")
    disk.fsync_dir()
    if then:
        disk.pwrite("f", len(synced), then)
    return disk


def content(disk: SimDisk) -> bytes:
    """Return the file."""
    return disk.pread("f", 0, disk.size("f"))


def test_what_was_synced_outlives_any_crash() -> None:
    """File and name are durable after fdatasync and fsync_dir."""
    found = []
    for kept in Kept:
        disk = with_file(synced=b"abc", then=b"def")
        disk.crash(kept)
        found.append(content(disk)[:3])

    assert found == [b"abc"] * len(Kept)


def test_nothing_and_all_are_what_they_say() -> None:
    """A power cut that keeps nothing loses every unsynced byte and name; one that keeps all or half, none or half of them."""
    found = {}
    for kept in (Kept.NOTHING, Kept.HALF, Kept.ALL):
        disk = with_file(synced=b"abc", then=b"defg")
        disk.create("g")
        disk.create("h")
        disk.crash(kept)
        found[kept] = (content(disk), disk.list())

    assert found == {
        Kept.NOTHING: (b"abc", ["f"]),
        Kept.HALF: (b"abcde", ["f", "g"]),
        Kept.ALL: (b"abcdefg", ["f", "g", "h"]),
    }


def test_writes_are_kept_lost_and_torn() -> None:
    """Over many seeds each outcome of a long write is met, also sectors out of order."""
    data = b"x" * 2_000
    outcomes = set()
    for seed in range(200):
        disk = with_file(synced=b"", then=data)
        disk.reseed(seed)
        disk.crash()
        kept = content(disk)
        whole, nothing = kept == data, not kept.strip(b"\0")
        prefix = kept == data[: len(kept)]
        outcomes.add(
            "all" if whole else "nothing" if nothing else "prefix" if prefix else "sectors"
        )

    assert outcomes == {"all", "nothing", "prefix", "sectors"}


def test_directory_operations_are_kept_in_order() -> None:
    """What survives of unsynced names is a beginning of what was done."""
    found = set()
    for seed in range(60):
        disk = with_file(synced=b"abc")
        disk.create("g")
        disk.rename("g", "h")
        disk.unlink("f")
        disk.reseed(seed)
        disk.crash()
        found.add(tuple(disk.list()))

    assert found == {("f",), ("f", "g"), ("f", "h"), ("h",)}


def test_a_name_without_fsync_dir_is_lost() -> None:
    """fdatasync makes a file's bytes durable and not its name."""
    disk = sim_disk()
    disk.create("f")
    disk.pwrite("f", 0, b"abc")
    disk.fdatasync("f")

    disk.crash(Kept.NOTHING)

    assert disk.list() == []


def test_the_end_of_a_process_loses_nothing() -> None:
    """The page cache outlives it, and its lock does not."""
    disk = with_file(synced=b"abc", then=b"def")
    disk.lock()

    disk.end_process()
    disk.beside().lock()

    assert content(disk) == b"abcdef"


def test_a_sync_that_failed_is_not_made_good() -> None:
    """The next sync succeeds without having written, as on Linux: the bytes are seen until the power goes."""
    lost = False
    for seed in range(20):
        disk = with_file(synced=b"abc", then=b"def")
        disk.reseed(seed)
        disk.fail_once("fdatasync")
        with pytest.raises(OSError, match="fdatasync"):
            disk.fdatasync("f")
        disk.fdatasync("f")
        seen = content(disk)
        disk.crash(Kept.ALL)
        lost |= content(disk) == b"abc"
        assert seen == b"abcdef"

    assert lost


def test_a_crash_comes_between_two_calls() -> None:
    """The call after so many is not made."""
    disk = with_file(synced=b"abc")
    disk.crash_after(1)
    disk.pwrite("f", 0, b"A")

    with pytest.raises(CrashPoint):
        disk.pwrite("f", 1, b"B")

    assert content(disk) == b"Abc"


def test_a_full_disk_takes_what_fits() -> None:
    """Zeros are appended as far as they fit; a write that does not fit is not made."""
    disk = with_file(synced=b"abc")
    disk.capacity = 10
    codes = []
    for call in (lambda: disk.append_zeros("f", 20), lambda: disk.pwrite("f", 8, b"four")):
        with pytest.raises(OSError, match="no space") as caught:
            call()
        codes.append(caught.value.errno)

    assert (codes, disk.size("f"), disk.free_bytes()) == ([errno.ENOSPC] * 2, 10, 0)


def test_a_clone_is_independent() -> None:
    """Also in the directory operations that are not durable yet."""
    disk = with_file(synced=b"abc")
    disk.create("g")
    disk.pwrite("g", 0, b"1")
    copy = disk.clone()
    copy.pwrite("g", 0, b"2")
    copy.crash(Kept.ALL)
    copy.pwrite("g", 0, b"3")

    disk.crash(Kept.ALL)

    assert (disk.pread("g", 0, 1), copy.pread("g", 0, 1)) == (b"1", b"3")


def test_rot_changes_what_is_at_rest() -> None:
    """A flipped bit and a cut outlive a crash."""
    disk = with_file(synced=b"abc")
    disk.flip_bit("f", 0, 1)
    disk.shorten("f", 2)

    disk.crash(Kept.NOTHING)

    assert content(disk) == b"cb"
