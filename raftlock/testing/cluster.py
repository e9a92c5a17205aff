"""A whole simulated cluster: nodes, clients, and what carries effects and connections between them."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from raftlock.locks import UnknownVersion
from raftlock.server.config import ServerConfig
from raftlock.server.effects import Effects
from raftlock.server.handshake import BootstrapSet, judge_hello
from raftlock.testing.invariants import Violation
from raftlock.testing.monitor import Monitor
from raftlock.testing.network import Network, NetworkFaults
from raftlock.testing.node import SimNode, Sizes
from raftlock.testing.profiles import Setup
from raftlock.testing.sim_client import SimClient
from raftlock.testing.versions import MixedVersions
from raftlock.testing.world import World
from raftlock_wire.ids import NodeId
from raftlock_wire.membership import Member, Membership, cluster_id_of, membership

if TYPE_CHECKING:
    from raftlock.testing.members import MemberChanges

FORWARD_FIRST = 16
"""Codes of frames between members from here on are streams: lost only with their link."""
RESTART_US = 1_500_000
"""A process that ended by itself is started again by its supervisor."""


class SimCluster:
    """Nodes 1 to n, spares after them, and clients, in one World."""

    def __init__(self, world: World, setup: Setup) -> None:
        self.world = world
        self.setup = setup
        self.network = Network(world, NetworkFaults())
        self._next_conn_id = 1
        self._connections: dict[int, tuple[SimClient, int, int]] = {}
        self.nodes: dict[int, SimNode] = {}
        self.members_changes: MemberChanges | None = None
        self.links_are_checked = False
        """Whether membership and incarnations can differ at all: the check costs something."""
        sizes = Sizes(
            segment=setup.segment_size,
            snapshot_log=setup.snapshot_log_size,
            compact_keep=setup.compact_keep_size,
        )
        for node_id in range(1, setup.nodes + setup.spares + 1):
            config = ServerConfig(
                node_id=node_id,
                data_dir=Path("/simulated"),
                client_address=f"node{node_id}:7401",
                peer_address=f"node{node_id}:7411",
            )
            self.nodes[node_id] = SimNode(
                world, config, around=self, rate=setup.node_rates[node_id - 1], sizes=sizes
            )
        self.monitor = Monitor(world, self.nodes)
        self.mixed = MixedVersions(self, setup.next_build) if setup.next_build else None
        """Where nodes of two builds run: None in most runs."""
        self._bootstrap()
        for node_id in range(1, setup.nodes + 1):
            self.nodes[node_id].start()
        self.clients = [
            SimClient(self, number, rate=rate) for number, rate in enumerate(setup.client_rates, 1)
        ]
        if self.mixed is not None:
            self.mixed.start()

    def _bootstrap(self) -> None:
        stores = {i: node.open() for i, node in self.nodes.items() if i <= self.setup.nodes}
        first = membership(
            Member(store.node_id, store.incarnation, f"node{i}:7411", f"node{i}:7401")
            for i, store in stores.items()
        )
        self.bootstrap = BootstrapSet(
            cluster_id_of(first), first.encode(), self.setup.logged_renewal_ttl_ms
        )
        self.first_membership = first
        for store in stores.values():
            store.set_cluster(self.bootstrap)
            store.close()

    # effects

    def carry_out(self, node: SimNode, effects: Effects) -> None:
        """See Surroundings."""
        source = node.node_id
        self.monitor.before_frames(node, effects)
        for peer, payload in effects.peer_frames:
            target = self.nodes[peer]
            if self.links_are_checked and not self._is_let_in(node, target):
                continue
            deliver = partial(self._reach, target, source, payload)
            # What is forwarded is lost only with its link; consensus bears loss of single messages.
            if payload[1] < FORWARD_FIRST:
                deliver = partial(self._reach_echo, target, source, payload, target.life)
                self.network.datagram(source, peer, deliver)
            elif self.network.tears():
                self._link_breaks(node, target)
            else:
                self.network.stream(source, peer, deliver)
        for conn_id, payload in effects.client_frames:
            connection = self._connections.get(conn_id)
            if connection is None:
                if self.members_changes is not None:
                    self.members_changes.answered(node, conn_id, payload)
                continue
            client = connection[0]
            if self.network.tears():
                self._breaks(conn_id)
                continue
            arrive = partial(client.receive, conn_id, payload)
            self.network.stream(source, -client.number, arrive)
        for (conn_id,) in effects.client_closes:
            self._lose(conn_id)
        self.monitor.after_turn(node)

    def started(self, node: SimNode) -> None:
        """See Surroundings."""
        self.monitor.started(node)

    def wrote(self, node: SimNode) -> None:
        """See Surroundings."""
        self.monitor.wrote(node)

    def _reach(self, target: SimNode, source: NodeId, payload: bytes) -> None:
        target.when_running(partial(self._to_driver, target, source, payload))

    def _reach_echo(self, target: SimNode, source: NodeId, payload: bytes, life: int) -> None:
        if target.life != life and target.up:
            self.world.saw("a message from before a restart arrives")
        target.when_running(partial(self._to_driver, target, source, payload))

    @staticmethod
    def _to_driver(target: SimNode, source: NodeId, payload: bytes) -> None:
        assert target.driver is not None
        target.driver.peer_frame(source, payload)
        target.wake()

    # links between members

    def linked(self, source: SimNode, target: SimNode) -> bool:
        """Return whether a link from one node to the other stands, or is made at once."""
        return (
            source.up
            and target.up
            and self.network.connected(source.node_id, target.node_id)
            and self.network.connected(target.node_id, source.node_id)
            and (not self.links_are_checked or self._is_let_in(source, target))
        )

    def _is_let_in(self, source: SimNode, target: SimNode) -> bool:
        """Return whether a link from one node to the other stands: production's own check of its hello.

        And what a caller checks of the answer: another incarnation than it wants is not whom it called.
        """
        if source.store is None or target.store is None or source.driver is None:
            return False
        wanted = self._wanted(source, target)
        if wanted is not None and wanted.incarnation != target.store.incarnation:
            return False
        return self._takes(target, source)

    def _wanted(self, source: SimNode, target: SimNode) -> Member | None:
        """Return whom one node calls as another: whom its members list, or who called it and brought its own members.

        A node that was added since the leader was replaced knows the one that led before.
        """
        assert source.driver is not None
        assert target.store is not None
        known = source.driver.raft.membership
        if (
            target.driver is not None
            and not known.lists(target.node_id, target.store.incarnation)
            and self._takes(source, target)
        ):
            introduced = target.driver.raft.membership.get(target.node_id)
            if introduced is not None:
                return introduced
        return known.get(target.node_id)

    @staticmethod
    def _takes(callee: SimNode, caller: SimNode) -> bool:
        """Return whether a node takes the call of another as a member's."""
        assert callee.store is not None
        assert caller.store is not None
        assert caller.driver is not None
        version_max = caller.driver.versions.version_max
        hello = caller.store.hello(callee.node_id, caller.driver.raft.membership, version_max)
        known = (Membership(), Membership())
        if callee.driver is not None:
            raft = callee.driver.raft
            known = (raft.membership, raft.committed_membership)
        return judge_hello(hello, callee.store.callee(*known)) is None

    def check_is_refused(self, node: SimNode) -> None:
        """A node whose directory was emptied must get no link from any member (decision 13)."""
        assert node.store is not None
        for other in self.nodes.values():
            if other is not node and other.up and self._is_let_in(other, node):
                raise Violation(
                    "incarnation refused",
                    f"node {other.node_id} links to the emptied node {node.node_id}",
                )
        self.world.saw("a node with an emptied directory is refused")

    def _link_breaks(self, a: SimNode, b: SimNode) -> None:
        self._links_lost(a, b, self.network.delay_us(50, 5_000))
        self._links_lost(b, a, self.network.delay_us(50, 5_000))

    def _links_lost(self, node: SimNode, peer: SimNode, delay_us: int) -> None:
        def lost() -> None:
            assert node.driver is not None
            node.driver.link_lost(peer.node_id)
            node.wake()

        self.world.after(delay_us, lambda: node.when_running(lost))

    # connections of clients

    def new_conn_id(self) -> int:
        """Return an id that no connection had."""
        self._next_conn_id += 1
        return self._next_conn_id - 1

    def open_connection(self, client: SimClient, node_id: int) -> int:
        """Connect a client to a node; a node that is down lets it time out."""
        conn_id = self.new_conn_id()
        node = self.nodes[node_id]
        self._connections[conn_id] = (client, node_id, node.life)

        def opened() -> None:
            if node.driver is not None:
                node.driver.client_opened(conn_id, f"c{client.number}")

        self.network.stream(-client.number, node_id, lambda: node.when_running(opened))
        return conn_id

    def to_node(self, client: SimClient, node_id: int, conn_id: int, payload: bytes) -> None:
        """Carry a client's frame."""
        if self.network.tears():
            self._breaks(conn_id)
            return
        node = self.nodes[node_id]

        def arrive() -> None:
            if conn_id in self._connections and node.driver is not None:
                node.driver.client_frame(conn_id, payload)
                node.wake()

        self.network.stream(-client.number, node_id, lambda: node.when_running(arrive))

    def close_connection(self, node_id: int, conn_id: int) -> None:
        """Carry the end of a connection to the node."""
        if self._connections.pop(conn_id, None) is not None:
            self._tell_node(node_id, conn_id)

    def _tell_node(self, node_id: int, conn_id: int) -> None:
        node = self.nodes[node_id]

        def closed() -> None:
            if node.driver is not None:
                node.driver.client_closed(conn_id)
                node.wake()

        delay_us = self.network.delay_us(50, 5_000)
        self.world.after(delay_us, lambda: node.when_running(closed))

    def _breaks(self, conn_id: int) -> None:
        """Break a connection in the middle of a frame: nothing of that arrives, and both ends learn of it."""
        connection = self._connections.get(conn_id)
        if connection is not None:
            self._tell_node(connection[1], conn_id)
            self._lose(conn_id)

    def _lose(self, conn_id: int) -> None:
        connection = self._connections.pop(conn_id, None)
        if connection is not None:
            client = connection[0]
            self.world.after(self.network.delay_us(50, 5_000), lambda: client.lost(conn_id))

    # what happens to nodes

    def refused_version(self, node: SimNode, error: UnknownVersion) -> None:
        """See Surroundings."""
        if self.mixed is None:
            raise error
        self.mixed.refused(node)

    def crashed(self, node: SimNode) -> None:
        """See Surroundings."""
        for conn_id, (_, node_id, _) in list(self._connections.items()):
            if node_id == node.node_id:
                self._lose(conn_id)
        for other in self.nodes.values():
            if other is not node:
                self._links_lost(other, node, self.network.delay_us(100, 3_000))
        if not any(other.up for other in self.nodes.values()):
            self.world.saw("all nodes are down at once")
        life = node.life
        self.world.after(RESTART_US, lambda: node.start() if node.life == life else None)

    def cut(self, side: set[int], *, both_ways: bool, clients: set[int]) -> None:
        """Cut some nodes (with some clients) off from the rest; connections across break after a while."""
        rest = set(self.nodes) - side
        self.network.cut(sorted(side), sorted(rest), both_ways=both_ways)
        others = [-c.number for c in self.clients if c.number not in clients]
        self.network.cut([-c for c in sorted(clients)], sorted(rest), both_ways=True)
        self.network.cut(others, sorted(side), both_ways=True)
        for a in sorted(side):
            for b in sorted(rest):
                self.lose_links_late(a, b)

    def lose_links_late(self, a: int, b: int) -> None:
        """Let both ends of a cut link notice it after a while, as TCP does."""
        delay_us = self.network.delay_us(1_000, 2_000_000)
        self._links_lost(self.nodes[a], self.nodes[b], delay_us)
        self._links_lost(self.nodes[b], self.nodes[a], delay_us)

    def abandon(self, node_id: int) -> None:
        """Cut a node off from its peers, who are told at once by their sockets; itself and all clients are not."""
        rest = sorted(set(self.nodes) - {node_id})
        self.network.cut({node_id}, rest, both_ways=True)
        for peer in rest:
            delay_us = self.network.delay_us(100, 2_000)
            self._links_lost(self.nodes[peer], self.nodes[node_id], delay_us)

    def heal(self) -> None:
        """Let everything through."""
        self.world.note("the network heals")
        self.network.heal()
        for a in self.nodes.values():
            for b in self.nodes.values():
                if a is not b:
                    self._links_lost(a, b, self.network.delay_us(100, 20_000))
        for client in self.clients:
            client.reconnect_perhaps()

    def leader(self) -> SimNode | None:
        """Return the node that serves in the newest term, if one does."""
        serving = [node for node in self.nodes.values() if node.serving]
        return max(serving, key=lambda n: n.driver.raft.term if n.driver else 0, default=None)

    def members(self) -> Membership:
        """Return the newest membership that any running node knows."""
        running = [n.driver.raft for n in self.nodes.values() if n.driver is not None]
        if not running:
            return self.first_membership
        return max(running, key=lambda raft: (raft.commit_index, raft.term)).membership
