"""The driver's side of the audit: what was applied on its way to the audit thread, and what must wait for it.

It owns the records of a turn and the bound on those under way. It must not know files or hashes.
"""

from collections.abc import Sequence
from typing import Any

from raftlock.audit import Finished, Recorded, encode_results
from raftlock.locks import Applied
from raftlock.server.audit_jobs import (
    AuditJob,
    CheckpointJob,
    InstallAuditJob,
    RecordJob,
    ShowJob,
)
from raftlock_wire.codec import pack
from raftlock_wire.entry import Entry, EntryKind
from raftlock_wire.limits import AUDIT_UNDER_WAY_SIZE_MAX

SHOW_AFTER_US = 500_000
"""What was applied is on the disk for readers at the latest so long afterwards, and the time of one job."""
JOB_SIZE = 512 << 10
"""Several turns make one job: to hand a job over and back costs more than what it does for a small batch."""


class Auditing:
    """Records what is applied, in order, without doing any of it itself."""

    def __init__(self, *, on: bool) -> None:
        self.on = on
        self._records: list[Recorded] = []
        self._size = 0
        self._under_way_size = 0
        self._jobs: list[AuditJob] = []
        self._checkpoint: int | None = None
        self._state: bytes | None = None
        self._show_due_us: int | None = None
        self.recorded_index = 0
        """Up to which index the audit thread has taken what was applied, since the start of the process."""
        self.entries_recorded = 0
        self.commands_recorded = 0
        self.finished = {"segment": 0, "gap": 0}
        """Segments that were finished, and gaps that were noted, since the start of the process."""

    @property
    def has_room(self) -> bool:
        """Return whether more may be applied: what the audit thread has not done yet is bounded (decision 16)."""
        return self._under_way_size + self._size < AUDIT_UNDER_WAY_SIZE_MAX

    @property
    def under_way_size(self) -> int:
        """Return how many bytes were applied and are not recorded yet."""
        return self._under_way_size + self._size

    def applied(
        self, entry: Entry, applied: Applied, *, commands: int, version: int
    ) -> Sequence[bytes] | None:
        """Take an applied entry with its results, before they go to clients.

        Return the answers to each group of a batch, encoded: whoever sends them on need not do it again. None where
        there is no audit.
        """
        if not self.on:
            return None
        # Encoded here and now, one call a group: the answers are warm, and the audit thread needs no interpreter for
        # them. What it goes on with is bytes, which no garbage collector looks at (decision 15).
        answers = [*map(pack, applied.answers)]
        results = b""
        if entry.kind is EntryKind.BATCH:
            results = encode_results(answers, applied.effects)
        self._records.append(Recorded(entry, results, commands, version))
        self._size += len(entry.data) + len(results)
        return answers

    def checkpoint(self, index: int) -> None:
        """Ask for the state at an index, the last one applied: a snapshot of it must carry it."""
        self._state = None
        if self.on:
            self._flush()
            self._checkpoint = index
            self._jobs.append(CheckpointJob(index))

    @property
    def awaits_checkpoint(self) -> bool:
        """Return whether the state that was asked for is not there yet."""
        return self._checkpoint is not None

    @property
    def state(self) -> bytes | None:
        """Return the state that was asked for; None where there is no audit."""
        return self._state

    def installed(self, index: int, state: bytes | None) -> None:
        """Go on after a snapshot that the leader sent."""
        self._checkpoint = self._state = None
        if self.on:
            self._flush()
            self._jobs.append(InstallAuditJob(index, state))

    def job_done(self, job: AuditJob, result: Any) -> list[Finished]:
        """Take a job back, done. Return the segments that it finished."""
        match job:
            case RecordJob(records, size):
                self._under_way_size -= size
                self.recorded_index = records[-1].entry.index
                self.entries_recorded += len(records)
                self.commands_recorded += sum([recorded.commands for recorded in records])
                finished: list[Finished] = result
                for segment in finished:
                    self.finished["gap" if segment.reason else "segment"] += 1
                return finished
            case CheckpointJob(index):
                if index == self._checkpoint:
                    self._checkpoint, self._state = None, result
            case _:
                pass
        return []

    def show(self) -> None:
        """Let readers see everything now: the node is being stopped."""
        if self.on:
            self._flush()
            self._jobs.append(ShowJob())

    def take_jobs(self, now_us: int) -> list[AuditJob]:
        """Return what this turn wants done."""
        if self._records:
            if self._size >= JOB_SIZE:
                self._flush()
            if self._show_due_us is None:
                self._show_due_us = now_us + SHOW_AFTER_US
        if self._show_due_us is not None and now_us >= self._show_due_us:
            self._show_due_us = None
            self._flush()
            self._jobs.append(ShowJob())
        jobs, self._jobs = self._jobs, []
        return jobs

    def _flush(self) -> None:
        if self._records:
            self._jobs.append(RecordJob(tuple(self._records), self._size))
            self._under_way_size += self._size
            self._records.clear()
            self._size = 0

    @property
    def wake_us(self) -> int | None:
        """Return when readers must be shown what is new; None if nothing is."""
        return self._show_due_us
