"""A crash between every two calls that the production Store makes of the disk, and between those of the start after it.

It owns the steps that are interrupted. It must not know tables.
"""

import copy
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from raftlock.storage import Recovered, StorageError, Store
from raftlock.testing.disk import CrashPoint, Kept, SimDisk
from raftlock.testing.storage_run import CONFIG, INCARNATION, NODE, Run
from raftlock_wire.entry import HardState
from raftlock_wire.ids import NodeId, Term

SEEDS = 6
"""Draws of what a power cut leaves, besides nothing, half of each write, and all of it."""


class Fate(NamedTuple):
    """How the process ends. `kept` None: the process alone is killed."""

    kept: Kept | None
    seed: int = 0

    def end(self, disk: SimDisk) -> None:
        """End it."""
        disk.reseed(self.seed)
        if self.kept is None:
            disk.end_process()
        else:
            disk.crash(self.kept)


FATES = (
    Fate(None),
    Fate(Kept.NOTHING),
    Fate(Kept.HALF),
    Fate(Kept.ALL),
    *(Fate(Kept.SOME, seed) for seed in range(SEEDS)),
)
FATES_AT_START = (
    Fate(None),
    Fate(Kept.NOTHING),
    Fate(Kept.HALF),
    Fate(Kept.ALL),
    Fate(Kept.SOME, 1),
)


class Step(NamedTuple):
    """One step of the Store that a crash may interrupt."""

    prepare: Callable[[Run], object]
    act: Callable[[Run], object]


def _history(run: Run) -> None:
    run.format()
    run.set_cluster()
    run.vote(1, 1)
    for _ in range(6):
        run.append(300, 900)
        run.append(1_200)
        run.store.seal()


def _unsealed(run: Run) -> None:
    _history(run)
    run.append(10)


def _prepared(run: Run) -> None:
    _near_end_of_segment(run)
    run.store.prepare()


def _nothing(run: Run) -> None:
    del run


def _with_snapshot(run: Run) -> None:
    _history(run)
    run.save_snapshot(run.twin.last_index - 3, 400, 700)


def _near_end_of_segment(run: Run) -> None:
    """Write records until the next of 700 bytes needs another segment."""
    _history(run)
    while True:
        tried = copy.deepcopy(run)
        tried.append(700)
        if tried.store.log_bytes > run.store.log_bytes:
            return
        run.append(700)


def _received(run: Run, *, past_end: int, term: int | None = None) -> None:
    _with_snapshot(run)
    run.receive_snapshot(run.twin.last_index + past_end, 300, 2_000, term=term)


STEPS: dict[str, Step] = {
    "format": Step(_nothing, Run.format),
    "bootstrap": Step(Run.format, Run.set_cluster),
    "vote": Step(_history, lambda run: run.vote(2, 3)),
    "append": Step(_history, lambda run: run.append(100, 1_500)),
    "vote and append": Step(
        _history, lambda run: run.append(600, vote=HardState(Term(3), NodeId(2)))
    ),
    "append to a new segment": Step(_near_end_of_segment, lambda run: run.append(700)),
    "append to a prepared segment": Step(
        _prepared, lambda run: run.append(700)
    ),
    "truncation": Step(
        _history, lambda run: run.append(50, 60, first=run.twin.last_index - 4)
    ),
    "seal": Step(_unsealed, lambda run: run.store.seal()),
    "snapshot": Step(
        _history, lambda run: run.save_snapshot(run.twin.last_index - 2, 600, 0, 800)
    ),
    "compaction": Step(_with_snapshot, Run.compact),
    "installation, log kept": Step(partial(_received, past_end=-1), Run.install),
    "installation, log too short": Step(partial(_received, past_end=5), Run.install),
    "installation, log disagrees": Step(partial(_received, past_end=-1, term=8), Run.install),
}  # fmt: skip


def start(disk: SimDisk) -> Recovered:
    """Start on a directory as a node does."""
    if not Store.is_formatted(disk):
        Store.format(disk, node_id=NODE, incarnation=INCARNATION)
    _, recovered = Store.open(disk, node_id=NODE, config=CONFIG)
    return recovered


def crash_cases(name: str) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield, for each call of a step and each fate, what the case is and a function that says what went wrong."""
    prepare, act = STEPS[name]
    before = Run(SimDisk(rng=random.Random(0)))
    prepare(before)
    after = copy.deepcopy(before)
    calls = _disk(after).calls
    act(after)
    for call in range(_disk(after).calls - calls + 1):
        for fate in FATES:
            yield f"{name}, call {call}, {fate}", partial(_problem, before, after, act, call, fate)


def _problem(before: Run, after: Run, act: Callable[[Run], object], call: int, fate: Fate) -> str:
    """Interrupt a step before its call number `call`, and each start after it. Return what is wrong, or nothing."""
    run = copy.deepcopy(before)
    disk = _disk(run)
    finished = _until_crash(disk, call, lambda: act(run))
    fate.end(disk)
    old, new = before.twin.recovered(), after.twin.recovered()
    # A vote is durable before the entries of the same write.
    allowed = (new,) if finished else (old, new, replace(old, hard_state=new.hard_state))
    try:
        return _start_problem(disk, allowed)
    except StorageError as error:
        return f"refused: {error}"


def _start_problem(crashed: SimDisk, allowed: tuple[Recovered, ...]) -> str:
    disk = crashed.clone()
    calls = disk.calls
    found = start(disk)
    if found not in allowed:
        return f"another state came back: {found}"
    for call in range(disk.calls - calls + 1):
        for fate in FATES_AT_START:
            disk = crashed.clone()
            finished = _until_crash(disk, call, partial(start, disk))
            fate.end(disk)
            again = start(disk)
            # What a start has found and finished with is durable: another one finds the same.
            if again not in ((found,) if finished else allowed):
                return f"start interrupted at call {call}, {fate}: another state: {again}"
    return ""


def _until_crash(disk: SimDisk, calls: int, action: Callable[[], object]) -> bool:
    """Do something until a crash after so many calls. Return whether it was finished."""
    disk.crash_after(calls)
    try:
        action()
    except CrashPoint:
        return False
    finally:
        disk.crash_after(None)
    return True


def _disk(run: Run) -> SimDisk:
    assert isinstance(run.disk, SimDisk)
    return run.disk
