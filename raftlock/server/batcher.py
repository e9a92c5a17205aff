"""Gathers one batch a turn: groups of requests in their envelopes, and the leader's own commands.

It owns what has been let in and not yet proposed. It must not know about consensus.

While the log is being written much may gather, and more than fits into one entry. Each connection has its share of the
next one then: who asks for one lock is in it, whatever a neighbour has sent before.
"""

from typing import Any, NamedTuple

from raftlock.server.fair_queue import FairQueue
from raftlock.server.origin import Origin
from raftlock_wire.codec import array_header, pack

Request = tuple[Any, ...]

BATCH_SIZE_MAX = 1 << 20
"""A batch ends after the group that reaches this size; a group is at most a frame."""
BATCH_COMMANDS_MAX = 4_096
"""Apply stops for nothing within a batch: at 5 to 10 us a command this is far below an election timeout."""
BATCH_SHARE = 256
"""Commands of one connection before the next connection has its turn, while there are others."""

_OWN_ENVELOPE = pack("") + pack("")


class Group(NamedTuple):
    """Requests of one origin that travel together."""

    origin: Origin | None
    """None: the leader's own commands."""
    requests: tuple[Any, ...]
    """As apply takes them: (principal, address, *requests)."""
    encoded: bytes
    ordinary: int
    plain: bool
    hooks: tuple[Any, ...]
    """For the leader's own commands, one each: what to do with the answer."""


class Batch(NamedTuple):
    """What one entry holds, and where its answers go."""

    data: bytes
    groups: tuple[Group, ...]


class Batcher:
    """The requests that wait for the next entry, in order."""

    def __init__(self) -> None:
        self._groups: FairQueue[Origin, Group] = FairQueue()
        self._own: list[tuple[Request, Any]] = []

    def __bool__(self) -> bool:
        return len(self._groups) > 0 or bool(self._own)

    def __len__(self) -> int:
        return len(self._groups) + bool(self._own)

    def add(
        self,
        origin: Origin,
        requests: tuple[Request, ...],
        body: bytes,
        *,
        ordinary: int,
        plain: bool,
    ) -> None:
        """Add requests of a client, with their own bytes (decision 2)."""
        encoded = array_header(2 + len(requests)) + origin.envelope + body
        content = (origin.principal, origin.address, *requests)
        group = Group(origin, content, encoded, ordinary, plain, ())
        self._groups.add(origin, group, BATCH_SHARE)

    def command(self, request: Request, hook: Any = None) -> None:
        """Add a command of the leader's own. Those of a turn go first, in order."""
        self._own.append((request, hook))

    def take(self) -> Batch:
        """Remove and return what fits into one entry."""
        groups: list[Group] = []
        size = commands = 0
        if self._own:
            own = self._own[:BATCH_COMMANDS_MAX]
            del self._own[:BATCH_COMMANDS_MAX]
            requests = tuple(request for request, _ in own)
            encoded = array_header(2 + len(own)) + _OWN_ENVELOPE + b"".join(map(pack, requests))
            hooks = tuple(hook for _, hook in own)
            groups.append(Group(None, ("", "", *requests), encoded, 0, False, hooks))
            size, commands = len(encoded), len(own)
        while self._groups and size < BATCH_SIZE_MAX and commands < BATCH_COMMANDS_MAX:
            origin, group = self._groups.take(BATCH_SHARE)
            count = len(group.requests) - 2
            self._groups.charge(origin, count)
            groups.append(group)
            size += len(group.encoded)
            commands += count
        data = array_header(len(groups)) + b"".join([group.encoded for group in groups])
        return Batch(data, tuple(groups))

    def drain(self) -> list[Group]:
        """Remove everything and return it: leadership is lost, none of it was appended."""
        groups = [self._groups.take(BATCH_SHARE)[1] for _ in range(len(self._groups))]
        if self._own:
            requests = tuple(request for request, _ in self._own)
            hooks = tuple(hook for _, hook in self._own)
            groups.append(Group(None, ("", "", *requests), b"", 0, False, hooks))
            self._own.clear()
        return groups
