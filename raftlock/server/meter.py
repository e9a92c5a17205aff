"""What the wiring counts: turns, stalls of the loop, bytes, and the disk's time. The core counts for itself.

It owns the clocks that metrics need. It must not know how metrics are asked for.
"""

import asyncio
import re
import time
from typing import Any

from raftlock.server.jobs import Job, JobRunner, SaveSnapshotJob, WriteJob
from raftlock.storage import Store
from raftlock.telemetry.counters import Counters
from raftlock.telemetry.histogram import DURATION_US, Histogram
from raftlock.telemetry.metrics import CLIENT_REASONS, HTTP_REASONS, PEER_REASONS
from raftlock_wire.ids import NodeId

WATCH_EVERY_S = 0.05


class Traffic:
    """Frames and bytes one way."""

    __slots__ = ("bytes", "frames")

    def __init__(self) -> None:
        self.frames = 0
        self.bytes = 0

    def add(self, size: int) -> None:
        """Count a frame."""
        self.frames += 1
        self.bytes += size


class Meter:
    """One node's numbers, from its start on."""

    def __init__(self) -> None:
        self.turns = Histogram(DURATION_US)
        self.stalls = Histogram(DURATION_US)
        self.longest_stall_us = 0
        self.from_clients = Traffic()
        self.to_clients = Traffic()
        self.from_peers = Traffic()
        self.to_peers = Traffic()
        self.connections_accepted = 0
        self.connections_refused = 0
        self.clients_refused = dict.fromkeys(CLIENT_REASONS, 0)
        self.peers_refused = dict.fromkeys(PEER_REASONS, 0)
        self.http_refused = dict.fromkeys(HTTP_REASONS, 0)
        self.refused_by: dict[NodeId, int] = {}
        """Members that did not take this node's calls, and how often."""
        self.notices: dict[str, int] = {}
        """Events of the core (elected, stepped_down, leader, snapshot_saved, ...) by name."""
        self.snapshot_size = 0
        self._watch: asyncio.TimerHandle | None = None

    def turn(self, began_us: int, ended_us: int, counters: Counters | None) -> None:
        """Count a turn, what was sent at its end included."""
        self.turns.observe(ended_us - began_us)
        if counters is not None and counters.answered_since:
            counters.turn_ended(ended_us)

    def notice(self, event: str, fields: dict[str, int | str]) -> None:
        """Count an event of the core."""
        self.notices[event] = self.notices.get(event, 0) + 1
        if event == "snapshot_saved":
            self.snapshot_size = int(fields["size"])

    # the loop

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look every 50 ms how late the loop is: the next timer is set from now, so one stall counts once."""
        due = loop.time() + WATCH_EVERY_S

        def look() -> None:
            late_us = max(0, int((loop.time() - due) * 1e6))
            self.stalls.observe(late_us)
            self.longest_stall_us = max(self.longest_stall_us, late_us)
            self.watch(loop)

        self._watch = loop.call_at(due, look)

    def stop(self) -> None:
        """Look no more."""
        if self._watch is not None:
            self._watch.cancel()


class TimedRunner(JobRunner):
    """Does the disk's jobs and times them. Only the disk thread writes its numbers; the loop reads them."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.syncs = Histogram(DURATION_US)
        self.written_bytes = 0
        self.others: dict[str, Histogram] = {}
        """By the job's name: seal, prepare, save_snapshot, compact, ..."""
        self.snapshots = Histogram(DURATION_US)
        self._snapshot_began_ns = 0

    def run(self, job: Job) -> Any:
        """Do one job, timed."""
        began_ns = time.monotonic_ns()
        result = super().run(job)
        took_us = (time.monotonic_ns() - began_ns) // 1_000
        if isinstance(job, WriteJob):
            self.syncs.observe(took_us)
            self.written_bytes += sum(
                len(entry.data) for write in job.writes for entry in write.entries
            )
            return result
        name = job_name(job)
        histogram = self.others.get(name)
        if histogram is None:
            # Put in place whole: the loop may be copying it.
            histogram = Histogram(DURATION_US)
            self.others = {**self.others, name: histogram}
        histogram.observe(took_us)
        if isinstance(job, SaveSnapshotJob):
            if job.first is not None:
                self._snapshot_began_ns = began_ns
            if job.last:
                self.snapshots.observe((time.monotonic_ns() - self._snapshot_began_ns) // 1_000)
        return result


def job_name(job: Job) -> str:
    """Return a job's name as the label has it: SaveSnapshotJob is save_snapshot."""
    words = re.findall("[A-Z][a-z]*", type(job).__name__.removesuffix("Job"))
    return "_".join(words).lower()
