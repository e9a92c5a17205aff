"""What a server really answers and pushes: one recording of every answer and event, by small scenarios.

Each scenario provokes a few of them on production drivers (`served.py`) and names what it recorded.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from raftlock.server.clients import goodbye
from raftlock_wire import limits
from raftlock_wire.codec import pack, unpack
from raftlock_wire.errors import FrameTooLarge
from raftlock_wire.messages import ListBy, Op
from tests.unit.wire.served import WALL_US, Message, Served

NONCE = b"nonce of example"
SECRET = b"another's nonce!"
CLIENT_NAME = "vectors"
SESSION = 7
"""The session of every scenario: the ones before it are opened first."""
SLOT, N, REV = 20, 10, 100
"""What is added to slots and n, and the least rev: two numbers in a wrong order must not look right."""


class Recorded(NamedTuple):
    """A frame that a server sent with one message, and what it answers."""

    name: str
    request: Message | None
    """What was asked; None for an event."""
    payload: bytes
    """[leader_id, message], as it was sent."""

    @property
    def message(self) -> Message:
        """Return the answer or the event."""
        message: Message = unpack(self.payload)[1]
        return message


class Recorder:
    """A cluster, one greeted connection of it, and what was recorded there."""

    def __init__(self, nodes: int = 1, *, serving: bool = True, audit: bool = False) -> None:
        self.served = Served(nodes, audit=audit)
        self.node = self.served.until_served() if serving else 1
        self.found: list[Recorded] = []
        self._next_id = 1
        self.connection = 0
        self._events_from = 0
        for _ in range(REV if serving else 0):
            self.served.command((int(Op.SET_SETTINGS), 0, {}), self.node)
        self.connect(self.node)

    def connect(self, node: int, principal: str = "") -> int:
        """Go on over a new, greeted connection. Return the one before."""
        before, self.connection = self.connection, self.served.connect(node, principal=principal)
        self.served.send(
            self.connection, pack([(Op.HELLO, self.request_id(), 1, 1, None, None, CLIENT_NAME)])
        )
        self._events_from = len(self.served.frames[self.connection])
        return before

    def request_id(self) -> int:
        """Return an id that was not used yet."""
        self._next_id += 1
        return self._next_id - 1

    def send(self, code: int, *fields: Any) -> Message:
        """Send a request whose answer comes later, if at all. Return the request."""
        request = (int(code), self.request_id(), *fields)
        self.served.send(self.connection, pack([request]))
        return request

    def ask(self, name: str, code: int, *fields: Any) -> Message:
        """Send a request and record its answer, if it has a name. Return the answer."""
        return self.answered(name, self.send(code, *fields))

    def answered(self, name: str, request: Message) -> Message:
        """Record the answer that came to a request."""
        for leader_id, message in self._messages(0):
            if message[0] == request[1]:
                if name:
                    self.found.append(Recorded(name, request, pack([leader_id, message])))
                return message
        raise AssertionError(f"{name}: no answer to {request}")

    def event(self, name: str, code: int) -> Message:
        """Record the first event of this code since the last one that was recorded."""
        for leader_id, message in self._messages(self._events_from):
            if message[:2] == (0, code):
                self.found.append(Recorded(name, None, pack([leader_id, message])))
                self._events_from = len(self.served.frames[self.connection])
                return message
        raise AssertionError(f"{name}: no event {code}")

    def _messages(self, start: int) -> list[tuple[int, Message]]:
        frames = [unpack(frame) for frame in self.served.frames[self.connection][start:]]
        return [(frame[0], message) for frame in frames for message in frame[1:]]

    # usual steps

    def others(self) -> None:
        """Open the sessions before the one of the scenario, and leave them to a connection of their own."""
        before = self.connection
        self.connect(self.node)
        for number in range(1, SESSION):
            self.ask("", Op.OPEN_SESSION, number.to_bytes(16, "big"), 300_000)
        self.connection = before

    def session(self) -> int:
        """Open the session of the scenario."""
        self.others()
        session: int = self.ask("", Op.OPEN_SESSION, NONCE, 10_000)[3]
        assert session == SESSION
        return session

    def cancel(self, name: str, session: int, slot: int, n: int) -> Message:
        """Cancel an acquire."""
        return self.ask(name, Op.CANCEL, session, SLOT + slot, N + n)

    def acquire(self, name: str, key: tuple[int, int, int], resource: str, **how: Any) -> Message:
        """Acquire, with a lease of its own unless `ttl_ms` is 0."""
        ttl_ms, wait_ms = how.get("ttl_ms", 10_000), how.get("wait_ms", 0)
        session, slot, n = key
        key = (session, SLOT + slot, N + n)
        fields = (*key, resource, how.get("owner", "me"), ttl_ms, wait_ms, how.get("metadata"))
        return self.ask(name, Op.ACQUIRE, *fields)


def _connection(r: Recorder) -> None:
    for name, request in {
        "hello": (Op.HELLO, 1, 1, 1, None, None, CLIENT_NAME),
        "hello of another version": (Op.HELLO, 1, 2, 3, None, None, CLIENT_NAME),
        "hello for another cluster": (Op.HELLO, 1, 1, 1, "another", None, CLIENT_NAME),
    }.items():
        connection = r.served.connect()
        frames = r.served.send(connection, pack([request]))
        r.found.append(Recorded(name, request, frames[0]))
        if len(frames) > 1:
            r.found.append(Recorded(f"goodbye after {name}", None, frames[1]))
    connection = r.served.connect()
    (frame,) = r.served.send(connection, b"\xc1")
    r.found.append(Recorded("goodbye: not a frame", None, frame))
    error = FrameTooLarge(size=limits.FRAME_SIZE_MAX + 1, size_max=limits.FRAME_SIZE_MAX)
    for name, code, text in (
        ("goodbye: frame too large", "frame_too_large", str(error)),
        ("goodbye: refused", "refused", "too many connections"),
    ):
        r.found.append(Recorded(name, None, goodbye(code, text)))
    r.ask("hello again", Op.HELLO, 1, 1, None, None, CLIENT_NAME)
    r.ask("node status", Op.NODE_STATUS)
    r.served.drivers[1].stop()
    r.served.settle()
    r.event("goodbye: stopping", 7)


def _sessions(r: Recorder) -> None:
    r.others()
    session = r.ask("open session", Op.OPEN_SESSION, NONCE, 10_000)[3]
    r.ask("open session again", Op.OPEN_SESSION, NONCE, 20_000)
    r.ask("keep alive", Op.KEEP_ALIVE, session)
    r.connect(1, principal="another")
    r.ask("open session of another principal", Op.OPEN_SESSION, NONCE, 10_000)
    r.connect(1)
    r.ask("keep alive of a session that is not attached", Op.KEEP_ALIVE, session)
    r.ask("attach with a wrong nonce", Op.ATTACH, session, SECRET)
    r.ask("attach", Op.ATTACH, session, NONCE)
    r.ask("close session", Op.CLOSE_SESSION, session)
    r.event("session ended", 6)
    r.ask("attach to a session that is over", Op.ATTACH, session, NONCE)
    # A session that ran out while the node that serves the connection could not learn it: the cluster says so.
    origin = r.served.drivers[1].clients.local[r.connection]
    origin.attached.add(session)
    r.ask("keep alive of a session that is over", Op.KEEP_ALIVE, session)
    r.ask("close session that is over", Op.CLOSE_SESSION, session)
    r.cancel("cancel in a session that is over", session, 0, 1)
    r.acquire("acquire in a session that is over", (session, 0, 1), "order:1")
    origin.attached = set(range(1, limits.SESSIONS_PER_CONNECTION_MAX + 1))
    r.ask("one session too many on a connection", Op.OPEN_SESSION, bytes(16), 10_000)
    r.ask("one session too many on a connection, attached", Op.ATTACH, session, NONCE)
    r.connect(1)
    r.served.command((int(Op.SET_SETTINGS), 0, {"sessions_max": 0}))
    r.ask("one session too many in the cluster", Op.OPEN_SESSION, bytes(16), 10_000)


def _grants(r: Recorder) -> None:
    session = r.session()
    granted = r.acquire("acquire", (session, 0, 1), "order:1", metadata={"host": "h1"})
    token, rev = granted[4:6]
    r.acquire(
        "acquire again: the recorded outcome", (session, 0, 1), "order:1", metadata={"host": "h1"}
    )
    r.acquire("acquire again with other fields", (session, 0, 1), "order:2")
    r.acquire("acquire of what is held", (session, 1, 1), "order:1", owner="you")
    r.acquire("acquire of what is held, again", (session, 1, 1), "order:1", owner="you")
    r.ask("check", Op.CHECK, "order:1", token)
    r.ask("check of another token", Op.CHECK, "order:1", token + 1)
    r.ask("get", Op.GET, "order:1", False)
    r.ask("get, stale", Op.GET, "order:1", True)
    r.ask("get of what is free", Op.GET, "free", False)
    r.ask("renew", Op.RENEW, [("order:1", token), ("free", token), ("order:1", 1)])
    changed = r.ask("change ttl", Op.CHANGE_TTL, "order:1", token, 20_000, rev)
    r.ask("change ttl of another rev", Op.CHANGE_TTL, "order:1", token, 30_000, rev)
    r.ask("change ttl of what is not held", Op.CHANGE_TTL, "free", token, 30_000, changed[3])
    inside = r.acquire("acquire in the session", (session, 2, 1), "in:1", ttl_ms=0)
    r.ask("renew in the session", Op.RENEW, [("in:1", inside[4])])
    r.ask("change ttl in the session", Op.CHANGE_TTL, "in:1", inside[4], 5_000, inside[5])
    for by, what in ((ListBy.PREFIX, ""), (ListBy.OWNER, "me"), (ListBy.SESSION, session)):
        r.ask(f"list by {by.name.lower()}", Op.LIST, by, what, "", 1, False)
    r.ask("list, empty", Op.LIST, ListBy.PREFIX, "zzz", "", 1_000, True)
    r.connect(1, principal="another")
    r.ask("release by another principal", Op.RELEASE, "order:1", token)
    r.ask("change ttl by another principal", Op.CHANGE_TTL, "order:1", token, 5_000, rev)
    r.ask("release", Op.RELEASE, "free", token)
    r.connect(1)
    r.ask("", Op.ATTACH, session, NONCE)
    r.ask("release of what is held", Op.RELEASE, "order:1", token)
    r.acquire(
        "acquire again: granted, and over", (session, 0, 1), "order:1", metadata={"host": "h1"}
    )
    r.acquire("", (session, 0, 2), "order:1")
    r.acquire("acquire with an n of before", (session, 0, 1), "order:1", metadata={"host": "h1"})
    r.cancel("cancel of an n of before", session, 0, 1)
    r.cancel("cancel of a grant", session, 0, 2)
    r.cancel("cancel of what has not arrived", session, 3, 1)
    r.acquire("acquire that was cancelled", (session, 3, 1), "order:1")


def _waiting(r: Recorder) -> None:
    session = r.session()
    holder = r.acquire("", (session, 0, 1), "queue", ttl_ms=60_000)
    key = (session, 1, 1)
    how: dict[str, Any] = {"ttl_ms": 0, "wait_ms": 60_000}
    r.acquire("acquire that waits", key, "queue", **how)
    r.acquire("acquire that waits, again", key, "queue", **how)
    r.acquire("", (session, 2, 1), "queue", wait_ms=1_000)
    r.ask("list by session, with who waits", Op.LIST, ListBy.SESSION, session, "", 1_000, False)
    r.cancel("cancel of a waiter", session, 2, 1)
    r.acquire("", (session, 3, 1), "queue", wait_ms=100)
    r.served.advance(200)
    r.event("timeout", 2)
    r.acquire("acquire that waited in vain, again", (session, 3, 1), "queue", wait_ms=100)
    r.ask("", Op.RELEASE, "queue", holder[4])
    offer = r.event("offered", 1)
    grant = offer[6:8]
    r.acquire("acquire that is offered, asked again", key, "queue", **how)
    r.ask("check of an offer", Op.CHECK, *grant)
    r.ask("get of an offer", Op.GET, "queue", False)
    r.ask("change ttl of an offer", Op.CHANGE_TTL, *grant, 5_000, offer[8])
    r.ask("renew of an offer: taken up", Op.RENEW, [grant])
    r.acquire("", (session, 4, 1), "queue", wait_ms=60_000)
    r.ask("", Op.RELEASE, *grant)
    r.event("offered, with a lease of its own", 1)
    r.served.advance(2_100)
    r.event("an offer passed on", 3)
    r.served.command(
        (int(Op.SET_SETTINGS), 0, {"slots_max": SLOT + 8, "waiters_per_resource_max": 0})
    )
    r.acquire("acquire in a slot beyond the limit", (session, 8, 1), "queue")
    r.acquire("", (session, 5, 1), "full", ttl_ms=60_000)
    r.acquire("", (session, 6, 1), "full", wait_ms=60_000)
    r.acquire("acquire that finds the queue full", (session, 7, 1), "full", wait_ms=60_000)


def _forced(r: Recorder) -> None:
    session = r.session()
    cut = r.acquire("", (session, 0, 1), "cut", ttl_ms=0)[4]
    own = r.acquire("", (session, 1, 1), "own")
    gone = r.acquire("", (session, 2, 1), "gone", ttl_ms=60_000)[4]
    r.ask("force release at expiry", Op.FORCE_RELEASE, "cut", cut, "operator", False)
    r.event("cut", 4)
    r.ask("renew of what was cut out of its session", Op.RENEW, [("cut", cut)])
    r.acquire("acquire again: cut out of its session", (session, 0, 1), "cut", ttl_ms=0)
    r.ask("list by session, with what was cut", Op.LIST, ListBy.SESSION, session, "", 10, False)
    r.ask("", Op.FORCE_RELEASE, "own", own[4], "operator", False)
    r.ask("renew of what is ending", Op.RENEW, [("own", own[4])])
    r.ask("change ttl of what is ending", Op.CHANGE_TTL, "own", own[4], 5_000, own[5])
    r.ask("force release now", Op.FORCE_RELEASE, "gone", gone, "operator", True)
    r.event("lost", 3)
    r.ask("force release of what is not held", Op.FORCE_RELEASE, "gone", gone, "operator", True)


def _refusals(r: Recorder) -> None:
    session = r.session()
    r.ask("unknown request", 99)
    r.ask("too many elements", Op.KEEP_ALIVE, session, 0)
    r.served.send(r.connection, pack([(int(Op.KEEP_ALIVE), 0, session)]))
    r.event("a request whose id cannot be read", 15)
    leading = r.served.drivers[1].leading
    leading.ordinary += limits.ORDINARY_REQUESTS_MAX
    r.acquire("too many requests are open", (session, 0, 1), "order:1")
    leading.ordinary -= limits.ORDINARY_REQUESTS_MAX
    r.served.command((int(Op.NEW_LIFE), 0, WALL_US, 3_600_000_000))
    r.connect(1)
    session = r.ask("", Op.OPEN_SESSION, NONCE, 10_000)[3]
    r.acquire("acquire after a restore", (session, 0, 1), "order:1")


def _members(r: Recorder) -> None:
    new = (2, f"{2:032x}")
    addresses = ("192.0.2.2:7411", "192.0.2.2:7401")
    r.ask("add member", Op.ADD_MEMBER, *new, *addresses)
    r.ask("add member again", Op.ADD_MEMBER, *new, *addresses)
    r.ask("add member with another incarnation", Op.ADD_MEMBER, 2, f"{3:032x}", *addresses)
    r.ask("members", Op.MEMBERS)
    r.ask("promote a member that is behind", Op.PROMOTE_MEMBER, *new)
    r.ask("promote a voter", Op.PROMOTE_MEMBER, 1, f"{1:032x}")
    r.ask("remove member", Op.REMOVE_MEMBER, *new)
    r.ask("remove the last voter", Op.REMOVE_MEMBER, 1, f"{1:032x}")
    r.ask("add member that was removed", Op.ADD_MEMBER, *new, *addresses)


def _audit(r: Recorder) -> None:
    session = r.session()
    token = r.acquire("", (session, 0, 1), "order:1")[4]
    r.ask("", Op.RELEASE, "order:1", token)
    r.served.advance(1_000)
    nothing = (None,) * 7
    r.ask("records of a lock", Op.AUDIT_READ, 1, 0, "order:1", *nothing[1:], 100)
    first = r.ask("records, the first page", Op.AUDIT_READ, 1, 0, *nothing, 2)
    r.ask("records, the next page", Op.AUDIT_READ, *first[5:7], *nothing, 1_000)
    r.ask("records, no more yet", Op.AUDIT_READ, 1_000, 0, *nothing, 1_000)


def _no_audit(r: Recorder) -> None:
    r.ask("records of a node without an audit", Op.AUDIT_READ, 1, 0, *(None,) * 7, 100)


def _no_leader(r: Recorder) -> None:
    r.ask("no leader is known", Op.CHECK, "order:1", 1)


def _leader_lost(r: Recorder) -> None:
    leader, follower = r.node, next(i for i in r.served.drivers if i != r.node)
    session = r.session()
    own = r.acquire("", (session, 0, 1), "own")[4]
    logged = r.acquire("", (session, 1, 1), "logged", ttl_ms=60_000)[4]
    r.connect(follower)
    r.ask("through a follower", Op.ATTACH, session, NONCE)
    r.served.cut = {leader}
    lost = r.send(Op.RELEASE, "own", own)
    r.served.drop_link(follower, leader)
    r.served.settle()
    r.answered("the leader was lost before the answer", lost)
    r.event("routes lost", 5)
    r.connect(leader)
    leases = [("own", own), ("logged", logged)]
    renewal = r.send(Op.RENEW, leases)
    r.served.advance(2_000)
    r.answered("renew at a leader that lost its majority", renewal)


_SCENARIOS: dict[Callable[[Recorder], None], Callable[[], Recorder]] = {
    _connection: Recorder,
    _sessions: Recorder,
    _grants: Recorder,
    _waiting: Recorder,
    _forced: Recorder,
    _refusals: Recorder,
    _members: Recorder,
    _audit: lambda: Recorder(audit=True),
    _no_audit: Recorder,
    _no_leader: lambda: Recorder(3, serving=False),
    _leader_lost: lambda: Recorder(3),
}


@cache
def recorded() -> tuple[Recorded, ...]:
    """Return everything, recorded once a process."""
    found: list[Recorded] = []
    for scenario, recorder in _SCENARIOS.items():
        r = recorder()
        scenario(r)
        found += r.found
    return tuple(found)
