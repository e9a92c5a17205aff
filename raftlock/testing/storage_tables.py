"""`python -m raftlock.testing.storage_tables`: what the production Store says of a directory that was torn, cut or rotten.

Four tables over a recorded run: a write torn at each byte and at each sector, a file shortened to each size, each bit
flipped, and a crash between every two calls of the disk. A case is right (what was acknowledged comes back), refused (by
an error that names file and offset) or wrong. One thing cannot be told apart: rot of exactly the last record, with no
seal behind it, looks like a torn write. Those cases are counted apart. The exit code is 1 if any case is wrong.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice, product
from typing import NamedTuple

from raftlock.storage import Damaged, Recovered, StorageError, Store
from raftlock.storage.small_files import IDENTITY, VOTES
from raftlock.testing.disk import SECTOR_SIZE
from raftlock.testing.memory_disk import MemoryDisk, overwritten
from raftlock.testing.storage_crashes import STEPS, crash_cases
from raftlock.testing.storage_run import CONFIG, NODE, Torn, record

CRASHED, SHORTENED, FLIPPED, INTERRUPTED = (
    "A write torn by a crash",
    "A file shortened to each size",
    "Each bit flipped",
    "A crash between every two calls, and in the start after it",
)
RIGHT, REFUSED, LAST_LOST, WRONG = OUTCOMES = ("right", "refused", "last lost", "wrong")
LOG, LAST_SEGMENT, SNAPSHOT = "log, sealed", "last record, not sealed", "snapshot"
BOTH_VOTES = " and ".join(VOTES)
"""The same damage in both copies of the vote: neither can stand in for the other."""
FILE_ROWS = (LOG, LAST_SEGMENT, SNAPSHOT, *VOTES, BOTH_VOTES, IDENTITY)
EXAMPLES_MAX = 5
SECTORS_MAX = 10


class Verdict(NamedTuple):
    """What came of one case."""

    outcome: str
    detail: str = ""


Case = tuple[str, Callable[[], Verdict]]


class Task(NamedTuple):
    """A part of one row of a table: the cases `first`, `first + step`, and so on."""

    table: str
    row: str
    first: int = 0
    step: int = 1


class Counted(NamedTuple):
    """What came of a task."""

    task: Task
    counts: dict[str, int]
    examples: list[str]


# judging


def judge(
    files: dict[str, bytes],
    right: Sequence[Recovered],
    *,
    refusal_names: str | None = None,
    last_lost: Recovered | None = None,
) -> Verdict:
    """Open a directory and say whether what comes back is right.

    `refusal_names` is the file that a refusal must name; None if there must be none. `last_lost` is the state without
    the last record, where its rot cannot be told from a torn write.
    """
    try:
        _, recovered = Store.open(MemoryDisk(files), node_id=NODE, config=CONFIG)
    except StorageError as error:
        if refusal_names is None:
            return Verdict(WRONG, f"refused: {error}")
        if isinstance(error, Damaged) and error.file == refusal_names and error.offset >= 0:
            return Verdict(REFUSED)
        return Verdict(WRONG, f"the refusal does not name {refusal_names}: {error}")
    if recovered in right:
        return Verdict(RIGHT)
    if recovered == last_lost:
        return Verdict(LAST_LOST)
    return Verdict(WRONG, "another state came back, and no refusal")


# the cases of a row


def cases(table: str, row: str) -> Iterator[Case]:
    """Yield the cases of one row, each a name for people and what judges it."""
    if table == CRASHED:
        for torn in record().torn:
            if torn.what == row:
                yield from _torn(torn)
    elif table == INTERRUPTED:
        for what, problem in crash_cases(row):
            yield what, partial(_interrupted, problem)
    else:
        for spot in _spots(row):
            yield from _shortened(spot) if table == SHORTENED else _flipped(spot)


def _interrupted(problem: Callable[[], str]) -> Verdict:
    found = problem()
    return Verdict(WRONG, found) if found else Verdict(RIGHT)


def _torn(torn: Torn) -> Iterator[Case]:
    for size in range(len(torn.data) + 1):
        yield f"{torn.what}, {size} bytes kept", partial(_judge_torn, torn, ((0, size),))
    parts = sector_parts(torn.offset, len(torn.data))
    for kept in product((False, True), repeat=len(parts)):
        ranges = tuple(part for part, keep in zip(parts, kept, strict=True) if keep)
        yield f"{torn.what}, bytes {ranges} kept", partial(_judge_torn, torn, ranges)


def _judge_torn(torn: Torn, kept: tuple[tuple[int, int], ...]) -> Verdict:
    file = torn.files[torn.name]
    for begin, end in kept:
        file = overwritten(file, torn.offset + begin, torn.data[begin:end])
    # Not acknowledged, so both are right: the state before the write and, if all of it was kept, the one after.
    whole = sum(end - begin for begin, end in kept) == len(torn.data)
    right = (torn.before, torn.after) if whole else (torn.before,)
    if torn.name == VOTES[1]:
        # The other copy was written before.
        right = (torn.after,)
    return judge(torn.files | {torn.name: file}, right)


def sector_parts(offset: int, size: int) -> list[tuple[int, int]]:
    """Return the parts of a write that are kept or lost as a whole: sectors, or several of a long write."""
    part_size = SECTOR_SIZE * -(-size // (SECTOR_SIZE * SECTORS_MAX))
    parts = []
    begin = 0
    while begin < size:
        end = min(size, ((offset + begin) // part_size + 1) * part_size - offset)
        parts.append((begin, end))
        begin = end
    return parts


class Spot(NamedTuple):
    """A file that is damaged, and what may come of it."""

    name: str
    files: dict[str, bytes]
    right: Recovered
    last_lost: Recovered | None = None
    """The state without the last record, if that is not sealed."""
    unsealed_from: int = 0
    also: tuple[str, ...] = ()
    """Files that are damaged in the same way."""

    def judge(self, content: bytes, *, offset: int) -> Verdict:
        """Put other content, which differs from `offset` on, in the file's place, and judge what comes back."""
        # One copy of the vote is enough, so damage of the other must not keep the node from starting.
        names = (self.name, *self.also)
        refusal_names = None if self.name in VOTES and not self.also else " and ".join(names)
        last_lost = self.last_lost if offset >= self.unsealed_from else None
        return judge(
            self.files | dict.fromkeys(names, content),
            (self.right,),
            refusal_names=refusal_names,
            last_lost=last_lost,
        )


def _spots(row: str) -> Iterator[Spot]:
    recording = record()
    if row == LAST_SEGMENT:
        files = recording.unsealed.files
        name = max(name for name in files if name.startswith("wal-"))
        sealed = recording.sealed.holds
        yield Spot(name, files, recording.unsealed.holds, sealed, recording.unsealed_from)
        return
    files = recording.sealed.files
    if row == BOTH_VOTES:
        yield Spot(VOTES[0], files, recording.sealed.holds, also=VOTES[1:])
        return
    prefix = {LOG: "wal-", SNAPSHOT: "snapshot-"}.get(row, row)
    for name in sorted(files):
        if name.startswith(prefix):
            yield Spot(name, files, recording.sealed.holds)


def _shortened(spot: Spot) -> Iterator[Case]:
    # A segment is preallocated, so its size always tells; nothing is lost then.
    strict = spot._replace(last_lost=None)
    content = spot.files[spot.name]
    for size in range(len(content)):
        yield f"{spot.name} cut to {size} bytes", partial(_judge_shortened, strict, size)


def _judge_shortened(spot: Spot, size: int) -> Verdict:
    return spot.judge(spot.files[spot.name][:size], offset=size)


def _flipped(spot: Spot) -> Iterator[Case]:
    for offset in range(len(spot.files[spot.name])):
        for bit in range(8):
            yield (
                f"{spot.name}, bit {bit} of byte {offset}",
                partial(_judge_flip, spot, offset, bit),
            )


def _judge_flip(spot: Spot, offset: int, bit: int) -> Verdict:
    content = spot.files[spot.name]
    flipped = bytes((content[offset] ^ 1 << bit,))
    return spot.judge(overwritten(content, offset, flipped), offset=offset)


# running


def run_task(task: Task) -> Counted:
    """Judge the cases of a task."""
    counts = dict.fromkeys(OUTCOMES, 0)
    examples: list[str] = []
    for what, verdict_of in islice(cases(task.table, task.row), task.first, None, task.step):
        try:
            outcome, detail = verdict_of()
        except Exception as error:
            error.add_note(f"in the table {task.table!r}: {what}")
            raise
        counts[outcome] += 1
        if outcome == WRONG and len(examples) < EXAMPLES_MAX:
            examples.append(f"{what}: {detail}")
    return Counted(task, counts, examples)


def rows() -> list[tuple[str, str]]:
    """Return (table, row) of all tables, in order."""
    writes = dict.fromkeys(torn.what for torn in record().torn)
    return [
        *((CRASHED, what) for what in writes),
        *((SHORTENED, row) for row in FILE_ROWS),
        *((FLIPPED, row) for row in FILE_ROWS),
        *((INTERRUPTED, row) for row in STEPS),
    ]


def run_all(*, share: int, jobs: int) -> list[Counted]:
    """Run every `share`-th case of all rows, and return the counts by row."""
    tasks = [
        Task(table, row, first * share, jobs * share)
        for table, row in rows()
        for first in range(jobs)
    ]
    if jobs == 1:
        done = list(map(run_task, tasks))
    else:
        with ProcessPoolExecutor(jobs) as pool:
            done = list(pool.map(run_task, tasks))
    return [_sum(done[i : i + jobs]) for i in range(0, len(done), jobs)]


def _sum(parts: Sequence[Counted]) -> Counted:
    counts = {outcome: sum(part.counts[outcome] for part in parts) for outcome in OUTCOMES}
    examples = [example for part in parts for example in part.examples][:EXAMPLES_MAX]
    return Counted(parts[0].task, counts, examples)


def tables_text(results: Sequence[Counted]) -> str:
    """Return the tables as people read them."""
    lines: list[str] = []
    table = ""
    for result in results:
        if result.task.table != table:
            table = result.task.table
            lines += ["", f"{table:<60}{'cases':>9}" + "".join(f"{o:>11}" for o in OUTCOMES)]
        counts = [result.counts[outcome] for outcome in OUTCOMES]
        lines.append(
            f"  {result.task.row:<58}{sum(counts):>9}" + "".join(f"{c:>11}" for c in counts)
        )
        lines += [f"    wrong: {example}" for example in result.examples]
    return "\n".join(lines[1:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Return 1 if a case is wrong."""
    parser = argparse.ArgumentParser(prog="python -m raftlock.testing.storage_tables")
    parser.add_argument("--share", type=int, default=1, metavar="N", help="run every N-th case")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes")
    options = parser.parse_args(arguments)
    if options.share < 1 or options.jobs < 1:
        parser.error("--share and --jobs are at least 1")
    began = time.monotonic()
    results = run_all(share=options.share, jobs=options.jobs)
    wrong = sum(result.counts[WRONG] for result in results)
    total = sum(sum(result.counts.values()) for result in results)
    took_s = time.monotonic() - began
    print(tables_text(results))
    print(f"\n{total} cases, {wrong} wrong, {took_s:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
