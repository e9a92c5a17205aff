"""A simulated client: the production client session on a simulated connection and clock."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from raftlock.client.acquiring import Acquire, AcquireResult
from raftlock.client.errors import OutcomeUnknown, RaftlockError, TooManyRequests
from raftlock.client.handles import Handle, HandleState
from raftlock.client.session import ClientSession
from raftlock.testing.history import Op as Done
from raftlock.testing.workload import ASK_US, Workload
from raftlock_wire.codec import pack, unpack
from raftlock_wire.messages import GrantState, Op
from raftlock_wire.status import Status

if TYPE_CHECKING:
    from raftlock.testing.cluster import SimCluster

HELLO_TIMEOUT_US = 500_000
LEADERLESS_US = 600_000


class SimClient:
    """One client process, which acquires, holds, renews, releases, gives up, sleeps and dies."""

    def __init__(self, cluster: "SimCluster", number: int, *, rate: float) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._monitor = cluster.monitor
        self.number = number
        self._rng = self._world.stream(f"client {number}")
        self._rate = rate
        self._base_us = self._rng.randint(0, 10**9)
        self._workload = Workload(
            self, self._rng, resources=cluster.setup.resources, busy=cluster.setup.busy
        )
        self.core = self._new_core()
        self._conn_id = 0
        self._node = 0
        self._greeted = False
        self._timer = 0
        self._timer_us = 0
        self._leaderless_since_us = 0
        self.paused = False
        self.dead = False
        self.stopping = False
        self.wanted: list[Acquire] = []
        self._called_us: dict[Acquire, int] = {}
        self._called_index: dict[Acquire, int] = {}
        self._seen_index: dict[str, int] = {}
        self._postponed: list[Callable[[], None]] = []
        self._world.after(self._rng.randint(0, 200_000), self._connect)
        self._world.after(self._rng.randint(0, 500_000), self._act)

    def _new_core(self) -> ClientSession:
        return ClientSession(
            rng=self._rng,
            nonces=lambda: self._rng.randbytes(16),
            session_ttl_ms=self._rng.choice([1_000, 2_000, 5_000]),
        )

    def note(self, text: str) -> None:
        """Add a line of this client to the trace."""
        self._world.note(f"c{self.number} {text}")

    # clocks

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
        members = [m.node_id for m in self._cluster.members().members]
        node: int = self._rng.choice(members)
        if self.core.leader_id in self._cluster.nodes and self._rng.random() < 0.5:
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

    def drop_soon(self, delay_us: int) -> None:
        """Lose the connection after a moment."""
        self._world.after(delay_us, lambda: self._when_running(self.drop))

    def reconnect_perhaps(self) -> None:
        """After a partition: some clients find another node."""
        if not self.paused and self._rng.random() < 0.3:
            self.drop()

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
            self._note_refusals(messages)
            self.core.received(leader_id, messages, self.now_us())
        self.flush()
        self._leave_a_node_without_leader()

    def _note_refusals(self, messages: list[tuple[Any, ...]]) -> None:
        """Tell the monitor of attempts that were called not taken: they must never take effect (R4)."""
        for message in messages:
            if message[0] and message[1] in (Status.NO_QUORUM, Status.OVERLOADED):
                ask = self.core.asking._attempts.get(message[0])
                request = ask.build(message[0]) if ask is not None else (0,)
                if request[0] == Op.ACQUIRE:
                    self._monitor.refused(self, request, Status(message[1]).name)

    def _leave_a_node_without_leader(self) -> None:
        """Ask another node when this one has known no leader for a while: it may be cut off, or no member any more."""
        if self.core.leader_id:
            self._leaderless_since_us = 0
        elif not self._leaderless_since_us:
            self._leaderless_since_us = self._world.now_us
        elif self._world.now_us - self._leaderless_since_us > LEADERLESS_US:
            self._leaderless_since_us = 0
            self.drop()

    def flush(self) -> None:
        """Send what the core wants to say."""
        outbox = self.core.asking.outbox
        if outbox and self._greeted:
            self._send(list(outbox))
            outbox.clear()
        self._monitor.counts_on(self)
        self._arm()

    def _arm(self) -> None:
        next_us = self.core.next_deadline_us()
        if next_us is None or self.dead:
            self._timer_us = 0
            return
        at_us = self._world.now_us + max(1, int((next_us - self.now_us()) / self._rate) + 1)
        if self._timer_us and self._world.now_us < self._timer_us <= at_us:
            # An earlier timer looks again anyway: most flushes only move the deadline back.
            return
        self._timer += 1
        timer = self._timer
        self._timer_us = at_us

        def tick() -> None:
            if timer == self._timer:
                self._timer_us = 0
                self._when_running(self._tick)

        self._world.at(at_us, tick)

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
        """Freeze the process, or let its machine sleep: CLOCK_BOOTTIME goes on either way."""
        self.note("pauses")
        self.paused = True

    def resume(self) -> None:
        """Go on: the timers are looked at first, as after a wake-up."""
        self.paused = False
        if self.dead:
            return
        self.note("resumes")
        now_us = self.now_us()
        if any(now_us >= self.core.deadline_us(handle) for handle in self.core.handles):
            self._world.saw("a client sleeps past its lease")
        self._tick()
        postponed, self._postponed = self._postponed, []
        for action in postponed:
            action()
        self.flush()

    def _vanish(self) -> None:
        if self._conn_id:
            self._cluster.close_connection(self._node, self._conn_id)
        self._conn_id = 0
        self._greeted = False
        self._postponed.clear()
        self.wanted.clear()
        self._called_us.clear()
        self._called_index.clear()

    def die(self) -> None:
        """End without a word, and start again as a new process."""
        if self.stopping or self.dead:
            return
        self.note("dies")
        self._vanish()
        self.core = self._new_core()
        self._world.after(self._rng.randint(10_000, 500_000), self._connect)

    def die_for_good(self) -> list[Handle]:
        """End without a word. Return what it held."""
        self.note("dies for good")
        held = self.core.handles
        self._vanish()
        self.dead = self.stopping = True
        return held

    def stop(self) -> None:
        """Want nothing more: give up what is open, release what is held, close the session."""
        self.note("stops")
        self.stopping = True
        for wanted in list(self.wanted):
            wanted.give_up(self.now_us())
        self.core.close(self.now_us())
        self.flush()

    # what it does

    def _act(self) -> None:
        if self.stopping:
            return
        if not self.paused:
            try:
                self._workload.step(self.now_us())
            except TooManyRequests as error:
                self.note(f"refuses by itself: {error}")
            self.flush()
        self._world.after(self._rng.randint(*self._workload.gap_us), self._act)

    def acquire(self, wanted: Acquire, now_us: int) -> None:
        """Begin an acquire."""
        self.wanted.append(wanted)
        self._called_us[wanted] = self._world.now_us
        self._called_index[wanted] = self._known(wanted.resource)
        self.core.acquire(wanted, now_us)

    def give_up(self, wanted: Acquire, now_us: int) -> None:
        """Withdraw an acquire."""
        self.note(f"gives up {wanted.resource} slot {wanted.slot} n {wanted.n}")
        wanted.give_up(now_us)

    def release(self, handle: Handle, now_us: int) -> None:
        """Release a lock."""
        self.note(f"releases {handle.resource} {handle.token}")
        called_us = self._world.now_us
        self._record("release", handle.resource, handle.token, called_us, "")
        self.core.release(handle, now_us, partial(self._released, handle, called_us))

    def _released(self, handle: Handle, called_us: int, answer: Any) -> None:
        if isinstance(answer, tuple) and answer[1] == Status.OK:
            self._record("release", handle.resource, handle.token, called_us, "OK")
            ended = self._monitor.table.ended_at.get(handle.token)
            if ended is not None:
                self._saw(handle.resource, ended)

    def at(self, time_us: int, action: Callable[[], None]) -> None:
        """Do something at a moment of this client's clock, or now if that has passed."""

        def act() -> None:
            action()
            self.flush()

        core = self.core
        self._world.after(
            max(0, self.real_us_until(time_us)),
            lambda: self._when_running(act) if self.core is core and not self.stopping else None,
        )

    def change_ttl(self, handle: Handle, ttl_ms: int) -> None:
        """Change the ttl of a lock that is still held."""
        now_us = self.now_us()
        if handle.state is HandleState.HELD and handle.ttl_us:
            self.note(f"changes the ttl of {handle.token} to {ttl_ms}")
            self.core.change_ttl(handle, ttl_ms, now_us, now_us + ASK_US, lambda _: None)

    def force(self, resource: str, token: int, now_us: int, *, now: bool) -> None:
        """End a grant as an administrator."""
        if now:
            self._monitor.force(token)
        self.note(f"forces {resource} {token} now={now}")
        request = (resource, token, "the simulator wants it", now)
        self.core.request(
            lambda i: (int(Op.FORCE_RELEASE), i, *request), now_us, now_us + ASK_US, lambda _: None
        )

    def check(self, resource: str, token: int, now_us: int) -> None:
        """Ask whether a token is the current grant."""
        low, called_us = self._known(resource), self._world.now_us

        def done(answer: Any) -> None:
            if isinstance(answer, tuple) and answer[2]:
                held = answer[1] in (Status.OK, Status.OFFERED)
                self._record("check", resource, token, called_us, "OK" if held else "NOT_HELD")
                shown = token if held else answer[3]
                self._saw(resource, self._monitor.reads(self, resource, shown, low, "checked"))

        self.core.request(
            lambda i: (int(Op.CHECK), i, resource, token), now_us, now_us + ASK_US, done
        )

    def get(self, resource: str, now_us: int) -> None:
        """Ask who holds a resource."""
        low = self._known(resource)

        def done(answer: Any) -> None:
            if isinstance(answer, tuple) and answer[2] and answer[1] == Status.OK:
                token = answer[4][2] if answer[4] is not None else 0
                offered = token and answer[4][1] == GrantState.OFFERED
                if token and self._rng.random() < (0.5 if offered else 0.1):
                    self.force(resource, token, self.now_us(), now=self._rng.random() < 0.3)
                elif token and self._rng.random() < 0.2:
                    self._renew_for_another(resource, token)
                self._saw(resource, self._monitor.reads(self, resource, token, low, "got"))

        self.core.request(
            lambda i: (int(Op.GET), i, resource, False), now_us, now_us + ASK_US, done
        )

    def _renew_for_another(self, resource: str, token: int) -> None:
        """Renew what somebody else holds: who knows a token may, also when its holder has lost it or is dead."""
        ttls_us = [ttl_us for ttl_us in (300_000, 1_000_000, 2_000_000) if self._rng.random() < 0.7]
        for ttl_us in ttls_us:
            # Around the moment at which the lease comes due.
            at_us = self.now_us() + ttl_us - self._rng.randint(-30_000, 30_000)
            renewal = [(resource, token)]
            self.at(at_us, lambda renewal=renewal: self._renew(renewal))  # type: ignore[misc]

    def _renew(self, renewal: list[tuple[str, int]]) -> None:
        now_us = self.now_us()
        self.core.request(
            lambda i: (int(Op.RENEW), i, renewal), now_us, now_us + ASK_US, lambda _: None
        )

    def _known(self, resource: str) -> int:
        """Return the index of the newest effect on a resource that any client knew before this moment."""
        return max(c._seen_index.get(resource, 0) for c in self._cluster.clients)

    def _saw(self, resource: str, index: int) -> None:
        self._seen_index[resource] = max(self._seen_index.get(resource, 0), index)

    def _record(self, kind: str, resource: str, token: int, called_us: int, result: str) -> None:
        now_us = self._world.now_us
        self._monitor.history.add(
            Done(self.number, kind, resource, token, called_us, now_us, result)
        )

    def done(self, wanted: Acquire, result: AcquireResult | RaftlockError) -> None:
        """Take the end of an acquire."""
        if wanted in self.wanted:
            self.wanted.remove(wanted)
        called_us = self._called_us.pop(wanted, self._world.now_us)
        low = self._called_index.pop(wanted, None)
        handle = result.handle if isinstance(result, AcquireResult) else None
        if handle is None:
            if (
                isinstance(result, AcquireResult)
                and result.status is Status.HELD
                and low is not None
            ):
                self._monitor.held_by(self, wanted.resource, result.holder_token, low)
            self._got_nothing(wanted, result)
            return
        self.note(f"holds {handle.resource} {handle.token} rev {handle.rev}")
        handle.on_lost = self._lost_handle
        self._record("acquire", handle.resource, handle.token, called_us, "OK")
        self._saw(handle.resource, handle.rev)
        self._monitor.holds(self, handle)
        if wanted.given_up or self.stopping:
            self.release(handle, self.now_us())

    def _lost_handle(self, handle: Handle) -> None:
        self.note(f"loses {handle.resource} {handle.token}: {handle.why_lost}")
        until_us = self._world.now_us + min(0, self.real_us_until(self.core.deadline_us(handle)))
        self._monitor.history.add(
            Done(
                self.number,
                "lost",
                handle.resource,
                handle.token,
                until_us,
                until_us,
                handle.why_lost,
            )
        )

    def _got_nothing(self, wanted: Acquire, result: AcquireResult | RaftlockError) -> None:
        status = result.status.name if isinstance(result, AcquireResult) else type(result).__name__
        self.note(f"got {wanted.resource} {status} slot {wanted.slot} n {wanted.n}")
        self._monitor.outcomes[status] += 1
        if wanted.n and not isinstance(result, OutcomeUnknown):
            self._monitor.table.close((wanted.session.session_id, wanted.slot, wanted.n), status)
