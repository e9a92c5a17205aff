"""What `scale` holds: locks, waiters, connections or sessions that do nothing, made as fast as a cluster takes them.

It owns the connections that made them, for as long as they are to stay.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from bench.leases import filled
from raftlock.client.lean import LeanConnection, open_all
from raftlock_wire.limits import SLOTS_MAX
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

TTL_MS = 12 * 3_600_000
WAIT_MS = 12 * 3_600_000
WAITERS_A_LOCK = 10
WAITERS_A_CONNECTION = 4_000
SESSIONS_AT_ONCE = 1_000
SESSION_TTL_MS = 300_000
MAKE_TIMEOUT_S = 900.0
_OK, _QUEUED = int(Status.OK), int(Status.QUEUED)


@dataclass(slots=True)
class Held:
    """What is held, by whom, and what was refused on the way."""

    connections: list[LeanConnection]
    errors: Counter[str] = field(default_factory=Counter)

    def close(self) -> None:
        """Let go of the connections."""
        for connection in self.connections:
            connection.close()


class Asker(LeanConnection):
    """A connection that sends many requests, some in flight at once, each until its answer is one of those wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: Counter[str] = Counter()
        self._requests: list[tuple[Any, ...]] = []
        self._wanted: frozenset[int] = frozenset()
        self._next = self._open_count = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ask(self, requests: list[tuple[Any, ...]], *, at_once: int, wanted: frozenset[int]) -> None:
        """Send requests; request n has the id n + 1."""
        self._requests, self._wanted = requests, wanted
        self._more(at_once)

    def _more(self, count: int) -> None:
        frame = self._requests[self._next : self._next + count]
        self._next += len(frame)
        self._open_count += len(frame)
        if frame:
            self.send(frame)
        elif not self._open_count and not self.done.done():
            self.done.set_result(None)

    def answered(self, messages: list[tuple[Any, ...]]) -> None:
        """Count what was refused, repeat what was not taken, and send more."""
        free = 0
        for message in messages:
            if not message[0]:
                continue
            if message[1] not in self._wanted:
                self.errors[Status(message[1]).name] += 1
                if not message[2]:
                    self.repeat(self._requests[message[0] - 1])
                    continue
            self._open_count -= 1
            free += 1
        if free:
            self._more(free)

    def lost(self) -> None:
        """Fail what is being made."""
        self.errors["connection lost"] += 1
        if not self.done.done():
            self.done.set_exception(ConnectionResetError("lost while asking"))


async def _asked(askers: list[Asker]) -> Held:
    async with asyncio.timeout(MAKE_TIMEOUT_S):
        await asyncio.gather(*(asker.done for asker in askers))
    return Held(list(askers), sum((asker.errors for asker in askers), Counter()))


async def hold_locks(endpoint: str, number: int) -> Held:
    """Hold locks with leases of their own; who acquired them is gone."""
    fillers, _ = await filled(endpoint, number, ttl_ms=TTL_MS, remember=False)
    errors = sum((filler.statuses for filler in fillers), Counter())
    for filler in fillers:
        filler.close()
    return Held([], errors)


async def hold_waiters(endpoint: str, number: int, *, of_one: bool) -> Held:
    """Let acquires wait: ten for each of many locks, or all for one."""
    resources = 1 if of_one else max(1, number // WAITERS_A_LOCK)
    holders = await open_all(endpoint, lambda _: Asker(), 1)
    acquires = [_acquire(holders[0], n + 1, n, f"wait:{n}", 0) for n in range(resources)]
    # A slot is free again after each answer: a handful are in flight at once.
    holders[0].ask(acquires, at_once=256, wanted=frozenset((_OK,)))
    await _asked(holders)
    count = -(-number // WAITERS_A_CONNECTION)
    askers = await open_all(endpoint, lambda _: Asker(), count)
    for index, asker in enumerate(askers):
        first = index * WAITERS_A_CONNECTION
        part = range(first, min(number, first + WAITERS_A_CONNECTION))
        requests = [
            _acquire(asker, n - first + 1, n - first, f"wait:{n % resources}", WAIT_MS)
            for n in part
        ]
        asker.ask(requests, at_once=SLOTS_MAX, wanted=frozenset((_QUEUED,)))
    # QUEUED is not final: each is answered once here, and its end never comes.
    held = await _asked(askers)
    return Held([*holders, *held.connections], held.errors)


def _acquire(
    asker: Asker, request_id: int, slot: int, resource: str, wait_ms: int
) -> tuple[Any, ...]:
    key = (asker.session, slot % SLOTS_MAX, request_id)
    return (int(Op.ACQUIRE), request_id, *key, resource, "bench", TTL_MS, wait_ms, None)


async def hold_connections(endpoint: str, number: int) -> Held:
    """Hold connections, each with a session."""
    return Held(list(await open_all(endpoint, lambda _: LeanConnection(), number)))


async def hold_sessions(endpoint: str, number: int) -> Held:
    """Hold sessions that were opened over a few connections."""
    count = max(1, number // 10_000)
    askers = await open_all(endpoint, lambda _: Asker(), count)
    for index, asker in enumerate(askers):
        part = number // count + (index < number % count)
        requests = [
            (
                int(Op.OPEN_SESSION),
                n + 1,
                index.to_bytes(8, "big") + n.to_bytes(8, "big"),
                SESSION_TTL_MS,
            )
            for n in range(part)
        ]
        asker.ask(requests, at_once=SESSIONS_AT_ONCE, wanted=frozenset((_OK,)))
    return await _asked(askers)


HOLD: dict[str, Callable[[str, int], Awaitable[Held]]] = {
    "locks": hold_locks,
    "waiters": lambda endpoint, number: hold_waiters(endpoint, number, of_one=False),
    "waiters-of-one": lambda endpoint, number: hold_waiters(endpoint, number, of_one=True),
    "connections": hold_connections,
    "sessions": hold_sessions,
}
