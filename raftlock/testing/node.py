"""One simulated node: the production driver and storage around a simulated disk and clock."""

import dataclasses
import errno
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from raftlock.audit import CutRule
from raftlock.locks import VERSIONS, UnknownVersion, Versions
from raftlock.server.audit_jobs import AuditJob, AuditRunner
from raftlock.server.config import ServerConfig
from raftlock.server.driver import Driver
from raftlock.server.effects import Effects
from raftlock.server.jobs import InstallJob, Job, JobRunner, WriteJob
from raftlock.server.lease_clock import STALL_US
from raftlock.server.membership_store import NodeStore, open_store
from raftlock.storage import DiskFailed, StorageError
from raftlock.testing.disk import CrashPoint
from raftlock.testing.faulty_disk import FaultyDisk
from raftlock.testing.invariants import Violation
from raftlock.testing.world import World
from raftlock_wire.ids import NodeId

AUDIT_RULE = CutRule(block_size=1 << 11, segment_size=1 << 14, span_us=7_000_000)
"""Small, so that a run of half a minute makes many segments."""
WALL_START_US = 1_800_000_000_000_000
SNAPSHOT_CHUNK_SIZE = 700
JOB_US_MAX = 2_000_000
"""However slow a disk is: what was begun on it must be done a moment after the last fault is undone."""
SPINS_MAX = 30
"""Turns at once that do nothing: more than any order of events explains."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Bytes, far below what a configuration allows: logs of a run are short, and yet must roll and be compacted."""

    segment: int
    snapshot_log: int
    """Log after which a snapshot is saved."""
    compact_keep: int
    """Log kept behind a snapshot: little, so that a follower which was away for a moment needs the snapshot."""


class Surroundings(Protocol):
    """What a node is part of."""

    def carry_out(self, node: "SimNode", effects: Effects) -> None:
        """Do what a turn wants done outside."""

    def crashed(self, node: "SimNode") -> None:
        """Learn that a process is gone."""

    def started(self, node: "SimNode") -> None:
        """Look at the disk of a node that has read its data and is about to take part."""

    def refused_version(self, node: "SimNode", error: UnknownVersion) -> None:
        """Learn that a process ended because it met a later version of the state machine than its build knows."""

    def wrote(self, node: "SimNode") -> None:
        """Look at a disk that says that a write of the log is durable."""


class SimNode:
    """A node that can be killed, cut off from power, paused and started again at any moment."""

    def __init__(
        self,
        world: World,
        config: ServerConfig,
        *,
        around: Surroundings,
        rate: float,
        sizes: Sizes,
    ) -> None:
        """`rate`: how fast its monotonic clock runs, near 1."""
        self._world = world
        self._config = config
        self._around = around
        self._sizes = sizes
        self._rng = world.stream(f"node {config.node_id}")
        self._rate = rate
        self._clock_base_us = self._rng.randint(0, 10**9)
        self._slept_us = 0
        self.wall_offset_us = WALL_START_US
        self.disk = FaultyDisk(rng=world.stream(f"disk {config.node_id}"))
        self.audit_disk = FaultyDisk(rng=world.stream(f"audit disk {config.node_id}"))
        self.got_snapshot = False
        """Whether a snapshot of a leader was ever installed here, or begun to be."""
        self.store: NodeStore | None = None
        self.driver: Driver | None = None
        self._durable = (0, 0)
        self._last_index = 0
        self.life = 0
        """Grows at each start and crash: what was under way for an earlier life is void."""
        self.paused = False
        self.versions: Versions = VERSIONS
        """What the build knows that the next start runs (decision 7)."""
        self.ran_max = max(VERSIONS)
        """The highest version that the build of the last start knew."""
        self.started_us = 0
        self.led = False
        """Whether it led when it crashed."""
        self.out_of_service = ""
        """Why the node cannot come back by itself: its data was changed at rest, or replaced."""
        self.rotten = False
        """Whether its data was changed at rest: then a refusal to start is right."""
        self.tear_next_turn = False
        self._turn_due = False
        self._spins = 0
        self._did = (0, 0, 0)
        self._wake_token = 0
        self._jobs: deque[Job] = deque()
        self._job_running = False
        self._runner: JobRunner | None = None
        self._audit_jobs: deque[AuditJob] = deque()
        self._audit_job_running = False
        self._audit_runner: AuditRunner | None = None
        self._postponed: list[Callable[[], None]] = []

    @property
    def node_id(self) -> NodeId:
        """Return the node's id."""
        return NodeId(self._config.node_id)

    @property
    def up(self) -> bool:
        """Return whether the process runs (paused or not)."""
        return self.driver is not None

    @property
    def serving(self) -> bool:
        """Return whether it leads, answers, and is not stopped."""
        return self.driver is not None and self.driver.serving and not self.paused

    # clocks

    def now_us(self) -> int:
        """Return the node's own monotonic clock: its rate is a little off, and it stands still in sleep."""
        return self._clock_base_us + int(self._world.now_us * self._rate) - self._slept_us

    def wall_us(self) -> int:
        """Return the node's wall clock, which may jump."""
        return self.wall_offset_us + self._world.now_us

    def real_us_until_lease_clock(self, stamp_us: int) -> int:
        """Return how much real time passes at least until the leader's lease clock shows `stamp_us`."""
        assert self.driver is not None
        clock = self.driver.clock
        since_us = self.now_us() - (clock.read_us or 0)
        # A longer gap is a stall, which the lease clock leaves out (L7).
        ahead_us = stamp_us - clock.stamp_us - (since_us if since_us <= STALL_US else 0)
        return int(ahead_us / self._rate)

    @property
    def durable(self) -> tuple[int, int]:
        """Return up to which index this node's disk has the log, and the term of that entry.

        Of a node that is down it is what the disk had, also where that was damaged or replaced since: the leader may
        have been told so before.
        """
        if self.driver is not None:
            state = self.driver.raft.state
            self._durable = (state.durable_index, state.log.term_at(state.durable_index) or 0)
        return self._durable

    # life

    def open(self) -> NodeStore:
        """Open (and format, the first time) the data directory."""
        self.store = open_store(
            self.disk,
            node_id=self.node_id,
            segment_size=self._sizes.segment,
            incarnation=f"{self._rng.getrandbits(128):032x}",
            open_audit=lambda: self.audit_disk,
            audit_rule=AUDIT_RULE,
        )
        return self.store

    def start(self) -> bool:
        """Start the process on what the disk holds. Return whether it runs."""
        if self.up or self.out_of_service:
            return False
        self.life += 1
        self.paused = False
        self.ran_max, self.started_us = max(self.versions), self._world.now_us
        self._note_votes()
        try:
            store = self.open()
            if store.cluster_id is None:
                self.out_of_service = "its directory is empty: it waits for a membership"
                self._world.note(f"n{self.node_id} waits: {self.out_of_service}")
                return False
            self._runner = JobRunner(store.store, self.versions)
            driver = store.make_driver(
                self._config, now_us=self.now_us(), rng=self._rng, versions=self.versions
            )
        except CrashPoint:
            self._world.saw("a start is cut off by another crash")
            self.cut_power()
            return False
        except UnknownVersion as error:
            self._refuses_version(error)
            return False
        except (StorageError, OSError) as error:
            self._refuses(error)
            return False
        raft = driver.raft.state
        raft.config = dataclasses.replace(
            raft.config,
            compact_keep_bytes=self._sizes.compact_keep,
            snapshot_chunk_size=SNAPSHOT_CHUNK_SIZE,
        )
        driver.snapshots._log_size_max = self._sizes.snapshot_log
        if driver.raft.last_index < self._last_index:
            self._world.saw("a start finds less of the log than was written")
        self._jobs.clear()
        self._job_running = False
        self._around.started(self)
        self.driver = driver
        assert store.audit is not None
        self._audit_runner = AuditRunner(store.audit)
        self._audit_jobs.clear()
        self._audit_job_running = False
        self._world.note(
            f"n{self.node_id} starts term={driver.raft.term} log={driver.raft.last_index} "
            f"applied={driver.applied_index}"
        )
        self.wake()
        return True

    def _note_votes(self) -> None:
        copies = self.disk.durable_vote()
        if len(copies) == 2 and copies[0] != copies[1]:
            self._world.saw("a start finds two different copies of the vote")

    def _refuses_version(self, error: UnknownVersion) -> None:
        self._around.refused_version(self, error)
        self.kill(f"ends: {error}")

    def _refuses(self, error: Exception) -> None:
        text = f"n{self.node_id} does not start: {error}"
        self._world.note(text)
        if isinstance(error, OSError | DiskFailed):
            # No room, or a sync that fails once more: the process ends, and another start may do.
            self.disk.kill()
            self.audit_disk.kill()
            return
        if not self.rotten:
            raise Violation("recovery", text)
        self._world.saw("a node refuses to start on changed data")
        self.out_of_service = str(error)

    def cut_power(self) -> None:
        """Kill the process and cut the power of its disk: what was not synced may be gone."""
        self._end("loses power")
        self.disk.crash()
        self.audit_disk.crash()
        self._around.crashed(self)

    def kill(self, why: str = "is killed") -> None:
        """End the process only: the page cache stays."""
        self._end(why)
        self.disk.kill()
        self.audit_disk.kill()
        self._around.crashed(self)

    def _end(self, how: str) -> None:
        self._world.note(f"n{self.node_id} {how}")
        self.life += 1
        # Looked at once more while the process is there.
        self._durable = self.durable
        if self.driver is not None:
            self._last_index = self.driver.raft.last_index
            self.led = self.driver.is_leader
        self.driver = None
        self.paused = False
        self._turn_due = False
        self.tear_next_turn = False
        self._postponed.clear()

    def replace_disk(self) -> None:
        """Put an empty disk in the place of the one that it had. The node is down."""
        self._world.note(f"n{self.node_id} gets an empty disk")
        now_us = self._world.now_us
        self.disk = FaultyDisk(rng=self._world.stream(f"disk {self.node_id} {now_us}"))
        self.audit_disk = FaultyDisk(rng=self._world.stream(f"audit disk {self.node_id} {now_us}"))
        self.rotten = False
        self._last_index = 0
        self.out_of_service = ""

    def pause(self) -> None:
        """Stop the process as SIGSTOP does: input waits, time goes on."""
        self._world.note(f"n{self.node_id} pauses")
        self.paused = True

    def resume(self, *, slept_us: int = 0) -> None:
        """Let it go on. `slept_us`: how long its machine slept, and its monotonic clock stood still."""
        self._world.note(
            f"n{self.node_id} resumes" + (f" after {slept_us} us of sleep" if slept_us else "")
        )
        self._slept_us += int(slept_us * self._rate)
        self.paused = False
        postponed, self._postponed = self._postponed, []
        for action in postponed:
            action()
        self.wake()

    def when_running(self, action: Callable[[], None]) -> None:
        """Do something to the process now, or when it is resumed; never in another life."""
        if self.paused:
            life = self.life
            self._postponed.append(lambda: action() if self.life == life else None)
        elif self.driver is not None:
            action()

    # turns

    def wake(self) -> None:
        """Let a turn happen soon."""
        if self._turn_due or self.driver is None:
            return
        self._turn_due = True
        life = self.life
        # The loop reads what is ready before it takes the turn: a few tens of microseconds.
        self._world.after(5 + int(55 * self._rng.random()), lambda: self._turn(life))

    def _turn(self, life: int) -> None:
        if self.life != life or self.driver is None:
            return
        self._turn_due = False
        if self.paused:
            return
        now_us = self.now_us()
        self._note_clock(self.driver, now_us)
        try:
            effects = self.driver.turn(now_us, self.wall_us())
        except UnknownVersion as error:
            self._refuses_version(error)
            return
        for notice in effects.notices:
            self._world.note(f"n{self.node_id} {notice.event} {notice.fields}")
        self._check_spinning(effects, now_us)
        torn = self.tear_next_turn
        if torn:
            self._tear(effects)
        self._jobs.extend(effects.jobs)
        self._run_next_job()
        self._audit_jobs.extend(effects.audit_jobs)
        self._run_next_audit_job()
        self._around.carry_out(self, effects)
        if torn:
            self.cut_power()
            return
        self._wake_token += 1
        token = self._wake_token
        delay_us = max(1, int((effects.wake_us - now_us) / self._rate))

        def wake_if_idle() -> None:
            if token == self._wake_token and self.life == life:
                self.wake()

        self._world.after(delay_us, wake_if_idle)

    def _check_spinning(self, effects: Effects, now_us: int) -> None:
        assert self.driver is not None
        did = (self.driver.applied_index, len(effects.jobs), len(effects.peer_frames))
        again = effects.wake_us <= now_us
        self._spins = self._spins + 1 if again and did == (self._did[0], 0, 0) else 0
        self._did = did
        if self._spins > SPINS_MAX:
            raise Violation("no spinning", f"node {self.node_id} took {self._spins} turns at once")

    def _note_clock(self, driver: Driver, now_us: int) -> None:
        if driver.is_leader:
            if driver.clock.read_us is not None and now_us - driver.clock.read_us > STALL_US:
                self._world.saw("a leader stalls for longer than the lease clock counts")
            if self.wall_us() < driver.raft.last_wall_us:
                self._world.saw("a leader's wall clock is behind its log")

    def _tear(self, effects: Effects) -> None:
        """Keep a part of what a turn decided, as a crash between two of its effects does."""
        self._world.note(f"n{self.node_id} crashes between the effects of a turn")
        for effect_list in (effects.jobs, effects.peer_frames, effects.client_frames):
            del effect_list[self._rng.randint(0, len(effect_list)) :]

    # disk

    def _run_next_job(self) -> None:
        if self._job_running or not self._jobs or self.driver is None:
            return
        self._job_running = True
        job = self._jobs.popleft()
        life = self.life
        low, high = (80, 400) if isinstance(job, WriteJob) else (50, 2_000)
        delay_us = (low + (high - low) * self._rng.random()) * self.disk.slow
        if self._rng.random() < 0.01:
            delay_us *= self._rng.randint(10, 100)
        self._world.after(min(int(delay_us), JOB_US_MAX), lambda: self._do(job, life))

    def _do(self, job: Job, life: int) -> None:
        if self.life != life or self._runner is None:
            return
        # Also when it is cut off in the middle: the snapshot may be there at the next start.
        self.got_snapshot |= isinstance(job, InstallJob)
        try:
            result = self._runner.run(job)
        except CrashPoint:
            self.cut_power()
            return
        except UnknownVersion as error:
            self._refuses_version(error)
            return
        except (StorageError, OSError) as error:
            # A node whose disk fails ends; so it does here (decision 12).
            if f"[Errno {errno.EIO}]" in str(error):
                self._world.saw("a node ends because a sync failed")
            self.kill(f"ends: {error}")
            return
        self._job_running = False
        if isinstance(job, WriteJob):
            self._around.wrote(self)

        def done(result: Any = result) -> None:
            assert self.driver is not None
            self.driver.job_done(job, result)
            self.wake()

        self.when_running(done)
        self._run_next_job()

    # the audit

    def _run_next_audit_job(self) -> None:
        if self._audit_job_running or not self._audit_jobs or self.driver is None:
            return
        self._audit_job_running = True
        job = self._audit_jobs.popleft()
        life = self.life
        self._world.after(self._rng.randint(20, 3_000), lambda: self._do_audit(job, life))

    def _do_audit(self, job: AuditJob, life: int) -> None:
        if self.life != life or self._audit_runner is None:
            return
        try:
            result = self._audit_runner.run(job)
        except CrashPoint:
            self.cut_power()
            return
        self._audit_job_running = False

        def done(result: Any = result) -> None:
            assert self.driver is not None
            self.driver.audit_job_done(job, result)
            if self.driver.wants_audit_jobs:
                self.wake()

        self.when_running(done)
        self._run_next_audit_job()
