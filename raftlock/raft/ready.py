"""What consensus wants done: the Ready, and the order in which its parts must happen."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from raftlock.raft.messages import Message
from raftlock_wire.entry import Entry, SnapshotMeta, Write
from raftlock_wire.ids import NodeId


class Outgoing(NamedTuple):
    """A message to a member."""

    to: NodeId
    message: Message
    after_write: int
    """Send it only when the write with this number is durable; 0: at once."""


class SnapshotWanted(NamedTuple):
    """A laggard needs this part of a snapshot: read it and call `send_snapshot_chunk`."""

    peer: NodeId
    meta: SnapshotMeta
    offset: int
    size_max: int


class SnapshotChunk(NamedTuple):
    """A part of a snapshot that the leader sent: store it and call `chunk_stored`, or install it after the last."""

    meta: SnapshotMeta
    offset: int
    data: bytes
    done: bool
    number: int


@dataclass(slots=True)
class Ready:
    """Everything to do since the last Ready. Each field says what must come before it."""

    write: Write | None = None
    """To persist. Writes reach the disk in the order of their numbers; their durability is told with `durable`."""
    messages: list[Outgoing] = field(default_factory=list)
    """To send, each after the write that it names. A leader's entries name none: its own disk is one vote beside the
    others (decision 3). A vote, and an answer to entries, name the write that makes them true."""
    committed: Sequence[Entry] = ()
    """To apply, in order, each once. They are durable on a majority, perhaps not yet here."""
    round_confirmed: int = 0
    """The newest quorum round of this term that a majority has answered: what was asked before it was sent may be
    answered once everything in `committed` up to here is applied (thesis 6.4, rule L4)."""
    snapshot_wanted: list[SnapshotWanted] = field(default_factory=list)
    snapshot_chunks: list[SnapshotChunk] = field(default_factory=list)
    elected: bool = False
    """A majority of votes was had just now: read the lease clock, then call `begin_term` (rule L5)."""
    stepped_down: bool = False
    """Leadership ended: everything proposed and not applied has an unknown outcome (rule R4)."""
