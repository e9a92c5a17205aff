"""What a history must keep besides each lock's own order: tokens over all locks, queues, and ended sessions.

Each check is one pass over the operations in the order of time. They say what is wrong in words.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence

from raftlock.testing.linearizability.history import Operation, Outcome
from raftlock.testing.linearizability.lock_model import may_have_held, shown_token


def _acquired(operations: Sequence[Operation]) -> list[Operation]:
    found = [op for op in operations if op.f == "acquire" and op.outcome is Outcome.OK]
    return sorted(found, key=lambda op: op.call_ns)


def tokens_grow(operations: Sequence[Operation]) -> Iterator[str]:
    """Yield each grant whose token is not above that of a grant answered before it was asked for (guarantee 2)."""
    returned: list[tuple[int, int, Operation]] = []
    largest: Operation | None = None
    holders: dict[int, Operation] = {}
    for op in _acquired(operations):
        while returned and returned[0][0] < op.call_ns:
            before = heapq.heappop(returned)[2]
            if largest is None or before.token > largest.token:
                largest = before
        if largest is not None and largest.token >= op.token:
            yield f"token {op.token} was given after token {largest.token} was known: {op}; before: {largest}"
        if op.token in holders:
            yield f"token {op.token} was given twice: {holders[op.token]}; and {op}"
        holders[op.token] = op
        heapq.heappush(returned, (op.return_ns, op.id, op))


def queues_are_fair(operations: Sequence[Operation]) -> Iterator[str]:
    """Yield each waiter that was served before one that was known to be queued before it asked (guarantee 5).

    `queued_ns` in an answer is when the client was told that its acquire waits. Where an operation has none, nothing is
    known of its place.
    """
    by_resource: dict[str, list[Operation]] = defaultdict(list)
    for op in _acquired(operations):
        by_resource[op.resource].append(op)
    for acquires in by_resource.values():
        queued: list[tuple[int, int, Operation]] = []
        for op in acquires:
            queued_ns = int(op.told.get("queued_ns") or 0)
            if queued_ns:
                queued.append((queued_ns, op.id, op))
        queued.sort()
        latest: Operation | None = None
        position = 0
        for op in acquires:
            while position < len(queued) and queued[position][0] < op.call_ns:
                before = queued[position][2]
                position += 1
                if latest is None or before.token > latest.token:
                    latest = before
            if latest is not None and latest.token > op.token:
                yield f"{op} was served before {latest}, which was in the queue before it asked"


def ended_sessions_get_nothing(operations: Sequence[Operation]) -> Iterator[str]:
    """Yield each grant to a session that was known to have ended before the grant was asked for (rule R9)."""
    ended: dict[int, Operation] = {}
    for op in operations:
        session = op.asked.get("session")
        if isinstance(session, int) and op.status == "SESSION_EXPIRED":
            known = ended.get(session)
            if known is None or op.return_ns < known.return_ns:
                ended[session] = op
    for op in _acquired(operations):
        end = ended.get(op.asked.get("session") or 0)
        if end is not None and end.return_ns < op.call_ns:
            yield f"{op} was granted to a session that had ended: {end}"


def tokens_have_an_origin(operations: Sequence[Operation]) -> Iterator[str]:
    """Yield each token that was seen on a resource though no acquire can have been given it.

    An acquire of unknown outcome, or one that ended without a handle, explains at most one such token, and only one that
    was seen after it was asked for.
    """
    by_resource: dict[str, list[Operation]] = defaultdict(list)
    for op in operations:
        by_resource[op.resource].append(op)
    for mine in by_resource.values():
        known = {op.token for op in _acquired(mine)}
        first_seen: dict[int, Operation] = {}
        for op in mine:
            token = shown_token(op)
            if token and token not in known:
                seen = first_seen.get(token)
                if seen is None or op.return_ns < seen.return_ns:
                    first_seen[token] = op
        silent = sorted((op for op in mine if may_have_held(op)), key=lambda op: op.call_ns)
        used = 0
        for op in sorted(first_seen.values(), key=lambda op: op.return_ns):
            if used >= len(silent) or silent[used].call_ns > op.return_ns:
                yield f"token {shown_token(op)} is nobody's: {op}"
            else:
                used += 1


CHECKS = {
    "tokens grow": tokens_grow,
    "tokens have an origin": tokens_have_an_origin,
    "queues are fair": queues_are_fair,
    "ended sessions get nothing": ended_sessions_get_nothing,
}
"""The checks by the names under which they are reported."""
