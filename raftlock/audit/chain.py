"""Where segments and blocks are cut, and the hashes that chain them: a function of the log and of nothing else.

It owns the state of the segment under way, small enough to travel in a snapshot. It must not know files.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from raftlock.audit.format import ZERO_DIGEST, Header, Recorded, next_content
from raftlock_wire.codec import pack, unpack
from raftlock_wire.errors import BadFrame
from raftlock_wire.invariant import check

HOUR_US = 3_600_000_000
_STATE = (int, int, bytes, bytes, int, int, int, int, int, int, bytes)
"""The types of what `Chain.encode` gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutRule:
    """Where to cut. Part of the format: every node of a cluster must cut alike, so this is no setting."""

    block_size: int = 256 << 10
    """A block ends after the record that fills it."""
    segment_size: int = 64 << 20
    """A segment ends before the record that follows so many bytes of content, ..."""
    span_us: int = HOUR_US
    """... or that is of another hour than its first one."""


class Chain:
    """The segment under way: what its header will say, and the content of its last block."""

    def __init__(self, rule: CutRule, cluster_id: str, *, first: int, previous: bytes) -> None:
        self._rule = rule
        self._cluster_id = cluster_id
        self.last = first - 1
        self._begin(previous)

    def _begin(self, previous: bytes) -> None:
        self.first = self.last + 1
        self.previous = previous
        self.content = ZERO_DIGEST
        self.blocks = 0
        self._size = 0
        self._commands = 0
        self._first_wall_us = self._last_wall_us = 0
        self._version = 0
        self._pending: list[bytes] = []
        self._pending_size = 0

    @property
    def pending(self) -> bytes:
        """Return the content of the block that is not full yet."""
        if len(self._pending) > 1:
            self._pending = [b"".join(self._pending)]
        return self._pending[0] if self._pending else b""

    def cuts_before(self, recorded: Recorded) -> bool:
        """Return whether the segment ends before this record."""
        if self.last < self.first:
            return False
        wall_us, span_us = recorded.entry.wall_us, self._rule.span_us
        return (
            self._size >= self._rule.segment_size
            or wall_us // span_us != self._first_wall_us // span_us
            or recorded.version != self._version
        )

    def add(self, recorded: Recorded, encoded: bytes) -> bytes | None:
        """Take the next record. Return the block that it fills, if it does."""
        entry = recorded.entry
        check(entry.index == self.last + 1, "the audit takes each entry once, in order")
        if self.last < self.first:
            self._first_wall_us, self._version = entry.wall_us, recorded.version
        self.last, self._last_wall_us = entry.index, entry.wall_us
        self._commands += recorded.commands
        self._size += len(encoded)
        self._pending.append(encoded)
        self._pending_size += len(encoded)
        return self.take_block() if self._pending_size >= self._rule.block_size else None

    def take_block(self) -> bytes:
        """End the block under way and return its content."""
        raw = self.pending
        self._pending.clear()
        self._pending_size = 0
        self.content = next_content(self.content, raw)
        self.blocks += 1
        return raw

    def cut(self) -> Header:
        """End the segment, whose last block was taken, and begin the next. Return its header."""
        check(not self._pending and self.last >= self.first, "a segment ends with a whole block")
        header = Header(
            version=self._version,
            cluster_id=self._cluster_id,
            first=self.first,
            last=self.last,
            commands=self._commands,
            first_wall_us=self._first_wall_us,
            last_wall_us=self._last_wall_us,
            size=self._size,
            blocks=self.blocks,
            content=self.content,
            previous=self.previous,
        )
        self._begin(header.digest)
        return header

    def encode(self) -> bytes:
        """Return the state, for a snapshot: the same bytes on every node at the same index."""
        return pack(tuple(self._fields()))

    def _fields(self) -> Iterator[Any]:
        yield from (self.first, self.last, self.previous, self.content, self.blocks, self._size)
        yield from (self._commands, self._first_wall_us, self._last_wall_us, self._version)
        yield self.pending

    @classmethod
    def decode(cls, rule: CutRule, cluster_id: str, state: bytes) -> "Chain":
        """Return the chain that `encode` was called on. Raise BadFrame for a state that `encode` does not make."""
        fields = unpack(state, array_count_max=len(_STATE))
        if type(fields) is not tuple or tuple(map(type, fields)) != _STATE:
            raise BadFrame("not the state of a segment under way")
        first, last, previous, content, blocks, size, commands, *rest = fields
        first_wall_us, last_wall_us, version, pending = rest
        chain = cls(rule, cluster_id, first=first, previous=previous)
        chain.last, chain.content, chain.blocks, chain._size = last, content, blocks, size
        chain._commands, chain._version = commands, version
        chain._first_wall_us, chain._last_wall_us = first_wall_us, last_wall_us
        chain._pending = [pending] if pending else []
        chain._pending_size = len(pending)
        return chain
