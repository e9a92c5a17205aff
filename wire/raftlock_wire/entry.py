"""The log entry: what consensus orders, the WAL stores and the lock table applies.

It lives here because raft, storage and the peer links all handle it and do not know each other.
It must not know what its data means.
"""

from enum import IntEnum
from typing import NamedTuple

from raftlock_wire.ids import Index, NodeId, Term


class EntryKind(IntEnum):
    """What the data of an entry is."""

    NOOP = 0
    """The leader's first entry of its term; no data."""
    BATCH = 1
    """Commands for the lock table: an array of groups (principal, address, *requests)."""
    MEMBERSHIP = 2
    """The cluster's members from this entry on (thesis 4.1)."""


class Entry(NamedTuple):
    """One entry of the log.

    `stamp_us` is the lease clock (rule L7) and `wall_us` the leader's wall clock (decision 10), both in
    microseconds and both never below those of the entry before.
    """

    index: Index  # type: ignore[assignment]  # the field's word; nobody calls tuple.index on it
    term: Term
    kind: EntryKind
    stamp_us: int
    wall_us: int
    data: bytes


class HardState(NamedTuple):
    """What a node must not forget of its votes (Raft figure 2): durable before any answer that rests on it."""

    term: Term
    voted_for: NodeId


class SnapshotMeta(NamedTuple):
    """Names one snapshot: the state after `index`, and the file that holds it.

    Two nodes may snapshot the same index into files of different bytes, so size and hash belong to the name.
    """

    index: Index  # type: ignore[assignment]  # the field's word; nobody calls tuple.index on it
    term: Term
    stamp_us: int
    wall_us: int
    membership: bytes
    """The membership in force at `index`, as `Membership.encode` gives it."""
    size: int
    """Bytes of the file."""
    sha256: bytes
    """Of the whole file."""


class Write(NamedTuple):
    """One numbered write of consensus to the disk (decision 11).

    `entries` replace whatever the log holds from the index of the first one on. Numbers grow by one; writes become
    durable in their order.
    """

    number: int
    hard_state: HardState | None
    entries: tuple[Entry, ...]
