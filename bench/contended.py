"""`python -m bench contended`: many clients on one lock. How many handovers a second, how fair, in what order.

Every client acquires with a wait, takes up the offer, releases at once, and acquires again.
"""

import argparse
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import uvloop

from bench.arithmetic import Served, jain, latency_summary, overtaken
from bench.cluster import own_or
from bench.report import add_common, count, machine_line, table, write
from raftlock.client.lean import LeanConnection, open_all, sleep_and_keep_alive
from raftlock.client.load import LEASE_TTL_MS, find_leader
from raftlock_wire.messages import Event, Op
from raftlock_wire.status import Status

HELP = "64 clients on one lock: handovers a second, fairness, order"
WAIT_MS = 60_000
_ACQUIRE_ID, _RENEW_ID, _RELEASE_ID = 1, 2, 3


@dataclass(slots=True)
class Contest:
    """What all clients saw together."""

    running: bool = True
    served: list[Served] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    token: int = 0
    token_errors: int = 0


class Contender(LeanConnection):
    """A client that wants the lock, always."""

    def __init__(self, resource: str, contest: Contest) -> None:
        super().__init__()
        self._resource = resource
        self._contest = contest
        self._n = 0
        self._sent_at = self._queued_at = 0.0
        self._token = 0
        self._waits = False
        self.grants = 0

    def lost(self) -> None:
        """Count the loss."""
        self._contest.statuses["connection lost"] += 1

    def acquire(self) -> None:
        """Join the queue."""
        self._n += 1
        self._token = 0
        self._sent_at = time.perf_counter()
        self._queued_at = 0.0
        self.send([self._acquire()])

    def _acquire(self) -> tuple[Any, ...]:
        key = (self.session, 0, self._n)
        return (int(Op.ACQUIRE), _ACQUIRE_ID, *key, self._resource, "bench", LEASE_TTL_MS, WAIT_MS, None)  # fmt: skip

    def answered(self, messages: list[tuple[Any, ...]]) -> None:
        """Go on by each answer and event."""
        for message in messages:
            if message[0] == 0:
                self._event(message)
            elif message[0] == _ACQUIRE_ID:
                self._acquired(message)
            elif message[0] == _RENEW_ID:
                self._taken_up(message)
            elif message[1] == Status.OK or self.released_before(message):
                if self._contest.running:
                    self.acquire()
            else:
                self._again(message, (int(Op.RELEASE), _RELEASE_ID, self._resource, self._token))

    def _event(self, message: tuple[Any, ...]) -> None:
        if message[1] == Event.OFFERED and message[5] == self._n:
            self._offered(message[7])
        elif message[1] == Event.ROUTES_LOST:
            # What came meanwhile was not pushed: the same key tells (R6).
            self._contest.statuses["ROUTES_LOST"] += 1
            if not self._token:
                self.repeat(self._acquire())

    def _acquired(self, message: tuple[Any, ...]) -> None:
        status = message[1]
        if status == Status.QUEUED:
            self._queued_at = self._queued_at or time.perf_counter()
        elif status == Status.OFFERED:
            self._offered(message[4])
        elif status == Status.OK and not self._token:
            self._token = message[4]
            self._granted()
        elif status != Status.OK:
            self._again(message, self._acquire())

    def _offered(self, token: int) -> None:
        """Take up an offer, once: the event and a repeated acquire may both bring it."""
        if self._token != token:
            self._token = token
            self.send([(int(Op.RENEW), _RENEW_ID, [(self._resource, token)])])

    def _taken_up(self, message: tuple[Any, ...]) -> None:
        item = message[3] if message[1] == Status.OK else ()
        if item and item[0][0] == Status.OK:
            self._granted()
        elif item and item[0][0] == Status.NOT_HELD:
            self._contest.statuses["offer passed on"] += 1
            if self._contest.running:
                self.acquire()
        else:
            self._again(message, (int(Op.RENEW), _RENEW_ID, [(self._resource, self._token)]))

    def _granted(self) -> None:
        now = time.perf_counter()
        contest = self._contest
        contest.token_errors += self._token <= contest.token
        contest.token = self._token
        contest.waits.append(now - self._sent_at)
        # One that was granted at once never waited, and can have overtaken nobody that did.
        contest.served.append(Served(self._token, self._sent_at, self._queued_at or now))
        self.grants += 1
        self.send([(int(Op.RELEASE), _RELEASE_ID, self._resource, self._token)])

    def _again(self, message: tuple[Any, ...], request: tuple[Any, ...]) -> None:
        self._contest.statuses[Status(message[1]).name] += 1
        if not message[2]:
            self.repeat(request)


async def measure(endpoints: list[str], *, clients: int, seconds: float) -> dict[str, Any]:
    """Let the clients contend for one lock on the leader."""
    contest = Contest()
    resource = f"contended:{os.urandom(4).hex()}"
    contenders = await open_all(
        await find_leader(endpoints), lambda _: Contender(resource, contest), clients
    )
    try:
        began = time.perf_counter()
        for contender in contenders:
            contender.acquire()
        await sleep_and_keep_alive(contenders, seconds)
        took = time.perf_counter() - began
        contest.running = False
    finally:
        for contender in contenders:
            contender.close()
    shares = [contender.grants for contender in contenders]
    return {
        "clients": clients,
        "handovers": len(contest.served),
        "handovers_per_second": round(len(contest.served) / took, 1),
        "wait": latency_summary(contest.waits),
        "grants_min": min(shares),
        "grants_max": max(shares),
        "jain": round(jain(shares), 6),
        "overtaken": overtaken(contest.served),
        "token_errors": contest.token_errors,
        "errors": dict(contest.statuses),
    }


def run(options: argparse.Namespace) -> int:
    """Measure, print a table, write JSON. Return 1 if the order was not kept or something was refused."""
    with own_or(options.endpoints) as endpoints:
        result = uvloop.run(measure(endpoints, clients=options.clients, seconds=options.seconds))
    row = (
        result["clients"],
        result["handovers_per_second"],
        result["wait"]["p50_ms"],
        result["wait"]["p99_ms"],
        result["grants_min"],
        result["grants_max"],
        result["jain"],
        result["overtaken"],
        result["token_errors"],
        result["errors"],
    )
    heads = ("clients", "handovers/s", "wait p50 ms", "p99 ms", "least", "most", "Jain", "overtaken", "token errors", "errors")  # fmt: skip
    print(table(heads, [row]))
    print(
        f"one lock, {options.seconds:g} s; least and most are grants a client, overtaken counts grants out of the "
        f"order in which clients were known to be queued; {machine_line()}"
    )
    write(options, result)
    return 1 if result["overtaken"] or result["token_errors"] or result["errors"] else 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--clients", type=count, default=64, help="default: 64")
    add_common(parser, seconds=5.0)
