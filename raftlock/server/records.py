"""Who asked this node for records of its audit, and what waits to be read.

It owns the line: one page is read at a time, and the line is bounded, in all and for each connection. It must not know
files, nor what a record is.
"""

from collections import deque
from typing import Any

from raftlock.server.clients import Clients
from raftlock.server.door import overloaded
from raftlock.server.effects import Effects
from raftlock.server.origin import Origin
from raftlock.server.outbox import Outbox
from raftlock.server.record_jobs import RecordsJob, RecordsRead
from raftlock.telemetry.counters import Counters
from raftlock_wire.limits import AUDIT_READS_MAX, AUDIT_READS_PER_CONNECTION_MAX
from raftlock_wire.messages import Op

Request = tuple[Any, ...]
Answer = tuple[Any, ...]


class Records:
    """The requests for records, and their answers."""

    def __init__(
        self, *, clients: Clients, outbox: Outbox, effects: Effects, counters: Counters | None
    ) -> None:
        self._clients = clients
        self._outbox = outbox
        self._effects = effects
        self._counters = counters
        self._line: deque[tuple[Origin, Request]] = deque()
        self._waiting: dict[Origin, int] = {}
        """How many of the line are of each connection."""
        self._under_way: tuple[Origin, Request] | None = None
        self._read: RecordsRead | None = None
        self.records = 0
        """Records that were sent, since the start of the process."""
        self.scanned = 0
        """Bytes of entries and results that were looked at for them."""

    def __len__(self) -> int:
        return len(self._line) + (self._under_way is not None)

    def ask(self, origin: Origin, request: Request) -> Answer | None:
        """Put a request in the line. Return why not."""
        own = self._waiting.get(origin, 0)
        if len(self._line) >= AUDIT_READS_MAX or own >= AUDIT_READS_PER_CONNECTION_MAX:
            return overloaded(request, "queue")
        self._waiting[origin] = own + 1
        self._line.append((origin, request))
        return None

    def done(self, read: RecordsRead) -> None:
        """Take the page that was asked for last."""
        self._read = read

    def turn(self, applied_index: int) -> None:
        """Answer what was read, and let the next page be read."""
        read, self._read = self._read, None
        if read is not None and self._under_way is not None:
            origin, request = self._under_way
            self._under_way = None
            self.records += read.records
            self.scanned += read.scanned
            if self._counters is not None:
                self._counters.operation(int(Op.AUDIT_READ), read.status)
            self._outbox.answers(origin, [(request[1], int(read.status), True)], read.encoded)
        while self._line and self._under_way is None:
            origin, request = self._line.popleft()
            self._waiting[origin] -= 1
            if not self._waiting[origin]:
                del self._waiting[origin]
            if origin.conn_id in self._clients.local:
                self._under_way = (origin, request)
                self._effects.record_jobs.append(RecordsJob(request, applied_index))
