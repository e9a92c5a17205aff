"""`python -m bench renew | expiry`: many leases that are kept, and many that end at the same moment.

renew: N leases of their own, renewed in batches on a schedule (each batch has its time; latency counts from it).
expiry: N leases that end at one moment: how late the last one is, and what an open loop of others feels meanwhile.
"""

import argparse
import asyncio
import os
import time
from array import array
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import uvloop

from bench.arithmetic import Schedule, latency_summary
from bench.cluster import own_or
from bench.open_loop import OpenTally, open_loop
from bench.report import add_common, count, machine_line, positive, table, write
from raftlock.client.connection import fetch_status
from raftlock.client.lean import LeanConnection, open_all, sleep_and_keep_alive
from raftlock.client.load import find_leader
from raftlock_wire.limits import RENEW_ITEMS_MAX, TTL_MS_MAX, TTL_MS_MIN
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

HELP = {
    "renew": "N leases renewed in batches, on a schedule",
    "expiry": "N leases that end at the same moment: how late the last, and what others feel",
}
FILLERS = 4
FILL_SLOTS = 1_024
FILL_TIMEOUT_S = 600.0
RENEWALS_PER_TTL = 3
LATE_TIMEOUT_S = 60.0
POLL_S = 0.01
_OK = int(Status.OK)


class Filler(LeanConnection):
    """A connection that acquires many leases, and remembers them if they are to be renewed."""

    def __init__(self, number: int, total: int, run: str, *, remember: bool = True) -> None:
        super().__init__()
        self._remember = remember
        self._prefix = f"lease:{run}:{number}:"
        self._total = total
        self._sent = 0
        self._ends_at: float | None = None
        self._ttl_ms = 0
        self._requests: dict[int, tuple[Any, ...]] = {}
        self.grants: list[tuple[str, int]] = []
        self.statuses: Counter[str] = Counter()
        self.filled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.renewing: dict[int, float] = {}
        self.renewed = array("d")
        self.items_ok = 0

    def lost(self) -> None:
        """Fail the fill; count the loss."""
        self.statuses["connection lost"] += 1
        if not self.filled.done():
            self.filled.set_exception(ConnectionResetError("lost while acquiring"))

    def fill(self, *, ttl_ms: int = 0, ends_at: float | None = None) -> None:
        """Begin to acquire: each for `ttl_ms`, or so that it ends at a time of the loop's clock."""
        self._ttl_ms, self._ends_at = ttl_ms, ends_at
        self._acquire(range(min(FILL_SLOTS, self._total)))

    def _acquire(self, slots: Iterator[int] | range | list[int]) -> None:
        frame = []
        ttl_ms = self._ttl_ms
        if self._ends_at is not None:
            left_ms = round((self._ends_at - asyncio.get_running_loop().time()) * 1_000)
            ttl_ms = min(TTL_MS_MAX, max(TTL_MS_MIN, left_ms))
        for slot in slots:
            if self._sent == self._total:
                break
            self._sent += 1
            key = (self.session, slot, self._sent)
            name = f"{self._prefix}{self._sent}"
            request = (int(Op.ACQUIRE), slot + 1, *key, name, "bench", ttl_ms, 0, None)
            self._requests[slot] = request
            frame.append(request)
        if frame:
            self.send(frame)

    def renew(self, number: int, first: int, size: int, intended: float) -> None:
        """Renew a batch of the grants, under a request id of its own."""
        self.renewing[number] = intended
        self.send([(int(Op.RENEW), FILL_SLOTS + number, self.grants[first : first + size])])

    def answered(self, messages: list[tuple[Any, ...]]) -> None:
        """Keep grants and acquire more; check renewals item by item."""
        free: list[int] = []
        for message in messages:
            slot = message[0] - 1
            if message[0] >= FILL_SLOTS + 1 and message[0] - FILL_SLOTS in self.renewing:
                self._renewal(message)
            elif 0 <= slot < FILL_SLOTS:
                if not message[2]:
                    self.statuses[f"acquire {Status(message[1]).name}"] += 1
                    self.repeat(self._requests[slot])
                    continue
                request = self._requests.pop(slot)
                if message[1] == _OK and self._remember:
                    self.grants.append((request[5], message[4]))
                elif message[1] != _OK:
                    self.statuses[f"acquire {Status(message[1]).name}"] += 1
                free.append(slot)
        self._acquire(free)
        if self._sent == self._total and not self._requests and not self.filled.done():
            self.filled.set_result(None)

    def _renewal(self, message: tuple[Any, ...]) -> None:
        intended = self.renewing.pop(message[0] - FILL_SLOTS)
        self.renewed.append(time.perf_counter() - intended)
        if message[1] != _OK:
            self.statuses[f"renew {Status(message[1]).name}"] += 1
            return
        for item in message[3]:
            if item[0] == _OK:
                self.items_ok += 1
            else:
                self.statuses[f"renew item {Status(item[0]).name}"] += 1


async def filled(
    endpoint: str,
    leases: int,
    *,
    ttl_ms: int = 0,
    ends_at: float | None = None,
    remember: bool = True,
) -> tuple[list[Filler], float]:
    """Acquire leases over a few connections. Return those and the seconds that it took."""
    run = os.urandom(4).hex()
    connections = min(FILLERS, leases)
    parts = [leases // connections + (n < leases % connections) for n in range(connections)]
    fillers = await open_all(
        endpoint, lambda n: Filler(n, parts[n], run, remember=remember), connections
    )
    began = time.perf_counter()
    try:
        for filler in fillers:
            filler.fill(ttl_ms=ttl_ms, ends_at=ends_at)
        async with asyncio.timeout(FILL_TIMEOUT_S):
            await asyncio.gather(*(filler.filled for filler in fillers))
    except BaseException:
        for filler in fillers:
            filler.close()
        raise
    return fillers, time.perf_counter() - began


async def renew(endpoints: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Fill, then renew every lease three times a ttl for `seconds`, batch by batch on the schedule."""
    fillers, fill_s = await filled(
        await find_leader(endpoints), options.leases, ttl_ms=round(options.ttl * 1_000)
    )
    try:
        batches = deque(
            (filler, first)
            for filler in fillers
            for first in range(0, len(filler.grants), options.batch)
        )
        schedule = Schedule(len(batches) * RENEWALS_PER_TTL / options.ttl, time.perf_counter())
        sent, late_max, keep_alive_at = 0, 0.0, schedule.began + 15.0
        while (now := time.perf_counter()) < schedule.began + options.seconds:
            for number in schedule.due(now):
                filler, first = batches[0]
                batches.rotate(-1)
                late_max = max(late_max, now - schedule.time_of(number))
                filler.renew(number + 1, first, options.batch, schedule.time_of(number))
                sent += 1
            if now >= keep_alive_at:
                keep_alive_at += 15.0
                for filler in fillers:
                    filler.keep_alive()
            await asyncio.sleep(0.0005)
        until = time.perf_counter() + LATE_TIMEOUT_S
        while any(filler.renewing for filler in fillers) and time.perf_counter() < until:  # noqa: ASYNC110 - answers of many connections, with a limit
            await asyncio.sleep(0.01)
    finally:
        for filler in fillers:
            filler.close()
    statuses: Counter[str] = sum((filler.statuses for filler in fillers), Counter())
    unanswered = sum(len(filler.renewing) for filler in fillers)
    return {
        "leases": options.leases,
        "batch": options.batch,
        "ttl_s": options.ttl,
        "fill_per_second": round(options.leases / fill_s),
        "batches": sent,
        "renewals_per_second": round(sum(f.items_ok for f in fillers) / options.seconds),
        **latency_summary(latency for filler in fillers for latency in filler.renewed),
        "sent_late_max_ms": round(late_max * 1e3, 3),
        "errors": dict(statuses) | ({"unanswered": unanswered} if unanswered else {}),
    }


async def expiry(endpoints: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Let N leases end at one moment while an open loop of others goes on; watch the leader's count of locks."""
    leader = await find_leader(endpoints)
    loop = asyncio.get_running_loop()
    first = await fetch_status(leader)
    before = first.locks
    ends_at = loop.time() + options.fill + options.quiet
    fillers, fill_s = await filled(leader, options.leases, ends_at=ends_at)
    try:
        if loop.time() > ends_at - options.quiet:
            raise SystemExit(
                f"expiry: it took {fill_s:.1f} s to acquire {options.leases:,} leases; give --fill more than that"
            )
        held = (await fetch_status(leader)).locks - before
        if held < options.leases:
            raise SystemExit(
                f"expiry: the leader counts {held:,} of {options.leases:,} leases: locks of others ended meanwhile. "
                "Give it a cluster without other load"
            )
        tally = OpenTally()
        began_wall, began = time.perf_counter(), loop.time()
        others = asyncio.create_task(
            open_loop(
                leader,
                rate=options.rate,
                connections=4,
                seconds=ends_at - began + options.after,
                tally=tally,
            )
        )
        await sleep_and_keep_alive(fillers, ends_at - loop.time() - options.quiet / 2)
        early, last_late_s, seen = await _watch(leader, before, ends_at, options)
        await others
    finally:
        for filler in fillers:
            filler.close()
    moment = began_wall + (ends_at - began)
    until = moment + max(last_late_s or LATE_TIMEOUT_S, 0.05)
    pairs = list(zip(tally.intended, tally.latencies, strict=True))
    return {
        "leases": options.leases,
        "fill_per_second": round(options.leases / fill_s),
        "last_late_ms": None if last_late_s is None else round(last_late_s * 1e3, 1),
        "early": early,
        # A new leader gives every lease its full ttl again (L5): with an election the lateness says nothing of expiry.
        "terms_passed": (await fetch_status(leader)).term - first.term,
        "others_rate": options.rate,
        "others_before": latency_summary(took for at, took in pairs if at < moment),
        "others_meanwhile": latency_summary(took for at, took in pairs if moment <= at < until),
        "errors": dict(sum((filler.statuses for filler in fillers), Counter())) | tally.statuses,
        "curve": seen,
    }  # fmt: skip


async def _watch(
    leader: str, before: int, ends_at: float, options: argparse.Namespace
) -> tuple[int, float | None, list[tuple[float, int]]]:
    """Poll the leader's count of locks. Return how many ended early, how late the last was, and the curve.

    Others hold at most `rate` locks at once (their slots). "Early" allows for as many; "all ended" too: late is right
    to the poll and to these.
    """
    loop = asyncio.get_running_loop()
    others = round(options.rate)
    early, seen = 0, []
    while loop.time() < ends_at + LATE_TIMEOUT_S:
        locks = (await fetch_status(leader, timeout=LATE_TIMEOUT_S)).locks - before
        answered = loop.time()
        seen.append((round(answered - ends_at, 4), locks))
        # Answered before the moment, it shows a state before the moment.
        if answered < ends_at:
            early = max(early, options.leases - locks)
        if locks <= min(others, options.leases // 2):
            return early, answered - ends_at, seen
        await asyncio.sleep(POLL_S)
    return early, None, seen


def run(options: argparse.Namespace) -> int:
    """Measure one, print its table, write JSON. Return 1 if a lease was lost early, or something was refused."""
    measure = {"renew": renew, "expiry": expiry}[options.command]
    with own_or(options.endpoints) as endpoints:
        result = uvloop.run(measure(endpoints, options))
    if options.command == "renew":
        row = [result[key] for key in ("leases", "batch", "fill_per_second", "renewals_per_second", "p50_ms", "p99_ms", "max_ms", "sent_late_max_ms", "errors")]  # fmt: skip
        print(table(("leases", "batch", "filled/s", "renewals/s", "p50 ms", "p99 ms", "max ms", "sent late ms", "errors"), [row]))  # fmt: skip
        print(f"every lease of {options.ttl:g} s three times a ttl, for {options.seconds:g} s; latency is a batch's, from its intended time; {machine_line()}")  # fmt: skip
        failed = bool(result["errors"])
    else:
        quiet, busy = result["others_before"], result["others_meanwhile"]
        row = [result["leases"], result["fill_per_second"], result["last_late_ms"], result["early"], result["terms_passed"], quiet["p50_ms"], quiet["p99_ms"], busy["p50_ms"], busy["p99_ms"], busy["max_ms"], result["errors"]]  # fmt: skip
        print(table(("leases", "filled/s", "last late ms", "early", "terms passed", "others p50 ms", "p99 ms", "meanwhile p50 ms", "p99 ms", "max ms", "errors"), [row]))  # fmt: skip
        print(f"others: an open loop of {options.rate:g}/s; {machine_line()}")
        failed = bool(result["errors"]) or result["early"] > 0 or result["last_late_ms"] is None
    write(options, result)
    return 1 if failed else 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of both commands."""
    parser.add_argument("--leases", type=count, default=100_000, help="default: 100000")
    if parser.prog.endswith("renew"):
        parser.add_argument(
            "--batch",
            type=int,
            choices=range(1, RENEW_ITEMS_MAX + 1),
            metavar=f"1..{RENEW_ITEMS_MAX}",
            default=RENEW_ITEMS_MAX,
            help=f"leases a request (default: {RENEW_ITEMS_MAX})",
        )
        parser.add_argument(
            "--ttl", type=positive, default=10.0, help="of each lease, in seconds (default: 10)"
        )
        add_common(parser, seconds=10.0)
    else:
        parser.add_argument(
            "--fill", type=positive, default=20.0, help="seconds to acquire them in (default: 20)"
        )
        parser.add_argument(
            "--quiet", type=positive, default=3.0, help="seconds between that and their end"
        )
        parser.add_argument(
            "--after", type=positive, default=5.0, help="seconds that the others go on after it"
        )
        parser.add_argument(
            "--rate", type=positive, default=1_000.0, help="of the others (default: 1000/s)"
        )
        add_common(parser)
