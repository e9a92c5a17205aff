"""What a leader asks of consensus: an entry for what has gathered, and a round for what waits to be read.

It owns the batches that are in the log and not applied yet. It must not know what apply will make of them.
"""

from raftlock.locks import LockTable
from raftlock.raft import Raft, Role
from raftlock.server.batcher import Batch
from raftlock.server.leading import Leading
from raftlock.server.writing import Writing
from raftlock.telemetry.counters import Counters
from raftlock_wire.entry import EntryKind
from raftlock_wire.ids import Index

STAMP_EVERY_US = 500_000
"""While a stamp in the log ends something, it is never further behind the lease clock (L6)."""
_NO_GROUPS = b"\x90"


class Proposals:
    """The proposals of this node's leadership, one batch a turn."""

    def __init__(
        self, *, raft: Raft, leading: Leading, writing: Writing, counters: Counters | None
    ) -> None:
        self._raft = raft
        self._leading = leading
        self._writing = writing
        self._counters = counters
        self._batches: dict[Index, Batch] = {}

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def allowed(self) -> bool:
        """Return whether an entry may be proposed now."""
        # While the log is being written the next batch gathers by itself (decision 1).
        return (
            self._raft.role is Role.LEADER
            and self._leading.serves_from is not None
            and self._writing.since_us is None
            and not self._raft.transferring
        )

    @property
    def wants_turn(self) -> bool:
        """Return whether something has gathered that could be proposed at once."""
        return bool(self._leading.batcher) and self.allowed

    def propose(self, table: LockTable, *, stamp_us: int, wall_us: int) -> None:
        """Begin a round if one is wanted, and propose one batch, or else a stamp that is due."""
        leading, counters = self._leading, self._counters
        if leading.serving and leading.reads.wants_round:
            number = self._raft.start_round()
            leading.reads.round_begins(number)
            if counters is not None:
                counters.round_began(number)
        if not self.allowed:
            return
        if leading.batcher:
            batch = leading.batcher.take()
            index = self._append(batch.data, stamp_us, wall_us)
            self._batches[index] = batch
            if counters is not None:
                requests = sum(len(group.requests) - 2 for group in batch.groups)
                counters.proposed(index, requests, len(batch.data))
        elif table.needs_clock and stamp_us - self._raft.last_stamp_us >= STAMP_EVERY_US:
            self._append(_NO_GROUPS, stamp_us, wall_us)

    def _append(self, data: bytes, stamp_us: int, wall_us: int) -> Index:
        return self._raft.propose(
            EntryKind.BATCH,
            data,
            stamp_us=stamp_us,
            wall_us=max(wall_us, self._raft.last_wall_us),
        )

    def applied(self, index: Index) -> Batch | None:
        """Return the batch of an entry that is being applied, if it is one of ours, and forget it."""
        return self._batches.pop(index, None)

    def end(self) -> list[Batch]:
        """Return and forget what is not applied: leadership is lost."""
        batches = list(self._batches.values())
        self._batches.clear()
        return batches
