"""Requests that go to no log: they wait for a quorum round and are answered by the state then (rule L4).

It owns which requests wait for which round, and renewals that are put together from several answers. It must not
know how rounds are made.
"""

from collections import deque
from typing import Any, NamedTuple

from raftlock.server.origin import Origin
from raftlock_wire.status import Status

Request = tuple[Any, ...]
Item = tuple[Any, ...]

_OPEN = (int(Status.UNKNOWN), int(Status.NO_QUORUM))


class Renewal:
    """One renew request, whose leases are answered one by one."""

    __slots__ = ("items", "missing", "origin", "request")

    def __init__(self, origin: Origin, request: Request) -> None:
        self.origin = origin
        self.request = request
        self.items: list[Item] = [()] * len(request[2])
        self.missing = len(self.items)

    def answer(self, position: int, item: Item) -> bool:
        """Set the answer of one lease. Return whether it was the last one missing."""
        self.items[position] = item
        self.missing -= 1
        return self.missing == 0

    def result(self) -> tuple[Any, ...]:
        """Return the whole answer: final when each lease's is."""
        final = all(item[0] not in _OPEN for item in self.items)
        return (self.request[1], int(Status.OK), final, self.items)


class RenewItem(NamedTuple):
    """One lease of a renewal, on its way."""

    renewal: Renewal
    position: int
    resource: str
    token: int
    receipt_us: int
    rev: int
    """The lease's rev at the receipt: if it is another one at the answer, the lease is looked at anew."""


class Read(NamedTuple):
    """A request that is answered by the state when its round is confirmed."""

    origin: Origin
    request: Request
    receipt_us: int


Waiting = Read | RenewItem


class Reads:
    """What waits for quorum rounds, in order."""

    def __init__(self) -> None:
        self._fresh: list[Waiting] = []
        self._asked: deque[tuple[int, list[Waiting]]] = deque()

    def add(self, waiting: Waiting) -> None:
        """Let a request wait for the next round: one sent after now."""
        self._fresh.append(waiting)

    def __len__(self) -> int:
        return len(self._fresh) + sum(len(batch) for _, batch in self._asked)

    @property
    def wants_round(self) -> bool:
        """Return whether a round must begin: one is wanted, and none is under way."""
        return bool(self._fresh) and not self._asked

    def round_begins(self, number: int) -> None:
        """Bind all that came so far to a round that is sent after this."""
        self._asked.append((number, self._fresh))
        self._fresh = []

    def confirmed(self, number: int) -> list[Waiting]:
        """Remove and return what waited for rounds up to `number`."""
        ready: list[Waiting] = []
        while self._asked and self._asked[0][0] <= number:
            ready += self._asked.popleft()[1]
        return ready

    def drain(self) -> list[Waiting]:
        """Remove and return everything: leadership is lost."""
        everything = [waiting for _, batch in self._asked for waiting in batch] + self._fresh
        self._asked.clear()
        self._fresh = []
        return everything
