"""What the table keeps: grants, waiters, sessions with their slots, and replicated settings.

Grants and waiters are immutable tuples: an acquire costs one allocation, and the garbage collector stops looking at a
tuple that holds only text and numbers.
"""

from typing import Any, NamedTuple

from raftlock_wire import limits
from raftlock_wire.messages import GrantState
from raftlock_wire.status import Status

Content = tuple[str, str, int, int, dict[str, str] | None]
"""What an acquire asks for: (resource, owner, ttl_ms, wait_ms, metadata)."""


class Grant(NamedTuple):
    """One grant of a resource. `ttl_ms` 0: it lives and dies with its session."""

    resource: str
    token: int
    rev: int
    """Index of the last command that granted, changed or (in the log) renewed the lease (L1)."""
    state: GrantState
    owner: str
    session: int
    slot: int
    n: int
    ttl_ms: int
    wait_ms: int
    metadata: dict[str, str] | None
    principal: str
    address: str
    granted_wall_us: int
    stamp_us: int
    """Lease clock of the last logged grant, change or renewal (L6)."""
    offer: bool
    """Granted out of the queue and not taken up yet (L10)."""
    cut: bool
    """Cut out of its session by an administrator (L9); `ttl_ms` is then the session's."""

    @property
    def content(self) -> Content:
        """Return what the acquire asked for. A later change of the ttl is in the grant that replaces this one."""
        return (self.resource, self.owner, self.ttl_ms, self.wait_ms, self.metadata)


class Waiter(NamedTuple):
    """An acquire in a queue."""

    session: int
    slot: int
    n: int
    resource: str
    owner: str
    ttl_ms: int
    wait_ms: int
    metadata: dict[str, str] | None
    principal: str
    address: str
    wall_us: int

    @property
    def content(self) -> Content:
        """Return what the acquire asked for."""
        return (self.resource, self.owner, self.ttl_ms, self.wait_ms, self.metadata)


class Outcome(NamedTuple):
    """What a slot remembers of its last acquire (R2).

    The content is kept itself, not as a hash of it: it is exact, and while the lock lives it is the grant's own.
    """

    n: int
    status: Status
    of: Grant | Waiter | Content | None
    """The grant (OK, OFFERED) as it was made; the waiter (QUEUED, TIMEOUT); else the content, None if unknown."""
    detail: tuple[Any, ...] = ()
    """For HELD: (owner, token, since_wall_us) of the holder then."""

    def same_content(self, content: Content) -> bool:
        """Return whether a repeated acquire asks for what the first one did."""
        of = self.of
        if of is None:
            return True
        return (of.content if isinstance(of, Grant | Waiter) else of) == content


class Session:
    """A client process's registration."""

    __slots__ = (
        "address",
        "count",
        "cut",
        "ended",
        "locks",
        "nonce",
        "principal",
        "rev",
        "session_id",
        "slots",
        "ttl_ms",
        "waiting",
    )

    def __init__(
        self, *, session_id: int, nonce: bytes, ttl_ms: int, rev: int, principal: str, address: str
    ) -> None:
        self.session_id = session_id
        self.nonce = nonce
        self.ttl_ms = ttl_ms
        self.rev = rev
        self.principal = principal
        self.address = address
        self.count = 0
        """What others did to it (L9)."""
        self.ended = False
        self.slots: dict[int, Outcome] = {}
        self.locks: dict[int, str] = {}
        """Token to resource of the locks and offers that live with the session, in order of their tokens."""
        self.cut: dict[int, str] = {}
        """Those that were cut out of it and are not over yet, in the order of the cuts."""
        self.waiting: dict[int, str] = {}
        """Slot to resource of its acquires in queues."""

    def copy(self) -> "Session":
        """Return one that later commands do not change: what it refers to is immutable."""
        copied = Session(
            session_id=self.session_id,
            nonce=self.nonce,
            ttl_ms=self.ttl_ms,
            rev=self.rev,
            principal=self.principal,
            address=self.address,
        )
        copied.count, copied.ended = self.count, self.ended
        copied.slots, copied.locks = dict(self.slots), dict(self.locks)
        copied.cut, copied.waiting = dict(self.cut), dict(self.waiting)
        return copied


class Settings(NamedTuple):
    """Limits that apply needs: replicated, changed by logged commands only (decision 6)."""

    logged_renewal_ttl_ms: int = limits.LOGGED_RENEWAL_TTL_MS_DEFAULT
    waiters_per_resource_max: int = limits.WAITERS_PER_RESOURCE_MAX
    sessions_max: int = limits.SESSIONS_MAX
    slots_max: int = limits.SLOTS_MAX
