"""A load on raftlock that checks what it is promised: nothing acknowledged is lost, never two holders, tokens grow.

It owns the clients and what they saw. It must not know what befalls the nodes meanwhile.
"""

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass, field

from bench.gaps import Probe, Witness
from raftlock.client import AsyncClient, Lock, RaftlockError
from raftlock_wire.status import Status

KEPT_TTL_S = 3_600.0
"""Of locks that are kept to be looked for at the end: far longer than the run."""
CONTENDED = 8
WORKERS = 4
PACE_S = 0.001
"""A bounded load: it is there to notice a gap of some milliseconds, not to find the limit."""
CHECKED_AT_ONCE = 256


@dataclass(slots=True)
class Seen:
    """What the clients saw."""

    answers: int = 0
    kept: dict[str, int] = field(default_factory=dict)
    """Resource to token of locks that were acknowledged and never released."""
    holders: dict[str, Lock] = field(default_factory=dict)
    highest: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def granted(self, lock: Lock) -> None:
        """Check a grant against all other clients' belief."""
        holder = self.holders.get(lock.resource)
        if holder is not None and holder.held:
            self.violations.append(
                f"two holders of {lock.resource}: {holder.token} and {lock.token}"
            )
        if lock.token <= self.highest.get(lock.resource, 0):
            self.violations.append(f"token {lock.token} of {lock.resource} did not grow")
        self.highest[lock.resource] = lock.token
        self.holders[lock.resource] = lock


class Load:
    """Clients that acquire, keep and release."""

    def __init__(self, probe: Probe, seen: Seen) -> None:
        self._probe = probe
        self._seen = seen

    async def run(self, endpoints: list[str], clients: int, rng: random.Random) -> None:
        """Go on until the probe is over."""
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for number in range(clients):
                client = await stack.enter_async_context(AsyncClient(endpoints))
                witness = self._probe.witness()
                run = f"{rng.getrandbits(32):08x}"
                for worker in range(WORKERS):
                    name = f"kept:{run}:{number}:{worker}"
                    group.create_task(self._keep(client, witness, name))
                group.create_task(self._contend(client, random.Random(rng.random())))

    async def _keep(self, client: AsyncClient, witness: Witness, name: str) -> None:
        """Acquire locks of many names, keep one in sixteen for good and release the others."""
        seen, number = self._seen, 0
        while not self._probe.over.is_set():
            number += 1
            resource = f"{name}:{number}"
            try:
                lock = await client.try_acquire(resource, ttl=KEPT_TTL_S, renew=False)
                seen.answers += 1
                if not isinstance(lock, Lock):
                    if lock.status is Status.HELD:
                        seen.violations.append(f"{resource} is held, and nobody else wants it")
                    # Else its session ended meanwhile, or its time: not acquired is a true answer.
                    self._probe.refused += 1
                    continue
                witness.granted_at.append(time.monotonic())
                if number % 16 == 0:
                    seen.kept[resource] = lock.token
                else:
                    await lock.release()
                    seen.answers += 1
            except RaftlockError:
                self._probe.refused += 1
            await asyncio.sleep(PACE_S)

    async def _contend(self, client: AsyncClient, rng: random.Random) -> None:
        """Take turns on few resources with the other clients."""
        seen = self._seen
        while not self._probe.over.is_set():
            resource = f"contended:{rng.randrange(CONTENDED)}"
            try:
                lock = await client.acquire(resource, ttl=2.0, wait=1.0)
                seen.answers += 1
                if lock is None:
                    continue
                seen.granted(lock)
                await asyncio.sleep(rng.random() * 0.004)
                if seen.holders.get(resource) is lock:
                    del seen.holders[resource]
                await lock.release()
                seen.answers += 1
            except RaftlockError:
                self._probe.refused += 1


async def lost(endpoints: list[str], kept: dict[str, int]) -> list[str]:
    """Return the resources whose acknowledged token is not the current grant."""
    async with AsyncClient(endpoints) as client:
        missing: list[str] = []
        names = list(kept)
        for first in range(0, len(names), CHECKED_AT_ONCE):
            part = names[first : first + CHECKED_AT_ONCE]
            held = await asyncio.gather(*(client.check(name, kept[name]) for name in part))
            missing += [name for name, is_held in zip(part, held, strict=True) if not is_held]
        return missing
