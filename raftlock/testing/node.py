"""One simulated node: the production driver and storage around a simulated disk and clock."""

import random
from collections import deque
from collections.abc import Callable
from typing import Any

from raftlock.audit import CutRule
from raftlock.server.audit_jobs import AuditJob, AuditRunner
from raftlock.server.config import ServerConfig
from raftlock.server.driver import Driver
from raftlock.server.effects import Effects
from raftlock.server.jobs import Job, JobRunner, WriteJob
from raftlock.server.lease_clock import STALL_US
from raftlock.server.membership_store import NodeStore, open_store
from raftlock.storage import StorageError
from raftlock.testing.disk import CrashPoint, SimDisk
from raftlock.testing.world import World
from raftlock_wire.ids import NodeId

AUDIT_RULE = CutRule(block_size=1 << 11, segment_size=1 << 14, span_us=7_000_000)
"""Small, so that a run of half a minute makes many segments."""


class SimNode:
    """A node that can be killed, paused and started again at any moment."""

    def __init__(
        self,
        world: World,
        config: ServerConfig,
        *,
        carry_out: Callable[["SimNode", Effects], None],
        on_crash: Callable[["SimNode"], None],
        rate: float,
    ) -> None:
        self._world = world
        self._config = config
        self._carry_out = carry_out
        self._on_crash = on_crash
        self._rng = random.Random(world.rng.random())
        self._rate = rate
        self._clock_base_us = world.rng.randint(0, 10**9)
        self.wall_offset_us = 1_800_000_000_000_000
        self.disk = SimDisk(rng=random.Random(world.rng.random()))
        self.audit_disk = SimDisk(rng=random.Random(world.rng.random()))
        self.store: NodeStore | None = None
        self.driver: Driver | None = None
        self._durable_index = 0
        self.life = 0
        """Grows at each start and crash: what was under way for an earlier life is void."""
        self.paused = False
        self.stopped_for: str | None = None
        self._turn_due = False
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

    def now_us(self) -> int:
        """Return the node's own monotonic clock, whose rate is a little off."""
        return self._clock_base_us + int(self._world.now_us * self._rate)

    def real_us_until_lease_clock(self, stamp_us: int) -> int:
        """Return how much real time passes at least until the leader's lease clock shows `stamp_us`."""
        assert self.driver is not None
        clock = self.driver.clock
        since_us = self.now_us() - (clock.read_us or 0)
        # A longer gap is a stall, which the lease clock leaves out (L7).
        ahead_us = stamp_us - clock.stamp_us - (since_us if since_us <= STALL_US else 0)
        return int(ahead_us / self._rate)

    @property
    def durable_index(self) -> int:
        """Return up to which index this node's disk has the log; of one that is down, what it had."""
        if self.driver is not None:
            self._durable_index = self.driver.raft.state.durable_index
        return self._durable_index

    # life

    def open(self) -> NodeStore:
        """Open (and format, the first time) the data directory."""
        self.store = open_store(
            self.disk,
            node_id=self.node_id,
            segment_size=self._config.segment_size,
            incarnation=f"{self._rng.getrandbits(128):032x}",
            open_audit=lambda: self.audit_disk,
            audit_rule=AUDIT_RULE,
        )
        return self.store

    def start(self) -> None:
        """Start the process on what the disk holds."""
        self.life += 1
        self.paused = False
        store = self.open()
        self._runner = JobRunner(store.store)
        self._jobs.clear()
        self._job_running = False
        self.driver = store.make_driver(self._config, now_us=self.now_us(), rng=self._rng)
        assert store.audit is not None
        self._audit_runner = AuditRunner(store.audit)
        self._audit_jobs.clear()
        self._audit_job_running = False
        self._world.note(f"n{self.node_id} starts applied={self.driver.applied_index}")
        self.wake()

    def crash(self) -> None:
        """Kill the process and cut the power of its disk: what was not synced may be gone."""
        self._world.note(f"n{self.node_id} crashes")
        self.life += 1
        # Looked at once more while the process is there.
        self._durable_index = self.durable_index
        self.driver = None
        self.paused = False
        self._turn_due = False
        self.disk.crash()
        self.audit_disk.crash()
        self._postponed.clear()
        self._on_crash(self)

    def pause(self) -> None:
        """Stop the process as SIGSTOP does: input waits, time goes on."""
        self._world.note(f"n{self.node_id} pauses")
        self.paused = True

    def resume(self) -> None:
        """Let it go on."""
        self._world.note(f"n{self.node_id} resumes")
        self.paused = False
        postponed, self._postponed = self._postponed, []
        for action in postponed:
            action()
        self.wake()

    def when_running(self, action: Callable[[], None]) -> None:
        """Do something to the process now, or when it is resumed; never in another life."""
        life = self.life

        def act() -> None:
            if self.driver is not None and self.life == life:
                action()

        if self.paused:
            self._postponed.append(act)
        else:
            act()

    # turns

    def wake(self) -> None:
        """Let a turn happen soon."""
        if self._turn_due or self.driver is None:
            return
        self._turn_due = True
        life = self.life
        # The loop reads what is ready before it takes the turn: a few tens of microseconds.
        self._world.after(self._world.rng.randint(5, 60), lambda: self._turn(life))

    def _turn(self, life: int) -> None:
        if self.life != life or self.driver is None:
            return
        self._turn_due = False
        if self.paused:
            return
        effects = self.driver.turn(self.now_us(), self.wall_offset_us + self._world.now_us)
        for notice in effects.notices:
            self._world.note(f"n{self.node_id} {notice.event} {notice.fields}")
        self._jobs.extend(effects.jobs)
        self._run_next_job()
        self._audit_jobs.extend(effects.audit_jobs)
        self._run_next_audit_job()
        self._carry_out(self, effects)
        self._wake_token += 1
        token = self._wake_token
        delay_us = max(1, int((effects.wake_us - self.now_us()) / self._rate))

        def wake_if_idle() -> None:
            if token == self._wake_token and self.life == life:
                self.wake()

        self._world.after(delay_us, wake_if_idle)

    # disk

    def _run_next_job(self) -> None:
        if self._job_running or not self._jobs or self.driver is None:
            return
        self._job_running = True
        job = self._jobs.popleft()
        life = self.life
        low, high = (80, 400) if isinstance(job, WriteJob) else (50, 2_000)
        self._world.after(self._world.delay_us(low, high), lambda: self._do(job, life))

    def _do(self, job: Job, life: int) -> None:
        if self.life != life or self._runner is None:
            return
        try:
            result = self._runner.run(job)
        except CrashPoint:
            self.crash()
            return
        except StorageError as error:
            # A node whose disk fails ends; so it does here (decision 12).
            self.stopped_for = str(error)
            self._world.note(f"n{self.node_id} ends: {error}")
            self.crash()
            return
        self._job_running = False

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
        self._world.after(self._world.delay_us(20, 3_000), lambda: self._do_audit(job, life))

    def _do_audit(self, job: AuditJob, life: int) -> None:
        if self.life != life or self._audit_runner is None:
            return
        try:
            result = self._audit_runner.run(job)
        except CrashPoint:
            self.crash()
            return
        self._audit_job_running = False

        def done(result: Any = result) -> None:
            assert self.driver is not None
            self.driver.audit_job_done(job, result)
            if self.driver.wants_audit_jobs:
                self.wake()

        self.when_running(done)
        self._run_next_audit_job()
