"""`python -m bench micro`: processor time an operation takes in each stage of the hot path, without network and disk.

One process runs the real code of each stage on the same frames, many rounds long; the least of all rounds counts,
since noise only adds. Stages of the leader and of a follower are told apart; the sum is what three nodes spend.
"""

import argparse
import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.report import add_common, count, machine_line, table, write
from raftlock.audit import AuditLog
from raftlock.locks import Applied, LockTable
from raftlock.raft.messages import AppendEntries
from raftlock.server import peer_codec
from raftlock.server.audit_jobs import AuditRunner
from raftlock.server.auditing import Auditing
from raftlock.server.batcher import Batch, Batcher
from raftlock.server.door import Sorted, decode_frame, sort_out
from raftlock.server.effects import Effects
from raftlock.server.leases import Leases
from raftlock.server.origin import Origin
from raftlock.server.outbox import Outbox
from raftlock.server.timers import Timers
from raftlock.storage.records import encode_entries, encode_record
from raftlock_wire.codec import pack, unpack
from raftlock_wire.entry import Entry, EntryKind
from raftlock_wire.ids import Index, NodeId, Term
from raftlock_wire.messages import Op

HELP = "microseconds an operation of each stage on the hot path"
ORDINARY_ROOM = 1 << 20
TTL_MS = 10_000
LEADER, FOLLOWER = "leader", "follower"
AUDIT_THREAD = "audit thread, both kinds"
AUDIT_ROUNDS = 20
"""The audit thread is timed over so many rounds: a block of its file holds several turns."""


class Stages:
    """The least time that each stage took for one operation, and on which node it runs."""

    def __init__(self) -> None:
        self.least_us: dict[tuple[str, str], float] = {}

    def time(self, node: str, name: str, operations: int, work: Callable[[], Any]) -> Any:
        """Do the work, and keep its time if it is the least so far."""
        began = time.thread_time_ns()
        result = work()
        each_us = (time.thread_time_ns() - began) / 1e3 / operations
        key = (node, name)
        self.least_us[key] = min(each_us, self.least_us.get(key, each_us))
        return result


class Memory:
    """An AuditDisk in memory, which copies what is written and nothing else."""

    def __init__(self) -> None:
        self._files: dict[str, bytearray] = {}

    def list(self) -> list[str]:
        """See AuditDisk."""
        return sorted(self._files)

    def create(self, name: str) -> None:
        """See AuditDisk."""
        self._files[name] = bytearray()

    def pwrite(self, name: str, offset: int, data: bytes) -> None:
        """See AuditDisk."""
        content = self._files[name]
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data

    def pread(self, name: str, offset: int, size: int) -> bytes:
        """See AuditDisk."""
        return bytes(self._files[name][offset : offset + size])

    def size(self, name: str) -> int:
        """See AuditDisk."""
        return len(self._files[name])

    def fdatasync(self, name: str) -> None:
        """See AuditDisk."""

    def fsync_dir(self) -> None:
        """See AuditDisk."""

    def rename(self, source: str, target: str) -> None:
        """See AuditDisk."""
        self._files[target] = self._files.pop(source)

    def unlink(self, name: str) -> None:
        """See AuditDisk."""
        del self._files[name]

    def close(self) -> None:
        """See AuditDisk."""


class Audit:
    """The audit of one node: what its turn does of it, and what its thread does."""

    def __init__(self, first: int) -> None:
        self.auditing = Auditing(on=True)
        log = AuditLog(Memory(), cluster_id="0" * 32, keep=None)
        log.recover(snapshot_index=first - 1, state=None)
        self._runner = AuditRunner(log)

    def run(self) -> None:
        """Do what has gathered, as the audit thread does."""
        self.auditing.show()
        for job in self.auditing.take_jobs(0):
            self.auditing.job_done(job, self._runner.run(job))


class Bench:
    """A leader's and a follower's state, driven with the frames of some connections."""

    def __init__(self, connections: int, depth: int) -> None:
        self.stages = Stages()
        self.leader, self.follower = LockTable(), LockTable()
        self.leases = Leases()
        self.outbox = Outbox()
        self.batcher = Batcher()
        self.origins = [
            Origin(node=NodeId(0), conn_id=c, principal="", address=f"10.0.0.1:{50_000 + c}")
            for c in range(connections)
        ]
        self.depth = depth
        self.operations = connections * depth
        self.index = 0
        self.n = 0
        opening = [(int(Op.GENESIS), 0, 1 << 50, 60_000)]
        for table_ in (self.leader, self.follower):
            table_.apply(1, 1, 1, [("", "", *opening)])
            for c in range(connections):
                request = (int(Op.OPEN_SESSION), 1, c.to_bytes(16, "big"), 60_000)
                table_.apply(2 + c, 1, 1, [("", "", request)])
            self.index = 1 + connections
        self.audits = [Audit(self.index + 1), Audit(self.index + 1)]
        for c, origin in enumerate(self.origins):
            origin.attached.add(c + 1)

    def acquire_frames(self) -> list[bytes]:
        """Return a frame a connection, of acquires, as a client sends them."""
        self.n += 1
        return [
            pack([
                (int(Op.ACQUIRE), s + 1, c + 1, s, self.n, f"bench:ab12cd:{c}:{s}", "bench", TTL_MS, 0, None)
                for s in range(self.depth)
            ])
            for c in range(len(self.origins))
        ]  # fmt: skip

    def release_frames(self, answers: list[list[tuple[Any, ...]]]) -> list[bytes]:
        """Return a frame a connection that releases what was granted."""
        return [
            pack([
                (int(Op.RELEASE), s + 1, f"bench:ab12cd:{c}:{s}", answer[4])
                for s, answer in enumerate(granted)
            ])
            for c, granted in enumerate(answers)
        ]  # fmt: skip

    def round(self) -> None:
        """Take every slot through an acquire and a release."""
        applied = self.turn("acquire", self.acquire_frames())
        # The outbox took the lists of answers over, and a flush leaves them as they are.
        self.turn("release", self.release_frames(applied.answers))

    def turn(self, kind: str, frames: list[bytes]) -> Applied:
        """Take one batch through all stages."""
        timed, ops = self.stages.time, self.operations
        requests = timed(LEADER, f"decode {kind}", ops, lambda: [decode_frame(f) for f in frames])
        sorted_ = timed(LEADER, f"door: sort out {kind}", ops, lambda: self._door(frames, requests))
        batch = timed(LEADER, f"batch {kind}", ops, lambda: self._batch(sorted_))
        self.index += 1
        entry = Entry(
            Index(self.index), Term(1), EntryKind.BATCH, self.index, self.index, batch.data
        )
        timed(LEADER, f"entry and record {kind}", ops, lambda: self._record(entry))
        sent = timed(LEADER, f"append entries: encode {kind}", ops, lambda: self._append(entry))
        groups = tuple([group.requests for group in batch.groups])
        applied: Applied = timed(
            LEADER, f"apply {kind}", ops, lambda: self._apply(self.leader, groups)
        )
        timed(LEADER, f"leases {kind}", ops, lambda: self._leases(applied))
        encoded = timed(
            LEADER,
            f"audit: results {kind}",
            ops,
            lambda: self._audit(entry, applied, self.audits[0]),
        )
        timed(LEADER, f"answers: send {kind}", ops, lambda: self._answer(batch, applied, encoded))
        timed(FOLLOWER, f"append entries: decode {kind}", ops, lambda: peer_codec.decode(sent))
        timed(FOLLOWER, f"entry and record {kind}", ops, lambda: self._record(entry))
        unpacked = timed(
            FOLLOWER, f"unpack {kind}", ops, lambda: unpack(entry.data, array_count_max=1 << 24)
        )
        applied = timed(
            FOLLOWER, f"apply {kind}", ops, lambda: self._apply(self.follower, unpacked)
        )
        timed(
            FOLLOWER,
            f"audit: results {kind}",
            ops,
            lambda: self._audit(entry, applied, self.audits[1]),
        )
        return applied

    def _door(self, frames: list[bytes], requests: list[tuple[Any, ...]]) -> list[Sorted]:
        return [
            sort_out(frame, decoded, origin.attached, ORDINARY_ROOM, "")
            for frame, decoded, origin in zip(frames, requests, self.origins, strict=True)
        ]

    def _batch(self, sorted_: list[Sorted]) -> Batch:
        for origin, one in zip(self.origins, sorted_, strict=True):
            self.batcher.add(origin, one.logged, one.body, ordinary=one.ordinary, plain=one.plain)
        return self.batcher.take()

    def _record(self, entry: Entry) -> bytes:
        record, _ = encode_record(
            encode_entries([entry]), number=entry.index, segment=1, kind=1, seed=1
        )
        return record

    def _append(self, entry: Entry) -> bytes:
        return peer_codec.encode(
            AppendEntries(
                term=Term(1),
                leader_id=NodeId(1),
                prev_log_index=Index(entry.index - 1),
                prev_log_term=Term(1),
                entries=(entry,),
                leader_commit=Index(entry.index - 1),
                round=entry.index,
            )
        )

    def _apply(self, table_: LockTable, groups: tuple[Any, ...]) -> Applied:
        return table_.apply(self.index, self.index, self.index, groups)

    def _leases(self, applied: Applied) -> None:
        if applied.granted:
            self.leases.granted(self.leader, applied.granted, self.index)
        if applied.ended:
            self.leases.ended(applied.ended)

    def _audit(self, entry: Entry, applied: Applied, audit: Audit) -> Sequence[bytes]:
        encoded = audit.auditing.applied(entry, applied, commands=self.operations, version=1)
        assert encoded is not None
        return encoded

    def audit_threads(self, operations: int) -> None:
        """Time what the audit threads do with some rounds: hashing and compression included, the disk is memory."""
        for node, audit in zip((LEADER, FOLLOWER), self.audits, strict=True):
            self.stages.time(node, AUDIT_THREAD, operations, audit.run)

    def _answer(self, batch: Batch, applied: Applied, encoded: Sequence[bytes]) -> None:
        for group, answers, body in zip(batch.groups, applied.answers, encoded, strict=True):
            assert group.origin is not None
            self.outbox.answers(group.origin, answers, body)
        self.outbox.flush(NodeId(1), Effects())

    def timers(self) -> None:
        """Time what a lease's deadline costs by itself: part of the stage `leases`."""
        timers: Timers[int] = Timers()
        keys = range(self.operations)

        def arm() -> None:
            for key in keys:
                timers.arm(key, key, 10_000_000 + key)

        def extend() -> None:
            for key in keys:
                timers.extend(key, 20_000_000 + key)

        def disarm() -> None:
            for key in keys:
                timers.disarm(key)

        for name, work in (("arm", arm), ("extend", extend), ("disarm", disarm)):
            self.stages.time("part", f"timers: {name}", self.operations, work)


def measure(*, connections: int, depth: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return microseconds an operation, by node and stage."""
    bench = Bench(connections, depth)
    gc.collect()
    gc.disable()
    try:
        for number in range(1, rounds + 1):
            bench.round()
            bench.timers()
            if number % AUDIT_ROUNDS == 0:
                bench.audit_threads(2 * bench.operations * AUDIT_ROUNDS)
    finally:
        gc.enable()
    results: dict[str, dict[str, float]] = {}
    for (node, name), least_us in bench.stages.least_us.items():
        results.setdefault(node, {})[name] = round(least_us, 4)
    return results


def run(options: argparse.Namespace) -> int:
    """Print a line a stage, and the sums for a pair of acquire and release."""
    results = measure(connections=options.connections, depth=options.depth, rounds=options.rounds)
    rows = [(node, stage, us) for node, stages in results.items() for stage, us in stages.items()]
    print(table(("node", "stage", "us/operation"), rows))
    # Each stage is there for the acquire and for the release: half the sum is an operation.
    each = {
        node: sum(us if name == AUDIT_THREAD else us / 2 for name, us in results[node].items())
        for node in (LEADER, FOLLOWER)
    }
    total = each[LEADER] + 2 * each[FOLLOWER]
    print(
        f"an operation: leader {each[LEADER]:.2f} us, follower {each[FOLLOWER]:.2f} us, three nodes {total:.2f} us; "
        f"without network, disk, consensus and the loop\nleast of {options.rounds} rounds of {options.connections} x "
        f"{options.depth}; {machine_line('one process')}"
    )
    write(options, {"stages_us": results, "per_operation_us": each | {"three_nodes": total}})
    return 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--connections", type=count, default=8, help="default: 8")
    parser.add_argument("--depth", type=count, default=256, help="requests a frame (default: 256)")
    parser.add_argument("--rounds", type=count, default=300, help="default: 300")
    add_common(parser, endpoints=False)
