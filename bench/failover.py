"""`python -m bench failover`: kill -9 nodes of an own cluster under load, and see what that costs and whether it lies.

It owns clients that acquire, keep and release locks, the killing, and the checks: nothing acknowledged is lost, never
two holders, tokens only grow. The gap is the longest time around a kill in which no client had any answer.
"""

import argparse
import asyncio
import contextlib
import itertools
import math
import os
import random
import signal
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import uvloop

from bench.cluster import own_cluster
from bench.report import add_common, count, write
from raftlock.client import AsyncClient, Lock, RaftlockError, Unavailable
from raftlock.client.async_client import fetch_status

HELP = "kill -9 nodes of a cluster under load, and check every promise"
KEPT_TTL_S = 3_600.0
"""Of locks that are kept to be looked for at the end: far longer than the run."""
CONTENDED = 8
BIN_MS = 10
SETTLE_S = 60.0
BETWEEN_S = (2.5, 4.0)
"""A killed node is back after about two seconds; the next kill comes when three run again."""


@dataclass(slots=True)
class Seen:
    """What the clients saw."""

    answers_at: list[float] = field(default_factory=list)
    kept: dict[str, int] = field(default_factory=dict)
    """Resource to token of locks that were acknowledged and never released."""
    holders: dict[str, Lock] = field(default_factory=dict)
    highest: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    unknown: int = 0

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

    def answered(self) -> None:
        """Note that the service answered."""
        self.answers_at.append(time.monotonic())


async def _contend(
    client: AsyncClient, seen: Seen, rng: random.Random, over: asyncio.Event
) -> None:
    """Take turns on few resources with the other clients."""
    while not over.is_set():
        resource = f"contended:{rng.randrange(CONTENDED)}"
        try:
            lock = await client.acquire(resource, ttl=2.0, wait=1.0)
            seen.answered()
            if lock is None:
                continue
            seen.granted(lock)
            await asyncio.sleep(rng.random() * 0.004)
            if seen.holders.get(resource) is lock:
                del seen.holders[resource]
            await lock.release()
            seen.answered()
        except RaftlockError:
            seen.unknown += 1


async def _keep(client: AsyncClient, seen: Seen, name: str, over: asyncio.Event) -> None:
    """Acquire locks of many names, keep one in sixteen for good and release the others."""
    number = 0
    while not over.is_set():
        number += 1
        resource = f"{name}:{number}"
        try:
            lock = await client.acquire(resource, ttl=KEPT_TTL_S, renew=False)
            seen.answered()
            if lock is None:
                seen.violations.append(f"{resource} is held, and nobody else wants it")
            elif number % 16 == 0:
                seen.kept[resource] = lock.token
            else:
                await lock.release()
                seen.answered()
        except RaftlockError:
            seen.unknown += 1
        # A bounded load: it is there to notice a gap of a millisecond, not to find the limit.
        await asyncio.sleep(0.001)


async def _pids(endpoints: list[str]) -> dict[str, tuple[int, bool]]:
    """Return pid and leadership of each node that answers."""
    found: dict[str, tuple[int, bool]] = {}
    for endpoint in endpoints:
        with contextlib.suppress(OSError, TimeoutError, Unavailable):
            status = await fetch_status(endpoint, timeout=1.0)
            if status.healthy:
                found[endpoint] = (status.pid, status.role == "leader")
    return found


async def _all_up(endpoints: list[str]) -> dict[str, tuple[int, bool]]:
    until = time.monotonic() + SETTLE_S
    while time.monotonic() < until:
        pids = await _pids(endpoints)
        if len(pids) == len(endpoints) and any(leads for _, leads in pids.values()):
            return pids
        await asyncio.sleep(0.1)
    raise TimeoutError(f"the nodes were not all up again within {SETTLE_S:g} s")


def _gap_ms(answers: list[float], killed: float, until: float) -> float:
    """Return the longest time without an answer that ends after the kill."""
    times = [t for t in answers if killed - 1.0 <= t <= until]
    gaps = [b - a for a, b in itertools.pairwise(times) if b > killed]
    return round(max(gaps, default=until - killed) * 1_000, 1)


def timeline(answers: list[float], killed: float) -> list[tuple[int, int]]:
    """Return (milliseconds since the kill, answers in the 10 ms from there), from half a second before it to 1.5 after."""
    counts = dict.fromkeys(range(-500, 1_500, BIN_MS), 0)
    for at in answers:
        bin_ms = math.floor((at - killed) * 1_000 / BIN_MS) * BIN_MS
        if bin_ms in counts:
            counts[bin_ms] += 1
    return list(counts.items())


async def kill_under_load(
    endpoints: list[str], *, kills: int, victims: str, clients: int, seed: int
) -> dict[str, Any]:
    """Kill `kills` times the leader (or all nodes at once) under load, and check everything."""
    seen, over, rng = Seen(), asyncio.Event(), random.Random(seed)
    gaps: list[float] = []
    killed = 0.0
    async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for number in range(clients):
            client = await stack.enter_async_context(AsyncClient(endpoints))
            for worker in range(4):
                name = f"kept:{number}:{worker}"
                group.create_task(_keep(client, seen, name, over))
            group.create_task(_contend(client, seen, random.Random(rng.random()), over))
        await asyncio.sleep(1.0)
        for _ in range(kills):
            pids = await _all_up(endpoints)
            targets = [pid for pid, leads in pids.values() if leads or victims == "all"]
            killed = time.monotonic()
            for pid in targets:
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(rng.uniform(*BETWEEN_S))
            await _all_up(endpoints)
            gaps.append(_gap_ms(seen.answers_at, killed, time.monotonic()))
        over.set()
    lost = await _missing(endpoints, seen.kept)
    seen.violations += [f"acknowledged and lost: {resource}" for resource in lost]
    return {
        "kills": kills,
        "victims": victims,
        "gaps_ms": gaps,
        "gap_median_ms": statistics.median(gaps),
        "gap_max_ms": max(gaps),
        "timeline": timeline(seen.answers_at, killed),
        "answers": len(seen.answers_at),
        "kept": len(seen.kept),
        "without_answer": seen.unknown,
        "violations": seen.violations,
    }


async def _missing(endpoints: list[str], kept: dict[str, int]) -> list[str]:
    """Return the resources whose acknowledged token is not the current grant."""
    async with AsyncClient(endpoints) as client:
        missing: list[str] = []
        names = list(kept)
        for first in range(0, len(names), 256):
            part = names[first : first + 256]
            held = await asyncio.gather(*(client.check(name, kept[name]) for name in part))
            missing += [name for name, is_held in zip(part, held, strict=True) if not is_held]
        return missing


def run(options: argparse.Namespace) -> int:
    """Kill nodes of a cluster of our own; print and write what was seen. Return 1 if a promise was broken."""
    with own_cluster() as cluster:
        result = uvloop.run(
            kill_under_load(
                cluster.endpoints,
                kills=options.kills,
                victims=options.victims,
                clients=options.clients,
                seed=options.seed,
            )
        )
    print(
        f"{result['kills']} kills of {result['victims']}: gap without service median "
        f"{result['gap_median_ms']:.0f} ms, max {result['gap_max_ms']:.0f} ms; {result['answers']:,} answers, "
        f"{result['without_answer']} requests without a final answer; {result['kept']:,} kept locks all looked for"
    )
    for violation in result["violations"][:20]:
        print(f"VIOLATION: {violation}")
    write(options, result)
    return 1 if result["violations"] else 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--kills", type=count, default=20, help="how often (default: 20)")
    parser.add_argument(
        "--victims", choices=("leader", "all"), default="leader", help="default: leader"
    )
    parser.add_argument("--clients", type=count, default=8, help="client sessions (default: 8)")
    parser.add_argument("--seed", type=int, default=1, help="of the pauses (default: 1)")
    add_common(parser, endpoints=False)
