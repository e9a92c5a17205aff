"""Gathers one batch a turn: groups of requests in their envelopes, and the leader's own commands.

It owns what has been let in and not yet proposed. It must not know about consensus.
"""

from collections import deque
from typing import Any, NamedTuple

from raftlock.server.origin import Origin
from raftlock_wire.codec import array_header, pack

Request = tuple[Any, ...]

BATCH_SIZE_MAX = 1 << 20
"""A batch ends after the group that reaches this size; a group is at most a frame."""
BATCH_COMMANDS_MAX = 16_384

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
        self._groups: deque[Group] = deque()
        self._own: list[tuple[Request, Any]] = []

    def __bool__(self) -> bool:
        return bool(self._groups or self._own)

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
        self._groups.append(Group(origin, content, encoded, ordinary, plain, ()))

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
            group = self._groups.popleft()
            groups.append(group)
            size += len(group.encoded)
            commands += len(group.requests) - 2
        data = array_header(len(groups)) + b"".join([group.encoded for group in groups])
        return Batch(data, tuple(groups))

    def drain(self) -> list[Group]:
        """Remove everything and return it: leadership is lost, none of it was appended."""
        groups = list(self._groups)
        self._groups.clear()
        if self._own:
            requests = tuple(request for request, _ in self._own)
            hooks = tuple(hook for _, hook in self._own)
            groups.append(Group(None, ("", "", *requests), b"", 0, False, hooks))
            self._own.clear()
        return groups
