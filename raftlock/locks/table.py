"""The table's state, and apply: the loop over an entry's commands, with the two that are nearly all of the load.

It owns locks, queues and sessions. Everything rare is in `commands`, `handover` and `snapshot`, which work on it.
"""

import copy
import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any
from zlib import crc32

from raftlock.locks import handover, reads
from raftlock.locks.packing import Stored, Young, grant_of, grants_in
from raftlock.locks.reads import NameIndex, RenewalClass
from raftlock.locks.records import Content, Grant, Outcome, Session, Settings, Waiter
from raftlock.locks.snapshot import SnapshotLoader, SnapshotStream, encode_state
from raftlock.locks.versions import VERSIONS, UnknownCommand, Versions, known
from raftlock_wire.invariant import check
from raftlock_wire.limits import SLOTS_MAX
from raftlock_wire.messages import GrantState, Op
from raftlock_wire.status import Status

BUCKETS = 4_096
_MASK = BUCKETS - 1
SESSION_BUCKETS = 256

_ACQUIRE = int(Op.ACQUIRE)
_RELEASE = int(Op.RELEASE)
_HELD = GrantState.HELD
_OK = int(Status.OK)

Answer = tuple[Any, ...]


class Applied:
    """What one entry did: answers for clients, and effects that only a leader's memory needs."""

    __slots__ = (
        "answers",
        "effects",
        "ended",
        "events",
        "granted",
        "opened",
        "queued",
        "sessions_ended",
        "unqueued",
    )

    def __init__(self) -> None:
        self.answers: list[list[Answer]] = []
        """Parallel to the groups and their requests."""
        self.granted: list[Grant] = []
        """Grants made, and leases that were changed, renewed or taken up."""
        self.ended: list[int] = []
        """Tokens that are over."""
        self.queued: list[tuple[int, int, int, int]] = []
        """(session, slot, n, wait_ms)"""
        self.unqueued: list[tuple[int, int, int]] = []
        self.opened: list[tuple[int, int]] = []
        """(session, ttl_ms)"""
        self.sessions_ended: list[int] = []
        self.events: list[Answer] = []
        """Complete events to push; element 2 is the session."""
        self.effects: list[Answer] = []
        """What no answer says, for the audit: see raftlock_wire.effects. The same on every node."""


class LockTable:
    """All locks, queues and sessions of the cluster, as of `applied_index`."""

    def __init__(self, versions: Versions = VERSIONS) -> None:
        """`versions`: what this build knows; another one is for tests of a change of version."""
        self.versions = versions
        self.applied_index = 0
        self.stamp_us = 0
        self.wall_us = 0
        self.version = 1
        """The state machine's version that interprets the next entry (decision 7)."""
        self.next_version = 1
        """Raised by a command, and in force from the entry after that one on."""
        self._commands = versions[1]
        self.initialised = False
        self.token = 0
        self.session_counter = 0
        self.refuse_until_us = 0
        self.settings = Settings()
        self.buckets: list[dict[str, Stored]] = [{} for _ in range(BUCKETS)]
        self.young = Young()
        self.queues: dict[str, OrderedDict[tuple[int, int], Waiter]] = {}
        self.handing_on: dict[str, None] = {}
        """Resources without a grant whose queue is still being looked through (decision 9)."""
        self.sessions: list[dict[int, Session]] = [{} for _ in range(SESSION_BUCKETS)]
        self.nonces: dict[bytes, int] = {}
        self.ending: dict[int, None] = {}
        """Ended sessions whose locks and waiters are not handed on yet."""
        self.lock_count = 0
        self.waiter_count = 0
        self.session_count = 0
        self.logged_count = 0
        """Leases of the logged class (L6), and acquires' refusals after a restore: what needs the lease clock to run."""
        self.command_at = (0, 0)
        """Group and position of the command that is being applied, if it is not one of the hot path: for its effects."""
        self.index = NameIndex()
        self.stream: SnapshotStream | None = None

    # apply

    def apply(
        self, index: int, stamp_us: int, wall_us: int, groups: Sequence[tuple[Any, ...]]
    ) -> Applied:
        """Apply one entry's groups of (principal, address, *requests). Raise UnknownCommand or UnknownVersion."""
        check(index > self.applied_index, "entries are applied in order, each once")
        check(stamp_us >= self.stamp_us and wall_us >= self.wall_us, "log time does not go back")
        self.applied_index, self.stamp_us, self.wall_us = index, stamp_us, wall_us
        applied = Applied()
        for group in groups:
            applied.answers.append(self._apply_group(group, applied))
        if applied.granted:
            self.young.add(applied.granted)
        if self.next_version != self.version:
            self.set_version(self.next_version)
        return applied

    def set_version(self, version: int) -> None:
        """Put a version in force. Raise UnknownVersion."""
        self._commands = known(self.versions, version, index=self.applied_index)
        self.version = self.next_version = version

    def _apply_group(self, group: tuple[Any, ...], applied: Applied) -> list[Answer]:
        # The hot loop: locals instead of attributes, and the two common cases in line, 1.1 us an acquire and 0.7 us a
        # release instead of 1.9 and 1.2 through methods (python -m bench micro).
        answers: list[Answer] = []
        answer = answers.append
        buckets = self.buckets
        index, stamp_us, wall_us = self.applied_index, self.stamp_us, self.wall_us
        granted, ended = applied.granted.append, applied.ended.append
        logged_ttl_ms = self.settings.logged_renewal_ttl_ms
        names = self.index.delta
        queues = self.queues
        new = tuple.__new__
        principal, address = group[0], group[1]
        session: Session | None = None
        session_id = 0
        plain = self._is_plain()
        for position in range(2, len(group)):
            request = group[position]
            code = request[0]
            if code == _ACQUIRE and plain:
                _, request_id, sid, slot, n, resource, owner, ttl_ms, wait_ms, metadata = request
                if sid != session_id:
                    session = self.sessions[sid & 255].get(sid)
                    session_id = sid
                if session is not None and not session.ended:
                    outcome = session.slots.get(slot)
                    bucket = buckets[crc32(resource.encode()) & _MASK]
                    if (
                        (outcome is None or (n > outcome[0] and outcome[1] != 2))
                        and resource not in bucket
                        and resource not in self.handing_on
                    ):
                        self.token = token = self.token + 1
                        grant = new(
                            Grant,
                            (
                                resource, token, index, _HELD, owner, sid, slot, n, ttl_ms, wait_ms, metadata,
                                principal, address, wall_us, stamp_us, False, False,
                            ),
                        )  # fmt: skip
                        bucket[resource] = grant
                        session.slots[slot] = new(Outcome, (n, Status.OK, grant, ()))
                        self.lock_count += 1
                        if not ttl_ms:
                            session.locks[token] = resource
                        elif ttl_ms >= logged_ttl_ms:
                            self.logged_count += 1
                        names[resource] = None
                        granted(grant)
                        answer((request_id, _OK, True, session.count, token, index))
                        continue
            elif code == _RELEASE and plain:
                _, request_id, resource, token = request
                bucket = buckets[crc32(resource.encode()) & _MASK]
                held = bucket.get(resource)
                # One that is packed is no record of this principal: its bytes are numbers.
                if (
                    held is not None
                    and held[1] == token
                    and held[8]
                    and not held[16]
                    and held[11] == principal
                    and resource not in queues
                ):
                    del bucket[resource]
                    self.lock_count -= 1
                    if held[8] >= logged_ttl_ms:
                        self.logged_count -= 1
                    names[resource] = None
                    ended(token)
                    answer((request_id, _OK, True))
                    continue
            session_id = 0
            self.command_at = (len(applied.answers), position - 2)
            answer(self._command(request, principal, address, applied))
            plain = self._is_plain()
        self.index.bound()
        return answers

    def _is_plain(self) -> bool:
        """Return whether the hot path may be taken: nothing is on that it does not look at."""
        return (
            self.initialised
            and self.stream is None
            and not self.refuse_until_us
            and self.settings.slots_max >= SLOTS_MAX
        )

    def _command(
        self, request: tuple[Any, ...], principal: str, address: str, applied: Applied
    ) -> Answer:
        handler = self._commands.get(request[0])
        if handler is None:
            raise UnknownCommand(
                f"command {request[0]} at index {self.applied_index}, version {self.version}"
            )
        check(
            self.initialised or request[0] == Op.GENESIS,
            "the first command of a cluster is its genesis",
        )
        return handler(self, request, principal, address, applied)

    # the parts that several commands share

    def bucket(self, resource: str) -> dict[str, Stored]:
        """Return the bucket of a resource, by a fixed hash of its bytes (decision 6)."""
        return self.buckets[crc32(resource.encode()) & _MASK]

    def bucket_to_change(self, resource: str) -> dict[str, Stored]:
        """Return the bucket of a resource that is about to change, after a snapshot under way has its copy."""
        number = crc32(resource.encode()) & _MASK
        if self.stream is not None:
            self.stream.before_bucket(self, number)
        return self.buckets[number]

    def session_to_change(self, session_id: int) -> Session | None:
        """Return a session that is about to change, after a snapshot under way has its copy; None if there is none."""
        session = self.sessions[session_id & 255].get(session_id)
        if session is not None and self.stream is not None:
            self.stream.before_session(session)
        return session

    def live_session(self, session_id: int) -> Session | None:
        """Return a session that has not ended, about to be changed."""
        session = self.session_to_change(session_id)
        return None if session is None or session.ended else session

    def put(self, grant: Grant) -> None:
        """Set a resource's grant, new or changed."""
        bucket = self.bucket_to_change(grant.resource)
        before = bucket.get(grant.resource)
        if before is None:
            self.lock_count += 1
            self.index.delta[grant.resource] = None
        else:
            self.logged_count -= self.is_logged_class(grant_of(grant.resource, before))
        self.logged_count += self.is_logged_class(grant)
        bucket[grant.resource] = grant

    def remove(self, grant: Grant, applied: Applied) -> None:
        """Remove a resource's grant. The caller hands the resource on."""
        bucket = self.bucket_to_change(grant.resource)
        del bucket[grant.resource]
        self.lock_count -= 1
        self.logged_count -= self.is_logged_class(grant)
        self.index.delta[grant.resource] = None
        applied.ended.append(grant.token)
        if grant.cut or not grant.ttl_ms:
            session = self.session_to_change(grant.session)
            if session is not None:
                session.locks.pop(grant.token, None)
                session.cut.pop(grant.token, None)

    def is_logged_class(self, grant: Grant) -> bool:
        """Return whether a lease is renewed through the log (L6). A lock cut out of its session never is (L9)."""
        return (
            bool(grant.ttl_ms)
            and not grant.cut
            and grant.ttl_ms >= self.settings.logged_renewal_ttl_ms
        )

    def settle(self) -> None:
        """Pack grants that have been held for a while: a slice a call."""
        self.young.settle(self.buckets, _MASK)

    # reads

    def grant(self, resource: str) -> Grant | None:
        """Return the grant of a resource as its bucket has it, also if it died with its session."""
        stored = self.bucket(resource).get(resource)
        return None if stored is None else grant_of(resource, stored)

    def lookup(self, resource: str) -> Grant | None:
        """Return the current grant or offer of a resource: none if it died with its session."""
        grant = self.grant(resource)
        if grant is not None and not grant.ttl_ms and self.ending:
            session = self.sessions[grant.session & 255].get(grant.session)
            if session is None or session.ended:
                return None
        return grant

    def session(self, session_id: int) -> Session | None:
        """Return a session, ended ones that are not swept yet included."""
        return self.sessions[session_id & 255].get(session_id)

    def renewal_class(self, resource: str, token: int) -> RenewalClass:
        """Return which way a renewal of this token goes."""
        return reads.renewal_class(self, resource, token)

    def renewal_answer(self, resource: str, token: int) -> Answer:
        """Return the item that answers a renewal by the state now; the leader fills expires_in_ms."""
        return reads.renewal_answer(self, resource, token)

    def check(self, request_id: int, resource: str, token: int) -> Answer:
        """Return the answer to a check."""
        return reads.check_answer(self, request_id, resource, token)

    def get_info(self, resource: str) -> Answer | None:
        """Return what a get shows; the leader fills expires_in_ms."""
        grant = self.lookup(resource)
        return None if grant is None else reads.info(self, grant)

    def list_page(self, by: int, what: Any, cursor: str, limit: int) -> tuple[list[Answer], str]:
        """Return one page of a list and the cursor of the next, "" at the end."""
        return reads.list_page(self, by, what, cursor, limit)

    def merge_index(self, steps: int) -> bool:
        """Work on the index of names in an idle turn. Return whether there is more to do."""
        return self.index.merge(self, steps)

    def open_sweeps(self) -> list[tuple[Any, ...]]:
        """Return the Sweep commands that the state asks for (decision 9), the oldest first, a few at a time."""
        return handover.open_sweeps(self)

    @property
    def needs_clock(self) -> bool:
        """Return whether stamps must go on without other commands (L7)."""
        return self.logged_count > 0 or self.stamp_us < self.refuse_until_us

    @property
    def bucket_count(self) -> int:
        """Return how many buckets `iter_grants` knows."""
        return BUCKETS

    def iter_grants(self, bucket: int) -> list[Grant]:
        """Return the grants of one bucket, for a new leader to arm."""
        return grants_in(self.buckets[bucket])

    def iter_sessions(self) -> Iterator[tuple[int, int]]:
        """Iterate over (session, ttl_ms) of the living ones, bucket by bucket; changes in between are tolerated."""
        for bucket in self.sessions:
            for session in list(bucket.values()):
                if not session.ended:
                    yield session.session_id, session.ttl_ms

    def iter_waiters(self) -> Iterator[tuple[int, int, int, int]]:
        """Iterate over (session, slot, n, wait_ms) of waiting acquires, queue by queue."""
        for resource in list(self.queues):
            queue = self.queues.get(resource)
            if queue is not None:
                for waiter in list(queue.values()):
                    yield waiter.session, waiter.slot, waiter.n, waiter.wait_ms

    # snapshots and copies

    def begin_snapshot(self) -> SnapshotStream:
        """Begin a snapshot of the state now: one at a time."""
        check(self.stream is None, "one snapshot at a time")
        self.stream = SnapshotStream(self)
        return self.stream

    @staticmethod
    def loader(versions: Versions = VERSIONS) -> SnapshotLoader:
        """Return what builds a table of a snapshot's chunks."""
        return SnapshotLoader(LockTable(versions))

    def clone(self) -> "LockTable":
        """Return an independent copy, without a snapshot under way."""
        stream, self.stream = self.stream, None
        try:
            return copy.deepcopy(self)
        finally:
            self.stream = stream

    def digest(self) -> bytes:
        """Return a hash of the whole replicated state: 16 bytes, the same on every node at the same index."""
        digest = hashlib.blake2b(digest_size=16)
        for chunk in encode_state(self):
            digest.update(chunk)
        return digest.digest()


__all__ = ["Applied", "Content", "LockTable", "UnknownCommand"]
