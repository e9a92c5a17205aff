"""An open loop on Redis: acquires and releases at a fixed rate, each at its own time, as `bench latency` does on raftlock."""

import time
from collections import deque

from bench.open_loop import OpenLoop, OpenTally
from bench.peers.base import PeerTally
from bench.peers.redis import RedisConnection, open_connections


class RedisOpenConnection(RedisConnection):
    """A connection whose slots do their next operation when the pacer says so."""

    def __init__(self, number: int, depth: int, tally: OpenTally) -> None:
        super().__init__(number, depth, PeerTally())
        self._open = tally
        self._intended = [0.0] * depth
        self.free = deque(range(depth))

    @property
    def idle(self) -> bool:
        """Return whether nothing is in flight."""
        return not self._in_flight

    def keep_alive(self) -> None:
        """Do nothing: a connection of Redis needs none."""

    def begin(self) -> None:
        """Make the commands; nothing is sent yet."""
        self._prepare()

    def send_due(self, times: list[float]) -> None:
        """Send the next operation of as many free slots as there are times."""
        out = []
        for intended in times:
            slot = self.free.popleft()
            self._intended[slot] = intended
            self._in_flight.append(slot)
            out.append(self._releases[slot] if self._held[slot] else self._acquires[slot])
        self._write(b"".join(out))

    def data_received(self, data: bytes) -> None:
        """Note the latencies and free the slots."""
        lines = self._lines(data)
        if not self._running:
            self._opening(lines)
            return
        now, tally = time.perf_counter(), self._open
        for line in lines:
            slot = self._in_flight.popleft()
            self.free.append(slot)
            if line == (b":1" if self._held[slot] else b"+OK"):
                tally.intended.append(self._intended[slot])
                tally.latencies.append(now - self._intended[slot])
            else:
                tally.refused(line.decode()[:40] or "empty")
            self._held[slot] = not self._held[slot] and line == b"+OK"


async def open_loop_on_redis(
    address: str, *, rate: float, connections: int, seconds: float, tally: OpenTally
) -> None:
    """Run an open loop against a server."""
    slots = max(16, round(rate / connections))
    async with open_connections(
        address, connections, lambda number: RedisOpenConnection(number, slots, tally)
    ) as opened:
        for connection in opened:
            connection.begin()
        await OpenLoop(list(opened), tally, rate).run(seconds)
