"""The members of the cluster: who asks for them, who asks to change them, and which changes are refused (thesis 4).

It owns the change that this leader has in the log, and who waits for it. It must not know links, nor how a change is
carried out: consensus does that.
"""

from typing import Any, NamedTuple

from raftlock.raft import MembershipBusy, NotLeader, PeerView, Raft
from raftlock.server.door import no_quorum, overloaded, unknown
from raftlock.server.effects import Effects
from raftlock.server.leading import Leading
from raftlock.server.reads import Read
from raftlock_wire import limits
from raftlock_wire.entry import Entry
from raftlock_wire.ids import Index, NodeId
from raftlock_wire.membership import Member, Membership, decode_membership
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

Request = tuple[Any, ...]
Answer = tuple[Any, ...]


class Refusal(NamedTuple):
    """Why a change is not made, for programs and for people."""

    cause: str
    why: str


class Seen(NamedTuple):
    """What a leader knows of who could do what."""

    node_id: NodeId
    """The leader."""
    peers: dict[NodeId, PeerView]

    def reachable(self, voters: frozenset[NodeId]) -> int:
        """Return how many of these keep up with the leader, itself counted."""
        return sum(
            v == self.node_id or (v in self.peers and self.peers[v].keeps_up) for v in voters
        )


def planned(now: Membership, request: Request, seen: Seen) -> Membership | Refusal | None:
    """Return the membership that a change leads to, or why it is not made; None: it is so already.

    A change names the incarnation, so that one that comes late, or twice, never means the directory after it.
    """
    match request[0]:
        case Op.ADD_MEMBER:
            return _added(now, Member(*request[2:6])._replace(learner=True))
        case Op.PROMOTE_MEMBER:
            return _promoted(now, request[2], request[3], seen)
        case _:
            return _removed(now, request[2], request[3], seen)


def _added(now: Membership, new: Member) -> Membership | Refusal | None:
    if new.incarnation in now.removed:
        why = (
            f"node {new.node_id} with this incarnation was removed: empty its data directory first"
        )
        return Refusal("removed", why)
    for address in (new.peer_address, new.client_address):
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
            return Refusal("address", f"{address!r} is not HOST:PORT")
    member = now.get(new.node_id)
    if member is not None and member.incarnation != new.incarnation:
        why = f"node {new.node_id} is a member with incarnation {member.incarnation}: remove that first"
        return Refusal("incarnation", why)
    for other in now.members:
        if other.node_id == new.node_id:
            continue
        if new.peer_address == other.peer_address or new.client_address == other.client_address:
            return Refusal("address", f"node {other.node_id} has that address")
    if member is None:
        if len(now.members) >= limits.MEMBERS_MAX:
            return Refusal("too_many", f"a cluster has at most {limits.MEMBERS_MAX} members")
        return now.with_member(new)
    moved = member._replace(peer_address=new.peer_address, client_address=new.client_address)
    return None if moved == member else now.with_member(moved)


def _promoted(
    now: Membership, node_id: NodeId, incarnation: str, seen: Seen
) -> Membership | Refusal | None:
    member = now.get(node_id)
    if member is None or member.incarnation != incarnation:
        return Refusal("absent", f"node {node_id} with incarnation {incarnation} is not a member")
    if not member.learner:
        return None
    view = seen.peers.get(node_id)
    if view is None or not view.keeps_up or view.behind > limits.PROMOTE_BEHIND_MAX:
        heard = (
            "it was not heard of late"
            if view is None or view.heard_us is None
            else (
                f"it was heard {view.heard_us // 1_000} ms ago, and is {view.behind} entries behind"
            )
        )
        most = limits.PROMOTE_BEHIND_MAX
        return Refusal(
            "behind", f"node {node_id} does not keep up: {heard}; at most {most} are allowed"
        )
    return _with_majority(now.with_member(member._replace(learner=False)), seen)


def _removed(
    now: Membership, node_id: NodeId, incarnation: str, seen: Seen
) -> Membership | Refusal | None:
    if not now.lists(node_id, incarnation):
        return None
    new = now.without(node_id)
    if not new.voters:
        return Refusal("last_voter", f"node {node_id} is the last voter")
    return _with_majority(new, seen) if node_id in now.voters else new


def _with_majority(new: Membership, seen: Seen) -> Membership | Refusal:
    """Refuse a membership whose voters could not commit it: it would never end, and nothing after it."""
    need, there = len(new.voters) // 2 + 1, seen.reachable(new.voters)
    if there < need:
        why = (
            f"of the {len(new.voters)} voters that it leaves {need} are needed, and {there} keep up"
        )
        return Refusal("quorum", why)
    return new


class Members:
    """Requests about the members at this node while it leads."""

    def __init__(
        self,
        *,
        node_id: NodeId,
        incarnation: str,
        cluster_id: str,
        raft: Raft,
        leading: Leading,
        effects: Effects,
    ) -> None:
        self._node_id = node_id
        self._incarnation = incarnation
        self._cluster_id = cluster_id
        self._raft = raft
        self._leading = leading
        self._effects = effects
        self._pending: tuple[Index, Read] | None = None

    @property
    def wants_turn(self) -> bool:
        """Return whether a request could be answered or proposed at once."""
        return bool(self._leading.of_members)

    def turn(self, *, stamp_us: int, wall_us: int) -> None:
        """Answer or propose what was confirmed: this node led when it came, and leads now."""
        reads, self._leading.of_members = self._leading.of_members, []
        for read in reads:
            if read.request[0] == Op.MEMBERS:
                self._leading.finish(read, self._listed(read.request[1]))
                continue
            answer = self._change(read, stamp_us=stamp_us, wall_us=wall_us)
            if answer is not None:
                self._leading.finish(read, answer)

    def _listed(self, request_id: int) -> Answer:
        raft = self._raft
        views = {view.node_id: view for view in raft.peer_views()}
        shown = []
        for m in raft.membership.members:
            view = views.get(m.node_id)
            if m.node_id == self._node_id:
                behind, heard_ms = 0, 0
            elif view is None or view.heard_us is None:
                behind, heard_ms = raft.last_index, None
            else:
                behind, heard_ms = view.behind, view.heard_us // 1_000
            of = (m.node_id, m.incarnation, m.peer_address, m.client_address, not m.learner)
            shown.append((*of, behind, heard_ms))
        settled = raft.membership_settled
        return (request_id, int(Status.OK), True, self._cluster_id, settled, shown)

    def _change(self, read: Read, *, stamp_us: int, wall_us: int) -> Answer | None:
        """Begin a change, which is answered when it is applied (None), or return the answer."""
        raft, request = self._raft, read.request
        # First of all: what the change before it comes to is not known yet, and so neither is what this one means.
        if self._pending is not None or not raft.membership_settled:
            return overloaded(request, "members", limits.MEMBERS_RETRY_MS)
        seen = Seen(self._node_id, {view.node_id: view for view in raft.peer_views()})
        new = planned(raft.membership, request, seen)
        if new is None:
            return (request[1], int(Status.OK), True)
        if isinstance(new, Refusal):
            return (request[1], int(Status.REFUSED), True, new.cause, new.why)
        try:
            index = raft.change_membership(
                new, stamp_us=stamp_us, wall_us=max(wall_us, raft.last_wall_us)
            )
        except MembershipBusy:
            return overloaded(request, "members", limits.MEMBERS_RETRY_MS)
        except NotLeader:
            return no_quorum(request, "leadership is being handed over")
        self._pending = (index, read)
        return None

    def applied(self, entry: Entry) -> None:
        """Answer the change that this entry is, if somebody here waits for it (R4)."""
        members = decode_membership(entry.data)
        self._effects.notice(
            "members",
            index=entry.index,
            voters=",".join(map(str, sorted(members.voters))),
            learners=",".join(map(str, sorted(members.learners))),
        )
        if self._incarnation in members.removed[-1:]:
            self._effects.notice("removed", index=entry.index)
        if self._pending is not None and self._pending[0] == entry.index:
            read = self._pending[1]
            self._pending = None
            self._leading.finish(read, (read.request[1], int(Status.OK), True))

    def end(self) -> None:
        """Answer UNKNOWN for a change that was appended: leadership is lost (R4)."""
        if self._pending is not None:
            read = self._pending[1]
            self._pending = None
            self._leading.finish(read, unknown(read.request[1]))
