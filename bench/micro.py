"""`python -m bench micro`: processor time an operation takes in each stage of the hot path, without network and disk.

One process runs the real code of each stage on the same frames, many rounds long; the least of all rounds counts,
since noise only adds. Stages of the leader and of a follower are told apart; the sum is what three nodes spend.
"""

import argparse
import gc
import time
from collections.abc import Callable
from typing import Any

from bench.report import add_common, count, machine_line, table, write
from raftlock.locks import Applied, LockTable
from raftlock.raft.messages import AppendEntries
from raftlock.server import peer_codec
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


class Stages:
    """The least time that each stage took for one operation, and on which node it runs."""

    def __init__(self) -> None:
        self.least_us: dict[tuple[str, str], float] = {}

    def time(self, node: str, name: str, operations: int, work: Callable[[], Any]) -> Any:
        """Do the work, and keep its time if it is the least so far."""
        began = time.perf_counter_ns()
        result = work()
        each_us = (time.perf_counter_ns() - began) / 1e3 / operations
        key = (node, name)
        self.least_us[key] = min(each_us, self.least_us.get(key, each_us))
        return result


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
        timed(LEADER, f"answers: encode {kind}", ops, lambda: self._answer(batch, applied))
        timed(FOLLOWER, f"append entries: decode {kind}", ops, lambda: peer_codec.decode(sent))
        timed(FOLLOWER, f"entry and record {kind}", ops, lambda: self._record(entry))
        unpacked = timed(
            FOLLOWER, f"unpack {kind}", ops, lambda: unpack(entry.data, array_count_max=1 << 24)
        )
        timed(FOLLOWER, f"apply {kind}", ops, lambda: self._apply(self.follower, unpacked))
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

    def _answer(self, batch: Batch, applied: Applied) -> None:
        for group, answers in zip(batch.groups, applied.answers, strict=True):
            assert group.origin is not None
            self.outbox.answers(group.origin, answers)
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
        for _ in range(rounds):
            bench.round()
            bench.timers()
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
    each = {node: sum(results[node].values()) / 2 for node in (LEADER, FOLLOWER)}
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
