"""The link of one client to the cluster: it carries out what the core wants, over one connection at a time.

It owns the connection, the reading of the clock and the one timer. It must not know what is asked, or why.
"""

import asyncio
import os
import random
from collections.abc import Sequence

from raftlock.client.clock import client_now_us
from raftlock.client.connection import CONNECT_TIMEOUT_S, Connection
from raftlock.client.errors import Unavailable
from raftlock.client.session import ClientSession
from raftlock.transport.dialer import Dialer
from raftlock_wire import limits
from raftlock_wire.codec import unpack
from raftlock_wire.errors import WireError
from raftlock_wire.status import Status

RECONNECT_MIN_S, RECONNECT_MAX_S = 0.02, 0.5
FOLLOW_LEADER_S = 1.0
"""A connection moves to the leader at most so often."""
LEADERLESS_S = 0.6
"""A node that knows no leader for so long, twice an election timeout, may be cut off from the others: another is tried."""
LOOK_S = 0.1
SILENT_US = 200_000
"""A node that has said nothing for so long, while something is asked, is asked how it is."""
PROBE_S = 0.3
"""Who does not answer that within so long is stopped or gone, and says so to nobody: another node is tried."""
WAKE_UP_S = 0.5
"""The client's clock is looked at so often while anything has a deadline (guarantee 10)."""


class Link:
    """A connection, to the leader when it can be; kept up by `run`."""

    def __init__(self, core: ClientSession, endpoints: Sequence[str], rng: random.Random) -> None:
        self._core = core
        self._endpoints = endpoints
        self._rng = rng
        self._dialer = Dialer()
        self._timer: asyncio.TimerHandle | None = None
        self.wire: Connection | None = None
        self.trouble = ""
        """Why the last attempt to connect failed."""

    def stop(self) -> None:
        """Let the timer go."""
        if self._timer is not None:
            self._timer.cancel()

    async def run(self) -> None:
        """Keep a connection: to the node that leads when it is known, else to the next in turn."""
        loop = asyncio.get_running_loop()
        pause_s = RECONNECT_MIN_S
        position = tried = 0
        wanted: str | None = None
        left = ""
        while True:
            # The members may be others by now than when this client was configured: where none of its own endpoints
            # is of use, those that a node named last are tried too.
            known = self._endpoints if tried < len(self._endpoints) else self._all_known()
            if wanted is None and known[position % len(known)] == left:
                # Not the one again that was just left: a stopped node takes calls and answers none.
                position += 1
            endpoint = wanted or known[position % len(known)]
            position += wanted is None
            tried += 1
            wanted = None
            wire = Connection(self._received)
            began = loop.time()
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await self._dialer.connect(lambda wire=wire: wire, endpoint)  # type: ignore[misc]
                    answer = await wire.hello
                if answer[1] != Status.OK:
                    raise Unavailable(f"{endpoint} refused the hello: {answer[3:]}")
                self.wire = wire
                self._core.connected(answer, client_now_us())
                self.flush()
                left = endpoint
                wanted = await self._use(wire)
                if self._core.leader_id:
                    tried = 0
                pause_s = RECONNECT_MIN_S
            except TimeoutError:
                self.trouble = f"{endpoint} did not answer within {CONNECT_TIMEOUT_S:g} s"
            except OSError as error:
                why = os.strerror(error.errno) if error.errno else str(error)
                self.trouble = f"{endpoint}: {why}"
            except (WireError, Unavailable) as error:
                self.trouble = f"{endpoint}: {error}"
            finally:
                wire.close()
                if self.wire is wire:
                    self.wire = None
                    self._core.disconnected(client_now_us())
            if loop.time() - began < FOLLOW_LEADER_S:
                await asyncio.sleep(pause_s * (0.5 + self._rng.random()))
                pause_s = min(pause_s * 2, RECONNECT_MAX_S)

    def _all_known(self) -> list[str]:
        return list(dict.fromkeys([*self._endpoints, *self._core.nodes.values()]))

    async def _use(self, wire: Connection) -> str | None:
        """Stay on a connection until it is lost, or another node leads, or this one knows of no leader or says nothing.

        Return the address of the node that leads, if it is known.
        """
        loop = asyncio.get_running_loop()
        looked_at = led_at = loop.time()
        probed_at: float | None = None
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await asyncio.shield(wire.lost)
                return None
            except TimeoutError:
                now = loop.time()
            if self._core.asking.silence_us(client_now_us()) < SILENT_US:
                probed_at = None
            elif probed_at is None:
                probed_at = now
                self._core.asking.probe()
                self.flush()
            elif now - probed_at >= PROBE_S:
                self.trouble = "the node that was asked says nothing any more"
                return None
            if self._core.leader_id or not self._core.busy:
                led_at = now
            elif now - led_at >= LEADERLESS_S:
                self.trouble = "the node that was asked knows of no leader"
                return None
            if now - looked_at >= FOLLOW_LEADER_S:
                looked_at = now
                leader = self._core.wants_node
                if leader is not None and not self._core.busy:
                    return leader

    def _received(self, payload: bytes) -> None:
        """Take a frame of the connection in use."""
        leader_id, *messages = unpack(payload, array_count_max=1 << 20)
        self._core.received(leader_id, messages, client_now_us())
        self.flush()

    def flush(self) -> None:
        """Send what the core wants to say, in one frame, and set the timer for its next deadline."""
        outbox = self._core.asking.outbox
        if outbox and self.wire is not None:
            for start in range(0, len(outbox), limits.FRAME_MESSAGES_MAX):
                self.wire.send(outbox[start : start + limits.FRAME_MESSAGES_MAX])
            outbox.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        next_us = self._core.next_deadline_us()
        if next_us is not None:
            # The loop's timers stand still while the machine sleeps: look at the clock again soon after it woke up.
            delay_s = min(max(0.0, (next_us - client_now_us()) / 1e6), WAKE_UP_S)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._core.tick(client_now_us())
        if self._core.asking.silent and self.wire is not None:
            # The next node in turn, then: this one says nothing, and may be gone without a word.
            self.wire.abort()
        self.flush()
