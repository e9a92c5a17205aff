"""What the driver wants of the audit, as data, and the one function that does it.

Production runs the jobs on a thread of their own beside the log's; the simulator in simulated time. The order among
them is kept; there is none between them and the jobs of the log, but what the driver waits for.
"""

from typing import Any, NamedTuple

from raftlock.audit import AuditLog, Recorded


class RecordJob(NamedTuple):
    """Record applied entries. Result: the Finished segments."""

    records: tuple[Recorded, ...]
    size: int


class ShowJob(NamedTuple):
    """Let readers see what was recorded last. Result: None."""


class CheckpointJob(NamedTuple):
    """Make everything up to an index durable. Result: the state that a snapshot at that index carries."""

    index: int  # type: ignore[assignment]  # the field's word; nobody calls tuple.index on it


class InstallAuditJob(NamedTuple):
    """Go on after an installed snapshot. Result: None."""

    index: int  # type: ignore[assignment]  # the field's word; nobody calls tuple.index on it
    state: bytes | None


AuditJob = RecordJob | ShowJob | CheckpointJob | InstallAuditJob


class AuditRunner:
    """Does jobs on an AuditLog, one after the other. An error of the disk passes through: the process ends."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    def run(self, job: AuditJob) -> Any:
        """Do one job and return its result."""
        match job:
            case RecordJob(records, _):
                return self._log.append(records)
            case ShowJob():
                return self._log.show()
            case CheckpointJob():
                return self._log.checkpoint()
            case InstallAuditJob(index, state):
                return self._log.install(snapshot_index=index, state=state)
