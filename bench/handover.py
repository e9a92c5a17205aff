"""`python -m bench handover`: how long a waiting client waits after a release, and after the end of a dead holder's lease."""

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

from raftlock.client import AsyncClient, Lock

EXPIRING_TTL_S = 0.5


async def _queued(client: AsyncClient, resource: str) -> None:
    while (info := await client.get(resource)) is None or not info.waiters:
        await asyncio.sleep(0.001)


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


async def _after_death(a: AsyncClient, b: AsyncClient, number: int) -> float:
    """Return how long after the ttl, counted from the call of acquire, the next one holds the lock: seconds."""
    resource = f"dead:{number}"
    began = time.perf_counter()
    held = await a.acquire(resource, ttl=EXPIRING_TTL_S, renew=False)
    heir = await b.acquire(resource, ttl=30, wait=30)
    took = time.perf_counter() - began - EXPIRING_TTL_S
    assert isinstance(held, Lock)
    assert heir is not None
    await heir.release()
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
        death = [await _after_death(a, b, i) for i in range(max(1, rounds // 10))]
    return {"rounds": rounds, "after_release": _summary(release), "after_death": _summary(death)}


def report(result: dict[str, Any], json_file: str | None) -> int:
    """Print and write what was seen."""
    for name, text in (
        ("after_release", "release to the waiter's handle"),
        ("after_death", f"end of a dead holder's {EXPIRING_TTL_S:g} s lease to the next handle"),
    ):
        s = result[name]
        print(
            f"{text}: median {s['p50_ms']} ms, p99 {s['p99_ms']} ms, max {s['max_ms']} ms, min {s['min_ms']} ms"
        )
    if json_file:
        Path(json_file).write_text(json.dumps(result, indent=2) + "\n")
    # A lease that ends before its ttl is a broken promise, whatever the machine.
    return 1 if result["after_death"]["min_ms"] < 0 else 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--rounds", type=int, default=200, help="handovers (default: 200)")
    parser.add_argument("--json", metavar="FILE", help="write everything to FILE")
