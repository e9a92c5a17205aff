"""The Store against a dumb twin, a list of entries, with crashes, failing syncs and full disks in any of its calls."""

import copy
import errno
import random
from collections.abc import Callable
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from raftlock.storage import DiskFailed, NoRoom, Recovered
from raftlock.testing.disk import CrashPoint, Kept, SimDisk
from raftlock.testing.storage_run import Run, Twin
from raftlock_wire.entry import HardState
from raftlock_wire.ids import NodeId, Term

Operation = Callable[[Run], object]

SIZES = st.lists(st.integers(0, 3_000), min_size=1, max_size=4)


def _append(sizes: list[int], back: int, vote: bool) -> Operation:
    def do(run: Run) -> None:
        twin = run.twin
        first = twin.last_index + 1 - min(back, len(twin.entries))
        new = HardState(Term(twin.hard_state.term + 1), NodeId(2)) if vote else None
        run.append(*sizes, first=first, vote=new)

    return do


def _save(fraction: float, sizes: list[int]) -> Operation:
    def do(run: Run) -> None:
        entries = run.twin.entries
        if entries:
            run.save_snapshot(entries[int(fraction * (len(entries) - 1))].index, *sizes)

    return do


def _install(ahead: int, sizes: list[int], term: int | None) -> Operation:
    def do(run: Run) -> None:
        base = run.twin.snapshot.index if run.twin.snapshot is not None else 0
        run.receive_snapshot(base + ahead, *sizes, term=term)
        run.install()

    return do


def _compact(run: Run) -> None:
    if run.twin.snapshot is not None:
        run.compact()


OPERATIONS = st.one_of(
    st.builds(_append, SIZES, st.integers(0, 3) | st.integers(0, 40), st.booleans()),
    st.builds(lambda term: lambda run: run.vote(run.twin.hard_state.term + term, term), st.integers(1, 3)),
    st.just(lambda run: run.store.seal()),
    st.just(lambda run: run.store.prepare()),
    st.just(_compact),
    st.builds(_save, st.floats(0, 1), SIZES),
    st.builds(_install, st.integers(1, 12), SIZES, st.none() | st.just(5)),
)  # fmt: skip


class StoreMachine(RuleBasedStateMachine):
    """After any history the directory opens, with all that was acknowledged and nothing that was not asked for."""

    @initialize()
    def begin(self) -> None:
        """Begin with a node of a cluster."""
        self.disk = SimDisk(rng=random.Random(0))
        self.run = Run(self.disk)
        self.run.format()
        self.run.set_cluster()

    @rule(operation=OPERATIONS)
    def do(self, operation: Operation) -> None:
        """Do something."""
        operation(self.run)

    @rule(operation=OPERATIONS)
    def again(self, operation: Operation) -> None:
        """Do something more: most histories are long, and crashes rare."""
        operation(self.run)

    @rule(kept=st.sampled_from(Kept) | st.none(), seed=st.integers(0, 999))
    def end(self, kept: Kept | None, seed: int) -> None:
        """End the process between two operations, with the power or without; all of the state comes back."""
        self._end(kept, seed)

        assert self.run.open() == self.run.twin.recovered()

    @rule(
        operation=OPERATIONS,
        calls=st.integers(0, 12),
        kept=st.sampled_from(Kept) | st.none(),
        seed=st.integers(0, 999),
    )
    def crash(self, operation: Operation, calls: int, kept: Kept | None, seed: int) -> None:
        """End it within an operation: the state from before comes back, or the one after."""
        states = self._states(operation)
        self.disk.crash_after(calls)
        try:
            operation(self.run)
            states = states[-1:]
        except CrashPoint:
            pass
        self._end(kept, seed)

        self._adopt(states)

    @rule(operation=OPERATIONS, seed=st.integers(0, 999))
    def fail_sync(self, operation: Operation, seed: int) -> None:
        """A sync fails and the process ends: what the next one reads is durable, whatever the page cache held (decision 12)."""
        states = self._states(operation)
        self.disk.reseed(seed)
        self.disk.fail_once("fdatasync")
        try:
            operation(self.run)
            states = states[-1:]
        except DiskFailed:
            pass
        self.disk.end_process()
        self._adopt(states)
        self.disk.crash(Kept.NOTHING)

        assert self.run.open() == self.run.twin.recovered()

    @precondition(lambda self: self.disk.capacity is None)
    @rule(operation=OPERATIONS, room=st.integers(0, 20_000))
    def fill(self, operation: Operation, room: int) -> None:
        """There is no room: the operation is done or refused as a whole, and the process may go on or end."""
        states = self._states(operation)
        self.disk.capacity = sum(self.disk.size(name) for name in self.disk.list()) + room
        try:
            operation(self.run)
            states = states[-1:]
        except NoRoom:
            pass
        except DiskFailed as error:
            assert isinstance(error.__cause__, OSError)
            assert error.__cause__.errno == errno.ENOSPC
        self.disk.capacity = None
        self.disk.end_process()

        self._adopt(states)

    def _states(self, operation: Operation) -> list[Twin]:
        """Return the states that an interrupted operation may leave; the last one is that of a finished one."""
        before, after = self.run.twin.copy(), copy.deepcopy(self.run)
        operation(after)
        # A vote is durable before the entries of the same write.
        voted = replace(before.copy(), hard_state=after.twin.hard_state)
        return [before, voted, after.twin]

    def _end(self, kept: Kept | None, seed: int) -> None:
        self.disk.reseed(seed)
        if kept is None:
            self.disk.end_process()
        else:
            self.disk.crash(kept)

    def _adopt(self, states: list[Twin]) -> None:
        found: Recovered = self.run.open()
        assert found in [twin.recovered() for twin in states]
        self.run.twin = next(twin for twin in states if twin.recovered() == found)


StoreMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, print_blob=True
)
TestStore = StoreMachine.TestCase
