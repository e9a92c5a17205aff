"""Which versions of the state machine the members support, and when the leader raises the one in force (decision 7).

It owns what each linked member has said. It must not know how it was said, nor what a version changes.
"""

from collections.abc import Iterable

from raftlock_wire.ids import NodeId


class MemberVersions:
    """What the members have said that they support, each by the hello of a link that still stands."""

    def __init__(self, *, node_id: NodeId, version_max: int) -> None:
        """`version_max`: the highest version that this build knows."""
        self.version_max = version_max
        self._node_id = node_id
        self._said: dict[NodeId, int] = {}
        self.proposed = 0
        """The version that this leadership has proposed last: it is on its way, or in force."""

    def said(self, peer: NodeId, version_max: int) -> None:
        """Learn which version a member supports, from its hello or its answer to ours."""
        self._said[peer] = version_max

    def lost(self, peer: NodeId) -> None:
        """Forget a member whose link is lost: the process that calls again may be of an older build."""
        self._said.pop(peer, None)

    def begin(self) -> None:
        """Start a leadership: what an earlier one proposed may be lost."""
        self.proposed = 0

    def to_raise(self, members: Iterable[NodeId], active: int) -> int:
        """Return the version that every member supports if it is higher than the one in force, else 0; each once."""
        supported = self.version_max
        if supported <= active:
            return 0
        for member in members:
            if member != self._node_id:
                supported = min(supported, self._said.get(member, 0))
        if supported <= max(active, self.proposed):
            return 0
        self.proposed = supported
        return supported
