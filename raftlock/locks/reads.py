"""What the table answers without changing: renewals by class, checks, infos and lists, and the index of names."""

import heapq
from enum import Enum, auto
from itertools import islice
from typing import TYPE_CHECKING, Any

from sortedcontainers import SortedSet

from raftlock.locks.records import Grant, Session, Waiter
from raftlock_wire.messages import GrantState, ListBy
from raftlock_wire.status import Status

if TYPE_CHECKING:
    from raftlock.locks.table import LockTable

Answer = tuple[Any, ...]

DELTA_MAX = 100_000
"""Names touched since the last merge; beyond it the index is dropped and built anew when a list asks for it."""
OWNER_STEPS_MAX = 10_000
"""Names that one page of a list by owner looks at; a page may then be short, and its cursor goes on."""


class RenewalClass(Enum):
    """Which way a renewal goes."""

    NOT_HELD = auto()
    ENDING = auto()
    OFFER = auto()
    """Through the log: it takes the offer up (L10)."""
    LOGGED = auto()
    """Through the log (L6)."""
    SESSION = auto()
    """Answered OK, and does nothing (L9)."""
    OWN = auto()
    """Re-arms the leader's deadline (L4)."""


def renewal_class(table: "LockTable", resource: str, token: int) -> RenewalClass:
    """Return the class of a renewal of this token, by the state now."""
    grant = table.lookup(resource)
    if grant is None or grant.token != token:
        return RenewalClass.NOT_HELD
    if grant.state is GrantState.ENDING:
        return RenewalClass.ENDING
    if grant.offer:
        return RenewalClass.OFFER
    if not grant.ttl_ms:
        return RenewalClass.SESSION
    return RenewalClass.LOGGED if table.is_logged_class(grant) else RenewalClass.OWN


def renewal_answer(table: "LockTable", resource: str, token: int) -> Answer:
    """Return the item that answers a renewal that needs no log entry."""
    grant = table.lookup(resource)
    if grant is None or grant.token != token:
        return (int(Status.NOT_HELD), grant.token if grant is not None else 0)
    session = table.session(grant.session) if not grant.ttl_ms or grant.cut else None
    count = session.count if session is not None else None
    status = Status.ENDING if grant.state is GrantState.ENDING else Status.OK
    return (int(status), count, grant.rev, grant.ttl_ms, -1)


def check_answer(table: "LockTable", request_id: int, resource: str, token: int) -> Answer:
    """Return whether a token is the current grant."""
    grant = table.lookup(resource)
    if grant is None or grant.token != token:
        return (request_id, int(Status.NOT_HELD), True, grant.token if grant is not None else 0)
    status = Status.OFFERED if grant.offer else Status.OK
    return (request_id, int(status), True, grant.rev)


def info(table: "LockTable", grant: Grant) -> Answer:
    """Return what people and clients see of a grant."""
    queue = table.queues.get(grant.resource)
    return (
        grant.resource,
        int(grant.state),
        grant.token,
        grant.rev,
        grant.owner,
        grant.session,
        grant.slot,
        grant.n,
        grant.ttl_ms,
        grant.granted_wall_us,
        grant.principal,
        grant.address,
        grant.metadata,
        len(queue) if queue is not None else 0,
        None,
    )


def _waiting_info(waiter: Waiter) -> Answer:
    return (
        waiter.resource,
        int(GrantState.WAITING),
        0,
        0,
        waiter.owner,
        waiter.session,
        waiter.slot,
        waiter.n,
        waiter.ttl_ms,
        waiter.wall_us,
        waiter.principal,
        waiter.address,
        waiter.metadata,
        0,
        None,
    )


def list_page(
    table: "LockTable", by: int, what: Any, cursor: str, limit: int
) -> tuple[list[Answer], str]:
    """Return one page in the order of names, or of a session's tokens, and the cursor of the next."""
    if by == ListBy.SESSION:
        session = table.session(what)
        return (
            ([], "")
            if session is None or session.ended
            else _session_page(table, session, cursor, limit)
        )
    prefix = what if by == ListBy.PREFIX else ""
    found: list[Answer] = []
    after = cursor >= prefix and cursor != ""
    names = table.index.names_from(table, max(cursor, prefix), after=after)
    for steps, name in enumerate(names, 1):
        if not name.startswith(prefix):
            return found, ""
        grant = table.lookup(name)
        if grant is not None and (by == ListBy.PREFIX or grant.owner == what):
            found.append(info(table, grant))
        if len(found) >= limit or steps >= OWNER_STEPS_MAX:
            return found, name
    return found, ""


def _session_page(
    table: "LockTable", session: Session, cursor: str, limit: int
) -> tuple[list[Answer], str]:
    """List a session's locks and offers, what was cut out of it, and its waiting acquires (L9).

    The cursor is the last token ("t17"), then the last slot ("s3"): a lock that is there all the time is on a page,
    whatever else comes and goes between two pages.
    """
    found: list[Answer] = []
    after = int(cursor[1:]) if cursor[1:].isdigit() else 0
    if not cursor.startswith("s"):
        # `cut` is in the order of the cuts, which an administrator chose: a cursor is a place in that of the tokens.
        for token, resource in heapq.merge(session.locks.items(), sorted(session.cut.items())):
            if token <= after:
                continue
            grant = table.lookup(resource)
            if grant is not None and grant.token == token:
                found.append(info(table, grant))
            if len(found) >= limit:
                return found, f"t{token}"
        after = -1
    for slot in sorted(session.waiting):
        if slot > after:
            queue = table.queues[session.waiting[slot]]
            found.append(_waiting_info(queue[session.session_id, slot]))
            if len(found) >= limit:
                return found, f"s{slot}"
    return found, ""


class NameIndex:
    """The names of all locks in order, kept lazily: apply only notes which names it touched (decision 9)."""

    def __init__(self) -> None:
        self.delta: dict[str, None] = {}
        self._names: SortedSet | None = SortedSet()

    def bound(self) -> None:
        """Drop the index when too many names were touched since it was merged."""
        if len(self.delta) > DELTA_MAX:
            # Cleared in place: the hot loop holds the dict.
            self.delta.clear()
            self._names = None

    def merge(self, table: "LockTable", steps: int) -> bool:
        """Bring up to `steps` names up to date. Return whether any are left."""
        if self._names is None:
            return False
        for name in list(islice(self.delta, steps)):
            del self.delta[name]
            if name in table.bucket(name):
                self._names.add(name)
            else:
                self._names.discard(name)
        return bool(self.delta)

    def names_from(self, table: "LockTable", start: str, *, after: bool) -> Any:
        """Iterate over names from `start` on (or after it)."""
        if self._names is None and table.lock_count <= DELTA_MAX:
            self._names = SortedSet(name for bucket in table.buckets for name in bucket)
            self.delta.clear()
        if self._names is None:
            # Too large to index at once: the next names by one pass, without a stall of the index's size.
            names = (
                n
                for bucket in table.buckets
                for n in bucket
                if n > start or (n == start and not after)
            )
            return heapq.nsmallest(OWNER_STEPS_MAX, names)
        while self.merge(table, DELTA_MAX):
            pass
        return self._names.irange(start, None, inclusive=(not after, True))
