"""The life of one lock: its records, in order, told as who held it, who waited, and why each of these ended.

Pure: rows in, chapters out as soon as they are over. It keeps the lock's holder and its waiters and nothing else. What
began before the first record has no beginning.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from raftlock.audit.names import Row

RELEASED = "released"
EXPIRED = "expired"
FORCED = "forced"
CANCELLED = "cancelled"
SESSION_ENDED = "session_ended"
TIMED_OUT = "timed_out"
GIVEN_UP = "given_up"
"""A later acquire took the waiter's slot."""
NOT_TAKEN_UP = "not_taken_up"
"""An offer that nobody renewed in time."""
UNKNOWN = "unknown"
"""Another grant stands there, and the records between are missing (or the cluster was restored)."""
OPEN = ""
"""It is not over at the last record."""

_ENDS = {
    "its session ended": SESSION_ENDED,
    "its client closed it": SESSION_ENDED,
    "it was cancelled": CANCELLED,
    "its wait was over": TIMED_OUT,
    "a later acquire took its place": GIVEN_UP,
}


@dataclass(slots=True, kw_only=True)
class Force:
    """An administrator's word on a grant."""

    time: str
    by: str
    address: str
    reason: str
    when: str


@dataclass(slots=True, kw_only=True)
class Holding:
    """One grant, from its beginning to its end."""

    token: int
    owner: str | None = None
    session: int | None = None
    principal: str | None = None
    address: str | None = None
    ttl_ms: int | None = None
    offered: str | None = None
    """When it was offered to a waiter."""
    since: str | None = None
    """When it was held from; None: before the first record, or an offer that nobody has taken up."""
    taken_up: bool = True
    """False: offered, and nobody held it."""
    until: str | None = None
    waited_ms: float | None = None
    """Between its acquire and its offer; None: it did not wait, or since before the first record."""
    end: str = OPEN
    reason: str = ""
    ended_by: str | None = None
    """The address of who released or forced it."""
    forced: Force | None = None
    renewals: int = 0
    """Those that went through the log."""
    refused: int = 0
    """Acquires that were told HELD meanwhile."""


@dataclass(slots=True, kw_only=True)
class Waiting:
    """One wait that ended without an offer, or is not over."""

    owner: str | None
    session: int
    slot: int
    n: int
    since: str | None = None
    until: str | None = None
    end: str = OPEN
    reason: str = ""
    address: str | None = None


Chapter = Holding | Waiting


class Story:
    """Tells of one resource."""

    def __init__(self) -> None:
        self._now: Holding | None = None
        self._waiting: dict[tuple[int, int, int], Waiting] = {}

    def tell(self, rows: Iterable[Row]) -> Iterator[Chapter]:
        """Return what the rows of one resource tell: each chapter when it is over, at last those that are not."""
        for row in rows:
            take = _TAKES.get(row["operation"])
            if take is not None:
                yield from take(self, row)
        if self._now is not None:
            yield self._now
        yield from self._waiting.values()

    def _acquire(self, row: Row) -> Iterator[Chapter]:
        status = row["status"]
        if status == "OK" and not row.get("repeated"):
            yield from self._grant(row, Holding(token=row["token"], since=row["time"]))
        elif status == "QUEUED":
            key = _key(row)
            if key not in self._waiting:
                self._waiting[key] = waiting = _waiting(row)
                waiting.since, waiting.address = row["time"], row.get("address")
        elif status == "HELD" and self._now is not None:
            # A retry is told who held it when it came first: that one may be long gone.
            self._now.refused += self._now.token == row.get("held_by_token")

    def _offer(self, row: Row) -> Iterator[Chapter]:
        waited = self._waiting.pop(_key(row), None)
        offered = Holding(token=row["token"], offered=row["time"], taken_up=False)
        if waited is not None:
            offered.address = waited.address
            if waited.since is not None:
                offered.waited_ms = milliseconds(waited.since, row["time"])
        yield from self._grant(row, offered)

    def _grant(self, row: Row, grant: Holding) -> Iterator[Chapter]:
        if self._now is not None:
            self._now.end = UNKNOWN
            yield self._now
        grant.owner, grant.session = row.get("owner"), row.get("session")
        grant.principal, grant.ttl_ms = row.get("principal"), row.get("ttl_ms")
        grant.address = grant.address or row.get("address")
        self._now = grant

    def _of(self, row: Row) -> Holding:
        """Return the grant that a row names, also one that began before the first record."""
        if self._now is None or self._now.token != row["token"]:
            self._now = Holding(token=row["token"], owner=row.get("owner"))
        return self._now

    def _renew(self, row: Row) -> Iterator[Chapter]:
        if row["status"] == "OK":
            now = self._of(row)
            if not now.taken_up:
                now.taken_up, now.since = True, row["time"]
            else:
                now.renewals += 1
        yield from ()

    def _change_ttl(self, row: Row) -> Iterator[Chapter]:
        if row["status"] == "OK":
            self._of(row).ttl_ms = row.get("ttl_ms")
        yield from ()

    def _force(self, row: Row) -> Iterator[Chapter]:
        if row["status"] == "OK":
            self._of(row).forced = Force(
                time=row["time"],
                by=row.get("principal") or "",
                address=row.get("address") or "",
                reason=row.get("reason") or "",
                when=row.get("when") or "",
            )
        yield from ()

    def _release(self, row: Row) -> Iterator[Chapter]:
        if row["status"] == "OK":
            self._of(row).ended_by = row.get("address")
            yield from self._over(row, RELEASED)

    def _expire(self, row: Row) -> Iterator[Chapter]:
        yield from self._over(row, EXPIRED if self._of(row).taken_up else NOT_TAKEN_UP)

    def _end(self, row: Row) -> Iterator[Chapter]:
        reason = row.get("reason", "")
        forced = self._of(row).forced
        if reason.startswith("forced: ") and forced is not None:
            self._of(row).ended_by = forced.address
        yield from self._over(row, _ENDS.get(reason, FORCED))

    def _over(self, row: Row, end: str) -> Iterator[Chapter]:
        now = self._of(row)
        now.until, now.end, now.reason = row["time"], end, row.get("reason", "")
        now.owner = now.owner or row.get("owner")
        self._now = None
        yield now

    def _wait_end(self, row: Row) -> Iterator[Chapter]:
        waiting = self._waiting.pop(_key(row), None) or _waiting(row)
        waiting.until, waiting.reason = row["time"], row.get("reason", "")
        waiting.end = _ENDS.get(waiting.reason, UNKNOWN)
        yield waiting


_TAKES: dict[str, Callable[[Story, Row], Iterator[Chapter]]] = {
    "acquire": Story._acquire,
    "offer": Story._offer,
    "renew": Story._renew,
    "change_ttl": Story._change_ttl,
    "force_release": Story._force,
    "release": Story._release,
    "expire": Story._expire,
    "end": Story._end,
    "timeout": Story._wait_end,
    "wait_end": Story._wait_end,
}


def milliseconds(since: str, until: str) -> float:
    """Return the time between two rows."""
    delta = datetime.fromisoformat(until) - datetime.fromisoformat(since)
    return delta.total_seconds() * 1_000


def _key(row: Row) -> tuple[int, int, int]:
    return row["session"], row["slot"], row["n"]


def _waiting(row: Row) -> Waiting:
    return Waiting(owner=row.get("owner"), session=row["session"], slot=row["slot"], n=row["n"])
