"""Nodes of consensus for tests: built in a given state, or a whole small cluster under a careless network and disk."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from raftlock.raft import (
    AppendEntries,
    AppendEntriesResult,
    Message,
    Raft,
    RaftConfig,
    Ready,
    RequestVoteResult,
    Role,
)
from raftlock_wire.entry import Entry, EntryKind, HardState, SnapshotMeta, Write
from raftlock_wire.ids import NO_NODE, Index, NodeId, Term
from raftlock_wire.membership import Member, Membership, membership

ELECTION_US = 300_000


def members(*node_ids: int, learners: Iterable[int] = ()) -> Membership:
    """Return a membership of these ids."""
    learners = set(learners)
    return membership(
        Member(NodeId(i), f"{i:032x}", f"n{i}:1", f"n{i}:2", i in learners)
        for i in {*node_ids, *learners}
    )


def entry(index: int, term: int, data: bytes = b"x", kind: EntryKind = EntryKind.BATCH) -> Entry:
    """Return an entry."""
    return Entry(Index(index), Term(term), kind, 0, 0, data)


def log_of(*terms: int) -> list[Entry]:
    """Return a log whose entries are of these terms, from index 1 on."""
    return [entry(i, term, f"{i}:{term}".encode()) for i, term in enumerate(terms, 1)]


def node(
    node_id: int = 1,
    *,
    of: Membership | None = None,
    term: int = 1,
    voted_for: int = 0,
    log: Iterable[Entry] = (),
    snapshot: SnapshotMeta | None = None,
    seed: int = 0,
    config: RaftConfig | None = None,
) -> Raft:
    """Return a follower that has just started, at time 0."""
    return Raft(
        config=config or RaftConfig(node_id=NodeId(node_id)),
        hard_state=HardState(Term(term), NodeId(voted_for)),
        membership=of or members(1, 2, 3),
        snapshot=snapshot,
        entries=list(log),
        rng=random.Random(seed),
        now_us=0,
    )


def settle(raft: Raft) -> Ready:
    """Take a Ready and let its write be durable."""
    ready = raft.ready()
    if ready.write is not None:
        raft.durable(ready.write.number)
    return ready


def elect(raft: Raft, *, now_us: int = ELECTION_US, voters: Iterable[int] = (2, 3)) -> None:
    """Let a node campaign and win, pre-vote included. Its term has not begun."""
    raft.tick(now_us)
    for pre_vote in (True, False):
        settle(raft)
        for voter in voters:
            term = Term(raft.term + 1) if pre_vote else raft.term
            answer = RequestVoteResult(
                term=raft.term, granted=True, pre_vote=pre_vote, asked_term=term
            )
            raft.step(NodeId(voter), answer, now_us)


def leader(
    *,
    term: int = 1,
    log: Iterable[Entry] = (),
    of: Membership | None = None,
    now_us: int = ELECTION_US,
) -> Raft:
    """Return node 1 as the leader of `term`, its first entry appended and durable, its messages sent."""
    of = of or members(1, 2, 3)
    raft = node(term=term - 1, log=log, of=of)
    elect(raft, now_us=now_us, voters=sorted(of.voters - {1}))
    raft.ready()
    raft.begin_term(stamp_us=0, wall_us=0)
    settle(raft)
    return raft


def append(
    *entries: Entry, term: int = 1, prev: tuple[int, int] = (0, 0), commit: int = 0, round_: int = 0
) -> AppendEntries:
    """Return an AppendEntries of leader 2. `prev` is (index, term)."""
    return AppendEntries(
        term=Term(term),
        leader_id=NodeId(2),
        prev_log_index=Index(prev[0]),
        prev_log_term=Term(prev[1]),
        entries=entries,
        leader_commit=Index(commit),
        round=round_,
    )


def sent(raft: Raft, to: int | None = None) -> list[Message]:
    """Return the messages of the next Ready."""
    return [m.message for m in settle(raft).messages if to is None or m.to == to]


def terms(raft: Raft) -> list[int]:
    """Return the terms of the log's entries."""
    return [e.term for e in raft.state.log.entries]


@dataclass
class Disk:
    """What a node's disk holds durably, and writes that are not there yet."""

    hard_state: HardState = field(default_factory=lambda: HardState(Term(0), NO_NODE))
    log: list[Entry] = field(default_factory=list)
    pending: list[Write] = field(default_factory=list)

    def sync(self) -> int:
        """Make the oldest write durable. Return its number."""
        write = self.pending.pop(0)
        if write.hard_state is not None:
            self.hard_state = write.hard_state
        if write.entries:
            self.log = [e for e in self.log if e.index < write.entries[0].index] + list(
                write.entries
            )
        return write.number


class Cluster:
    """A few nodes, a network that loses, doubles and reorders, disks that take their time, and crashes."""

    def __init__(self, seed: int, count: int) -> None:
        self.rng = random.Random(seed)
        self.now_us = 0
        self.of = members(*range(1, count + 1))
        self.disks = {i: Disk() for i in range(1, count + 1)}
        self.nodes = {i: self._start(i) for i in self.disks}
        self.network: list[tuple[int, int, Message]] = []
        self.held: dict[int, list[tuple[int, int, Message]]] = {i: [] for i in self.disks}
        """Messages that wait for a write: (after_write, to, message)."""
        self.leaders: dict[int, int] = {}
        self.committed: dict[int, tuple[int, bytes]] = {}
        self.proposed = 0

    def _start(self, i: int) -> Raft:
        disk = self.disks[i]
        return Raft(
            config=RaftConfig(node_id=NodeId(i)),
            hard_state=disk.hard_state,
            membership=self.of,
            snapshot=None,
            entries=disk.log,
            rng=random.Random(self.rng.random()),
            now_us=self.now_us,
        )

    def step(self) -> None:
        """Let one thing happen, and check everything."""
        self.now_us += self.rng.randint(0, 3_000)
        i = self.rng.choice(list(self.nodes))
        choice = self.rng.random()
        if choice < 0.6 and self.network:
            self._deliver()
        elif choice < 0.75:
            self.nodes[i].tick(self.now_us)
        elif choice < 0.9 and self.disks[i].pending:
            self.nodes[i].durable(self.disks[i].sync())
        elif choice < 0.985:
            self._propose(i)
        else:
            self._crash(i)
        self._ready(self.rng.choice(list(self.nodes)))
        self._ready(i)

    def _deliver(self) -> None:
        to_deliver = self.network.pop(self.rng.randrange(len(self.network)))
        if self.rng.random() < 0.1:
            return
        if self.rng.random() < 0.1:
            self.network.append(to_deliver)
        source, to, message = to_deliver
        self.nodes[to].step(NodeId(source), message, self.now_us)

    def _propose(self, i: int) -> None:
        raft = self.nodes[i]
        if raft.role is Role.LEADER and raft.state.term_begun:
            self.proposed += 1
            raft.propose(EntryKind.BATCH, b"%d" % self.proposed, stamp_us=0, wall_us=0)

    def _crash(self, i: int) -> None:
        disk = self.disks[i]
        # Some of what was under way may have reached the disk, in order, without anybody hearing of it.
        for _ in range(self.rng.randint(0, len(disk.pending))):
            disk.sync()
        disk.pending.clear()
        self.held[i].clear()
        self.nodes[i] = self._start(i)

    def _ready(self, i: int) -> None:
        raft = self.nodes[i]
        while True:
            ready = raft.ready()
            if ready.write is not None:
                self.disks[i].pending.append(ready.write)
            for to, message, after in ready.messages:
                self.held[i].append((after, to, message))
            if ready.elected:
                assert self.leaders.setdefault(raft.term, i) == i, "election safety"
                raft.begin_term(stamp_us=0, wall_us=0)
            for e in ready.committed:
                seen = (e.term, e.data)
                assert self.committed.setdefault(e.index, seen) == seen, "state machine safety"
            self._check_durable(raft)
            if not ready.elected:
                break
        durable = raft.state.durable_number
        self.network += [
            (i, to, message) for after, to, message in self.held[i] if after <= durable
        ]
        self.held[i] = [h for h in self.held[i] if h[0] > durable]
        del self.network[: max(0, len(self.network) - 200)]

    def _check_durable(self, raft: Raft) -> None:
        """What a leader has committed is on a majority of disks."""
        index = raft.commit_index
        if raft.role is Role.LEADER and index:
            e = raft.entry(index)
            have = sum(e in disk.log for disk in self.disks.values())
            assert have * 2 > len(self.disks), f"{index} is committed and on {have} disks"

    def check_log_matching(self) -> None:
        """Two logs with the same (index, term) are the same up to there (Raft figure 3)."""
        logs = [{e.index: e for e in raft.state.log.entries} for raft in self.nodes.values()]
        for one in logs:
            for other in logs:
                same = [i for i in one if i in other and one[i].term == other[i].term]
                assert all(one[i] == other[i] for i in range(1, max(same, default=0) + 1)), (
                    "log matching"
                )


def answer(
    raft: Raft, sender: int, match: int, *, round_: int = 0, now_us: int = ELECTION_US
) -> None:
    """Let a follower say that it has everything up to `match`."""
    message = AppendEntriesResult(
        term=raft.term, success=True, match_index=Index(match), round=round_
    )
    raft.step(NodeId(sender), message, now_us)
