"""Who the members of a cluster are: shared by consensus, storage and the wiring (decision 13, thesis chapter 4)."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from raftlock_wire.codec import pack, unpack
from raftlock_wire.errors import BadFrame
from raftlock_wire.ids import NodeId
from raftlock_wire.limits import NODE_ID_MAX, REMOVED_KEPT_MAX


class Member(NamedTuple):
    """One node as the membership records it."""

    node_id: NodeId
    incarnation: str
    """32 hex digits, made at random when the node's data directory was formatted."""
    peer_address: str
    client_address: str
    learner: bool = False
    """A learner gets the log and counts in no quorum."""


class Membership(NamedTuple):
    """The members, in order of their ids."""

    members: tuple[Member, ...] = ()
    removed: tuple[str, ...] = ()
    """Incarnations of members that were removed, the last REMOVED_KEPT_MAX: their directories do not come back."""

    @property
    def voters(self) -> frozenset[NodeId]:
        """Return the ids that count in quorums."""
        return frozenset(m.node_id for m in self.members if not m.learner)

    @property
    def learners(self) -> frozenset[NodeId]:
        """Return the ids that only receive the log."""
        return frozenset(m.node_id for m in self.members if m.learner)

    def get(self, node_id: NodeId) -> Member | None:
        """Return the member with this id, or None."""
        return next((m for m in self.members if m.node_id == node_id), None)

    def lists(self, node_id: NodeId, incarnation: str) -> bool:
        """Return whether this node, with this incarnation, is a member."""
        member = self.get(node_id)
        return member is not None and member.incarnation == incarnation

    def with_member(self, member: Member) -> "Membership":
        """Return this membership with a member added, or in the place of the one with its id."""
        others = (m for m in self.members if m.node_id != member.node_id)
        return membership((*others, member), removed=self.removed)

    def without(self, node_id: NodeId) -> "Membership":
        """Return this membership without a member, whose incarnation it remembers."""
        gone = tuple(m.incarnation for m in self.members if m.node_id == node_id)
        others = (m for m in self.members if m.node_id != node_id)
        return membership(others, removed=(*self.removed, *gone)[-REMOVED_KEPT_MAX:])

    def encode(self) -> bytes:
        """Return the data of a MEMBERSHIP entry: an array for each member, then a text for each that was removed."""
        return pack([*(list(member) for member in self.members), *self.removed])


def membership(members: Iterable[Member], *, removed: Iterable[str] = ()) -> Membership:
    """Build a Membership in the order of the node ids."""
    return Membership(tuple(sorted(members, key=lambda m: m.node_id)), tuple(removed))


def decode_membership(data: bytes) -> Membership:
    """Decode what `Membership.encode` gave. Raise BadFrame for anything else."""
    try:
        values = unpack(data)
    except TypeError as error:
        raise BadFrame(f"not a membership: {error}") from error
    if type(values) is not tuple:
        raise BadFrame("not a membership: no array of members")
    removed = tuple(value for value in values if type(value) is str)
    values = tuple(value for value in values if type(value) is not str)
    for value in values:
        if type(value) is not tuple or tuple(map(type, value)) != _MEMBER:
            raise BadFrame("not a membership: the fields of a member do not fit")
        if not 1 <= value[0] <= NODE_ID_MAX:
            raise BadFrame(f"not a membership: {value[0]} is not a node id, 1 to {NODE_ID_MAX}")
    if len({value[0] for value in values}) != len(values):
        raise BadFrame("not a membership: a node stands there twice")
    return membership((Member(*value) for value in values), removed=removed)


_MEMBER = (int, str, str, str, bool)


def cluster_id_of(first: Membership) -> str:
    """Return the cluster id: a hash of the listed (id, incarnation) pairs (decision 13), 32 hex digits."""
    pairs = pack([[m.node_id, m.incarnation] for m in first.members])
    return hashlib.sha256(b"raftlock cluster\x00" + pairs).hexdigest()[:32]
