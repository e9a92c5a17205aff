"""Whether this node was a member and is none any more: by its log, or by what the members say that it calls.

For people only: who hears a leader is a member, whatever another one knows. It must not know how members are called.
"""

from raftlock.raft import Raft
from raftlock.server.effects import Effects
from raftlock_wire.ids import NO_NODE, NodeId


class Removal:
    """What is known of this node's own removal."""

    def __init__(self, *, raft: Raft, effects: Effects, incarnation: str) -> None:
        self._raft = raft
        self._effects = effects
        self._incarnation = incarnation
        self._said_by: set[NodeId] = set()

    def greeted(self, peer: NodeId, *, removed: bool) -> None:
        """Learn how a member answered our call: as one of its own, or as one that was removed."""
        if not removed:
            self._said_by.discard(peer)
            return
        if not self._said_by and not self.known:
            self._effects.notice("removed", says=peer)
        self._said_by.add(peer)

    @property
    def known(self) -> bool:
        """Return whether this node is out."""
        if self._incarnation in self._raft.committed_membership.removed:
            return True
        return bool(self._said_by) and self._raft.leader_id == NO_NODE
