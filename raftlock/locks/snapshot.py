"""A snapshot of exactly the state at one index, as a stream of chunks that does not stall the loop (decision 14).

Each bucket is copied before its first change after the index, the rest in slices as the stream goes. A chunk is one
msgpack array that begins with its kind.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from raftlock.locks.packing import Stored, encode_grants, packed
from raftlock.locks.records import Grant, Outcome, Session, Settings, Waiter
from raftlock_wire.codec import Encoder, array_header, pack, unpack
from raftlock_wire.errors import BadFrame
from raftlock_wire.invariant import check
from raftlock_wire.messages import GrantState
from raftlock_wire.status import Status

if TYPE_CHECKING:
    from raftlock.locks.table import LockTable

FORMAT = 1
HEAD, LOCKS, QUEUE, SESSION, ORDER, END = range(6)
_ARRAY_MAX = 1 << 24
_LOCKS_HEAD = array_header(2) + pack(LOCKS)


class Bucket(NamedTuple):
    """The content of one bucket at one moment."""

    grants: list[tuple[str, Stored]]
    queues: list[tuple[str, list[Waiter]]]


class SnapshotStream:
    """The state at the index where it was made, whatever changes meanwhile."""

    def __init__(self, table: "LockTable") -> None:
        self._table = table
        self._head = _head(table)
        self._order = (list(table.handing_on), list(table.ending))
        self._buckets = table.buckets
        self._sessions = table.sessions
        self._all_queues = table.queues
        self._copied: dict[int, Bucket] = {}
        self._done_buckets = 0
        self._session_copies: dict[int, Session | None] = {}
        self._queue_names: dict[int, list[str]] = {}
        for name in table.queues:
            self._queue_names.setdefault(_number(name), []).append(name)
        self._parts = self._stream()

    def next_chunk(self) -> bytes | None:
        """Return the next chunk, or None when the snapshot is complete."""
        return next(self._parts, None)

    def before_bucket(self, table: "LockTable", number: int) -> None:
        """Copy a bucket that is about to change, unless it has been streamed or copied."""
        del table
        if number >= self._done_buckets and number not in self._copied:
            # Copied and not encoded: apply waits for this, 2 us instead of 250 at a million locks.
            self._copied[number] = self._bucket(number)

    def before_session(self, session: Session) -> None:
        """Copy a session that is about to change, unless it has been streamed or copied."""
        if session.session_id not in self._session_copies:
            self._session_copies[session.session_id] = session.copy()

    def before_new_session(self, session_id: int) -> None:
        """Keep a session that is made after the index out of the snapshot."""
        self._session_copies[session_id] = None

    def _bucket(self, number: int) -> Bucket:
        queues: list[tuple[str, list[Waiter]]] = []
        for name in self._queue_names.get(number, ()):
            queue = self._all_queues.get(name)
            if queue is not None:
                queues.append((name, list(queue.values())))
        return Bucket(list(self._buckets[number].items()), queues)

    def _stream(self) -> Iterator[bytes]:
        yield self._head
        for number in range(len(self._buckets)):
            bucket = self._copied.pop(number, None) or self._bucket(number)
            self._done_buckets = number + 1
            if bucket.grants:
                yield _LOCKS_HEAD + encode_grants(bucket.grants)
            for name, waiters in bucket.queues:
                yield pack((QUEUE, name, [tuple(waiter) for waiter in waiters]))
        for sessions in self._sessions:
            for session_id in sorted(sessions):
                session = sessions.get(session_id)
                if session is not None and session_id not in self._session_copies:
                    self._session_copies[session_id] = None
                    yield _encode_session(session)
        for _, copied in sorted(self._session_copies.items()):
            if copied is not None:
                yield _encode_session(copied)
        yield pack((ORDER, *self._order))
        yield pack((END,))
        if self._table.stream is self:
            self._table.stream = None


def encode_state(table: "LockTable") -> Iterator[bytes]:
    """Encode the whole state in an order that does not depend on how it came about, but where order is meaning."""
    yield _head(table)
    for bucket in table.buckets:
        if bucket:
            yield _LOCKS_HEAD + encode_grants(sorted(bucket.items(), key=itemgetter(0)))
    for name in sorted(table.queues):
        yield pack((QUEUE, name, [tuple(waiter) for waiter in table.queues[name].values()]))
    for sessions in table.sessions:
        for session_id in sorted(sessions):
            yield _encode_session(sessions[session_id], in_order=True)
    yield pack((ORDER, list(table.handing_on), list(table.ending)))


def _number(name: str) -> int:
    return crc32(name.encode()) & 4_095


def _head(table: "LockTable") -> bytes:
    return pack(
        (
            HEAD,
            FORMAT,
            table.applied_index,
            table.stamp_us,
            table.wall_us,
            table.version,
            table.initialised,
            table.token,
            table.session_counter,
            table.refuse_until_us,
            table.settings._asdict(),
        )
    )


def _encode_session(session: Session, *, in_order: bool = False) -> bytes:
    slots = sorted(session.slots.items()) if in_order else session.slots.items()
    return pack(
        (
            SESSION,
            session.session_id,
            session.nonce,
            session.ttl_ms,
            session.rev,
            session.principal,
            session.address,
            session.count,
            session.ended,
            [(slot, *_encode_outcome(outcome)) for slot, outcome in slots],
            list(session.locks.items()),
            list(session.cut.items()),
            sorted(session.waiting.items()) if in_order else list(session.waiting.items()),
        )
    )


def _encode_outcome(outcome: Outcome) -> tuple[Any, ...]:
    of = outcome.of
    kind = (
        1 if isinstance(of, Grant) else 2 if isinstance(of, Waiter) else 3 if of is not None else 0
    )
    return (
        outcome.n,
        int(outcome.status),
        kind,
        tuple(of) if of is not None else None,
        outcome.detail,
    )


class SnapshotLoader:
    """Builds a table of a snapshot's chunks, fed in order."""

    def __init__(self, table: "LockTable") -> None:
        self._table = table
        self._encode = Encoder().pack
        self._begun = False
        self._ended = False

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk. Raise InvariantViolation or BadFrame for one that is none, and UnknownVersion."""
        check(not self._ended, "nothing follows the end of a snapshot")
        try:
            kind, *fields = unpack(chunk, array_count_max=_ARRAY_MAX)
            # What a lock counts as depends on the settings in the head.
            check((kind == HEAD) is not self._begun, "a snapshot begins with its head, and has one")
            self._begun = True
            self._take(kind, fields)
        except (TypeError, ValueError, IndexError) as error:
            raise BadFrame(f"not a chunk of a snapshot: {error}") from error

    def _take(self, kind: int, fields: list[Any]) -> None:
        if kind == HEAD:
            self._take_head(fields)
        elif kind == LOCKS:
            (grants,) = fields
            self._take_locks(grants)
        elif kind == QUEUE:
            name, waiters = fields
            queue = OrderedDict(((v[0], v[1]), Waiter(*v)) for v in waiters)
            self._table.queues[name] = queue
            self._table.waiter_count += len(queue)
        elif kind == SESSION:
            self._take_session(fields)
        elif kind == ORDER:
            handing_on, ending = fields
            self._table.handing_on = dict.fromkeys(handing_on)
            self._table.ending = dict.fromkeys(ending)
        else:
            check(kind == END and not fields, "a chunk of a snapshot is of a known kind")
            self._ended = True

    def finish(self) -> "LockTable":
        """Return the table. Raise InvariantViolation when the snapshot was not complete."""
        check(self._ended, "a snapshot is complete")
        return self._table

    def _take_head(self, fields: list[Any]) -> None:
        table = self._table
        format_, *values, settings = fields
        check(format_ == FORMAT, "a snapshot has a known format")
        (
            table.applied_index,
            table.stamp_us,
            table.wall_us,
            version,
            table.initialised,
            table.token,
            table.session_counter,
            table.refuse_until_us,
        ) = values
        table.set_version(version)
        table.settings = Settings(**settings)

    def _take_locks(self, grants: Sequence[tuple[Any, ...]]) -> None:
        # Packed as they come: 10 million records would be 5 GB, and twice the time.
        table = self._table
        logged_ttl_ms = table.settings.logged_renewal_ttl_ms
        names = table.index.delta
        for values in grants:
            resource, ttl_ms, cut = values[0], values[8], values[16]
            table.bucket(resource)[resource] = packed(values, self._encode)
            names[resource] = None
            if ttl_ms >= logged_ttl_ms and ttl_ms and not cut:
                table.logged_count += 1
        table.lock_count += len(grants)
        table.index.bound()

    def _take_session(self, fields: list[Any]) -> None:
        (
            session_id,
            nonce,
            ttl_ms,
            rev,
            principal,
            address,
            count,
            ended,
            slots,
            locks,
            cut,
            waiting,
        ) = fields
        session = Session(
            session_id=session_id,
            nonce=nonce,
            ttl_ms=ttl_ms,
            rev=rev,
            principal=principal,
            address=address,
        )
        session.count, session.ended = count, ended
        for slot, *outcome in slots:
            session.slots[slot] = self._outcome(outcome)
        session.locks, session.cut, session.waiting = dict(locks), dict(cut), dict(waiting)
        table = self._table
        table.sessions[session_id & 255][session_id] = session
        if not ended:
            table.nonces[nonce] = session_id
            table.session_count += 1

    def _outcome(self, values: list[Any]) -> Outcome:
        n, status, kind, of, detail = values
        if kind == 1:
            grant = _grant(of)
            if self._table.grant(grant.resource) == grant:
                # Share the record with the table again: the slot keeps it anyway.
                self._table.bucket(grant.resource)[grant.resource] = grant
            of = grant
        elif kind == 2:
            of = Waiter(*of)
        return Outcome(n, Status(status), of, detail)


def _grant(values: tuple[Any, ...]) -> Grant:
    grant = Grant(*values)
    return grant._replace(state=GrantState(grant.state))
