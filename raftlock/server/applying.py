"""The lock table of this node, and the committed entries on their way into it.

It owns the table and how far it is. It must not know how entries get committed, nor how answers get to clients.
"""

from collections import deque
from collections.abc import Iterable
from typing import Any

from raftlock.locks import LockTable
from raftlock.server.auditing import Auditing
from raftlock.server.effects import Effects
from raftlock.server.leading import Leading
from raftlock.server.members import Members
from raftlock.server.proposals import Proposals
from raftlock.server.snapshots import Snapshots
from raftlock.telemetry.counters import Counters
from raftlock_wire.codec import unpack
from raftlock_wire.entry import Entry, EntryKind
from raftlock_wire.ids import Index
from raftlock_wire.invariant import check

APPLY_COMMANDS_MAX = 20_000
"""Commands applied in one turn: a node that catches up must go on answering its leader (decision 17)."""


class Applying:
    """Applies what is committed, in order, each entry once."""

    def __init__(
        self,
        *,
        table: LockTable,
        applied_index: Index,
        proposals: Proposals,
        leading: Leading,
        members: Members,
        snapshots: Snapshots,
        auditing: Auditing,
        effects: Effects,
        counters: Counters | None,
    ) -> None:
        self.table = table
        self.applied_index = applied_index
        self._proposals = proposals
        self._leading = leading
        self._members = members
        self._snapshots = snapshots
        self._auditing = auditing
        self._effects = effects
        self._counters = counters
        self._entries: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def committed(self, entries: Iterable[Entry]) -> None:
        """Take entries that are to be applied after those before them."""
        self._entries.extend(entries)

    def installed(self, table: LockTable, index: Index) -> None:
        """Go on from the table of a snapshot that the leader sent."""
        self.table = table
        self.applied_index = index
        self._entries.clear()

    @property
    def wants_turn(self) -> bool:
        """Return whether more could be applied at once."""
        return bool(self._entries) and self._auditing.has_room

    def apply(self, stamp_us: int) -> None:
        """Apply what is committed, as much of it as one turn may, and let the leader answer it."""
        leading = self._leading
        commands = 0
        while self._entries and commands < APPLY_COMMANDS_MAX and self._auditing.has_room:
            entry = self._entries.popleft()
            check(entry.index == self.applied_index + 1, "entries are applied in order, each once")
            batch = self._proposals.applied(entry.index)
            if batch is not None:
                groups: tuple[Any, ...] = tuple([group.requests for group in batch.groups])
            elif entry.kind is EntryKind.BATCH:
                groups = unpack(entry.data, array_count_max=1 << 24)
            else:
                groups = ()
            version = self.table.version
            applied = self.table.apply(entry.index, entry.stamp_us, entry.wall_us, groups)
            if self.table.version != version:
                self._effects.notice(
                    "version_raised", version=self.table.version, index=entry.index
                )
            self.applied_index = entry.index
            self._snapshots.applied(entry)
            count = sum(map(len, groups)) - 2 * len(groups)
            encoded = self._auditing.applied(entry, applied, commands=count, version=version)
            commands += count + 1
            if self._counters is not None:
                self._counters.applied(entry.index)
            if leading.serving:
                leading.applied(self.table, batch, applied, encoded, stamp_us)
            elif entry.index == leading.serves_from:
                leading.serve(self.table)
                self._effects.notice("serving", term=entry.term)
            if entry.kind is EntryKind.MEMBERSHIP:
                self._members.applied(entry)
