"""The command `python -m raftlock.testing.storage_tables`: a share of its cases, and that it sees what is wrong."""

from collections.abc import Callable, Sequence
from unittest.mock import patch

import pytest

from raftlock.storage.records import RecordHeader
from raftlock.storage.small_files import VoteFile
from raftlock.storage.wal import Segment, Wal
from raftlock.testing import storage_tables
from raftlock.testing.disk import SimDisk
from raftlock.testing.storage_run import record
from raftlock.testing.storage_tables import (
    CRASHED,
    FLIPPED,
    INTERRUPTED,
    LAST_LOST,
    LAST_SEGMENT,
    LOG,
    REFUSED,
    SHORTENED,
    WRONG,
    Task,
    main,
    rows,
    run_task,
    sector_parts,
)
from raftlock_wire.entry import HardState


@pytest.mark.parametrize(("table", "row"), rows())
def test_no_case_of_a_row_is_wrong(table: str, row: str) -> None:
    """A share of each row: never a wrong state, never a refusal that names nothing, never a traceback."""
    counted = run_task(Task(table, row, step=29 if table == INTERRUPTED else 331))

    assert (counted.counts[WRONG], counted.examples) == (0, [])


def test_only_the_last_unsealed_record_can_be_lost() -> None:
    """The exception that FORMAT.md names: a flip in that record, and in nothing before it, may lose it and nothing else."""
    recording = record()
    from_bit = 8 * recording.unsealed_from

    before = run_task(Task(FLIPPED, LAST_SEGMENT, first=from_bit % 41, step=41))
    within = run_task(Task(FLIPPED, LAST_SEGMENT, first=from_bit + from_bit % 41, step=41))

    assert (before.counts[LAST_LOST], within.counts[REFUSED], within.counts[WRONG]) == (
        within.counts[LAST_LOST],
        0,
        0,
    )
    assert within.counts[LAST_LOST] > 0


def test_the_command_prints_tables_and_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0, and every table and row stands in what is printed."""
    code = main(["--share", "20000"])

    text = capsys.readouterr().out
    assert (code, [t for row in rows() for t in row if t not in text]) == (0, [])


def _no_tail(self: Wal, segment: Segment, data: bytes, offset: int, behind: int) -> None:
    """Take all damage for a torn tail."""


def _no_place(self: Wal, s: Segment, header: RecordHeader, offset: int, end: int) -> None:
    """Take any record."""


def _in_order(self: VoteFile, hard_state: HardState, names: Sequence[str]) -> None:
    """Write over the copies at a start, in the order of their names: the only whole one may be torn."""
    self.write(hard_state)


def _newest_last(self: VoteFile, hard_state: HardState, names: Sequence[str]) -> None:
    """Write over the copies at a start, the newest last: the only durable one may be torn."""
    data = self._next(hard_state)
    for name in names:
        self._disk.pwrite(name, 0, data)
        self._disk.fdatasync(name)


def _not_synced(self: SimDisk, name: str) -> None:
    self._mutate()


def _no_rewrite(self: Wal) -> None:
    """Leave a torn tail where it is."""


@pytest.mark.parametrize(
    ("target", "name", "bug", "task"),
    [
        (Wal, "_check_tail", _no_tail, Task(FLIPPED, LOG, step=997)),
        (VoteFile, "_replace", _in_order, Task(INTERRUPTED, "vote")),
        (VoteFile, "_replace", _newest_last, Task(INTERRUPTED, "vote")),
        (SimDisk, "fdatasync", _not_synced, Task(INTERRUPTED, "append", step=3)),
        (
            SimDisk,
            "fsync_dir",
            SimDisk._mutate,
            Task(INTERRUPTED, "append to a new segment", step=2),
        ),
        (Wal, "_rewrite_last", _no_rewrite, Task(INTERRUPTED, "append", step=3)),
        (Wal, "_check_never_used", lambda *a, **k: None, Task(SHORTENED, LAST_SEGMENT, step=8)),
    ],
    ids=[
        "tail",
        "votes",
        "votes, newest last",
        "fdatasync",
        "fsync_dir",
        "rewrite",
        "short segment",
    ],
)
def test_a_planted_bug_is_seen(
    target: type, name: str, bug: Callable[..., None], task: Task
) -> None:
    """Each of these makes a case wrong, which is counted and described."""
    with patch.object(target, name, bug):
        counted = run_task(task)

    assert (counted.counts[WRONG] > 0, bool(counted.examples)) == (True, True)


def test_a_wrong_case_makes_the_command_fail(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 1, and the case is printed."""
    with (
        patch.object(Wal, "_check_tail", _no_tail),
        patch.object(storage_tables, "rows", lambda: [(FLIPPED, LOG)]),
    ):
        code = main(["--share", "4001"])

    assert (code, "wrong: wal-" in capsys.readouterr().out) == (1, True)


def test_the_cases_of_a_row_are_shared_out_without_a_gap() -> None:
    """Shares and processes split a row's cases; together they are all of them, each once."""
    whole = sum(run_task(Task(CRASHED, "vote: vote-a")).counts.values())

    parts = [
        sum(run_task(Task(CRASHED, "vote: vote-a", first, 3)).counts.values()) for first in range(3)
    ]

    assert sum(parts) == whole


@pytest.mark.parametrize(("offset", "size"), [(0, 1), (500, 13), (511, 514), (100, 9_000), (0, 0)])
def test_a_write_is_parted_at_its_sectors(offset: int, size: int) -> None:
    """The parts are the whole write, in order, cut only at the borders of sectors, and not many."""
    parts = sector_parts(offset, size)

    assert [end for _, end in parts[:-1]] == [begin for begin, _ in parts[1:]]
    assert (sum(e - b for b, e in parts), len(parts) <= 11) == (size, True)
    assert all((offset + end) % 512 == 0 for _, end in parts[:-1])


@pytest.mark.parametrize("arguments", [["--share", "0"], ["--jobs", "0"], ["--share", "x"]])
def test_bad_arguments_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With what is allowed."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert (caught.value.code, "--share" in capsys.readouterr().err) == (2, True)
