"""A table with a log of its own: each command is one entry, so that every index, token and time is known in a test.

Genesis is entry 1 and sets the token counter to 1,000; the next command is entry 2, and the first grant is token 1,001.
"""

from typing import Any

from raftlock.locks import Applied, LockTable
from raftlock_wire.messages import Op

ID = 7
"""The id of every request."""
ADDRESS = "10.0.0.1:5000"
WALL_US = 5_000_000

Answer = tuple[Any, ...]


def wall(index: int) -> int:
    """Return the wall time of an entry."""
    return WALL_US + index * 1_000


class Log:
    """A table, and the log that it is fed with."""

    def __init__(
        self,
        *,
        snapshot_open: bool = False,
        logged_renewal_ttl_ms: int = 60_000,
        token: int = 1_000,
    ) -> None:
        self.table = LockTable()
        self.index = 0
        self.skipped_us = 0
        self.last = Applied()
        self.do(Op.GENESIS, token, logged_renewal_ttl_ms)
        if snapshot_open:
            self.table.begin_snapshot()

    def do(self, op: Op, *fields: Any, principal: str = "", address: str = ADDRESS) -> Answer:
        """Apply one command as one entry and return its answer."""
        request = (int(op), ID if op < Op.EXPIRE_LOCK else 0, *fields)
        return self.entry((principal, address, request))[0][0]

    def entry(self, *groups: tuple[Any, ...]) -> list[list[Answer]]:
        """Apply one entry of groups and return its answers."""
        self.index += 1
        stamp_us = self.skipped_us + self.index * 1_000
        self.last = self.table.apply(
            self.index, stamp_us, self.skipped_us + wall(self.index), groups
        )
        return self.last.answers

    def open(self, *, nonce: int = 0, ttl_ms: int = 10_000, principal: str = "") -> int:
        """Open a session and return its id: 1 is the first."""
        number = nonce or self.table.session_counter + 1
        answer = self.do(Op.OPEN_SESSION, number.to_bytes(16, "big"), ttl_ms, principal=principal)
        session: int = answer[3]
        return session

    def close(self, session: int) -> Answer:
        """Close a session."""
        return self.do(Op.CLOSE_SESSION, session)

    def acquire(
        self,
        session: int,
        resource: str,
        *,
        slot: int = 0,
        n: int = 1,
        owner: str = "ann",
        ttl_ms: int = 1_000,
        wait_ms: int = 0,
        metadata: dict[str, str] | None = None,
        principal: str = "",
    ) -> Answer:
        """Acquire with a lease of its own, or in the session with ttl_ms 0."""
        fields = (session, slot, n, resource, owner, ttl_ms, wait_ms, metadata)
        return self.do(Op.ACQUIRE, *fields, principal=principal)

    def queue(self, session: int, resource: str, *, slot: int = 0, ttl_ms: int = 1_000) -> Answer:
        """Acquire and wait."""
        return self.acquire(session, resource, slot=slot, ttl_ms=ttl_ms, wait_ms=9_000)

    def cancel(self, session: int, *, slot: int = 0, n: int = 1) -> Answer:
        """Withdraw an acquire."""
        return self.do(Op.CANCEL, session, slot, n)

    def release(self, resource: str, token: int, *, principal: str = "") -> Answer:
        """Release a grant."""
        return self.do(Op.RELEASE, resource, token, principal=principal)

    def renew(self, resource: str, token: int) -> Answer:
        """Renew through the log."""
        return self.do(Op.LOGGED_RENEW, resource, token)

    def expire(self, resource: str, token: int, rev: int) -> Answer:
        """Expire a lease."""
        return self.do(Op.EXPIRE_LOCK, resource, token, rev)

    def force(self, resource: str, token: int, *, now: bool) -> Answer:
        """End a grant for an administrator."""
        return self.do(Op.FORCE_RELEASE, resource, token, "stuck", now)

    def sweep(self, session: int) -> Answer:
        """Hand on what an ended session left."""
        return self.do(Op.SWEEP_SESSION, session)

    @property
    def effects(self) -> dict[str, Any]:
        """Return what the last entry did beside its answers; grants as (resource, token, rev)."""
        effects = {
            "granted": [(g.resource, g.token, g.rev) for g in self.last.granted],
            "ended": self.last.ended,
            "queued": self.last.queued,
            "unqueued": self.last.unqueued,
            "opened": self.last.opened,
            "sessions_ended": self.last.sessions_ended,
            "events": self.last.events,
        }
        return {name: value for name, value in effects.items() if value}

    @property
    def counts(self) -> tuple[int, int, int]:
        """Return how many locks, waiters and sessions the table counts."""
        return (self.table.lock_count, self.table.waiter_count, self.table.session_count)

    def token(self, resource: str) -> int:
        """Return the current token of a resource, 0 if it is free."""
        grant = self.table.lookup(resource)
        return 0 if grant is None else grant.token
