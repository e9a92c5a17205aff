"""One turn of a node: input, consensus, disk, apply, output (architecture.md, "One picture").

The driver owns raft, the table and everything between them, and no socket, thread, file or clock: input comes in by
its methods, time with `turn`, and everything it wants done goes out as Effects. The wiring runs it under uvloop, the
simulator in simulated time.

The order within a turn is a rule: the clock is read after the last input; then what the disk has done, peers, timers,
clients; then due leases, the proposal, the effects of consensus, apply, and the answers.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any

from raftlock.locks import LockTable
from raftlock.raft import Message, Raft, Ready, Role
from raftlock.server import door, peer_codec
from raftlock.server.audit_jobs import AuditJob
from raftlock.server.auditing import Auditing
from raftlock.server.batcher import Batch
from raftlock.server.clients import Clients, goodbye
from raftlock.server.effects import ClientFrame, CloseClient, Effects, Notice, PeerFrame
from raftlock.server.jobs import (
    CompactJob,
    InstallJob,
    Job,
    Loaded,
    PrepareJob,
    ReadChunkJob,
    SaveSnapshotJob,
    SealJob,
    StoreChunkJob,
    WriteJob,
)
from raftlock.server.leading import Leading, read_answer
from raftlock.server.lease_clock import LeaseClock
from raftlock.server.origin import Origin
from raftlock.server.outbox import Outbox
from raftlock.server.snapshots import Snapshots
from raftlock.storage import Prepared
from raftlock.telemetry.counters import Counters
from raftlock_wire import limits
from raftlock_wire.codec import unpack
from raftlock_wire.entry import Entry, EntryKind, SnapshotMeta, Write
from raftlock_wire.errors import BadFrame
from raftlock_wire.ids import NO_NODE, Index, NodeId
from raftlock_wire.invariant import check
from raftlock_wire.membership import Membership
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

APPLY_COMMANDS_MAX = 20_000
"""Commands applied in one turn: a node that catches up must go on answering its leader (decision 17)."""
REQUESTS_MAX = limits.ORDINARY_REQUESTS_MAX + limits.RESERVED_REQUESTS_MAX
SEAL_AFTER_US = 20_000
ROOM_EVERY_US = 1_000_000
"""While the disk is full, whether it still is is tried so often."""
HAND_OVER_EVERY_US = 60_000_000
"""A leader whose disk is full hands over at most so often: where all disks are full, nobody else can do better."""
STAMP_EVERY_US = 500_000
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
        self.table = table
        self.applied_index = applied.index if applied is not None else Index(0)
        self.clock = LeaseClock()
        self._outbox = Outbox()
        self.leading = Leading(self._outbox, counters)
        self.clients = Clients(
            node_id=config.node_id, cluster_id=config.cluster_id, outbox=self._outbox
        )
        self.auditing = Auditing(on=config.audit)
        self.snapshots = Snapshots(
            log_size_max=config.snapshot_log_size, membership=membership, auditing=self.auditing
        )
        self._effects = Effects()
        self._client_input: list[tuple[Origin, bytes]] = []
        self._clients_gone: list[int] = []
        self._peer_input: list[tuple[NodeId, Message | peer_codec.Forwarded]] = []
        self._links_lost: list[NodeId] = []
        self._jobs_done: list[tuple[Job, Any]] = []
        self._audit_jobs_done: list[tuple[AuditJob, Any]] = []
        self._unserved: list[tuple[Origin, bytes]] = []
        self._proposed: dict[Index, Batch] = {}
        self._held: deque[tuple[int, PeerFrame]] = deque()
        self._writes: list[Write] = []
        self._writing_since_us: int | None = None
        self._durable = 0
        self._sealed = True
        self._last_write_us = 0
        self._segment_room = True
        self._room_tried_us = 0
        self._handed_over_us: int | None = None
        self._preparing = False
        self._to_apply: deque[Entry] = deque()
        self._round_confirmed = 0
        self._serving_from: Index | None = None
        self._serving = False
        self._leader_seen = (raft.term, NO_NODE)
        self._heard_us = 0
        self._pages_left = 0
        self._stopping = False

    # input: kept until the turn

    def client_opened(self, conn_id: int, address: str) -> None:
        """Learn of a new client connection. Ids are never used again."""
        self.clients.opened(conn_id, address)

    def client_closed(self, conn_id: int) -> None:
        """Learn that a client connection is gone."""
        origin = self.clients.closed(conn_id)
        if origin is None:
            return
        self.leading.forget(origin)
        self._clients_gone.append(conn_id)

    def client_frame(self, conn_id: int, payload: bytes) -> None:
        """Take a client's frame."""
        origin = self.clients.local.get(conn_id)
        if origin is not None:
            self._client_input.append((origin, payload))

    def peer_frame(self, peer: NodeId, payload: bytes) -> None:
        """Take a frame of a member. Raise BadFrame if it is none: the link is closed."""
        self._peer_input.append((peer, peer_codec.decode(payload)))

    def link_lost(self, peer: NodeId) -> None:
        """Learn that the link from a peer, or ours to it, is closed or reset (decision 18)."""
        self._links_lost.append(peer)

    def job_done(self, job: Job, result: Any) -> None:
        """Take a job back, done. Jobs come back in the order in which they were given."""
        self._jobs_done.append((job, result))

    def audit_job_done(self, job: AuditJob, result: Any) -> None:
        """Take a job of the audit back, done. They come back in the order in which they were given."""
        self._audit_jobs_done.append((job, result))

    # the turn

    @property
    def wants_audit_jobs(self) -> bool:
        """Return whether something waits for the audit: entries to apply, or a snapshot."""
        return bool(self._to_apply) or self.auditing.awaits_checkpoint

    @property
    def is_leader(self) -> bool:
        """Return whether this node leads."""
        return self.raft.role is Role.LEADER

    @property
    def serving(self) -> bool:
        """Return whether this node leads and has applied an entry of its own term (L5)."""
        return self._serving

    @property
    def ready(self) -> bool:
        """Return whether this node serves, or follows a leader that it can pass requests to."""
        return self._serving or (not self.is_leader and self.raft.leader_id != NO_NODE)

    def turn(self, now_us: int, wall_us: int) -> Effects:
        """Handle all input, as of `now_us`: monotonic time read after the last of it. Return what is to be done."""
        self.clock.read(now_us)
        self._pages_left = limits.PAGES_PER_TURN_MAX
        if self.counters is not None:
            self.counters.now_us = now_us
        self._take_jobs(now_us)
        self._take_peers(now_us)
        self.raft.tick(now_us)
        self._consensus(now_us, wall_us)
        stamp_us = self.clock.stamp_us
        self._take_clients(stamp_us, now_us)
        if self._serving:
            self.leading.propose_due(self.table, stamp_us)
        self._propose(wall_us, stamp_us)
        self._consensus(now_us, wall_us)
        self._background(now_us)
        self._effects.audit_jobs += self.auditing.take_jobs(now_us)
        self._outbox.flush(self.raft.leader_id, self._effects)
        effects, self._effects = self._effects, Effects()
        effects.wake_us = self._wake_us(now_us)
        return effects

    def _wake_us(self, now_us: int) -> int:
        if (
            (self._to_apply and self.auditing.has_room)
            or (self.leading.batcher and self._may_propose())
            or self.snapshots.wants_turn
        ):
            return now_us
        wake = self.raft.next_deadline_us
        if self.is_leader:
            wake = min(wake, now_us + TURN_EVERY_US)
        if not self._sealed and self._writing_since_us is None:
            # While a write is under way there is nothing to seal: its end is what wakes the node, and not this time,
            # which may have passed.
            wake = min(wake, self._last_write_us + SEAL_AFTER_US)
        if self.auditing.wake_us is not None:
            wake = min(wake, self.auditing.wake_us)
        return wake

    # disk

    def _take_jobs(self, now_us: int) -> None:
        audit_jobs, self._audit_jobs_done = self._audit_jobs_done, []
        for audit_job, result in audit_jobs:
            for first, last, digest, reason in self.auditing.job_done(audit_job, result):
                if reason:
                    self._notice("audit_gap", first=first, last=last, why=reason)
                else:
                    self._notice("audit_segment", first=first, last=last, digest=digest.hex())
        jobs, self._jobs_done = self._jobs_done, []
        for job, result in jobs:
            match job:
                case WriteJob():
                    self._durable = result.number
                    self._writing_since_us = None
                    self._last_write_us = now_us
                    self._sealed = False
                    self.raft.durable(result.number)
                    # At once, before anything that later jobs of this turn lead to: a snapshot of a newer term must not
                    # be installed before that term is durable.
                    if self._writes:
                        self._start_write(now_us)
                    if not result.spare_is_ready:
                        self._prepare()
                case PrepareJob():
                    self._preparing = False
                    self._room(result is not Prepared.NO_ROOM, now_us)
                    if result is Prepared.MORE and self._writing_since_us is None:
                        self._prepare()
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
        while self._held and self._held[0][0] <= self._durable:
            self._effects.peer_frames.append(self._held.popleft()[1])

    def _prepare(self) -> None:
        """Let a slice of the next segment be preallocated, one at a time between the writes."""
        if not self._preparing:
            self._preparing = True
            self._effects.jobs.append(PrepareJob())

    def _room(self, room: bool, now_us: int) -> None:
        """Learn whether there was room for a part of the next segment."""
        self._room_tried_us = now_us
        if room == self._segment_room:
            return
        self._segment_room = room
        if room:
            self._notice("disk_has_room")
        else:
            self._notice("disk_full")

    def _start_write(self, now_us: int) -> None:
        # One write at a time (decision 10): what comes meanwhile is the next record.
        self._effects.jobs.append(WriteJob(tuple(self._writes)))
        self._writes.clear()
        self._writing_since_us = now_us

    def _installed(self, meta: SnapshotMeta, loaded: Loaded | None) -> None:
        if loaded is None:
            self.raft.snapshot_rejected(meta)
            self._notice("snapshot_refused", index=meta.index)
            return
        self.table = loaded.table
        self.applied_index = meta.index
        self.auditing.installed(meta.index, loaded.audit_state)
        self._to_apply.clear()
        self.snapshots.installed(meta)
        self.raft.snapshot_installed(meta)
        self._notice("snapshot_installed", index=meta.index)

    def _snapshot_saved(self, meta: SnapshotMeta | None) -> None:
        self.snapshots.part_saved()
        if meta is not None:
            self.raft.compact(meta)
            self._effects.jobs.append(CompactJob(meta))
            self._notice("snapshot_saved", index=meta.index, size=meta.size)

    # peers

    def _take_peers(self, now_us: int) -> None:
        lost, self._links_lost = self._links_lost, []
        for peer in lost:
            for origin in self.clients.node_lost(peer):
                self.leading.forget(origin)
            if peer == self.raft.leader_id:
                self.clients.leader_lost()
            self.raft.link_lost(peer, now_us)
        messages, self._peer_input = self._peer_input, []
        for peer, message in messages:
            if not isinstance(message, tuple):
                if peer == self.raft.leader_id:
                    self._heard_us = now_us
                self.raft.step(peer, message, now_us)
                continue
            code, items = message
            if code == peer_codec.FORWARD:
                for conn_id, principal, address, payload in items:
                    self._client_input.append(
                        (self.clients.behind(peer, conn_id, principal, address), payload)
                    )
            elif code == peer_codec.FORWARD_RESULT:
                for conn_id, payload in items:
                    self.clients.result(conn_id, payload)
            elif code == peer_codec.FORWARD_CLOSED:
                for conn_id in items:
                    gone = self.clients.closed_behind(peer, conn_id)
                    if gone is not None:
                        self.leading.forget(gone)

    # clients

    def _take_clients(self, receipt_us: int, now_us: int) -> None:
        if self._serving and self._unserved:
            self._client_input[:0] = self._unserved
            self._unserved = []
        frames, self._client_input = self._client_input, []
        forwarded: list[tuple[int, str, str, bytes]] = []
        unserved_room = limits.UNSERVED_SIZE_MAX - sum(len(held) for _, held in self._unserved)
        for origin, payload in frames:
            held = self.is_leader and not self._serving and (origin.greeted or not origin.local)
            if held and len(payload) <= unserved_room:
                # Nothing that rests on the table is answered before an entry of the own term is applied (L5).
                self._unserved.append((origin, payload))
                unserved_room -= len(payload)
            else:
                self._client_frame(origin, payload, receipt_us, now_us, forwarded)
        leader = self.raft.leader_id
        if forwarded:
            frame = peer_codec.encode_forward(forwarded)
            self._effects.peer_frames.append(PeerFrame(leader, frame))
        if self._clients_gone:
            # After the frames of this turn: a client that asked and closed at once would come to life again on the
            # leader by its late request, and never end there.
            if leader not in (NO_NODE, self.config.node_id):
                frame = peer_codec.encode_forward_closed(self._clients_gone)
                self._effects.peer_frames.append(PeerFrame(leader, frame))
            self._clients_gone = []

    def _client_frame(
        self,
        origin: Origin,
        payload: bytes,
        receipt_us: int,
        now_us: int,
        forwarded: list[tuple[int, str, str, bytes]],
    ) -> None:
        try:
            requests = door.decode_frame(payload)
        except BadFrame as error:
            if self.counters is not None:
                self.counters.refusals["bad_frame"] += 1
            self._close(origin, "bad_frame", str(error))
            return
        if origin.local and not origin.greeted:
            self._greet(origin, requests)
            return
        attached = origin.attached if origin.local else None
        room = limits.ORDINARY_REQUESTS_MAX - self.leading.ordinary
        reason = "queue"
        if not self._segment_room and self._serving:
            room, reason = 0, "disk"
        origin.in_flight += len(requests)
        if self.leading.requests + len(requests) > REQUESTS_MAX:
            self._refuse(origin, [door.overloaded(r, "queue") for r in requests])
            return
        sorted_ = door.sort_out(payload, requests, attached, room, reason)
        if sorted_.others:
            sorted_ = self._without_pages(sorted_)
        if origin.local and not sorted_.plain:
            sorted_ = self._without_excess(origin, sorted_)
        if sorted_.refused:
            self._refuse(origin, sorted_.refused)
        if sorted_.others and origin.local:
            sorted_ = self._answer_here(origin, sorted_, now_us)
        if not sorted_.logged and not sorted_.others:
            return
        if self.config.trace:
            self._trace(origin, requests)
        if self._serving:
            self.leading.admit(self.table, origin, sorted_, receipt_us)
        elif origin.local and self.raft.leader_id not in (NO_NODE, self.config.node_id):
            self.clients.forwarded(origin, sorted_)
            if self.counters is not None:
                self.counters.forwarded += len(sorted_.logged) + len(sorted_.others)
            forwarded.append((origin.conn_id, origin.principal, origin.address, sorted_.passed))
        else:
            why = "no leader is known" if origin.local else "this node does not lead"
            refused = [door.no_quorum(r, why) for r in (*sorted_.logged, *sorted_.others)]
            self._refuse(origin, refused)

    def _trace(self, origin: Origin, requests: tuple[Any, ...]) -> None:
        """Note which way a frame goes: its connection has the same id on the follower and on the leader."""
        leader = self.raft.leader_id
        sent_on = "none" if leader == NO_NODE else str(leader)
        self._notice(
            "request",
            conn=origin.conn_id,
            ids=",".join(str(request[1]) for request in requests[:16]),
            came="client" if origin.local else f"node-{origin.node}",
            goes="log" if self._serving else f"node-{sent_on}",
        )

    def _refuse(self, origin: Origin, answers: list[Any]) -> None:
        if self.counters is not None:
            self.counters.refused(answers)
        self._outbox.answers(origin, answers)

    def _without_excess(self, origin: Origin, sorted_: door.Sorted) -> door.Sorted:
        """Refuse to open more sessions than a connection may carry."""
        refused = self.clients.note_opening(origin, (*sorted_.logged, *sorted_.others))
        return (
            door.without(sorted_, {answer[0] for answer in refused}, refused)
            if refused
            else sorted_
        )

    def _without_pages(self, sorted_: door.Sorted) -> door.Sorted:
        """Refuse pages beyond what one turn may answer: 20 bytes ask for a megabyte."""
        lists = [request for request in sorted_.others if request[0] == Op.LIST]
        excess = lists[self._pages_left :]
        self._pages_left -= len(lists) - len(excess)
        if not excess:
            return sorted_
        refused = [door.overloaded(request, "queue") for request in excess]
        return door.without(sorted_, {request[1] for request in excess}, refused)

    def _answer_here(self, origin: Origin, sorted_: door.Sorted, now_us: int) -> door.Sorted:
        """Answer what any node answers by itself: a second hello, the node's status, stale reads."""
        answers: list[Any] = []
        for request in sorted_.others:
            code = request[0]
            if code == Op.HELLO:
                answers.append(
                    (
                        request[1],
                        int(Status.BAD_REQUEST),
                        False,
                        "request",
                        "HELLO was answered already",
                    )
                )
            elif code == Op.NODE_STATUS:
                answers.append((request[1], int(Status.OK), True, self.status()))
            elif (code == Op.GET and request[3]) or (code == Op.LIST and request[6]):
                age_ms = 0 if self._serving else max(0, (now_us - self._heard_us) // 1_000)
                answers.append(
                    read_answer(self.table, request, age_ms=age_ms, leases=None, now_us=now_us)
                )
        if not answers:
            return sorted_
        if self.counters is not None:
            codes = {request[1]: request[0] for request in sorted_.others}
            for answer in answers:
                if codes[answer[0]] != Op.HELLO:
                    self.counters.operation(codes[answer[0]], answer[1])
        self._outbox.answers(origin, answers)
        return door.without(sorted_, {answer[0] for answer in answers}, [])

    def _greet(self, origin: Origin, requests: tuple[Any, ...]) -> None:
        answer = self.clients.hello(origin, requests, self.raft.membership)
        origin.in_flight += 1
        self._outbox.answers(origin, [answer])
        if not origin.greeted:
            self._close(origin, "hello", f"the hello was refused: {answer[3:]}")

    def _close(self, origin: Origin, code: str, text: str) -> None:
        if origin.local:
            self._outbox.flush(self.raft.leader_id, self._effects)
            self._effects.client_frames.append(ClientFrame(origin.conn_id, goodbye(code, text)))
            self._effects.client_closes.append(CloseClient(origin.conn_id))
            if code != "stopping":
                self._notice("client_refused", address=origin.address, why=text)
            self.client_closed(origin.conn_id)

    # consensus

    def _may_propose(self) -> bool:
        # While the log is being written the next batch gathers by itself (decision 1).
        return (
            self.is_leader
            and self._serving_from is not None
            and self._writing_since_us is None
            and not self.raft.transferring
        )

    def _propose(self, wall_us: int, stamp_us: int) -> None:
        if self._serving and self.leading.reads.wants_round:
            number = self.raft.start_round()
            self.leading.reads.round_begins(number)
            if self.counters is not None:
                self.counters.round_began(number)
        if not self._may_propose():
            return
        if self.leading.batcher:
            batch = self.leading.batcher.take()
            index = self._append(batch.data, wall_us, stamp_us)
            self._proposed[index] = batch
            if self.counters is not None:
                requests = sum(len(group.requests) - 2 for group in batch.groups)
                self.counters.proposed(index, requests, len(batch.data))
        elif self.table.needs_clock and stamp_us - self.raft.last_stamp_us >= STAMP_EVERY_US:
            self._append(b"\x90", wall_us, stamp_us)

    def _append(self, data: bytes, wall_us: int, stamp_us: int) -> Index:
        return self.raft.propose(
            EntryKind.BATCH,
            data,
            stamp_us=stamp_us,
            wall_us=max(wall_us, self.raft.last_wall_us),
        )

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
            self._apply()
            if not ready.elected:
                break
        if self._round_confirmed and not self._to_apply and self._serving:
            self.leading.confirmed(self.table, self._round_confirmed, self.clock.stamp_us)

    def _elected(self, wall_us: int) -> None:
        # A new leader continues the lease clock from the highest stamp in its log, not the highest applied (L7), and
        # counts leases from this moment: it has its majority now (L5).
        stamp_us = self.clock.continue_from(self.raft.last_stamp_us)
        self.leading.begin(stamp_us)
        self._serving_from = self.raft.begin_term(
            stamp_us=stamp_us,
            wall_us=max(wall_us, self.raft.last_wall_us),
        )
        if not self.table.initialised:
            ttl_ms = self.config.logged_renewal_ttl_ms
            self.leading.batcher.command((int(Op.GENESIS), 0, wall_us, ttl_ms))
        self._notice("elected", term=self.raft.term)

    def _stepped_down(self) -> None:
        self.leading.end(list(self._proposed.values()))
        # Followers tell their next leader of connections that close: here nobody would ever forget them.
        self.clients.remote.clear()
        self._proposed.clear()
        self._serving = False
        self._serving_from = None
        self._round_confirmed = 0
        self._client_input = self._unserved + self._client_input
        self._unserved = []
        self._notice("stepped_down", term=self.raft.term)

    def _leader_changed(self) -> None:
        seen = (self.raft.term, self.raft.leader_id)
        if seen == self._leader_seen:
            return
        if seen[1] != self._leader_seen[1] or seen[1] == NO_NODE:
            self.clients.leader_lost()
        if seen[1] != NO_NODE:
            self._notice("leader", term=seen[0], leader=seen[1])
        self._leader_seen = seen

    def _carry_out(self, ready: Ready, now_us: int) -> None:
        if ready.write is not None:
            self._writes.append(ready.write)
            if self._writing_since_us is None:
                self._start_write(now_us)
        for to, message, after_write in ready.messages:
            frame = PeerFrame(to, peer_codec.encode(message))
            if after_write <= self._durable:
                self._effects.peer_frames.append(frame)
            else:
                self._held.append((after_write, frame))
        if ready.round_confirmed:
            self._round_confirmed = max(self._round_confirmed, ready.round_confirmed)
        for peer, meta, offset, size in ready.snapshot_wanted:
            self._effects.jobs.append(ReadChunkJob(peer, meta, offset, size))
        for meta, offset, data, done, number in ready.snapshot_chunks:
            self._effects.jobs.append(StoreChunkJob(number, meta, offset, data, done))
        self._to_apply.extend(ready.committed)

    # apply

    def _apply(self) -> None:
        commands = 0
        while self._to_apply and commands < APPLY_COMMANDS_MAX and self.auditing.has_room:
            entry = self._to_apply.popleft()
            check(entry.index == self.applied_index + 1, "entries are applied in order, each once")
            batch = self._proposed.pop(entry.index, None)
            if batch is not None:
                groups: tuple[Any, ...] = tuple([group.requests for group in batch.groups])
            elif entry.kind is EntryKind.BATCH:
                groups = unpack(entry.data, array_count_max=1 << 24)
            else:
                groups = ()
            version = self.table.version
            applied = self.table.apply(entry.index, entry.stamp_us, entry.wall_us, groups)
            self.applied_index = entry.index
            self.snapshots.applied(entry)
            count = sum(map(len, groups)) - 2 * len(groups)
            encoded = self.auditing.applied(entry, applied, commands=count, version=version)
            commands += count + 1
            if self.counters is not None:
                self.counters.applied(entry.index)
            if self._serving:
                self.leading.applied(self.table, batch, applied, encoded, self.clock.stamp_us)
            elif entry.index == self._serving_from:
                self._serving = True
                self.leading.leases.start_arming(self.table)
                self._notice("serving", term=self.raft.term)

    # background

    def _background(self, now_us: int) -> None:
        if self._serving:
            self.leading.leases.arm_slice()
            self.leading.leases.tidy()
        self._guard_disk(now_us)
        if (
            not self._sealed
            and self._writing_since_us is None
            and now_us - self._last_write_us >= SEAL_AFTER_US
        ):
            self._sealed = True
            self._effects.jobs.append(SealJob())
            self._prepare()
            self.table.merge_index(limits.STEPS_PER_COMMAND_MAX)
        job = self.snapshots.next_part(self.table, self.applied_index)
        if job is not None:
            self._effects.jobs.append(job)

    def _guard_disk(self, now_us: int) -> None:
        """Hand leadership over when the disk is full or does not answer (decision 17)."""
        if not self._segment_room and now_us - self._room_tried_us >= ROOM_EVERY_US:
            self._prepare()
        if not self.is_leader or self.raft.transferring:
            return
        since = self._writing_since_us
        # Where every disk is that slow a hand-over only costs an election, again and again: another one must be faster.
        if since is not None and now_us - since > self.config.stall_us and self.raft.disk_lags:
            self.hand_over(now_us)
        elif not self._segment_room and (
            self._handed_over_us is None or now_us - self._handed_over_us >= HAND_OVER_EVERY_US
        ):
            self._handed_over_us = now_us
            self.hand_over(now_us)

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
            self._close(origin, "stopping", "this node is being stopped")
        self.auditing.show()

    # for people

    def status(self) -> dict[str, int | str | bool]:
        """Return the answer to NODE_STATUS."""
        raft = self.raft
        member = raft.membership.get(self.config.node_id)
        return {
            "id": self.config.node_id,
            "pid": self.config.pid,
            "role": raft.role.name.lower(),
            "term": raft.term,
            "leader": raft.leader_id,
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

    def queue_lengths(self) -> dict[str, int]:
        """Return how much waits where: every queue of the core by name."""
        return {
            **self.leading.queue_lengths(),
            "unserved_frames": len(self._unserved),
            "entries_to_apply": len(self._to_apply),
            "writes": len(self._writes),
            "messages_held_for_disk": len(self._held),
            "entries_proposed": len(self._proposed),
        }

    @property
    def segment_room(self) -> bool:
        """Return whether the next segment of the log can be preallocated (decision 12)."""
        return self._segment_room

    def _notice(self, event: str, **fields: int | str) -> None:
        self._effects.notices.append(Notice(event, fields))
