"""`python -m bench handover`: how long a waiting client waits after a release, and after the end of a dead holder's lease."""

import argparse
import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from raftlock.client import AsyncClient
from raftlock_wire.codec import pack, unpack
from raftlock_wire.limits import PROTOCOL_VERSION
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

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


class FrozenHolder:
    """A holder that acquires over a plain connection and then does nothing at all: it neither renews nor releases."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._session = 0
        self._slot = 0

    @classmethod
    async def connect(cls, endpoint: str) -> "FrozenHolder":
        """Connect and open a session."""
        host, _, port = endpoint.rpartition(":")
        holder = cls(*await asyncio.open_connection(host, int(port)))
        await holder._ask(Op.HELLO, PROTOCOL_VERSION, PROTOCOL_VERSION, None, None, "bench")
        answer = await holder._ask(Op.OPEN_SESSION, os.urandom(16), 300_000)
        holder._session = answer[3]
        return holder

    async def acquire(self, resource: str, ttl_ms: int) -> bool:
        """Acquire a lock, for its ttl. Return whether it was granted."""
        self._slot += 1
        answer = await self._ask(
            Op.ACQUIRE, self._session, self._slot, 1, resource, "frozen", ttl_ms, 0, None
        )
        return bool(answer[1] == Status.OK)

    async def _ask(self, code: Op, *fields: Any) -> tuple[Any, ...]:
        payload = pack([(int(code), 1, *fields)])
        self._writer.write(len(payload).to_bytes(4, "big") + payload)
        while True:
            size = int.from_bytes(await self._reader.readexactly(4), "big")
            for message in unpack(await self._reader.readexactly(size))[1:]:
                if message[0] == 1:
                    return tuple(message)

    def close(self) -> None:
        """End the connection."""
        self._writer.close()


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
        holder = await FrozenHolder.connect(endpoints[0])
        death = [await _after_death(holder, b, i) for i in range(max(1, rounds // 10))]
        holder.close()
    return {"rounds": rounds, "after_release": _summary(release), "after_death": _summary(death)}


def report(result: dict[str, Any], json_file: str | None) -> int:
    """Print and write what was seen."""
    for name, text in (
        ("after_release", "release to the waiter's handle"),
        ("after_death", f"end of a dead holder's {EXPIRING_TTL_MS} ms lease to the next handle"),
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
