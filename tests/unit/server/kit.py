"""Whole drivers in hand-made time: nodes without sockets, threads or files, whose disks and links a test holds back.

A step is a turn of each node that runs: what it sends and writes arrives at the next step. So everything takes a known
number of steps, and a test stops the world at any moment in between.
"""

import random
from collections import deque
from typing import Any

from raftlock.locks import VERSIONS, LockTable, Versions
from raftlock.raft import Raft, RaftConfig
from raftlock.server.driver import Driver, DriverConfig
from raftlock.server.effects import Notice
from raftlock.server.jobs import Job, PrepareJob, WriteDone, WriteJob
from raftlock.server.record_jobs import RecordsJob
from raftlock.storage import Prepared
from raftlock_wire.codec import pack, unpack
from raftlock_wire.entry import HardState
from raftlock_wire.ids import NO_NODE, NodeId, Term
from raftlock_wire.membership import Member, Membership, membership
from raftlock_wire.messages import Op

MS = 1_000
WALL_US = 1_800_000_000_000_000
CLUSTER_ID = "c" * 32
ACQUIRE, RELEASE, RENEW = int(Op.ACQUIRE), int(Op.RELEASE), int(Op.RENEW)
LATE_MS = 250
"""A lease ends within its ttl and this (guarantee 4)."""

Message = tuple[Any, ...]


def members_of(count: int) -> Membership:
    """Return the nodes 1 to `count`."""
    return membership(
        Member(NodeId(i), f"{i:032x}", f"n{i}:1", f"n{i}:2") for i in range(1, count + 1)
    )


def make_driver(
    node_id: int,
    count: int,
    *,
    logged_renewal_ttl_ms: int,
    now_us: int = 0,
    versions: Versions = VERSIONS,
) -> Driver:
    """Return a node that has just been bootstrapped, and holds nothing."""
    of = members_of(count)
    raft = Raft(
        config=RaftConfig(node_id=NodeId(node_id)),
        hard_state=HardState(Term(0), NO_NODE),
        membership=of,
        snapshot=None,
        entries=[],
        rng=random.Random(node_id),
        now_us=now_us,
    )
    config = DriverConfig(
        node_id=NodeId(node_id),
        cluster_id=CLUSTER_ID,
        logged_renewal_ttl_ms=logged_renewal_ttl_ms,
        stall_us=150 * MS,
        incarnation=f"{node_id:032x}",
    )
    return Driver(config=config, raft=raft, table=LockTable(versions), applied=None, membership=of)


def versions_of(nodes: "Nodes") -> list[int]:
    """Return the state machine's version in force on each node."""
    return [driver.table.version for driver in nodes.drivers.values()]


class Nodes:
    """A few drivers, and clients that speak the protocol by hand."""

    def __init__(
        self,
        count: int = 3,
        *,
        logged_renewal_ttl_ms: int = 60_000,
        versions: Versions = VERSIONS,
    ) -> None:
        self.now_us = 0
        self._count = count
        self._logged_renewal_ttl_ms = logged_renewal_ttl_ms
        self.drivers = {
            i: make_driver(i, count, logged_renewal_ttl_ms=logged_renewal_ttl_ms, versions=versions)
            for i in range(1, count + 1)
        }
        self.cut: set[tuple[int, int]] = set()
        """Links (from, to) that lose everything."""
        self.frozen: set[int] = set()
        """Nodes that take no turn; what is sent to them waits."""
        self.slow_disks: set[int] = set()
        """Nodes whose writes of the log are not done until the test says so."""
        self.no_room: set[int] = set()
        """Nodes whose disk has no room for the next segment."""
        self.wakes: dict[int, int] = {}
        self.notices: list[tuple[int, Notice]] = []
        self.closed: list[int] = []
        self.record_jobs: list[RecordsJob] = []
        """Pages of the audit that are to be read; tests answer them."""
        self.forwarded: list[tuple[int, int]] = []
        """(from, to) of each frame of forwarded requests."""
        self._waiting: dict[int, deque[Any]] = {i: deque() for i in self.drivers}
        self._jobs: dict[int, deque[Job]] = {i: deque() for i in self.drivers}
        self._inbox: dict[int, list[Message]] = {}
        self._node_of: dict[int, int] = {}
        self._next_id = 100

    def start(self, node: int) -> None:
        """Start a node that the first members do not list: it knows them, and nothing else."""
        self._waiting[node], self._jobs[node] = deque(), deque()
        self.drivers[node] = make_driver(
            node,
            self._count,
            logged_renewal_ttl_ms=self._logged_renewal_ttl_ms,
            now_us=self.now_us,
        )

    # time

    def step(self, us: int = MS) -> None:
        """Let time pass, and each node take a turn."""
        self.now_us += us
        for i, driver in self.drivers.items():
            if i in self.frozen:
                continue
            while self._waiting[i]:
                self._waiting[i].popleft()()
            effects = driver.turn(self.now_us, WALL_US + self.now_us)
            self.wakes[i] = effects.wake_us
            self.notices += [(i, notice) for notice in effects.notices]
            self._jobs[i].extend(effects.jobs)
            self.record_jobs += effects.record_jobs
            self._do_jobs(i)
            for peer, payload in effects.peer_frames:
                if (i, peer) not in self.cut and peer in self.drivers:
                    if payload[1] == 16:
                        self.forwarded.append((i, int(peer)))
                    self._later(int(peer), self.drivers[peer].peer_frame, NodeId(i), payload)
            for conn_id, payload in effects.client_frames:
                self._inbox[conn_id] += unpack(payload)[1:]
            self.closed += [conn_id for (conn_id,) in effects.client_closes]

    def _later(self, node: int, call: Any, *arguments: Any) -> None:
        self._waiting[node].append(lambda: call(*arguments))

    def _do_jobs(self, i: int) -> None:
        jobs = self._jobs[i]
        while jobs and not (isinstance(jobs[0], WriteJob) and i in self.slow_disks):
            job = jobs.popleft()
            result: Any = None
            if isinstance(job, WriteJob):
                result = WriteDone(job.writes[-1].number, i not in self.no_room)
            elif isinstance(job, PrepareJob):
                result = Prepared.NO_ROOM if i in self.no_room else Prepared.READY
            self._later(i, self.drivers[i].job_done, job, result)

    def run(self, ms: int) -> None:
        """Let some milliseconds pass, a turn each."""
        for _ in range(ms):
            self.step()

    def until(self, condition: Any, *, ms: int = 2_000) -> int:
        """Run until a condition holds. Return how many milliseconds that took."""
        for passed in range(ms):
            if condition():
                return passed
            self.step()
        raise AssertionError(f"not within {ms} ms")

    # faults

    def isolate(self, node: int) -> None:
        """Cut a node off from its peers, both ways, without anybody being told."""
        self.cut |= {(node, i) for i in self.drivers} | {(i, node) for i in self.drivers}

    def link_lost(self, node: int, peer: int) -> None:
        """Let a node learn that its link to a peer is gone."""
        self._later(node, self.drivers[node].link_lost, NodeId(peer))

    def disk_goes_on(self, node: int) -> None:
        """Let the writes that wait be done."""
        self.slow_disks.discard(node)
        self._do_jobs(node)

    # roles

    def lead(self) -> int:
        """Run until a node serves, and return it."""
        self.until(self.leader)
        return self.leader()

    def leader(self) -> int:
        """Return the node that serves in the newest term, 0 if none does."""
        serving = [
            (d.raft.term, i) for i, d in self.drivers.items() if d.serving and i not in self.frozen
        ]
        return max(serving)[1] if serving else 0

    def follower(self) -> int:
        """Return a node that does not lead."""
        return min(i for i in self.drivers if i != self.leader())

    def table(self, node: int = 0) -> LockTable:
        """Return a node's table, the leader's by default."""
        return self.drivers[node or self.leader()].table

    # clients

    def connect(self, node: int, *, greet: bool = True) -> int:
        """Open a connection, and say hello on it. Return its id."""
        self._next_id += 1
        conn_id = self._next_id
        self._inbox[conn_id] = []
        self._node_of[conn_id] = node
        self.drivers[node].client_opened(conn_id, f"c{conn_id}")
        if greet:
            answer = self.ask(conn_id, (int(Op.HELLO), 1, 1, 1, None, None, "test"))
            assert answer[1:3] == (0, True), answer
        return conn_id

    def send(self, conn_id: int, *requests: Message) -> None:
        """Send one frame of requests."""
        self.send_bytes(conn_id, pack(requests))

    def send_bytes(self, conn_id: int, payload: bytes) -> None:
        """Send the payload of a frame."""
        node = self._node_of[conn_id]
        self._later(node, self.drivers[node].client_frame, conn_id, payload)

    def disconnect(self, conn_id: int) -> None:
        """Close a connection."""
        node = self._node_of[conn_id]
        self._later(node, self.drivers[node].client_closed, conn_id)

    def took(self, conn_id: int) -> list[Message]:
        """Return all that came on a connection since the last call."""
        messages, self._inbox[conn_id] = self._inbox[conn_id], []
        return messages

    def ask(self, conn_id: int, request: Message, *, ms: int = 200) -> Message:
        """Send one request and return its answer; what else comes stays in the inbox."""
        self.send(conn_id, request)
        inbox = self._inbox[conn_id]

        def found() -> Message | None:
            return next((m for m in self._inbox[conn_id] if m[0] == request[1]), None)

        self.until(found, ms=ms)
        del inbox
        answer = found()
        assert answer is not None
        self._inbox[conn_id].remove(answer)
        return answer

    def open(self, conn_id: int, *, ttl_ms: int = 10_000) -> int:
        """Open a session on a connection. Return its id."""
        nonce = conn_id.to_bytes(8, "big") + self.now_us.to_bytes(8, "big")
        answer = self.ask(conn_id, (int(Op.OPEN_SESSION), 2, nonce, ttl_ms))
        session: int = answer[3]
        return session

    def acquire(
        self,
        conn_id: int,
        session: int,
        resource: str = "r",
        *,
        slot: int = 0,
        n: int = 1,
        ttl_ms: int = 1_000,
        wait_ms: int = 0,
    ) -> Message:
        """Acquire and return the answer."""
        request = (ACQUIRE, 3, session, slot, n, resource, "ann", ttl_ms, wait_ms, None)
        return self.ask(conn_id, request)


def renew(request_id: int, *leases: tuple[str, int]) -> Message:
    """Return a renew."""
    return (RENEW, request_id, leases)


def keep_alive(request_id: int, session: int) -> Message:
    """Return a keep-alive."""
    return (int(Op.KEEP_ALIVE), request_id, session)


def held(nodes: Nodes) -> bool:
    """Return whether the leader's table holds `r`."""
    leader = nodes.leader()
    return leader != 0 and nodes.table(leader).lookup("r") is not None


def with_lock(
    *, ttl_ms: int = 1_000, count: int = 3, logged_renewal_ttl_ms: int = 60_000
) -> tuple[Nodes, int, int, int]:
    """Return nodes, the leader, a connection to it, and the token of `r`."""
    nodes = Nodes(count, logged_renewal_ttl_ms=logged_renewal_ttl_ms)
    leader = nodes.lead()
    conn = nodes.connect(leader)
    session = nodes.open(conn, ttl_ms=60_000)
    token = nodes.acquire(conn, session, ttl_ms=ttl_ms)[4]
    return nodes, leader, conn, token


def fail_over(nodes: Nodes) -> int:
    """Freeze the leader, let its peers know, and run until another serves. Return that one."""
    old = nodes.leader()
    nodes.frozen.add(old)
    for peer in nodes.drivers:
        if peer != old:
            nodes.link_lost(peer, old)
    return nodes.lead()
