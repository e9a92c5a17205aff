"""`python -m bench handover`: how long a waiting client waits after a release, and after the end of a dead holder's lease."""

import argparse
import asyncio
import time
from typing import Any

import uvloop

from bench.cluster import own_cluster
from bench.report import add_common, count, write
from raftlock.client import AsyncClient
from raftlock.client.lean import LeanConnection, open_all
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

HELP = "how long a waiter waits after a release, or after a holder's death"
EXPIRING_TTL_MS = 500


async def _queued(client: AsyncClient, resource: str) -> None:
    while (info := await client.get(resource)) is None or not info.waiters:
        pass


async def _after_release(a: AsyncClient, b: AsyncClient, number: int) -> float:
    """Return the seconds from the call of release to the waiter's handle."""
    resource = f"handover:{number}"
    held = await a.acquire(resource, ttl=30)
    assert held is not None
    waiting = asyncio.create_task(b.acquire(resource, ttl=30, wait=30))
    await _queued(a, resource)
    began = time.perf_counter()
    release = asyncio.create_task(held.release())
    heir = await waiting
    took = time.perf_counter() - began
    await release
    assert heir is not None
    await heir.release()
    return took


class FrozenHolder(LeanConnection):
    """A holder that acquires over a plain connection and then does nothing at all: it neither renews nor releases."""

    def __init__(self) -> None:
        super().__init__()
        self._slot = 0
        self._granted: asyncio.Future[bool] | None = None

    async def acquire(self, resource: str, ttl_ms: int) -> bool:
        """Acquire a lock, for its ttl. Return whether it was granted."""
        self._slot += 1
        self._granted = asyncio.get_running_loop().create_future()
        key = (self.session, self._slot, 1)
        self.send([(int(Op.ACQUIRE), 1, *key, resource, "frozen", ttl_ms, 0, None)])
        return await self._granted

    def answered(self, messages: list[tuple[Any, ...]]) -> None:
        """Take the answer to the acquire; events are not for a holder that is frozen."""
        for message in messages:
            if message[0] == 1 and self._granted is not None and not self._granted.done():
                self._granted.set_result(message[1] == Status.OK)


async def _after_death(holder: FrozenHolder, heir: AsyncClient, number: int) -> float:
    """Return how long after the ttl, counted from the sending of the acquire, the next one holds the lock: seconds."""
    resource = f"dead:{number}"
    began = time.perf_counter()
    granted = await holder.acquire(resource, EXPIRING_TTL_MS)
    lock = await heir.acquire(resource, ttl=30, wait=30)
    took = time.perf_counter() - began - EXPIRING_TTL_MS / 1_000
    assert granted
    assert lock is not None
    await lock.release()
    return took


def _summary(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "p50_ms": round(ordered[len(ordered) // 2] * 1_000, 2),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1_000, 2),
        "max_ms": round(ordered[-1] * 1_000, 2),
        "min_ms": round(ordered[0] * 1_000, 2),
    }


async def measure(endpoints: list[str], *, rounds: int) -> dict[str, Any]:
    """Measure both, one after the other."""
    async with AsyncClient(endpoints) as a, AsyncClient(endpoints) as b:
        await asyncio.gather(a.acquire("warm:a"), b.acquire("warm:b"))
        # Both move to the leader before anything is measured.
        await asyncio.sleep(2.5)
        release = [await _after_release(a, b, i) for i in range(rounds)]
        holder, *_ = await open_all(endpoints[0], lambda _: FrozenHolder(), 1)
        death = [await _after_death(holder, b, i) for i in range(max(1, rounds // 10))]
        holder.close()
    return {"rounds": rounds, "after_release": _summary(release), "after_death": _summary(death)}


def run(options: argparse.Namespace) -> int:
    """Measure handovers on a cluster of our own; print and write what was seen."""
    with own_cluster() as cluster:
        result = uvloop.run(measure(cluster.endpoints, rounds=options.rounds))
    for name, text in (
        ("after_release", "release to the waiter's handle"),
        ("after_death", f"end of a dead holder's {EXPIRING_TTL_MS} ms lease to the next handle"),
    ):
        s = result[name]
        print(
            f"{text}: median {s['p50_ms']} ms, p99 {s['p99_ms']} ms, max {s['max_ms']} ms, min {s['min_ms']} ms"
        )
    write(options, result)
    # A lease that ends before its ttl is a broken promise, whatever the machine.
    return 1 if result["after_death"]["min_ms"] < 0 else 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--rounds", type=count, default=200, help="handovers (default: 200)")
    add_common(parser, endpoints=False)
