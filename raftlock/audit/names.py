"""Names and columns: what a record of the audit says, for people and programs.

They begin here, in the reader; nothing on the way into the log knows them.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from raftlock.audit.format import Record, decode_groups, decode_results
from raftlock_wire.effects import Effect
from raftlock_wire.entry import EntryKind
from raftlock_wire.errors import BadFrame
from raftlock_wire.membership import decode_membership
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

Row = dict[str, Any]

_LEADERS = frozenset(
    {Op.EXPIRE_LOCK, Op.EXPIRE_SESSION, Op.WAIT_TIMEOUT, Op.SWEEP_SESSION, Op.SWEEP_RESOURCE}
)
"""Commands of a leader's own: what they did is told by their effects, and one that did nothing is no record."""

_WHY = {
    Op.EXPIRE_LOCK: "its time passed without a renewal",
    Op.EXPIRE_SESSION: "its session was not kept alive",
    Op.SWEEP_SESSION: "its session ended",
    Op.SWEEP_RESOURCE: "its session ended",
    Op.ACQUIRE: "its session ended",
    Op.WAIT_TIMEOUT: "its wait was over",
    Op.CANCEL: "it was cancelled",
    Op.CLOSE_SESSION: "its client closed it",
}


_OF_A_SLOT = frozenset({Op.ACQUIRE, Op.CANCEL, Op.WAIT_TIMEOUT})


def rows_of(record: Record, *, everything: bool = False) -> Iterator[Row]:
    """Return what a record says, in the order in which it happened.

    `everything`: also the leader's commands that had no effect. Raise BadFrame for a batch that is none.
    """
    try:
        yield from _rows_of(record, everything=everything)
    except (ArithmeticError, LookupError, OSError, TypeError, ValueError) as error:
        problem = f"entry {record.entry.index} is not what a log holds: {error}"
        raise BadFrame(problem) from error


def _rows_of(record: Record, *, everything: bool) -> Iterator[Row]:
    entry = record.entry
    base: Row = {"index": entry.index, "time": iso(entry.wall_us)}
    if entry.kind is EntryKind.MEMBERSHIP:
        members = [
            {"id": m.node_id, "peer": m.peer_address, "learner": m.learner}
            for m in decode_membership(entry.data).members
        ]
        yield {**base, "operation": "membership", "status": "OK", "members": members}
    if entry.kind is not EntryKind.BATCH:
        return
    groups = decode_groups(entry.data)
    answers, effects = decode_results(record.results)
    caused: dict[tuple[int, int], list[Sequence[Any]]] = {}
    for code, group, position, *fields in effects:
        caused.setdefault((group, position), []).append((code, *fields))
    granted: set[int] = set()
    for number, (group, given) in enumerate(zip(groups, answers, strict=True)):
        principal, address, *requests = group
        for position, (request, answer) in enumerate(zip(requests, given, strict=True)):
            did = caused.get((number, position), [])
            if request[0] == Op.ACQUIRE:
                # It hands on a lock that died with its session, and gives up its slot's wait, before its own outcome.
                yield from ({**base, **_effect(request, effect)} for effect in did)
                did = []
            leaders = request[0] in _LEADERS
            if not leaders or (everything and not did):
                row = _command(request, answer, entry.index, granted)
                if not leaders:
                    row |= {"principal": principal, "address": address}
                yield {**base, **row}
            for effect in did:
                yield {**base, **_effect(request, effect)}


def iso(wall_us: int) -> str:
    """Return a time in UTC, to the microsecond."""
    whole = datetime.fromtimestamp(wall_us // 1_000_000, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{wall_us % 1_000_000:06d}Z"


def _command(request: Sequence[Any], answer: Sequence[Any], index: int, granted: set[int]) -> Row:
    code = request[0]
    operation = "renew" if code == Op.LOGGED_RENEW else Op(code).name.lower()
    # The answer to a logged renewal is an item of a renew's, and begins with the status (PROTOCOL.md).
    status = answer[0] if code == Op.LOGGED_RENEW else answer[1]
    row: Row = {"operation": operation, "status": Status(status).name}
    fields = _FIELDS.get(code)
    if fields is not None:
        row |= fields(request, answer)
    if code == Op.ACQUIRE:
        row |= _acquired(answer)
        if status == Status.OK:
            # A retry is answered with the outcome of the first: no second grant (R2).
            if answer[5] != index or answer[4] in granted:
                row["repeated"] = True
            granted.add(answer[4])
    elif status in _WITH_WHY:
        row["problem"] = ": ".join(str(part) for part in answer[3:])
    elif status == Status.NOT_HELD:
        row["held_by_token"] = answer[-1] or None
    return row


def _acquired(answer: Sequence[Any]) -> Row:
    status = answer[1]
    if status in (Status.OK, Status.OFFERED, Status.ENDING):
        return {"token": answer[4]}
    if status == Status.HELD:
        return {"held_by": answer[4], "held_by_token": answer[5] or None}
    if status == Status.QUEUED:
        return {"place": answer[4]}
    if status == Status.NOT_HELD:
        return {"held_by_token": answer[4] or None}
    if status in _WITH_WHY:
        return {"problem": ": ".join(str(part) for part in answer[3:])}
    return {}


_WITH_WHY = frozenset(
    {Status.FORBIDDEN, Status.BAD_REQUEST, Status.QUOTA_EXCEEDED, Status.OVERLOADED}
)


def _grant_of(request: Sequence[Any], _: Sequence[Any]) -> Row:
    return {"resource": request[2], "token": request[3]}


def _open_session(request: Sequence[Any], answer: Sequence[Any]) -> Row:
    session = answer[3] if answer[1] == Status.OK else None
    return {"session": session, "ttl_ms": request[3]}


def _acquire(request: Sequence[Any], _: Sequence[Any]) -> Row:
    _, _, session, slot, n, resource, owner, ttl_ms, wait_ms, metadata = request
    row: Row = {"resource": resource, "owner": owner, "session": session, "slot": slot, "n": n}
    row |= {"ttl_ms": ttl_ms or None, "wait_ms": wait_ms}
    return row | ({"metadata": metadata} if metadata else {})


def _cancel(request: Sequence[Any], _: Sequence[Any]) -> Row:
    return {"session": request[2], "slot": request[3], "n": request[4]}


def _change_ttl(request: Sequence[Any], answer: Sequence[Any]) -> Row:
    return {**_grant_of(request, answer), "ttl_ms": request[4]}


def _force_release(request: Sequence[Any], answer: Sequence[Any]) -> Row:
    when = "now" if request[5] else "at_expiry"
    return {**_grant_of(request, answer), "reason": request[4], "when": when}


_FIELDS: dict[int, Callable[[Sequence[Any], Sequence[Any]], Row]] = {
    Op.OPEN_SESSION: _open_session,
    Op.CLOSE_SESSION: lambda request, _: {"session": request[2]},
    Op.ACQUIRE: _acquire,
    Op.CANCEL: _cancel,
    Op.CHANGE_TTL: _change_ttl,
    Op.RELEASE: _grant_of,
    Op.FORCE_RELEASE: _force_release,
    Op.LOGGED_RENEW: _grant_of,
    Op.EXPIRE_LOCK: _grant_of,
    Op.EXPIRE_SESSION: lambda request, _: {"session": request[2]},
    Op.WAIT_TIMEOUT: _cancel,
    Op.SWEEP_SESSION: lambda request, _: {"session": request[2]},
    Op.SWEEP_RESOURCE: lambda request, _: {"resource": request[2]},
    Op.NEW_LIFE: lambda request, _: {"token_floor": request[2]},
    Op.SET_SETTINGS: lambda request, _: {"settings": request[2]},
}


def _effect(request: Sequence[Any], effect: Sequence[Any]) -> Row:
    code, *fields = effect
    row: Row = {"operation": "", "status": "OK"}
    if code == Effect.SESSION_ENDED:
        session, principal, address = fields
        names: Row = {"session": session, "principal": principal, "address": address}
        operation = "session_end"
    elif code == Effect.ENDED:
        names = dict(zip(("resource", "token", "owner", "session"), fields, strict=True))
        operation = "expire" if request[0] == Op.EXPIRE_LOCK else "end"
    elif code == Effect.OFFERED:
        resource, token, *waiter = fields
        names = {"resource": resource, "token": token, **_waiter(waiter)}
        operation = "offer"
    else:
        names = {"resource": fields[0], **_waiter(fields[1:])}
        operation = "timeout" if request[0] == Op.WAIT_TIMEOUT else "wait_end"
    row |= {"operation": operation, **names}
    if code == Effect.UNQUEUED:
        row["reason"] = _why_unqueued(request, row)
    elif code != Effect.OFFERED:
        forced = request[0] == Op.FORCE_RELEASE
        row["reason"] = f"forced: {request[4]}" if forced else _WHY.get(request[0], "")
    return row


def _why_unqueued(request: Sequence[Any], row: Row) -> str:
    """Say why a wait ended: by its own command, or because another one came upon it after its session had ended."""
    code = request[0]
    own = code in _OF_A_SLOT and tuple(request[2:4]) == (row["session"], row["slot"])
    if own and code == Op.ACQUIRE:
        return "a later acquire took its place"
    return _WHY[code] if own else "its session ended"


def _waiter(fields: Sequence[Any]) -> Row:
    return dict(zip(("owner", "session", "slot", "n"), fields, strict=True))
