"""Many clients of any system on one lock: handovers a second, fairness, and how long after a release the next one has it.

It owns the contest. How a client waits is its system's own recipe (`bench.peers.base.Waiter`).
"""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from bench.arithmetic import jain, latency_summary
from bench.peers.base import Queued, Waiter

CLIENTS = 64
QUEUE_S = (0.05, 0.15)
"""Until the second client of a pair is taken to be waiting: any time, or one that looks every 100 ms is always met alike."""
END_TIMEOUT_S = 15.0


@contextlib.asynccontextmanager
async def connected(
    system: Queued, addresses: Sequence[str], count: int
) -> AsyncIterator[list[Waiter]]:
    """Give clients that want one lock."""
    waiters = await system.waiters(addresses, f"lock-{os.urandom(4).hex()}", count)
    try:
        yield waiters
    finally:
        await asyncio.gather(*(waiter.close() for waiter in waiters), return_exceptions=True)


async def contest(waiters: Sequence[Waiter], seconds: float) -> dict[str, Any]:
    """Let all take, release and take again for a time."""
    grants = [0] * len(waiters)
    waits: list[float] = []
    over = False

    async def want(number: int, waiter: Waiter) -> None:
        while not over:
            began = time.perf_counter()
            await waiter.lock()
            grants[number] += 1
            waits.append(time.perf_counter() - began)
            await waiter.unlock()

    tasks = [asyncio.create_task(want(*numbered)) for numbered in enumerate(waiters)]
    began = time.perf_counter()
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    took, shares = time.perf_counter() - began, list(grants)
    over = True
    # Each ends when it had the lock once more.
    done, late = await asyncio.wait(tasks, timeout=END_TIMEOUT_S)
    for task in late:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    failures = [task.exception() for task in done if not task.cancelled()]
    return {
        "handovers_per_second": round(sum(shares) / took, 1),
        "wait": latency_summary(waits),
        "grants_min": min(shares),
        "grants_max": max(shares),
        "jain": round(jain(shares), 6),
        "errors": [repr(failure) for failure in failures if failure is not None][:5],
    }


async def after_release(first: Waiter, second: Waiter, rounds: int) -> dict[str, float]:
    """Return how long after the call of the release the one that waits has the lock."""
    taken: list[float] = []
    for _ in range(rounds):
        await first.lock()
        waiting = asyncio.create_task(second.lock())
        await asyncio.sleep(random.uniform(*QUEUE_S))
        began = time.perf_counter()
        release = asyncio.create_task(first.unlock())
        await waiting
        taken.append(time.perf_counter() - began)
        await release
        await second.unlock()
    return latency_summary(taken)
