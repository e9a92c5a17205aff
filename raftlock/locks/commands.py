"""What each command does to the table. Every function is (table, request, principal, address, applied) -> answer."""

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from raftlock.locks.handover import drop_waiter, end_grant, end_session, note, push
from raftlock.locks.packing import grant_of
from raftlock.locks.records import Content, Grant, Outcome, Session, Waiter
from raftlock_wire.effects import Effect
from raftlock_wire.messages import Event, GrantState
from raftlock_wire.status import Status

if TYPE_CHECKING:
    from raftlock.locks.table import Applied, LockTable

Answer = tuple[Any, ...]
Request = tuple[Any, ...]

NOTHING, WAITER, GRANT = 0, 1, 2
"""What a cancel withdrew."""


def _expired(request: Request) -> Answer:
    return (request[1], int(Status.SESSION_EXPIRED), True)


def _not_held(table: "LockTable", request: Request) -> Answer:
    """Say which token holds the resource now, 0 if none."""
    current = table.lookup(request[2])
    return (request[1], int(Status.NOT_HELD), True, current.token if current is not None else 0)


def _current(table: "LockTable", resource: str, token: int) -> Grant | None:
    grant = table.lookup(resource)
    return grant if grant is not None and grant.token == token else None


# sessions


def open_session(
    table: "LockTable", request: Request, principal: str, address: str, applied: "Applied"
) -> Answer:
    """Open a session; the same nonce gives the same session."""
    _, request_id, nonce, ttl_ms = request
    known = table.nonces.get(nonce)
    if known is not None:
        session = table.session(known)
        assert session is not None
        if session.principal != principal:
            return (request_id, int(Status.FORBIDDEN), True, "the session is another principal's")
        return (request_id, int(Status.OK), True, known, session.ttl_ms, session.count)
    if table.session_count >= table.settings.sessions_max:
        return (
            request_id,
            int(Status.QUOTA_EXCEEDED),
            True,
            "sessions",
            table.settings.sessions_max,
        )
    table.session_counter += 1
    session_id = table.session_counter
    session = Session(
        session_id=session_id,
        nonce=nonce,
        ttl_ms=ttl_ms,
        rev=table.applied_index,
        principal=principal,
        address=address,
    )
    if table.stream is not None:
        table.stream.before_new_session(session_id)
    table.sessions[session_id & 255][session_id] = session
    table.nonces[nonce] = session_id
    table.session_count += 1
    applied.opened.append((session_id, ttl_ms))
    return (request_id, int(Status.OK), True, session_id, ttl_ms, 0)


def close_session(
    table: "LockTable", request: Request, principal: str, address: str, applied: "Applied"
) -> Answer:
    """End a session at its client's wish."""
    del principal, address
    session = table.live_session(request[2])
    if session is None:
        return _expired(request)
    end_session(table, session, applied)
    return (request[1], int(Status.OK), True)


def expire_session(
    table: "LockTable", request: Request, principal: str, address: str, applied: "Applied"
) -> Answer:
    """End a session whose time has passed, if it is still the one that was meant (L2)."""
    del principal, address
    session = table.live_session(request[2])
    if session is not None and session.rev == request[3]:
        end_session(table, session, applied)
    return (0, int(Status.OK), True)


# acquire and cancel


def acquire(
    table: "LockTable", request: Request, principal: str, address: str, applied: "Applied"
) -> Answer:
    """Grant, refuse or queue an acquire, or repeat the recorded outcome of its key (R1, R2)."""
    _, request_id, session_id, slot, n, resource, owner, ttl_ms, wait_ms, metadata = request
    session = table.live_session(session_id)
    if session is None:
        return _expired(request)
    content = (resource, owner, ttl_ms, wait_ms, metadata)
    outcome = session.slots.get(slot)
    if outcome is not None:
        if n < outcome.n:
            why = f"{n} is below {outcome.n}, the slot's last acquire"
            return (request_id, int(Status.BAD_REQUEST), True, "n", why)
        if n == outcome.n:
            return _repeated(table, request_id, session, outcome, content)
    if slot >= table.settings.slots_max:
        # Not recorded, and so not final: the limit may be raised before a late duplicate arrives (R4).
        return (request_id, int(Status.QUOTA_EXCEEDED), False, "slots", table.settings.slots_max)
    if table.stamp_us < table.refuse_until_us:
        # After a restore an old node's grants may still be believed (T2). Not recorded: it was not taken.
        retry_after_ms = (table.refuse_until_us - table.stamp_us) // 1_000 + 1
        return (request_id, int(Status.OVERLOADED), False, retry_after_ms, "restore")
    if outcome is not None:
        # From here on this acquire is recorded and the one before it forgotten: if that still waits, it must not be
        # granted to nobody.
        drop_waiter(table, session, slot, outcome.n, applied)
    grant = table.grant(resource)
    if grant is not None and table.lookup(resource) is None:
        # It died with its session and was not swept yet: hand it on first (decision 9).
        end_grant(table, grant, applied)
        grant = table.grant(resource)
    if grant is None and resource not in table.handing_on:
        return _grant(table, request, session, principal, address, applied)
    if wait_ms:
        return _queue(table, request, session, principal, address, applied)
    detail = (grant.owner, grant.token, grant.granted_wall_us) if grant is not None else ("", 0, 0)
    session.slots[slot] = Outcome(n, Status.HELD, content, detail)
    return (request_id, int(Status.HELD), True, session.count, *detail)


def _grant(
    table: "LockTable",
    request: Request,
    session: Session,
    principal: str,
    address: str,
    applied: "Applied",
) -> Answer:
    _, request_id, session_id, slot, n, resource, owner, ttl_ms, wait_ms, metadata = request
    table.token += 1
    grant = Grant(
        resource=resource,
        token=table.token,
        rev=table.applied_index,
        state=GrantState.HELD,
        owner=owner,
        session=session_id,
        slot=slot,
        n=n,
        ttl_ms=ttl_ms,
        wait_ms=wait_ms,
        metadata=metadata,
        principal=principal,
        address=address,
        granted_wall_us=table.wall_us,
        stamp_us=table.stamp_us,
        offer=False,
        cut=False,
    )
    table.put(grant)
    session.slots[slot] = Outcome(n, Status.OK, grant)
    if not ttl_ms:
        session.locks[grant.token] = resource
    applied.granted.append(grant)
    return (request_id, int(Status.OK), True, session.count, grant.token, grant.rev)


def _queue(
    table: "LockTable",
    request: Request,
    session: Session,
    principal: str,
    address: str,
    applied: "Applied",
) -> Answer:
    _, request_id, session_id, slot, n, resource, owner, ttl_ms, wait_ms, metadata = request
    table.bucket_to_change(resource)
    queue = table.queues.get(resource)
    if queue is None:
        queue = table.queues[resource] = OrderedDict()
    elif len(queue) >= table.settings.waiters_per_resource_max:
        # Recorded like every final answer: a late duplicate of the same key must not queue after all (R2, R4).
        detail = ("waiters", table.settings.waiters_per_resource_max)
        content = (resource, owner, ttl_ms, wait_ms, metadata)
        session.slots[slot] = Outcome(n, Status.QUOTA_EXCEEDED, content, detail)
        return (request_id, int(Status.QUOTA_EXCEEDED), True, *detail)
    waiter = Waiter(
        session_id,
        slot,
        n,
        resource,
        owner,
        ttl_ms,
        wait_ms,
        metadata,
        principal,
        address,
        table.wall_us,
    )
    queue[session_id, slot] = waiter
    table.waiter_count += 1
    session.waiting[slot] = resource
    session.slots[slot] = Outcome(n, Status.QUEUED, waiter)
    applied.queued.append((session_id, slot, n, wait_ms))
    return (request_id, int(Status.QUEUED), False, session.count, len(queue))


def _repeated(
    table: "LockTable", request_id: int, session: Session, outcome: Outcome, content: Content
) -> Answer:
    """Answer a known n with its recorded outcome, under the count of now (R2, L9)."""
    if not outcome.same_content(content):
        why = f"{outcome.n} of this slot was used for another acquire"
        return (request_id, int(Status.BAD_REQUEST), True, "n", why)
    of, status, count = outcome.of, outcome.status, session.count
    if status in (Status.OK, Status.OFFERED):
        assert isinstance(of, Grant)
        current = table.lookup(of.resource)
        if current is None or current.token != of.token:
            token = current.token if current is not None else 0
            return (request_id, int(Status.NOT_HELD), True, count, token)
        if current.cut:
            return (request_id, int(Status.ENDING), True, count, of.token)
        return (request_id, int(status), True, count, of.token, current.rev)
    if status is Status.QUEUED:
        assert isinstance(of, Waiter)
        return (request_id, int(status), False, count, len(table.queues[of.resource]))
    if status is Status.QUOTA_EXCEEDED:
        return (request_id, int(status), True, *outcome.detail)
    return (request_id, int(status), True, count, *outcome.detail)


def cancel(
    table: "LockTable", request: Request, principal: str, address: str, applied: "Applied"
) -> Answer:
    """Withdraw an acquire, whether it has arrived or not (R3)."""
    del principal, address
    _, request_id, session_id, slot, n = request
    session = table.live_session(session_id)
    if session is None:
        return _expired(request)
    outcome = session.slots.get(slot)
    what, token = NOTHING, 0
    if outcome is None or n > outcome.n:
        if outcome is not None:
            drop_waiter(table, session, slot, outcome.n, applied)
        session.slots[slot] = Outcome(n, Status.CANCELLED, None)
    elif n == outcome.n:
        of = outcome.of
        if drop_waiter(table, session, slot, n, applied):
            what = WAITER
        elif outcome.status in (Status.OK, Status.OFFERED):
            assert isinstance(of, Grant)
            grant = _current(table, of.resource, of.token)
            if grant is not None:
                what, token = GRANT, grant.token
                end_grant(table, grant, applied)
        content = of.content if isinstance(of, Grant | Waiter) else of
        session.slots[slot] = Outcome(n, Status.CANCELLED, content)
    return (request_id, int(Status.CANCELLED), True, session.count, what, token)


def wait_timeout(
    table: "LockTable", request: Request, principal: str, address: str, applied: "Applied"
) -> Answer:
    """End a wait, without effect if it was granted or cancelled meanwhile (R5)."""
    del principal, address
    _, _, session_id, slot, n = request
    session = table.live_session(session_id)
    if session is not None:
        outcome = session.slots.get(slot)
        if outcome is not None and outcome.n == n and drop_waiter(table, session, slot, n, applied):
            session.slots[slot] = outcome._replace(status=Status.TIMEOUT)
            push(applied, session, Event.TIMEOUT, slot, n)
    return (0, int(Status.OK), True)


# release, change, renewal


def release(
    table: "LockTable", request: Request, principal: str, address: str, applied: "Applied"
) -> Answer:
    """Free a resource and offer it to the next waiter. Repeating it is harmless."""
    del address
    grant = _current(table, request[2], request[3])
    if grant is None:
        return _not_held(table, request)
    if grant.principal != principal:
        return (request[1], int(Status.FORBIDDEN), True, "the lock is another principal's")
    end_grant(table, grant, applied, released=True)
    return (request[1], int(Status.OK), True)


def change_ttl(
    table: "LockTable", request: Request, principal: str, address: str, applied: "Applied"
) -> Answer:
    """Set a lease's ttl if its rev is the one that the client knows; it counts from this command."""
    del address
    _, request_id, _, _, ttl_ms, rev = request
    grant = _current(table, request[2], request[3])
    if grant is None:
        return _not_held(table, request)
    if grant.principal != principal:
        return (request_id, int(Status.FORBIDDEN), True, "the lock is another principal's")
    if grant.state is GrantState.ENDING:
        return (request_id, int(Status.ENDING), True)
    if not grant.ttl_ms:
        why = "the lock lives in its session and has no ttl of its own"
        return (request_id, int(Status.BAD_REQUEST), True, "ttl_ms", why)
    if grant.offer:
        why = "the offer is not taken up: renew it first"
        return (request_id, int(Status.BAD_REQUEST), True, "token", why)
    if grant.rev != rev:
        return (request_id, int(Status.HELD), True, grant.rev, grant.ttl_ms)
    changed = grant._replace(rev=table.applied_index, ttl_ms=ttl_ms, stamp_us=table.stamp_us)
    table.put(changed)
    applied.granted.append(changed)
    return (request_id, int(Status.OK), True, changed.rev, ttl_ms)


def logged_renew(
    table: "LockTable", request: Request, principal: str, address: str, applied: "Applied"
) -> Answer:
    """Take up an offer (L10), or renew a lease of the logged class (L6). The answer is an item of a renew's."""
    del principal, address
    grant = _current(table, request[2], request[3])
    if grant is None:
        current = table.lookup(request[2])
        return (int(Status.NOT_HELD), current.token if current is not None else 0)
    session = table.session(grant.session) if not grant.ttl_ms or grant.cut else None
    count = session.count if session is not None else None
    if grant.state is GrantState.ENDING:
        return (int(Status.ENDING), count, grant.rev, grant.ttl_ms, -1)
    renewed = grant._replace(
        rev=table.applied_index, state=GrantState.HELD, stamp_us=table.stamp_us, offer=False
    )
    table.put(renewed)
    applied.granted.append(renewed)
    return (int(Status.OK), count, renewed.rev, renewed.ttl_ms, -1)


def expire_lock(
    table: "LockTable", request: Request, principal: str, address: str, applied: "Applied"
) -> Answer:
    """End a lease if token and rev are those that were due, and otherwise do nothing (L2)."""
    del principal, address
    _, _, resource, token, rev = request
    if _expire_plain(table, resource, token, rev, applied):
        return (0, int(Status.OK), True)
    grant = _current(table, resource, token)
    if grant is not None and grant.rev == rev:
        session = table.live_session(grant.session) if grant.offer or grant.cut else None
        end_grant(table, grant, applied)
        if session is not None:
            push(applied, session, Event.LOST, resource, token)
    return (0, int(Status.OK), True)


def _expire_plain(
    table: "LockTable", resource: str, token: int, rev: int, applied: "Applied"
) -> bool:
    """End a lease that nobody waits for, in one look at its bucket. Return whether it was one."""
    bucket = table.bucket_to_change(resource)
    stored = bucket.get(resource)
    if stored is None or resource in table.queues or resource in table.handing_on:
        return False
    grant = grant_of(resource, stored)
    plain = grant.token == token and grant.rev == rev and grant.ttl_ms
    if not plain or grant.offer or grant.cut:
        return False
    note(table, applied, Effect.ENDED, resource, token, grant.owner, grant.session)
    del bucket[resource]
    table.lock_count -= 1
    table.logged_count -= grant.ttl_ms >= table.settings.logged_renewal_ttl_ms
    table.index.delta[resource] = None
    applied.ended.append(token)
    return True


def force_release(
    table: "LockTable", request: Request, principal: str, address: str, applied: "Applied"
) -> Answer:
    """End a grant for an administrator: at once, or by refusing its renewals so that it runs out."""
    del principal, address
    _, request_id, resource, token, _, now = request
    grant = _current(table, resource, token)
    if grant is None:
        return _not_held(table, request)
    session = table.live_session(grant.session)
    if now:
        end_grant(table, grant, applied)
        if session is not None:
            push(applied, session, Event.LOST, resource, token)
    elif grant.state is not GrantState.ENDING:
        ending = grant._replace(state=GrantState.ENDING)
        if not grant.ttl_ms and not grant.offer and session is not None:
            # Cut out of its session (L9): from now on it has a lease of its own that nothing renews.
            ending = ending._replace(ttl_ms=session.ttl_ms, cut=True)
            del session.locks[token]
            session.cut[token] = resource
            push(applied, session, Event.CUT, resource, token)
        table.put(ending)
        applied.granted.append(ending)
    return (request_id, int(Status.OK), True, now)


# the cluster's life


def genesis(
    table: "LockTable", request: Request, principal: str, address: str, applied: "Applied"
) -> Answer:
    """Start the token counter (T1) and fix what is chosen at bootstrap; a second one does nothing."""
    del principal, address, applied
    _, _, token, logged_renewal_ttl_ms = request
    if not table.initialised:
        table.initialised = True
        table.token = token
        table.settings = table.settings._replace(logged_renewal_ttl_ms=logged_renewal_ttl_ms)
    return (0, int(Status.OK), True)


def new_life(
    table: "LockTable", request: Request, principal: str, address: str, applied: "Applied"
) -> Answer:
    """End everything after a restore, in one step, and refuse acquires until old grants are over (T2)."""
    del principal, address, applied
    _, _, token_floor, refuse_until_us = request
    fresh = type(table)()
    table.token = max(table.token + 1, table.wall_us, token_floor)
    table.refuse_until_us = refuse_until_us
    table.buckets, table.queues, table.handing_on = fresh.buckets, fresh.queues, fresh.handing_on
    table.sessions, table.nonces, table.ending = fresh.sessions, fresh.nonces, fresh.ending
    table.index, table.young = fresh.index, fresh.young
    table.lock_count = table.waiter_count = table.session_count = table.logged_count = 0
    table.stream = None
    return (0, int(Status.OK), True)


def set_settings(
    table: "LockTable", request: Request, principal: str, address: str, applied: "Applied"
) -> Answer:
    """Change replicated limits by their names; logged_renewal_ttl_ms is fixed at bootstrap (L6)."""
    del principal, address, applied
    changes = request[2]
    known = set(table.settings._fields) - {"logged_renewal_ttl_ms"}
    unknown = sorted(set(changes) - known)
    if unknown:
        why = f"{unknown[0]} is none of {', '.join(sorted(known))}"
        return (request[1], int(Status.BAD_REQUEST), True, "settings", why)
    table.settings = table.settings._replace(**changes)
    return (request[1], int(Status.OK), True)
