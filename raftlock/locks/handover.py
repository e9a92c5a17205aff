"""Handing a resource on, and the bounded Sweeps that do what one command may not (decision 9; rules L9, L10)."""

from typing import TYPE_CHECKING, Any

from raftlock.locks.records import Grant, Outcome, Session, Waiter
from raftlock_wire.effects import Effect
from raftlock_wire.limits import STEPS_PER_COMMAND_MAX
from raftlock_wire.messages import Event, GrantState, Op
from raftlock_wire.status import Status

if TYPE_CHECKING:
    from raftlock.locks.table import Applied, LockTable

SWEEPS_AT_ONCE = 64

Answer = tuple[Any, ...]


def push(applied: "Applied", session: Session, event: Event, *fields: Any) -> None:
    """Count what others did to a session, and tell it (L9)."""
    session.count += 1
    applied.events.append((0, int(event), session.session_id, session.count, *fields))


def note(table: "LockTable", applied: "Applied", effect: Effect, *fields: Any) -> None:
    """Note what no answer says, for the audit."""
    applied.effects.append((int(effect), *table.command_at, *fields))


def end_grant(
    table: "LockTable",
    grant: Grant,
    applied: "Applied",
    steps: int = STEPS_PER_COMMAND_MAX,
    *,
    released: bool = False,
) -> int:
    """End a grant and offer the resource to the next waiter in the same step. Return the steps that are left."""
    if not released:
        note(table, applied, Effect.ENDED, grant.resource, grant.token, grant.owner, grant.session)
    table.remove(grant, applied)
    return hand_on(table, grant.resource, applied, steps - 1)


def hand_on(table: "LockTable", resource: str, applied: "Applied", steps: int) -> int:
    """Offer a free resource to its first living waiter, passing over at most `steps` dead ones."""
    queue = table.queues.get(resource)
    if queue is None:
        table.handing_on.pop(resource, None)
        return steps
    table.bucket_to_change(resource)
    while queue and steps > 0:
        steps -= 1
        _, waiter = queue.popitem(last=False)
        table.waiter_count -= 1
        session = table.session_to_change(waiter.session)
        if session is not None:
            session.waiting.pop(waiter.slot, None)
            applied.unqueued.append((waiter.session, waiter.slot, waiter.n))
        if session is None or session.ended:
            _note_unqueued(table, applied, waiter)
            continue
        _offer(table, waiter, session, applied)
        break
    if not queue:
        del table.queues[resource]
    free = resource not in table.bucket(resource)
    if queue and free:
        # Too many dead waiters for one command: a Sweep goes on, and a new acquire queues behind (decision 9).
        table.handing_on[resource] = None
    else:
        table.handing_on.pop(resource, None)
    return steps


def _offer(table: "LockTable", waiter: Waiter, session: Session, applied: "Applied") -> None:
    table.token += 1
    grant = Grant(
        resource=waiter.resource,
        token=table.token,
        rev=table.applied_index,
        state=GrantState.OFFERED,
        owner=waiter.owner,
        session=waiter.session,
        slot=waiter.slot,
        n=waiter.n,
        ttl_ms=waiter.ttl_ms,
        wait_ms=waiter.wait_ms,
        metadata=waiter.metadata,
        principal=waiter.principal,
        address=waiter.address,
        granted_wall_us=table.wall_us,
        stamp_us=table.stamp_us,
        offer=True,
        cut=False,
    )
    table.put(grant)
    # The recorded outcome of an acquire that had to wait is OFFERED for ever (L10).
    session.slots[waiter.slot] = Outcome(waiter.n, Status.OFFERED, grant)
    if not grant.ttl_ms:
        session.locks[grant.token] = grant.resource
    push(
        applied,
        session,
        Event.OFFERED,
        waiter.slot,
        waiter.n,
        grant.resource,
        grant.token,
        grant.rev,
    )
    applied.granted.append(grant)
    note(
        table,
        applied,
        Effect.OFFERED,
        grant.resource,
        grant.token,
        grant.owner,
        grant.session,
        grant.slot,
        grant.n,
    )


def _note_unqueued(table: "LockTable", applied: "Applied", waiter: Waiter) -> None:
    note(
        table,
        applied,
        Effect.UNQUEUED,
        waiter.resource,
        waiter.owner,
        waiter.session,
        waiter.slot,
        waiter.n,
    )


def drop_waiter(
    table: "LockTable", session: Session, slot: int, n: int, applied: "Applied"
) -> bool:
    """Take a session's waiting acquire out of its queue. Return whether it was there."""
    resource = session.waiting.pop(slot, None)
    if resource is None:
        return False
    table.bucket_to_change(resource)
    queue = table.queues[resource]
    waiter = queue.pop((session.session_id, slot))
    table.waiter_count -= 1
    if not queue:
        del table.queues[resource]
        table.handing_on.pop(resource, None)
    applied.unqueued.append((session.session_id, slot, n))
    _note_unqueued(table, applied, waiter)
    return True


def end_session(table: "LockTable", session: Session, applied: "Applied") -> None:
    """Mark a session as ended: from here on its locks are nobody's, in one step; Sweeps hand them on (decision 9)."""
    session.ended = True
    table.nonces.pop(session.nonce, None)
    table.session_count -= 1
    applied.sessions_ended.append(session.session_id)
    note(
        table, applied, Effect.SESSION_ENDED, session.session_id, session.principal, session.address
    )
    table.ending[session.session_id] = None
    if not session.locks and not session.waiting:
        _forget_session(table, session)


def _forget_session(table: "LockTable", session: Session) -> None:
    table.ending.pop(session.session_id, None)
    del table.sessions[session.session_id & 255][session.session_id]


def sweep_session(
    table: "LockTable", request: tuple[Any, ...], principal: str, address: str, applied: "Applied"
) -> Answer:
    """Hand on an ended session's locks, in the order of their tokens, and take its waiters out of their queues."""
    del principal, address
    session = table.session_to_change(request[2])
    steps = STEPS_PER_COMMAND_MAX
    if session is not None and session.ended:
        while session.locks and steps > 0:
            token, resource = next(iter(session.locks.items()))
            grant = table.grant(resource)
            if grant is None or grant.token != token:
                del session.locks[token]
                steps -= 1
            else:
                steps = end_grant(table, grant, applied, steps)
        while session.waiting and steps > 0:
            slot = next(iter(session.waiting))
            drop_waiter(table, session, slot, session.slots[slot].n, applied)
            steps -= 1
        if not session.locks and not session.waiting:
            _forget_session(table, session)
    return (0, int(Status.OK), True)


def sweep_resource(
    table: "LockTable", request: tuple[Any, ...], principal: str, address: str, applied: "Applied"
) -> Answer:
    """Go on handing on a resource that met too many dead waiters."""
    del principal, address
    if request[2] in table.handing_on:
        hand_on(table, request[2], applied, STEPS_PER_COMMAND_MAX)
    return (0, int(Status.OK), True)


def open_sweeps(table: "LockTable") -> list[tuple[Any, ...]]:
    """Return the Sweeps that the state asks for, the oldest first."""
    found: list[tuple[Any, ...]] = []
    for session_id in table.ending:
        if len(found) >= SWEEPS_AT_ONCE:
            return found
        found.append((int(Op.SWEEP_SESSION), 0, session_id))
    for resource in table.handing_on:
        if len(found) >= SWEEPS_AT_ONCE:
            return found
        found.append((int(Op.SWEEP_RESOURCE), 0, resource))
    return found
