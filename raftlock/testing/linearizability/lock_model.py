"""What one lock may do: the sequential specification that a history of one resource is searched for.

A state is who holds the lock, until when its holder counts on it, and the largest token so far. Leases end by
themselves, so most steps may also find the lock free, but only when the deadline of its holder may have passed: an end
before the client's own deadline is exactly what no step allows (guarantees 3 and 10).
"""

from typing import NamedTuple

from raftlock.testing.linearizability.history import Operation, Outcome

FREE = 0


class LockState(NamedTuple):
    """One lock between two operations."""

    holder: int = FREE
    """The token of the grant; 0: nobody holds it."""
    deadline_ns: int = 0
    """Until when the holder counts on it, as far as it was told; 0: it was promised nothing."""
    token_max: int = 0
    not_before_ns: int = 0
    """A lease was taken to have ended at this time: what follows happened later."""


NO_EFFECT = frozenset(
    ("BAD_REQUEST", "FORBIDDEN", "QUOTA_EXCEEDED", "UNAUTHENTICATED", "OVERLOADED", "NO_QUORUM")
)
"""Refusals that a client reports as final only when no attempt took effect (R4)."""


def has_no_effect(op: Operation) -> bool:
    """Return whether an operation neither changes nor shows anything, whatever its outcome."""
    if op.f == "cancel":
        # What it withdrew shows in the outcome of its acquire.
        return True
    if op.outcome is Outcome.INFO:
        # An unanswered renewal promised nothing; an unanswered acquire is looked at where a token shows it.
        return op.f in ("acquire", "renew", "check", "get")
    if op.outcome is Outcome.FAIL and op.status in NO_EFFECT:
        return True
    if op.f == "acquire":
        return op.outcome is Outcome.FAIL and op.status != "HELD"
    return op.f == "get" and bool(op.asked.get("stale"))


def may_have_held(op: Operation) -> bool:
    """Return whether an acquire without a handle may have held or been offered the lock for a time."""
    if op.f != "acquire" or op.outcome is Outcome.OK:
        return False
    return op.outcome is Outcome.INFO or op.status not in (*NO_EFFECT, "HELD")


def shown_token(op: Operation) -> int:
    """Return the token that an answer shows to hold the lock; 0 if it shows none."""
    if op.outcome is Outcome.INFO:
        return 0
    if op.f == "acquire":
        return op.token if op.outcome is Outcome.OK else op.holder_token
    if op.f == "get":
        return op.holder_token or int(op.told.get("token") or 0)
    return op.token if op.outcome is Outcome.OK else op.holder_token


def step(state: LockState, op: Operation, known: frozenset[int]) -> tuple[LockState, ...]:
    """Return the states in which `op` may leave the lock; none if it cannot happen in `state`.

    `known` are the tokens of acquires that were answered. Any other token that shows up belongs to an acquire of unknown
    outcome, or to an offer that was not taken up: it may appear and go at any time.
    """
    if op.return_ns < state.not_before_ns:
        return ()
    found = _step(state, op, known)
    # Once an operation began after that time, the order of the history says the same.
    return tuple(s._replace(not_before_ns=0) if s.not_before_ns <= op.call_ns else s for s in found)


def _step(state: LockState, op: Operation, known: frozenset[int]) -> list[LockState]:
    if op.outcome is Outcome.INFO:
        return [state, *_unanswered(state, op)]
    match op.f:
        case "acquire" if op.outcome is Outcome.OK:
            return [
                LockState(op.token, op.deadline_ns, op.token, s.not_before_ns)
                for s in _free(state, op)
                if op.token > s.token_max
            ]
        case "acquire":
            # Token 0: the queue is still being handed on, and nobody holds it.
            return _shows(state, op, op.holder_token, known) if op.holder_token else [state]
        case "get":
            shown = shown_token(op)
            return _shows(state, op, shown, known) if shown else _free(state, op)
        case "force_release" if op.outcome is Outcome.OK:
            held = _shows(state, op, op.token, known)
            return [_freed(s) for s in held] if op.asked.get("now") else held
        case "release" if op.outcome is Outcome.OK:
            return [_freed(s) for s in _shows(state, op, op.token, known)]
        case "release":
            # An earlier attempt whose answer was lost may have released it.
            if state.holder == op.token and op.told.get("attempts", 2) > 1:
                return [_freed(state)]
            return _not_held(state, op, known)
        case "change_ttl" if op.outcome is Outcome.OK:
            return [
                s._replace(deadline_ns=op.deadline_ns) for s in _shows(state, op, op.token, known)
            ]
        case _ if op.outcome is Outcome.OK or op.status in ("ENDING", "HELD"):
            held = _shows(state, op, op.token, known)
            return [s._replace(deadline_ns=max(s.deadline_ns, op.deadline_ns)) for s in held]
        case _:
            return _not_held(state, op, known)


def _unanswered(state: LockState, op: Operation) -> list[LockState]:
    if state.holder != op.token:
        return []
    if op.f == "release" or (op.f == "force_release" and op.asked.get("now")):
        return [_freed(state)]
    if op.f == "change_ttl":
        # From the sending on the client counts with the shorter one (L8).
        shorter = op.call_ns + int(op.asked.get("ttl_ms") or 0) * 1_000_000
        return [state._replace(deadline_ns=min(state.deadline_ns, shorter))]
    return []


def _freed(state: LockState) -> LockState:
    return state._replace(holder=FREE, deadline_ns=0)


def _free(state: LockState, op: Operation) -> list[LockState]:
    """Return the state in which the lock is free at this operation; none if its holder still counts on it."""
    if state.holder == FREE:
        return [state]
    if op.return_ns < state.deadline_ns:
        return []
    ended = max(state.not_before_ns, state.deadline_ns)
    return [LockState(FREE, 0, state.token_max, ended)]


def _shows(state: LockState, op: Operation, token: int, known: frozenset[int]) -> list[LockState]:
    """Return the state in which `token` holds the lock."""
    if state.holder == token:
        return [state]
    if token in known or token <= state.token_max:
        return []
    return [s._replace(holder=token, token_max=token) for s in _free(state, op)]


def _not_held(state: LockState, op: Operation, known: frozenset[int]) -> list[LockState]:
    """Return the states in which the token that `op` names does not hold the lock, but the one that it shows does."""
    without = _free(state, op) if state.holder == int(op.asked.get("token") or 0) else [state]
    if not op.holder_token:
        return without
    return [shown for s in without for shown in _shows(s, op, op.holder_token, known)]
