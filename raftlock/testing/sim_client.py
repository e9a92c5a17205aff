"""A simulated client: the production client session on a simulated connection and clock, and what it does with locks."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from raftlock.client.acquiring import Acquire, AcquireResult
from raftlock.client.errors import RaftlockError
from raftlock.client.handles import Handle, HandleState
from raftlock.client.session import ClientSession
from raftlock_wire.codec import pack, unpack
from raftlock_wire.status import Status

if TYPE_CHECKING:
    from raftlock.testing.cluster import SimCluster

RESOURCES = 4
HELLO_TIMEOUT_US = 500_000


class SimClient:
    """One client process, which acquires, holds, renews, releases, gives up, sleeps and dies."""

    def __init__(self, cluster: "SimCluster", number: int) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self.number = number
        self._rng = random.Random(self._world.rng.random())
        self._rate = 1 + self._rng.uniform(-0.005, 0.005)
        self._base_us = self._rng.randint(0, 10**9)
        self.core = self._new_core()
        self._conn_id = 0
        self._node = 0
        self._greeted = False
        self._timer = 0
        self.paused = False
        self.dead = False
        self.stopping = False
        self._wanted: list[Acquire] = []
        self._postponed: list[Callable[[], None]] = []
        self._world.after(self._rng.randint(0, 200_000), self._connect)
        self._world.after(self._rng.randint(0, 500_000), self._act)

    def _new_core(self) -> ClientSession:
        return ClientSession(
            rng=self._rng,
            nonces=lambda: self._rng.randbytes(16),
            session_ttl_ms=self._rng.choice([1_000, 2_000, 5_000]),
        )

    def now_us(self) -> int:
        """Return the client's own clock, whose rate is a little off."""
        return self._base_us + int(self._world.now_us * self._rate)

    def believes(self, handle: Handle) -> bool:
        """Return whether this client would act on a handle now."""
        return (
            not self.dead
            and handle.state is HandleState.HELD
            and self.now_us() < self.core.deadline_us(handle)
        )

    def real_us_until(self, time_us: int) -> int:
        """Return how much real time passes until this client's clock shows `time_us`."""
        return int((time_us - self.now_us()) / self._rate)

    # the connection

    def _connect(self) -> None:
        if self.dead or self._conn_id:
            return
        node = self._rng.choice(sorted(self._cluster.nodes))
        if self.core.leader_id and self._rng.random() < 0.5:
            node = self.core.leader_id
        self._node = node
        self._greeted = False
        self._conn_id = self._cluster.open_connection(self, node)
        conn_id = self._conn_id
        self._send([ClientSession.hello(f"c{self.number}")])

        def check_hello() -> None:
            if self._conn_id == conn_id and not self._greeted:
                self.drop()

        self._world.after(HELLO_TIMEOUT_US, check_hello)

    def _send(self, messages: list[tuple[object, ...]]) -> None:
        self._cluster.to_node(self, self._node, self._conn_id, pack(messages))

    def drop(self) -> None:
        """Lose the connection, and make another one soon."""
        if not self._conn_id:
            return
        self._cluster.close_connection(self._node, self._conn_id)
        self._conn_id = 0
        if self._greeted:
            self.core.disconnected(self.now_us())
        self._greeted = False
        self._world.after(self._rng.randint(5_000, 100_000), self._connect)
        self._arm()

    def lost(self, conn_id: int) -> None:
        """Learn that the node closed a connection."""
        self._when_running(lambda: self.drop() if self._conn_id == conn_id else None)

    def receive(self, conn_id: int, payload: bytes) -> None:
        """Take a frame of a connection."""
        self._when_running(lambda: self._received(conn_id, payload))

    def _received(self, conn_id: int, payload: bytes) -> None:
        if conn_id != self._conn_id or self.dead:
            return
        leader_id, *messages = unpack(payload, array_count_max=1 << 20)
        if not self._greeted:
            if messages[0][0] == 0 or messages[0][1] != Status.OK:
                self.drop()
                return
            self._greeted = True
            self.core.connected(messages[0], self.now_us())
        else:
            self.core.received(leader_id, messages, self.now_us())
        self.flush()

    def flush(self) -> None:
        """Send what the core wants to say."""
        outbox = self.core.asking.outbox
        if outbox and self._greeted:
            self._send(list(outbox))
            outbox.clear()
        self._cluster.monitor.counts_on(self)
        self._arm()

    def _arm(self) -> None:
        self._timer += 1
        timer = self._timer
        next_us = self.core.next_deadline_us()
        if next_us is None or self.dead:
            return
        delay_us = max(1, int((next_us - self.now_us()) / self._rate) + 1)

        def tick() -> None:
            if timer == self._timer:
                self._when_running(self._tick)

        self._world.after(delay_us, tick)

    def _tick(self) -> None:
        if not self.dead:
            self.core.tick(self.now_us())
            self.flush()

    # faults

    def _when_running(self, action: Callable[[], None]) -> None:
        if self.paused:
            self._postponed.append(action)
        elif not self.dead:
            action()

    def pause(self) -> None:
        """Freeze the process."""
        self.paused = True

    def resume(self) -> None:
        """Go on: the timers are looked at first, as after a wake-up."""
        self.paused = False
        if not self.dead:
            self._tick()
            postponed, self._postponed = self._postponed, []
            for action in postponed:
                action()
            self.flush()

    def die(self) -> None:
        """End without a word, and start again as a new process."""
        self._world.note(f"c{self.number} dies")
        if self._conn_id:
            self._cluster.close_connection(self._node, self._conn_id)
        self._conn_id = 0
        self._greeted = False
        self._postponed.clear()
        self._wanted.clear()
        self.core = self._new_core()
        self._world.after(self._rng.randint(10_000, 500_000), self._connect)

    def stop(self) -> None:
        """Want nothing more: give up what is open, release what is held, close the session."""
        self.stopping = True
        for wanted in list(self._wanted):
            wanted.give_up(self.now_us())
        self.core.close(self.now_us())
        self.flush()

    # what it does

    def _act(self) -> None:
        if self.stopping:
            return
        if not self.paused:
            self._one_thing()
        self._world.after(self._rng.randint(20_000, 400_000), self._act)

    def _one_thing(self) -> None:
        now_us = self.now_us()
        held = self.core.handles
        choice = self._rng.random()
        if held and choice < 0.35:
            handle = self._rng.choice(held)
            self._world.note(f"c{self.number} releases {handle.token}")
            self.core.release(handle, now_us)
        elif held and choice < 0.45:
            handle = self._rng.choice(held)
            if handle.ttl_us:
                ttl_ms = self._rng.choice([300, 1_000, 3_000])
                self.core.change_ttl(handle, ttl_ms, now_us, now_us + 2_000_000, lambda _: None)
        elif held and choice < 0.5:
            self._force(self._rng.choice(held), now=self._rng.random() < 0.5)
        elif self._wanted and choice < 0.6:
            self._world.note(f"c{self.number} gives up")
            self._rng.choice(self._wanted).give_up(now_us)
        elif len(self._wanted) < 3:
            self._acquire(now_us)
        self.flush()

    def _force(self, handle: Handle, *, now: bool) -> None:
        if now:
            self._cluster.monitor.forced.add(handle.token)
        self._world.note(f"c{self.number} forces {handle.token} now={now}")
        request = (handle.resource, handle.token, "the simulator wants it", now)
        now_us = self.now_us()
        self.core.request(lambda i: (14, i, *request), now_us, now_us + 2_000_000, lambda _: None)

    def _acquire(self, now_us: int) -> None:
        wait_ms = self._rng.choice([0, 0, 500, 3_000])
        wanted = Acquire(
            resource=f"r{self._rng.randrange(RESOURCES)}",
            owner=f"c{self.number}",
            ttl_ms=self._rng.choice([0, 0, 300, 1_000, 3_000, 5_000]),
            wait_ms=wait_ms,
            metadata={"of": "sim"} if self._rng.random() < 0.1 else None,
            limit_us=now_us + wait_ms * 1_000 + self._rng.choice([200_000, 2_000_000]),
            on_done=lambda result: self._done(wanted, result),
        )
        self._wanted.append(wanted)
        self.core.acquire(wanted, now_us)
        if self._rng.random() < 0.05:
            # The connection breaks while the answer is under way: what a retry must be right about.
            self._world.after(self._rng.randint(200, 5_000), self.drop)

    def _done(self, wanted: Acquire, result: AcquireResult | RaftlockError) -> None:
        if wanted in self._wanted:
            self._wanted.remove(wanted)
        if isinstance(result, AcquireResult) and result.handle is not None:
            self._world.note(f"c{self.number} holds {result.handle.resource} {result.handle.token}")
            self._cluster.monitor.holds(self, result.handle)
            if wanted.given_up or self.stopping:
                self.core.release(result.handle, self.now_us())
        else:
            status = result.status.name if isinstance(result, AcquireResult) else repr(result)
            self._world.note(f"c{self.number} got {wanted.resource} {status}")
            self._cluster.monitor.outcomes[status] = (
                self._cluster.monitor.outcomes.get(status, 0) + 1
            )
