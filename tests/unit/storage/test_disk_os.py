"""What only the real disk can do wrong: descriptors, and what else stands in a directory."""

import os
from pathlib import Path

import pytest

from raftlock.storage import OsDisk


def open_files(path: Path) -> list[str]:
    """Return what this process has open in a directory, and the directory itself."""
    links = []
    for fd in Path("/proc/self/fd").iterdir():
        try:
            target = str(fd.readlink())
        except FileNotFoundError:
            continue
        if target.startswith(str(path)):
            links.append(target.removeprefix(str(path)))
    return sorted(links)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """A file has one while it is used, none when it is replaced, renamed over or removed, and close leaves none."""
    disk = OsDisk(tmp_path)
    disk.lock()
    for name in ("a", "b", "c", "a"):
        disk.create(name)
    disk.rename("a", "b")
    disk.unlink("c")
    during = open_files(tmp_path)

    disk.close()

    assert (during, open_files(tmp_path)) == (["", "/b", "/lock"], [])


def test_a_second_close_closes_nothing_of_others(tmp_path: Path) -> None:
    """The numbers may be somebody else's by then."""
    disk = OsDisk(tmp_path)
    disk.lock()
    disk.close()
    with (tmp_path / "theirs").open("wb"), (tmp_path / "theirs too").open("wb"):
        disk.close()

        assert open_files(tmp_path) == ["/theirs", "/theirs too"]


def test_a_volume_s_own_folder_is_passed_over(tmp_path: Path) -> None:
    """A data directory may be the top of a volume, where `lost+found` stands."""
    (tmp_path / "lost+found").mkdir()
    disk = OsDisk(tmp_path)

    assert disk.list() == []
    disk.close()


def test_files_are_the_owner_s_alone(tmp_path: Path) -> None:
    """Nobody else may read what locks there are."""
    disk = OsDisk(tmp_path)
    disk.lock()
    disk.create("a")
    disk.close()

    assert [(tmp_path / name).stat().st_mode & 0o077 for name in ("a", "lock")] == [0, 0]


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """The disk makes files, not folders."""
    with pytest.raises(FileNotFoundError):
        OsDisk(tmp_path / "none")


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may write and read less than it was asked to."""
    whole_write, whole_read = os.pwrite, os.pread
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: whole_write(fd, data[:3], at))
    monkeypatch.setattr(os, "pread", lambda fd, size, at: whole_read(fd, min(size, 2), at))
    disk = OsDisk(tmp_path)
    disk.create("f")
    disk.pwrite("f", 2, b"0123456789")
    disk.append_zeros("f", 5)

    assert disk.pread("f", 0, 100) == b"\0\x000123456789" + bytes(5)
    disk.close()
