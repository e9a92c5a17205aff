"""One node of a world of leases: the production driver, with its table, leases and reads, on an abstract log.

Consensus is a log that the world commits or takes away. It keeps what the driver rests on: a leader is elected once a
term with a log that holds all that was committed, its entries and rounds are agreed on by a majority only while no
newer leader was elected, and it may hear of that late. Raft itself is searched in worlds of its own.
"""

from collections.abc import Hashable
from typing import Any, NamedTuple

from raftlock.locks import LockTable
from raftlock.locks.packing import Stored
from raftlock.locks.reads import NameIndex
from raftlock.locks.snapshot import encode_state
from raftlock.raft import Ready, Role
from raftlock.server.driver import Driver, DriverConfig
from raftlock.server.effects import Effects
from raftlock.server.lease_clock import STALL_US, LeaseClock
from raftlock.server.peer_codec import encode_forward
from raftlock.testing.explore.parts import Input
from raftlock.testing.explore.picture import Painter, Way, draw, without
from raftlock_wire.codec import pack
from raftlock_wire.entry import Entry, EntryKind
from raftlock_wire.ids import NO_NODE, Index, NodeId, Term
from raftlock_wire.membership import Member, membership
from raftlock_wire.messages import GrantState

MEMBERS = membership(Member(NodeId(i), f"{i:032x}", f"n{i}:1", f"n{i}:2") for i in (1, 2, 3))
WALL_US = 1_000_000_000_000
TURNS_MAX = 20


class AbstractLog:
    """What a driver sees of consensus, moved by the world alone."""

    def __init__(self, node_id: NodeId) -> None:
        self._node_id = node_id
        self.role = Role.FOLLOWER
        self.term = Term(0)
        self.leader_id = NO_NODE
        self.membership = MEMBERS
        self.log: list[Entry] = []
        self.commit_index = Index(0)
        self.round = 0
        self.answered = 0
        self._handed = 0
        self._elected = self._stepped_down = False
        self.transferring = self.disk_lags = False
        self.next_deadline_us = 1 << 62

    # by the world

    def win(self, term: Term, log: tuple[Entry, ...]) -> None:
        """Lead a term, with a log that holds what this node has applied."""
        self.term, self.role, self.leader_id = term, Role.LEADER, self._node_id
        self.log = list(log)
        self.answered = 0
        self._elected = True

    def deposed(self, term: Term) -> None:
        """Learn of a newer term, and not yet who leads it."""
        self.term, self.role, self.leader_id = term, Role.FOLLOWER, NO_NODE
        self._stepped_down = True

    def heard(self, index: int, number: int) -> None:
        """Learn that a majority has the log up to `index`, and has answered round `number`."""
        self.commit_index = Index(max(self.commit_index, index))
        self.answered = max(self.answered, number)

    # by the driver

    def tick(self, now_us: int) -> None:
        """Have no timers."""

    @property
    def last_index(self) -> Index:
        """Return the index of the last entry."""
        return Index(len(self.log))

    @property
    def last_stamp_us(self) -> int:
        """Return the highest stamp in the log."""
        return self.log[-1].stamp_us if self.log else 0

    @property
    def last_wall_us(self) -> int:
        """Return the highest wall time in the log."""
        return self.log[-1].wall_us if self.log else 0

    def begin_term(self, *, stamp_us: int, wall_us: int) -> Index:
        """Append the first entry of the term."""
        return self.propose(EntryKind.NOOP, b"", stamp_us=stamp_us, wall_us=wall_us)

    def propose(self, kind: EntryKind, data: bytes, *, stamp_us: int, wall_us: int) -> Index:
        """Append an entry."""
        index = Index(len(self.log) + 1)
        self.log.append(Entry(index, self.term, kind, stamp_us, wall_us, data))
        return index

    def start_round(self) -> int:
        """Begin a quorum round."""
        self.round += 1
        return self.round

    def ready(self) -> Ready:
        """Return what happened since the last call."""
        ready = Ready(
            committed=self.log[self._handed : self.commit_index],
            round_confirmed=self.answered if self.role is Role.LEADER else 0,
            elected=self._elected,
            stepped_down=self._stepped_down,
        )
        self._handed = self.commit_index
        self._elected = self._stepped_down = False
        return ready


class Held(NamedTuple):
    """A grant as a table shows it."""

    resource: str
    token: int
    session: int
    ends: bool
    """Whether it ends by itself: an own lease, an offer, one that was cut."""


class NodeFacts(NamedTuple):
    """What properties and choices need to know of a node."""

    leads: int
    """The term that it believes to lead; 0: none."""
    serving: bool
    log: tuple[Entry, ...]
    commit_index: int
    round: int
    answered: int
    token: int
    """The largest token that its table knows."""
    grants: tuple[Held, ...]
    waiting: tuple[tuple[int, str], ...]
    """Session and resource of acquires in queues."""
    forgotten: str
    """What a serving leader would wait for for ever; empty if there is nothing."""


class _OneBucket(list[dict[str, Stored]]):
    """All buckets are one: which one a resource is in means nothing, and 4,096 of them take longer than a turn."""

    def __getitem__(self, number: Any) -> Any:
        del number
        return super().__getitem__(0)


class SmallTable(LockTable):
    """The production table with a single bucket."""

    def __init__(self) -> None:
        super().__init__()
        self.buckets = _OneBucket([{}])

    @property
    def bucket_count(self) -> int:
        """Return how many buckets there are."""
        return 1


class LeaseNode:
    """A node that takes inputs and gives frames for clients."""

    def __init__(self, built_of: Input) -> None:
        """Start as a node of a cluster without a log, at time 0; `built_of` is (node id,)."""
        self._raft = AbstractLog(built_of[0])
        self._driver = Driver(
            config=DriverConfig(
                node_id=built_of[0], cluster_id="small", logged_renewal_ttl_ms=60_000, stall_us=1
            ),
            raft=self._raft,  # type: ignore[arg-type]  # the abstract log stands for the core
            table=SmallTable(),
            applied=None,
            membership=MEMBERS,
        )
        self._now_us = 0
        self._out: list[tuple[int, bytes]] = []

    def take(self, given: Input) -> tuple[Any, ...]:
        """Take an input; the first element names it, the last is the time."""
        driver, raft = self._driver, self._raft
        match given:
            case ("pass", now_us):
                self._pass(now_us)
                return self._taken()
            case ("open", conn_id, hello, _):
                driver.client_opened(conn_id, "client:1")
                driver.client_frame(conn_id, hello)
            case ("frame", conn_id, payload, _):
                driver.client_frame(conn_id, payload)
            case ("forwarded", node, conn_id, payload, _):
                frame = encode_forward([(conn_id, "", "client:1", payload)])
                driver.peer_frame(node, frame)
            case ("heard", index, number, _):
                raft.heard(index, number)
            case ("win", term, log, _):
                raft.win(term, log)
            case ("deposed", term, _):
                raft.deposed(term)
            case _:
                raise ValueError(f"{given[0]!r} is no input of a node")
        # A node that has just begun has not run before: time that it did not see is no stall.
        self._now_us = given[-1]
        self._turns()
        return self._taken()

    def _pass(self, until_us: int) -> None:
        """Let time pass with nothing coming in: turns as far apart as the lease clock counts (L7)."""
        while self._now_us < until_us:
            self._now_us = min(until_us, self._now_us + STALL_US)
            self._turns()

    def _turns(self) -> None:
        for _ in range(TURNS_MAX):
            effects = self._driver.turn(self._now_us, WALL_US + self._now_us)
            self._gather(effects)
            if effects.wake_us > self._now_us:
                return
        raise AssertionError(f"the driver wants more than {TURNS_MAX} turns at once")

    def _gather(self, effects: Effects) -> None:
        self._out += [(frame.conn_id, frame.payload) for frame in effects.client_frames]

    def _taken(self) -> tuple[Any, ...]:
        out, self._out = tuple(self._out), []
        return out

    # looking

    def facts(self) -> NodeFacts:
        """Return what is known of it."""
        raft, driver = self._raft, self._driver
        table = driver.table
        grants = [g for bucket in range(table.bucket_count) for g in table.iter_grants(bucket)]
        return NodeFacts(
            leads=raft.term if raft.role is Role.LEADER else 0,
            serving=driver.serving,
            log=tuple(raft.log),
            commit_index=raft.commit_index,
            round=raft.round,
            answered=raft.answered,
            token=table.token,
            grants=tuple(
                Held(g.resource, g.token, g.session, bool(g.ttl_ms) or g.state != GrantState.HELD)
                for g in grants
                if table.lookup(g.resource) is not None
            ),
            waiting=tuple(
                (waiter.session, name)
                for name, queue in table.queues.items()
                for waiter in queue.values()
            ),
            forgotten=self._forgotten(),
        )

    def _forgotten(self) -> str:
        driver = self._driver
        leases, table = driver.leading.leases, driver.table
        if not driver.serving or leases._arming is not None:
            return ""
        for bucket in range(table.bucket_count):
            for grant in table.iter_grants(bucket):
                ends = grant.ttl_ms or grant.state != GrantState.HELD
                known = grant.token in leases.locks.deadlines or leases.in_flight(grant.token)
                if ends and not known and table.lookup(grant.resource) is not None:
                    return f"the end of {grant.resource} {grant.token}"
        for session, _ in table.iter_sessions():
            if session not in leases.sessions.deadlines and not leases.in_flight(-session):
                return f"the end of session {session}"
        return ""

    def picture(self) -> Hashable:
        """Return everything that its future depends on."""
        return (self._now_us, draw(self._driver, WAYS))


def _draw_table(painter: Painter, table: LockTable) -> Any:
    del painter
    return tuple(encode_state(table))


def _leave_out(painter: Painter, thing: Any) -> Any:
    del painter, thing
    return "left out"


WAYS: dict[type, Way] = {
    SmallTable: _draw_table,
    LeaseClock: without("longest_gap_us"),
    DriverConfig: _leave_out,
    NameIndex: _leave_out,
}
"""The index of names only makes lists faster; settings do not change."""


def hello_frame(hello: tuple[Any, ...]) -> bytes:
    """Return the first frame of a connection."""
    return pack([hello])
