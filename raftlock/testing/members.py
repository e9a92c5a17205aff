"""The administrator who changes the membership of a simulated cluster, one member at a time (thesis 4.1).

It asks the leader as `raftlock members` does, with the protocol's own requests over a connection, and asks again while it
is refused for now. Only the change of a leader that lost its followers is begun by hand: no quorum would confirm it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raftlock.raft import MembershipBusy, NotLeader
from raftlock.testing.invariants import Violation
from raftlock.testing.node import SimNode
from raftlock_wire.codec import pack, unpack
from raftlock_wire.membership import Member, Membership
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

if TYPE_CHECKING:
    from raftlock.testing.cluster import SimCluster

ATTEMPTS_MAX = 40
PAUSE_US = 50_000
VOTERS_MIN = 2
_HELLO_ID, _ID = 1, 2

Request = tuple[Any, ...]
"""A code, and the fields after the request id."""
Wanted = Callable[[Membership], Request | None]
"""Returns what to ask for, or None when there is nothing to change."""


class MemberChanges:
    """Asks the leader for changes, and again while it is busy."""

    def __init__(self, cluster: "SimCluster") -> None:
        self._cluster = cluster
        cluster.members_changes = self
        self.busy = False
        self.shrank = False
        """Whether a membership of less than three voters was ever begun: then no disk may be lost any more."""
        self._asked: dict[int, tuple[SimNode, Request]] = {}
        """By connection."""

    def add_learner(self, pick: float) -> None:
        """Add a node that is not a member: a spare, or one that was removed."""
        cluster = self._cluster
        members = cluster.members()
        out = [n for n in cluster.nodes.values() if members.get(n.node_id) is None]
        if not out:
            return
        node = out[int(pick * len(out))]
        if not self._join(node):
            return
        member = self._member(node)
        self._ask(
            lambda now: (
                (int(Op.ADD_MEMBER), *member[:4]) if now.get(node.node_id) is None else None
            ),
        )

    def promote(self, pick: float) -> None:
        """Make a learner a voter."""

        def wanted(now: Membership) -> Request | None:
            learners = sorted(now.learners)
            if not learners:
                return None
            chosen = now.get(learners[int(pick * len(learners))])
            assert chosen is not None
            return (int(Op.PROMOTE_MEMBER), chosen.node_id, chosen.incarnation)

        self._ask(wanted)

    def remove(self, node: SimNode) -> None:
        """Remove a member, unless too few voters with their disks would be left."""

        def wanted(now: Membership) -> Request | None:
            member = now.get(node.node_id)
            left = now.without(node.node_id)
            fit = [v for v in left.voters if not self._cluster.nodes[v].out_of_service]
            enough = len(left.voters) >= VOTERS_MIN and len(fit) * 2 > len(left.voters)
            if member is None or not enough:
                return None
            self.shrank = self.shrank or len(left.voters) < 3
            return (int(Op.REMOVE_MEMBER), member.node_id, member.incarnation)

        self._ask(wanted)

    def replace_lost(self) -> None:
        """Remove a node whose data is lost; its machine may come back as a learner with an empty disk."""
        members = self._cluster.members()
        for node in self._cluster.nodes.values():
            if node.out_of_service and members.get(node.node_id) is not None:
                self.remove(node)
                return

    def begin_on(self, leader: SimNode, pick: float) -> None:
        """Let one node begin a change by itself: a spare as a learner, or the removal of another member."""
        assert leader.driver is not None
        now = leader.driver.raft.membership
        spares = [
            n
            for n in self._cluster.nodes.values()
            if now.get(n.node_id) is None
            and n.store is not None
            and n.store.cluster_id is not None
            and n.store.incarnation not in now.removed
        ]
        others = [m for m in now.members if m.node_id != leader.node_id]
        if spares:
            new = now.with_member(self._member(spares[0]))
        elif len(others) >= VOTERS_MIN:
            gone = others[int(pick * len(others))]
            new = now.without(gone.node_id)
            fit = [v for v in new.voters if not self._cluster.nodes[v].out_of_service]
            if len(fit) * 2 <= len(new.voters):
                return
        else:
            return
        self._begin(leader, new)

    def _begin(self, leader: SimNode, new: Membership) -> None:
        assert leader.driver is not None
        driver = leader.driver
        try:
            index = driver.raft.change_membership(
                new,
                stamp_us=max(driver.clock.stamp_us, driver.raft.last_stamp_us),
                wall_us=max(leader.wall_us(), driver.raft.last_wall_us),
            )
        except (MembershipBusy, NotLeader):
            return
        self._cluster.links_are_checked = True
        self.shrank = self.shrank or len(new.voters) < 3
        self._cluster.world.note(f"a lonely change at {index}: {_shown(new)}")
        leader.wake()

    # how

    def _join(self, node: SimNode) -> bool:
        """Let a node run that knows its cluster, and no membership that lists it. Return whether it runs."""
        cluster = self._cluster
        store = node.store
        removed = store is not None and store.incarnation in cluster.members().removed
        if store is not None and (node.out_of_service or removed):
            # Its directory is not the member's that it was, or was removed with it: it begins anew.
            if node.up:
                node.kill("is stopped: it was removed")
            node.replace_disk()
        if node.store is None or node.store.cluster_id is None or not node.up:
            if not node.up:
                node.disk.kill()
                store = node.open()
                if store.cluster_id is None:
                    store.set_cluster(cluster.bootstrap)
                store.close()
            node.start()
        cluster.links_are_checked = True
        return node.up

    @staticmethod
    def _member(node: SimNode) -> Member:
        assert node.store is not None
        i = node.node_id
        return Member(i, node.store.incarnation, f"node{i}:7411", f"node{i}:7401", learner=True)

    def _ask(self, wanted: Wanted, attempt: int = 0) -> None:
        self.busy = attempt < ATTEMPTS_MAX
        leader = self._cluster.leader()
        if leader is not None and leader.driver is not None:
            request = wanted(leader.driver.raft.membership)
            if request is None:
                self.busy = False
                return
            self._send(leader, request)
        if attempt < ATTEMPTS_MAX:
            self._cluster.world.after(PAUSE_US, lambda: self._ask(wanted, attempt + 1))

    def _send(self, leader: SimNode, request: Request) -> None:
        """Ask over a connection of its own."""
        assert leader.driver is not None
        self._cluster.links_are_checked = True
        self._cluster.world.note(f"asks n{leader.node_id} for {Op(request[0]).name} {request[1:]}")
        conn_id = self._cluster.new_conn_id()
        self._asked[conn_id] = (leader, request)
        driver = leader.driver
        driver.client_opened(conn_id, "admin")
        hello = (int(Op.HELLO), _HELLO_ID, 1, 1, None, None, "admin")
        for said in (hello, (request[0], _ID, *request[1:])):
            driver.client_frame(conn_id, pack([said]))
        leader.wake()

    def answered(self, node: SimNode, conn_id: int, payload: bytes) -> None:
        """Take what a node sends to a connection that is no client's."""
        if conn_id not in self._asked or self._asked[conn_id][0] is not node:
            return
        for message in unpack(payload)[1:]:
            if message[0] != _ID:
                continue
            _, request = self._asked.pop(conn_id)
            self._cluster.world.note(f"n{node.node_id} answers {Op(request[0]).name} {message[1:]}")
            if message[1] == Status.OK:
                self._check_committed(node, request)
            assert node.driver is not None
            node.driver.client_closed(conn_id)

    def _check_committed(self, node: SimNode, request: Request) -> None:
        """What is answered OK is committed at that moment: nothing may undo it (R4)."""
        assert node.driver is not None
        committed = node.driver.raft.committed_membership
        code, node_id, incarnation = request[:3]
        listed = committed.lists(node_id, incarnation)
        voter = listed and node_id in committed.voters
        done = {Op.ADD_MEMBER: listed, Op.PROMOTE_MEMBER: voter, Op.REMOVE_MEMBER: not listed}
        if not done[code]:
            raise Violation(
                "a change of members is committed when it is answered",
                f"node {node.node_id} answers {Op(code).name} {node_id}: {_shown(committed)}",
            )
        if code == Op.PROMOTE_MEMBER:
            self._cluster.world.saw("a learner becomes a voter")
        if code == Op.REMOVE_MEMBER and node_id == node.node_id:
            self._cluster.world.saw("a leader removes itself")


def _shown(members: Membership) -> str:
    return f"voters {sorted(members.voters)}, learners {sorted(members.learners)}"
