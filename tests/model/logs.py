"""Logs of random commands for the lock table, with a small world of names so that they meet."""

import random
from collections.abc import Sequence
from typing import Any

from raftlock.locks import Applied, LockTable
from raftlock_wire.messages import Op

Entry = tuple[int, int, int, tuple[tuple[Any, ...], ...]]
"""(index, stamp_us, wall_us, groups)"""

FIRST_TOKEN = 1_000
NAMES = ("a", "b", "c")


def genesis(*, logged_renewal_ttl_ms: int = 60_000) -> Entry:
    """Return the first entry of a cluster."""
    return (1, 0, 0, (("", "", (int(Op.GENESIS), 0, FIRST_TOKEN, logged_renewal_ttl_ms)),))


def apply(table: LockTable, entry: Entry) -> Applied:
    """Apply one entry."""
    return table.apply(*entry)


def fresh(log: Sequence[Entry]) -> LockTable:
    """Return a table that has applied a whole log."""
    table = LockTable()
    for entry in log:
        apply(table, entry)
    return table


def random_log(seed: int, length: int) -> list[Entry]:
    """Return a log in which commands of every kind meet: it is made against a table, so that tokens fit."""
    rng = random.Random(seed)
    table = LockTable()
    log = [genesis(logged_renewal_ttl_ms=5_000)]
    apply(table, log[0])
    sessions: list[int] = []
    next_n: dict[tuple[int, int], int] = {}
    while len(log) < length:
        index, stamp, wall = len(log) + 1, len(log) * 1_000, len(log) * 2_000
        groups = []
        for group in range(rng.randint(1, 2)):
            requests = [_command(rng, table, sessions, next_n) for _ in range(rng.randint(1, 4))]
            groups.append((rng.choice(("", "", "p")), f"host-{group}", *requests))
        entry = (index, stamp, wall, tuple(groups))
        applied = apply(table, entry)
        sessions += [session for session, _ in applied.opened]
        log.append(entry)
    return log


def _command(
    rng: random.Random, table: LockTable, sessions: list[int], next_n: dict[tuple[int, int], int]
) -> tuple[Any, ...]:
    name = rng.choice(NAMES)
    session = rng.choice(sessions[-5:] or [1])
    waiting = rng.choice([w[:3] for w in table.iter_waiters()] or [(session, 0, 1)])
    slot = rng.randrange(3)
    request_id = rng.randrange(1, 1_000)
    grant = table.lookup(name)
    token = grant.token if grant is not None and rng.random() < 0.8 else FIRST_TOKEN + 1
    rev = grant.rev if grant is not None and rng.random() < 0.8 else 1
    kind = rng.random()
    if kind < 0.12 or len(sessions) < 2:
        return (int(Op.OPEN_SESSION), request_id, bytes([rng.randrange(40)]) * 16, 10_000)
    if kind < 0.55:
        n = next_n.get((session, slot), 0) + rng.choice((0, 1, 1, 1))
        next_n[session, slot] = n = max(n, 1)
        ttl, wait = rng.choice((0, 300, 5_000)), rng.choice((0, 0, 9_000))
        metadata = rng.choice((None, None, {"k": "v"}))
        return (
            int(Op.ACQUIRE),
            request_id,
            session,
            slot,
            n,
            name,
            f"o{session}",
            ttl,
            wait,
            metadata,
        )
    if kind < 0.72:
        return (int(Op.RELEASE), request_id, name, token)
    others: tuple[tuple[Any, ...], ...] = (
        (int(Op.CANCEL), request_id, session, slot, next_n.get((session, slot), 0) + rng.randrange(2) or 1),
        (int(Op.LOGGED_RENEW), 0, name, token),
        (int(Op.LOGGED_RENEW), 0, name, token),
        (int(Op.CHANGE_TTL), request_id, name, token, 700, rev),
        (int(Op.FORCE_RELEASE), request_id, name, token, "why", rng.random() < 0.5),
        (int(Op.EXPIRE_LOCK), 0, name, token, rev),
        (int(Op.WAIT_TIMEOUT), 0, *waiting),
        (int(Op.CLOSE_SESSION), request_id, session),
        (int(Op.EXPIRE_SESSION), 0, session, _rev(table, session)),
        (int(Op.SWEEP_SESSION), 0, session),
        (int(Op.SWEEP_RESOURCE), 0, name),
        (int(Op.SET_SETTINGS), request_id, {"slots_max": rng.choice((2, 4_096))}),
    )  # fmt: skip
    return rng.choice(others)


def _rev(table: LockTable, session: int) -> int:
    found = table.session(session)
    return found.rev if found is not None else 1
