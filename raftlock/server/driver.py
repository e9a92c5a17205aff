"""One turn of a node: input, consensus, disk, apply, output (architecture.md, "One picture").

The driver owns raft and what joins it to the table, and no socket, thread, file or clock: input comes in by its methods,
time with `turn`, and everything it wants done goes out as Effects. The wiring runs it under uvloop, the simulator in
simulated time.

The order within a turn is a rule: the clock is read after the last input; then what the disk has done, peers, timers,
clients; then due leases, the proposal, the effects of consensus, apply, and the answers. The driver keeps that order and
hands each thing to the part that owns it: `Front` the clients, `Writing` the disk, `Proposals` what a leader asks of
raft, `Applying` the table, `Leading` the leases and answers.
"""

from dataclasses import dataclass
from typing import Any

from raftlock.locks import LockTable
from raftlock.raft import Message, Raft, Ready, Role
from raftlock.server import peer_codec
from raftlock.server.applying import Applying
from raftlock.server.audit_jobs import AuditJob
from raftlock.server.auditing import Auditing
from raftlock.server.clients import Clients
from raftlock.server.effects import Effects, PeerFrame
from raftlock.server.front import Front
from raftlock.server.jobs import (
    CompactJob,
    InstallJob,
    Job,
    Loaded,
    PrepareJob,
    ReadChunkJob,
    SaveSnapshotJob,
    StoreChunkJob,
    WriteJob,
)
from raftlock.server.leading import Leading
from raftlock.server.lease_clock import LeaseClock
from raftlock.server.members import Members
from raftlock.server.outbox import Outbox
from raftlock.server.proposals import Proposals
from raftlock.server.removal import Removal
from raftlock.server.snapshots import Snapshots
from raftlock.server.versions import MemberVersions
from raftlock.server.writing import Writing
from raftlock.telemetry.counters import Counters
from raftlock_wire import limits
from raftlock_wire.entry import SnapshotMeta
from raftlock_wire.ids import NO_NODE, Index, NodeId
from raftlock_wire.membership import Membership
from raftlock_wire.messages import Op

ROLES = (*(role.name.lower() for role in Role), "learner", "removed")
"""What a node is, in words: its role in consensus, or why it has none."""
HAND_OVER_EVERY_US = 60_000_000
"""A leader whose disk is full hands over at most so often: where all disks are full, nobody else can do better."""
TURN_EVERY_US = 15_000
"""A leader's turns are never further apart by choice, so that a longer gap on the lease clock is a stall (L7)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverConfig:
    """What a driver must know of its node."""

    node_id: NodeId
    cluster_id: str
    logged_renewal_ttl_ms: int
    stall_us: int
    """A write of the log that takes longer makes a leader hand over (decision 17): an election timeout."""
    incarnation: str = ""
    """Of this node's directory, to know itself in a membership."""
    snapshot_log_size: int = 256 << 20
    audit: bool = False
    pid: int = 0
    trace: bool = False
    """Whether every frame of requests is noted, for a log at debug level."""


class Driver:
    """A node's core: raft, the lock table, and what joins them."""

    def __init__(
        self,
        *,
        config: DriverConfig,
        raft: Raft,
        table: LockTable,
        applied: SnapshotMeta | None,
        membership: Membership,
        counters: Counters | None = None,
    ) -> None:
        self.config = config
        self.counters = counters
        """None: nothing is counted."""
        self.raft = raft
        self.clock = LeaseClock()
        self._effects = Effects()
        self._outbox = Outbox()
        self.leading = Leading(self._outbox, counters)
        self.clients = Clients(
            node_id=config.node_id, cluster_id=config.cluster_id, outbox=self._outbox
        )
        self.auditing = Auditing(on=config.audit)
        self.snapshots = Snapshots(
            log_size_max=config.snapshot_log_size, membership=membership, auditing=self.auditing
        )
        self.versions = MemberVersions(node_id=config.node_id, version_max=max(table.versions))
        self.writing = Writing(self._effects)
        self.proposals = Proposals(
            raft=raft, leading=self.leading, writing=self.writing, counters=counters
        )
        self.members = Members(
            node_id=config.node_id,
            incarnation=config.incarnation,
            cluster_id=config.cluster_id,
            raft=raft,
            leading=self.leading,
            effects=self._effects,
        )
        self.applying = Applying(
            table=table,
            applied_index=applied.index if applied is not None else Index(0),
            proposals=self.proposals,
            leading=self.leading,
            members=self.members,
            snapshots=self.snapshots,
            auditing=self.auditing,
            effects=self._effects,
            counters=counters,
        )
        self.front = Front(
            node_id=config.node_id,
            raft=raft,
            writing=self.writing,
            leading=self.leading,
            clients=self.clients,
            outbox=self._outbox,
            effects=self._effects,
            counters=counters,
            status=self.status,
            trace=config.trace,
        )
        self._peer_input: list[tuple[NodeId, Message | peer_codec.Forwarded]] = []
        self._links_lost: list[NodeId] = []
        self._jobs_done: list[tuple[Job, Any]] = []
        self._audit_jobs_done: list[tuple[AuditJob, Any]] = []
        self._round_confirmed = 0
        self._leader_seen = (raft.term, NO_NODE)
        self._handed_over_us: int | None = None
        self.removal = Removal(raft=raft, effects=self._effects, incarnation=config.incarnation)

    # input: kept until the turn

    def client_opened(self, conn_id: int, address: str) -> None:
        """Learn of a new client connection. Ids are never used again."""
        self.clients.opened(conn_id, address)

    def client_closed(self, conn_id: int) -> None:
        """Learn that a client connection is gone."""
        self.front.closed(conn_id)

    def client_frame(self, conn_id: int, payload: bytes) -> None:
        """Take a client's frame."""
        self.front.frame(conn_id, payload)

    def peer_frame(self, peer: NodeId, payload: bytes) -> None:
        """Take a frame of a member. Raise BadFrame if it is none: the link is closed."""
        self._peer_input.append((peer, peer_codec.decode(payload)))

    def link_lost(self, peer: NodeId) -> None:
        """Learn that the link from a peer, or ours to it, is closed or reset (decision 18)."""
        self.versions.lost(peer)
        self._links_lost.append(peer)

    def job_done(self, job: Job, result: Any) -> None:
        """Take a job back, done. Jobs come back in the order in which they were given."""
        self._jobs_done.append((job, result))

    def audit_job_done(self, job: AuditJob, result: Any) -> None:
        """Take a job of the audit back, done. They come back in the order in which they were given."""
        self._audit_jobs_done.append((job, result))

    # what others ask

    @property
    def table(self) -> LockTable:
        """Return the lock table, as of `applied_index`."""
        return self.applying.table

    @property
    def applied_index(self) -> Index:
        """Return the index of the last entry that is applied."""
        return self.applying.applied_index

    @property
    def wants_audit_jobs(self) -> bool:
        """Return whether something waits for the audit: entries to apply, or a snapshot."""
        return len(self.applying) > 0 or self.auditing.awaits_checkpoint

    @property
    def is_leader(self) -> bool:
        """Return whether this node leads."""
        return self.raft.role is Role.LEADER

    @property
    def serving(self) -> bool:
        """Return whether this node leads and has applied an entry of its own term (L5)."""
        return self.leading.serving

    @property
    def ready(self) -> bool:
        """Return whether this node serves, or follows a leader that it can pass requests to."""
        follows = not self.is_leader and self.raft.leader_id != NO_NODE and not self.removal.known
        return self.serving or follows

    # the turn

    def turn(self, now_us: int, wall_us: int) -> Effects:
        """Handle all input, as of `now_us`: monotonic time read after the last of it. Return what is to be done."""
        self.clock.read(now_us)
        if self.counters is not None:
            self.counters.now_us = now_us
        self._take_audit_jobs()
        self._take_jobs(now_us)
        self._take_peers(now_us)
        self.raft.tick(now_us)
        self._consensus(now_us, wall_us)
        stamp_us = self.clock.stamp_us
        self.front.turn(self.table, stamp_us, now_us)
        if self.leading.serving:
            self.leading.propose_due(self.table, stamp_us, self.front.handled_until_us(stamp_us))
            self._raise_version()
        self.members.turn(stamp_us=stamp_us, wall_us=wall_us)
        self.proposals.propose(self.table, stamp_us=stamp_us, wall_us=wall_us)
        self._consensus(now_us, wall_us)
        self._background(now_us)
        self._effects.audit_jobs += self.auditing.take_jobs(now_us)
        self._outbox.flush(self.raft.leader_id, self._effects)
        return self._effects.take(self._wake_us(now_us))

    def _wake_us(self, now_us: int) -> int:
        parts = (self.front, self.applying, self.proposals, self.members, self.snapshots)
        if any(part.wants_turn for part in parts):
            return now_us
        wake = self.raft.next_deadline_us
        if self.is_leader:
            wake = min(wake, now_us + TURN_EVERY_US)
        if self.writing.wake_us is not None:
            wake = min(wake, self.writing.wake_us)
        if self.auditing.wake_us is not None:
            wake = min(wake, self.auditing.wake_us)
        return wake

    # what was done for this node

    def _take_audit_jobs(self) -> None:
        jobs, self._audit_jobs_done = self._audit_jobs_done, []
        for job, result in jobs:
            for first, last, digest, reason in self.auditing.job_done(job, result):
                if reason:
                    self._effects.notice("audit_gap", first=first, last=last, why=reason)
                else:
                    self._effects.notice(
                        "audit_segment", first=first, last=last, digest=digest.hex()
                    )

    def _take_jobs(self, now_us: int) -> None:
        jobs, self._jobs_done = self._jobs_done, []
        for job, result in jobs:
            match job:
                case WriteJob():
                    self.raft.durable(result.number)
                    self.writing.written(result, now_us)
                case PrepareJob():
                    self.writing.prepared(result, now_us)
                case StoreChunkJob(number, meta, _, _, done):
                    if done:
                        self._effects.jobs.append(InstallJob(meta))
                    else:
                        self.raft.chunk_stored(number)
                case ReadChunkJob(peer, meta, offset, _):
                    if result is None:
                        self.raft.snapshot_unavailable(peer)
                    else:
                        done = offset + len(result) >= meta.size
                        self.raft.send_snapshot_chunk(peer, meta, offset, result, done)
                case InstallJob(meta):
                    self._installed(meta, result)
                case SaveSnapshotJob():
                    self._snapshot_saved(result)
                case _:
                    pass
        self.writing.let_go()

    def _installed(self, meta: SnapshotMeta, loaded: Loaded | None) -> None:
        if loaded is None:
            self.raft.snapshot_rejected(meta)
            self._effects.notice("snapshot_refused", index=meta.index)
            return
        self.applying.installed(loaded.table, meta.index)
        self.auditing.installed(meta.index, loaded.audit_state)
        self.snapshots.installed(meta)
        self.raft.snapshot_installed(meta)
        self._effects.notice("snapshot_installed", index=meta.index)

    def _snapshot_saved(self, meta: SnapshotMeta | None) -> None:
        self.snapshots.part_saved()
        if meta is not None:
            self.raft.compact(meta)
            self._effects.jobs.append(CompactJob(meta))
            self._effects.notice("snapshot_saved", index=meta.index, size=meta.size)

    # peers

    def _take_peers(self, now_us: int) -> None:
        lost, self._links_lost = self._links_lost, []
        for peer in lost:
            self.front.peer_lost(peer)
            self.raft.link_lost(peer, now_us)
        messages, self._peer_input = self._peer_input, []
        for peer, message in messages:
            if isinstance(message, tuple):
                self.front.forwarded(peer, message)
                continue
            if peer == self.raft.leader_id:
                self.front.heard_us = now_us
            self.raft.step(peer, message, now_us)

    # consensus

    def _consensus(self, now_us: int, wall_us: int) -> None:
        """Carry out what raft is ready for, and again while that makes it ready for more."""
        while True:
            ready = self.raft.ready()
            if ready.stepped_down:
                self._stepped_down()
            if ready.elected:
                self._elected(wall_us)
            self._carry_out(ready, now_us)
            self._leader_changed()
            self.applying.apply(self.clock.stamp_us)
            if not ready.elected:
                break
        if self._round_confirmed and not len(self.applying) and self.leading.serving:
            self.leading.confirmed(self.table, self._round_confirmed, self.clock.stamp_us)

    def _elected(self, wall_us: int) -> None:
        # A new leader continues the lease clock from the highest stamp in its log, not the highest applied (L7), and
        # counts leases from this moment: it has its majority now (L5).
        stamp_us = self.clock.continue_from(self.raft.last_stamp_us)
        self.leading.begin(stamp_us)
        self.versions.begin()
        self.leading.serves_from = self.raft.begin_term(
            stamp_us=stamp_us,
            wall_us=max(wall_us, self.raft.last_wall_us),
        )
        if not self.table.initialised:
            ttl_ms = self.config.logged_renewal_ttl_ms
            self.leading.batcher.command((int(Op.GENESIS), 0, wall_us, ttl_ms))
        self._effects.notice("elected", term=self.raft.term)

    def _raise_version(self) -> None:
        """Propose the state machine's next version when every member has said that it supports it (decision 7)."""
        members = (member.node_id for member in self.raft.membership.members)
        version = self.versions.to_raise(members, self.table.version)
        if version:
            self.leading.batcher.command((int(Op.SET_VERSION), 0, version))
            self._effects.notice("version_proposed", version=version)

    def _stepped_down(self) -> None:
        self.members.end()
        self.leading.end(self.proposals.end())
        self.front.stepped_down()
        self._round_confirmed = 0
        self._effects.notice("stepped_down", term=self.raft.term)

    def _leader_changed(self) -> None:
        seen = (self.raft.term, self.raft.leader_id)
        if seen == self._leader_seen:
            return
        if seen[1] != self._leader_seen[1] or seen[1] == NO_NODE:
            self.clients.leader_lost()
        if seen[1] != NO_NODE:
            self._effects.notice("leader", term=seen[0], leader=seen[1])
        self._leader_seen = seen

    def _carry_out(self, ready: Ready, now_us: int) -> None:
        if ready.write is not None:
            self.writing.write(ready.write, now_us)
        for to, message, after_write in ready.messages:
            self.writing.send(PeerFrame(to, peer_codec.encode(message)), after_write)
        if ready.round_confirmed:
            self._round_confirmed = max(self._round_confirmed, ready.round_confirmed)
        for peer, meta, offset, size in ready.snapshot_wanted:
            self._effects.jobs.append(ReadChunkJob(peer, meta, offset, size))
        for meta, offset, data, done, number in ready.snapshot_chunks:
            self._effects.jobs.append(StoreChunkJob(number, meta, offset, data, done))
        self.applying.committed(ready.committed)

    # background

    def _background(self, now_us: int) -> None:
        if self.leading.serving:
            self.leading.leases.arm_slice()
            self.leading.leases.tidy()
        self.table.settle()
        self._guard_disk(now_us)
        if self.writing.seal(now_us):
            self.table.merge_index(limits.STEPS_PER_COMMAND_MAX)
        job = self.snapshots.next_part(self.table, self.applied_index)
        if job is not None:
            self._effects.jobs.append(job)

    def _guard_disk(self, now_us: int) -> None:
        """Hand leadership over when the disk is full or does not answer (decision 17)."""
        self.writing.try_room(now_us)
        if not self.is_leader or self.raft.transferring:
            return
        since, last_us = self.writing.since_us, self._handed_over_us
        # Where every disk is that slow a hand-over only costs an election, again and again: another one must be faster.
        if since is not None and now_us - since > self.config.stall_us and self.raft.disk_lags:
            self.hand_over(now_us)
        elif not self.writing.room and (last_us is None or now_us - last_us >= HAND_OVER_EVERY_US):
            self._handed_over_us = now_us
            self.hand_over(now_us)

    # the end

    def hand_over(self, now_us: int) -> bool:
        """Begin to transfer leadership to the member that is furthest. Return whether there is one to try."""
        target = self.raft.transfer_target()
        if not self.is_leader or target == NO_NODE:
            return False
        self.raft.transfer(target, now_us)
        return True

    def stop(self) -> None:
        """Tell every client that this node goes away."""
        for origin in list(self.clients.local.values()):
            self.front.close(origin, "stopping", "this node is being stopped")
        self.auditing.show()

    # for people

    def status(self) -> dict[str, int | str | bool]:
        """Return the answer to NODE_STATUS."""
        raft = self.raft
        member = raft.membership.get(self.config.node_id)
        return {
            "id": self.config.node_id,
            "pid": self.config.pid,
            "role": self.role,
            "term": raft.term,
            "leader": NO_NODE if self.removal.known else raft.leader_id,
            "commit_index": raft.commit_index,
            "applied_index": self.applied_index,
            "address": member.client_address if member is not None else "",
            "healthy": self.ready,
            "cluster_id": self.config.cluster_id,
            "locks": self.table.lock_count,
            "waiters": self.table.waiter_count,
            "sessions": self.table.session_count,
            "longest_gap_us": self.clock.longest_gap_us,
        }

    @property
    def role(self) -> str:
        """Return what this node is, in a word."""
        if self.removal.known:
            return "removed"
        raft = self.raft
        if raft.role is Role.FOLLOWER and not raft.state.is_voter:
            return "learner"
        return raft.role.name.lower()

    def queue_lengths(self) -> dict[str, int]:
        """Return how much waits where: every queue of the core by name."""
        return {
            **self.leading.queue_lengths(),
            **self.front.queue_lengths(),
            "entries_to_apply": len(self.applying),
            **self.writing.queue_lengths(),
            "entries_proposed": len(self.proposals),
        }
