"""The invariants of the lock table, checked on whichever node applies an index first; the others by their digests.

It keeps its own, simple account of grants and queues. It must not ask the table what it should be.
"""

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from raftlock.testing.invariants import Violation
from raftlock.testing.table_situations import note_answer, note_command
from raftlock.testing.world import World
from raftlock_wire.messages import Event, GrantState, Op
from raftlock_wire.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from raftlock.locks import Applied, LockTable
    from raftlock.locks.snapshot import SnapshotStream

Key = tuple[int, int, int]
"""(session, slot, n)"""

Attempt = tuple[int, int, int, int, str]
"""(session, slot, n, request id, address)"""

DIGEST_EVERY = 16


class TableChecks:
    """One account of what was granted, in the order of the log."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.highest = 0
        """The newest index that any node has applied."""
        self.digests: dict[int, bytes] = {}
        """Index to the digest of the table after it, for some indexes."""
        self.token = 0
        self._orders: dict[str, dict[Key, None]] = {}
        self._ended_sessions: set[int] = set()
        self.granted: dict[Key, int] = {}
        """Key to the token that it was granted."""
        self._owner_of: dict[int, tuple[str, Key]] = {}
        self.closed: dict[Key, str] = {}
        """Keys whose clients were told that they failed, and how."""
        self.shown: dict[str, list[tuple[int, int]]] = {}
        """Resource to (index, the token that a get shows from there on; 0: none)."""
        self.ended_at: dict[int, int] = {}
        """Token to the index at which it ended."""
        self._counted = (0, 0)
        """Grants and ends of the entry being applied that were looked at."""
        self._attempts: dict[Attempt, int] = {}
        """Attempts of acquires that are in the log, and where."""
        self._refused: dict[Attempt, str] = {}
        """Attempts whose clients were told that they were not taken, and how."""
        self._applying: LockTable | None = None
        """The table that applies the newest entry, for the first time."""
        self.mixed: Callable[[LockTable], None] | None = None
        """Looks at tables whose versions may differ, in a run with nodes of two builds."""

    # around apply

    def apply(
        self, inner: "Callable[..., Applied]", table: "LockTable", index: int, *rest: Any
    ) -> "Applied":
        """Apply an entry, and check what it did if it is the first time."""
        first = index == self.highest + 1 and not (self.mixed and _stops(table, rest[2]))
        if first:
            self.highest = index
            self._counted = (0, 0)
            self._applying = table
        applied = inner(table, index, *rest)
        self._applying = None
        if self.mixed is not None:
            self.mixed(table)
        if first:
            self._granted_since(table, applied)
            self._sessions_ended(table, applied)
            self._note_ends(applied)
            groups: Sequence[tuple[Any, ...]] = rest[2]
            self._note_attempts(groups)
            for group, answers in zip(groups, applied.answers, strict=True):
                for request, answer in zip(group[2:], answers, strict=True):
                    note_answer(self._world, request, answer)
        if index % DIGEST_EVERY == 0:
            self.same_digest(table, index)
        return applied

    def command(
        self, inner: "Callable[..., Any]", table: "LockTable", request: tuple[Any, ...], *rest: Any
    ) -> Any:
        """Carry out one command that is not on the hot path, and check what it did if it is the first time."""
        if table.stream is not None:
            self._world.saw("a snapshot is saved while commands change the table")
        if table is not self._applying:
            return inner(table, request, *rest)
        applied: Applied = rest[2]
        self._granted_since(table, applied)
        self._note_ends(applied)
        before = (
            len(applied.queued),
            len(applied.unqueued),
            len(applied.events),
            len(applied.sessions_ended),
        )
        note_command(self._world, table, request)
        known = self._known(table, request)
        answer = inner(table, request, *rest)
        self._check_known(request, known, answer)
        for session, slot, n, _ in applied.queued[before[0] :]:
            self._orders.setdefault(request[5], {})[session, slot, n] = None
        self._ended_sessions.update(applied.sessions_ended[before[3] :])
        for event in applied.events[before[2] :]:
            if event[1] == Event.OFFERED:
                self._offered(event)
        for gone in applied.unqueued[before[1] :]:
            self._unqueued(gone)
        self._granted_since(table, applied)
        self._sessions_ended(table, applied)
        self._note_ends(applied)
        return answer

    # attempts, and what a command may do to what it names

    def _note_attempts(self, groups: "Sequence[tuple[Any, ...]]") -> None:
        for _, address, *requests in groups:
            for request in requests:
                if request[0] == Op.ACQUIRE:
                    attempt = (*request[2:5], request[1], address)
                    self._attempts[attempt] = self.highest
                    if attempt in self._refused:
                        self._not_refused(attempt)

    def refused(self, request: tuple[Any, ...], address: str, status: str) -> None:
        """Learn that a client was told that one attempt of an acquire was not taken."""
        attempt = (*request[2:5], request[1], address)
        self._refused[attempt] = status
        if attempt in self._attempts:
            self._not_refused(attempt)

    def _not_refused(self, attempt: Attempt) -> None:
        raise Violation(
            "honest refusal",
            f"{attempt} was told {self._refused[attempt]}, and is in the log at {self._attempts[attempt]}",
        )

    @staticmethod
    def _known(table: "LockTable", request: tuple[Any, ...]) -> int:
        """Return what a command is measured by: the rev of the lease that it changes, the last n of its slot."""
        if request[0] == Op.CHANGE_TTL:
            grant = table.lookup(request[2])
            return grant.rev if grant is not None else 0
        if request[0] == Op.ACQUIRE:
            session = table.session(request[2])
            outcome = session.slots.get(request[3]) if session is not None else None
            return outcome.n if outcome is not None else 0
        return 0

    def _check_known(self, request: tuple[Any, ...], known: int, answer: tuple[Any, ...]) -> None:
        if request[0] == Op.CHANGE_TTL and answer[1] == Status.OK and request[5] != known:
            raise Violation(
                "compare and set",
                f"index {self.highest} changes {request[2]} {request[3]} of rev {known}, for a client that knows {request[5]}",
            )
        taken = (Status.OK, Status.QUEUED, Status.HELD)
        if request[0] == Op.ACQUIRE and request[4] < known and answer[1] in taken:
            raise Violation(
                "old keys are over",
                f"index {self.highest} takes {request[2:5]}, and its slot has had {known}",
            )

    # queues

    def _offered(self, event: tuple[Any, ...]) -> None:
        _, _, session, _, slot, n, resource, _, _ = event
        key = (session, slot, n)
        order = self._orders.get(resource, {})
        first = next((k for k in order if k[0] not in self._ended_sessions), None)
        if first != key:
            raise Violation(
                "first in first out",
                f"index {self.highest} offers {resource} to {key}, and {first} has waited longer",
            )
        order.pop(key, None)

    def _unqueued(self, key: Key) -> None:
        for resource, order in list(self._orders.items()):
            order.pop(key, None)
            if not order:
                del self._orders[resource]

    # grants

    def _granted_since(self, table: "LockTable", applied: "Applied") -> None:
        """Check the grants that came since the last look: made in line, or by the command before."""
        seen, _ = self._counted
        for grant in applied.granted[seen:]:
            if grant.token in self._owner_of:
                continue
            key = (grant.session, grant.slot, grant.n)
            if grant.token <= self.token:
                raise Violation("tokens grow", f"token {grant.token} comes after {self.token}")
            self.token = grant.token
            if key in self.granted:
                raise Violation(
                    "same key same grant",
                    f"{key} got token {self.granted[key]}, and now {grant.token}",
                )
            if key in self.closed:
                raise Violation(
                    "honest outcome",
                    f"{key} was told {self.closed[key]}, and now gets token {grant.token}",
                )
            waiting = [
                k for k in self._orders.get(grant.resource, ()) if k[0] not in self._ended_sessions
            ]
            if grant.state is GrantState.HELD and not grant.offer and waiting:
                raise Violation(
                    "first in first out",
                    f"index {self.highest} grants {grant.resource} to {key}, and {waiting[0]} waits",
                )
            before = self.shown.get(grant.resource, [(0, 0)])[-1][1]
            if before and before not in applied.ended:
                raise Violation(
                    "one grant",
                    f"index {self.highest} gives {grant.resource} to {key}, and {before} has not ended",
                )
            self.granted[key] = grant.token
            self._owner_of[grant.token] = (grant.resource, key)
            self._show(grant.resource, grant.token)
        self._counted = (len(applied.granted), self._counted[1])
        del table

    def _note_ends(self, applied: "Applied") -> None:
        _, seen = self._counted
        for token in applied.ended[seen:]:
            self.ended_at[token] = self.highest
            resource = self._owner_of[token][0] if token in self._owner_of else ""
            timeline = self.shown.get(resource, [])
            if timeline and timeline[-1][1] == token:
                self._show(resource, 0)
        self._counted = (self._counted[0], len(applied.ended))

    def _sessions_ended(self, table: "LockTable", applied: "Applied") -> None:
        """From the end of its session on, a lock in it is nobody's, swept or not (decision 9)."""
        for session_id in applied.sessions_ended:
            session = table.session(session_id)
            for token, resource in session.locks.items() if session is not None else ():
                timeline = self.shown.get(resource, [])
                if timeline and timeline[-1][1] == token:
                    self._show(resource, 0)

    def _show(self, resource: str, token: int) -> None:
        self.shown.setdefault(resource, []).append((self.highest, token))

    def shown_between(
        self, resource: str, low: int, high: int, *, within: bool = False
    ) -> dict[int, int]:
        """Return what a get may show of a resource in the states of `low` to `high`: token to the first index.

        `within`: also in the middle of an entry, where another command of the same entry may have seen it: one batch
        may hold an acquire, an acquire that it stands in the way of, and the first one's cancel (default seed 28).
        """
        found: dict[int, int] = {}
        current = 0
        timeline = self.shown.get(resource, [])
        for (index, token), after in zip_longest(timeline, timeline[1:]):
            if index > high:
                break
            if not within and after is not None and after[0] == index:
                continue
            if index <= low:
                current = token
            else:
                found.setdefault(token, index)
        found.setdefault(current, low)
        return found

    def close(self, key: Key, how: str) -> None:
        """Learn that a client was told for good that its acquire gave it nothing."""
        token = self.granted.get(key)
        if token is not None and token not in self.ended_at:
            resource = self._owner_of[token][0]
            if self.shown[resource][-1][1] == token:
                raise Violation(
                    "honest outcome", f"{key} was told {how}, and holds {resource} {token}"
                )
        if (
            any(key in order for order in self._orders.values())
            and key[0] not in self._ended_sessions
        ):
            raise Violation("honest outcome", f"{key} was told {how}, and still waits")
        self.closed[key] = how

    # digests and snapshots

    def same_digest(self, table: "LockTable", index: int) -> None:
        """Check that all nodes that applied an index hold the same state."""
        digest = table.digest()
        if self.digests.setdefault(index, digest) != digest:
            raise Violation("same digest", f"another state at index {index}")

    def begin_snapshot(
        self, inner: "Callable[..., SnapshotStream]", table: "LockTable"
    ) -> "SnapshotStream":
        """Remember what a snapshot that begins now must hold."""
        self.same_digest(table, table.applied_index)
        return inner(table)

    def loaded(self, table: "LockTable") -> None:
        """Check a table that was loaded of a snapshot."""
        known = self.digests.get(table.applied_index)
        if known is not None and table.digest() != known:
            raise Violation(
                "snapshot is the state",
                f"a snapshot of index {table.applied_index} holds another state",
            )


def _stops(table: "LockTable", groups: "Sequence[tuple[Any, ...]]") -> bool:
    """Return whether a node ends at this entry: then another one is the first that applies it."""
    raises = (request for group in groups for request in group[2:] if request[0] == Op.SET_VERSION)
    return any(request[2] not in table.versions for request in raises)
