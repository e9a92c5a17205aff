"""What a simulated client wants: the mix of operations, drawn step by step.

It owns the choices. It must not know how requests travel.
"""

import random
from typing import TYPE_CHECKING

from raftlock.client.acquiring import Acquire
from raftlock.client.handles import Handle
from raftlock_wire.messages import ListBy, Op

if TYPE_CHECKING:
    from raftlock.testing.sim_client import SimClient

WANTED_MAX = 3
ASK_US = 2_000_000


class Workload:
    """One client's wishes."""

    def __init__(
        self, client: "SimClient", rng: random.Random, *, resources: int, busy: bool
    ) -> None:
        self._client = client
        self._rng = rng
        self._resources = resources
        self.gap_us = (20_000, 300_000) if busy else (60_000, 900_000)
        """Between two operations."""
        self._wanted_max = 8 if busy else WANTED_MAX

    def step(self, now_us: int) -> None:
        """Do one thing."""
        client, rng = self._client, self._rng
        held = client.core.handles
        choice = rng.random()
        if choice < 0.12:
            self._look(held, now_us)
        elif held and choice < 0.47:
            client.release(rng.choice(held), now_us)
        elif held and choice < 0.54:
            self._change(rng.choice(held), now_us)
        elif held and choice < 0.58:
            self._force(rng.choice(held), now_us)
        elif client.wanted and choice < 0.61:
            client.give_up(rng.choice(client.wanted), now_us)
        elif len(client.wanted) < self._wanted_max:
            self._acquire(now_us)

    def _resource(self) -> str:
        return f"r{self._rng.randrange(self._resources)}"

    def _look(self, held: list[Handle], now_us: int) -> None:
        client, rng = self._client, self._rng
        kind = rng.random()
        if held and kind < 0.4:
            handle = rng.choice(held)
            client.check(handle.resource, handle.token, now_us)
        elif kind < 0.8:
            client.get(self._resource(), now_us)
        else:
            stale = rng.random() < 0.3
            by, what = rng.choice([(ListBy.PREFIX, "r"), (ListBy.OWNER, f"c{client.number}")])
            request = (int(by), what, "", rng.choice([1, 3, 100]), stale)
            client.core.request(
                lambda i: (int(Op.LIST), i, *request), now_us, now_us + ASK_US, lambda _: None
            )

    def _change(self, handle: Handle, now_us: int) -> None:
        """Change a ttl: at once, as a renewal is sent, or at the last moment of a lease that is left to run out."""
        if not handle.ttl_us:
            return
        ttl_ms = self._rng.choice([300, 1_000, 2_000, 3_000])
        at_us, early_us = now_us, self._rng.randint(0, 3_000)
        if not handle.renews:
            at_us = handle.own_deadline_us - early_us
        elif self._rng.random() < 0.4:
            at_us = handle.next_renew_us + early_us // 2
        self._client.at(at_us, lambda: self._client.change_ttl(handle, ttl_ms))

    def _force(self, handle: Handle, now_us: int) -> None:
        """End a grant as an administrator: its own client is as good as any to ask for it."""
        now = self._rng.random() < 0.4
        self._client.force(handle.resource, handle.token, now_us, now=now)

    def _acquire(self, now_us: int) -> None:
        rng = self._rng
        wait_ms = rng.choice([0, 0, 500, 1_500, 3_000])
        wanted = Acquire(
            resource=self._resource(),
            owner=f"c{self._client.number}",
            ttl_ms=rng.choice([0, 0, 0, 300, 1_000, 2_000, 3_000, 5_000]),
            wait_ms=wait_ms,
            metadata={"of": "sim"} if rng.random() < 0.1 else None,
            limit_us=now_us + wait_ms * 1_000 + rng.choice([30_000, 200_000, 2_000_000]),
            on_done=lambda result: self._client.done(wanted, result),
            renews=rng.random() < 0.8,
        )
        self._client.acquire(wanted, now_us)
        if rng.random() < 0.04:
            # Given up while the request is under way: its cancel may overtake it on another connection.
            self._client.give_up(wanted, now_us)
        if rng.random() < 0.05:
            # The connection breaks while the answer is under way: what a retry must be right about.
            self._client.drop_soon(rng.randint(200, 5_000))
