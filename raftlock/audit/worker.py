"""The shipper as a node runs it: `python -m raftlock.audit.worker ORDER`, told by lines on stdin whether the node leads.

It says what it does by lines of JSON on stdout. It ends when stdin does, so never outlives its node, and may be killed
at any moment. What reads Parquet and S3 is imported at its first pass.
"""

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from raftlock.audit.backoff import Backoff
from raftlock.audit.reader import Directory
from raftlock.audit.tiers import TierRefused, TierUnavailable

if TYPE_CHECKING:
    from raftlock.audit.shipper import Found, Lag

NICE = 10
LEAD, STAND_BY = "lead", "stand by"
STANDBY_EVERY_S = 60.0
"""How often a node that does not lead looks for holes that it can fill."""
FAILURES = ("unavailable", "refused", "conflict", "damaged")
"""Why a pass does not end well."""

Say = Callable[[dict[str, Any]], None]


class Order(NamedTuple):
    """What to ship, where to, and how often."""

    directory: str
    url: str
    endpoint: str = ""
    region: str = ""
    every_s: float = 10.0


class Ships(Protocol):
    """What a worker needs of a shipper."""

    def run_once(
        self,
        *,
        holes_only: bool = False,
        goes_on: Callable[[], bool] = ...,
        told: Callable[[str], None] = ...,
    ) -> "Found":
        """Do one pass."""

    def waiting(self) -> "tuple[Lag, int]":
        """Return what the store lacks and how many segments it has, as far as is known."""


class Orders:
    """What the node said last."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._leads: bool | None = None

    @property
    def leads(self) -> bool:
        """Return whether this node's shipper is the one that ships."""
        return bool(self._leads)

    def take(self, line: str) -> None:
        """Take a line."""
        with self._changed:
            self._leads = line.strip() == LEAD
            self._changed.notify_all()

    def wait(self, timeout_s: float, *, unless: bool) -> None:
        """Wait so long, or until the node leads if it did not (`unless` is what was so), or the other way round."""
        with self._changed:
            self._changed.wait_for(lambda: self.leads != unless, timeout_s)

    def wait_for_first(self) -> None:
        """Wait until the node has said something."""
        with self._changed:
            self._changed.wait_for(lambda: self._leads is not None)


class Worker:
    """One shipper and its passes."""

    def __init__(
        self,
        make: Callable[[], Ships],
        orders: Orders,
        say: Say,
        *,
        every_s: float,
        backoff: Backoff,
    ) -> None:
        """`make` opens the store: it may raise TierRefused, and is called again then."""
        self._make = make
        self._orders = orders
        self._say = say
        self._every_s = every_s
        self._backoff = backoff
        self._shipper: Ships | None = None

    def run(self) -> None:
        """Pass for ever."""
        self._orders.wait_for_first()
        if not self._orders.leads:
            # The libraries are a hundred megabytes: they are not needed yet.
            self._orders.wait(STANDBY_EVERY_S, unless=False)
        while True:
            leads = self._orders.leads
            self._orders.wait(self.step(leads=leads), unless=leads)

    def step(self, *, leads: bool) -> float:
        """Do one pass and return how long to wait before the next."""
        kind, why, missing = self._pass(leads=leads)
        if kind:
            self._say({"event": "failed", "kind": kind, "why": why})
        else:
            self._backoff.reset()
        self._say_where(passed=not kind, missing=missing)
        if kind and kind != "damaged":
            return self._backoff.next_s()
        return self._every_s if leads else max(self._every_s, STANDBY_EVERY_S)

    def _pass(self, *, leads: bool) -> tuple[str, str, int]:
        from raftlock.audit.shipper import AuditConflict

        def told(key: str) -> None:
            self._say({"event": "shipped", "key": key})
            self._say_where(passed=False, missing=None)

        try:
            self._shipper = self._shipper or self._make()
            found = self._shipper.run_once(
                holes_only=not leads, goes_on=lambda: self._orders.leads == leads, told=told
            )
        except TierUnavailable as error:
            return "unavailable", str(error), 0
        except TierRefused as error:
            return "refused", str(error), 0
        except AuditConflict as error:
            return "conflict", str(error), 0
        missing = sum(one.last - one.first + 1 for one in found.missing)
        if found.damages:
            return "damaged", str(found.damages[0]), missing
        return "", "", missing

    def _say_where(self, *, passed: bool, missing: int | None) -> None:
        if self._shipper is None:
            return
        lag, there = self._shipper.waiting()
        line = {"event": "stands", "passed": passed, "there": there, **lag._asdict()}
        self._say(line if missing is None else {**line, "missing": missing})


def say(line: dict[str, Any]) -> None:
    """Tell the node."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def listen(orders: Orders) -> None:
    """Take what the node says, and end this process when the node has."""
    for line in sys.stdin:
        orders.take(line)
    os._exit(0)


def main() -> None:
    """Ship for the node that started this process."""
    order = Order(**json.loads(sys.argv[1]))
    os.nice(NICE)
    orders = Orders()
    threading.Thread(target=listen, args=(orders,), daemon=True).start()

    def make() -> Ships:
        from raftlock.audit.shipper import Shipper
        from raftlock.audit.tier_s3 import open_tier

        tier = open_tier(order.url, endpoint=order.endpoint or None, region=order.region or None)
        return Shipper(Directory(Path(order.directory)), tier)

    rng = random.Random(time.monotonic_ns() ^ os.getpid())
    Worker(make, orders, say, every_s=order.every_s, backoff=Backoff(rng)).run()


if __name__ == "__main__":
    main()
