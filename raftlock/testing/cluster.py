"""A whole simulated cluster: nodes, clients, the network between them, and what goes wrong."""

from functools import partial
from pathlib import Path

from raftlock.server.config import ServerConfig
from raftlock.server.effects import Effects
from raftlock.server.handshake import BootstrapSet
from raftlock.testing.monitor import Monitor, Violation
from raftlock.testing.network import Network, NetworkFaults
from raftlock.testing.node import SimNode
from raftlock.testing.sim_client import SimClient
from raftlock.testing.world import World
from raftlock_wire.membership import Member, cluster_id_of, membership

FORWARD_FIRST = 16


class SimCluster:
    """Nodes 1 to n and their clients, in one World."""

    def __init__(
        self, world: World, *, nodes: int, clients: int, logged_renewal_ttl_ms: int
    ) -> None:
        self.world = world
        self.network = Network(world, NetworkFaults())
        self._next_conn_id = 1
        self._connections: dict[int, tuple[SimClient, int, int]] = {}
        self.nodes: dict[int, SimNode] = {}
        self.monitor = Monitor(self.nodes)
        for node_id in range(1, nodes + 1):
            config = ServerConfig(
                node_id=node_id,
                data_dir=Path("/simulated"),
                client_address=f"node{node_id}:7401",
                peer_address=f"node{node_id}:7411",
                segment_size=1 << 20,
                snapshot_log_size=world.rng.choice([1 << 13, 1 << 14, 1 << 16]),
            )
            rate = 1 + world.rng.uniform(-0.005, 0.005)
            self.nodes[node_id] = SimNode(
                world, config, carry_out=self._carry_out, on_crash=self._crashed, rate=rate
            )
        self._bootstrap(logged_renewal_ttl_ms)
        for node in self.nodes.values():
            node.start()
        self.clients = [SimClient(self, number) for number in range(1, clients + 1)]

    def _bootstrap(self, logged_renewal_ttl_ms: int) -> None:
        stores = {node_id: node.open() for node_id, node in self.nodes.items()}
        first = membership(
            Member(store.node_id, store.incarnation, f"node{i}:7411", f"node{i}:7401")
            for i, store in stores.items()
        )
        command = BootstrapSet(cluster_id_of(first), first.encode(), logged_renewal_ttl_ms)
        for store in stores.values():
            store.set_cluster(command)
            store.close()

    # effects

    def _carry_out(self, node: SimNode, effects: Effects) -> None:
        source = node.node_id
        for peer, payload in effects.peer_frames:
            target = self.nodes[peer]

            def deliver(target: SimNode = target, payload: bytes = payload) -> None:
                target.when_running(lambda: self._to_driver(target, source, payload))

            # What is forwarded is lost only with its link; consensus bears loss of single messages.
            if payload[1] >= FORWARD_FIRST:
                self.network.stream(source, peer, deliver)
            else:
                self.network.datagram(source, peer, deliver)
        for conn_id, payload in effects.client_frames:
            connection = self._connections.get(conn_id)
            if connection is not None:
                client = connection[0]
                arrive = partial(client.receive, conn_id, payload)
                self.network.stream(source, -client.number, arrive)
        for (conn_id,) in effects.client_closes:
            self._lose(conn_id)
        self.monitor.after_turn(node)

    @staticmethod
    def _to_driver(target: SimNode, source: int, payload: bytes) -> None:
        assert target.driver is not None
        target.driver.peer_frame(target.node_id.__class__(source), payload)
        target.wake()

    # connections of clients

    def open_connection(self, client: SimClient, node_id: int) -> int:
        """Connect a client to a node; a node that is down lets it time out."""
        conn_id = self._next_conn_id
        self._next_conn_id += 1
        node = self.nodes[node_id]
        self._connections[conn_id] = (client, node_id, node.life)

        def opened() -> None:
            if node.driver is not None:
                node.driver.client_opened(conn_id, f"c{client.number}")

        self.network.stream(-client.number, node_id, lambda: node.when_running(opened))
        return conn_id

    def to_node(self, client: SimClient, node_id: int, conn_id: int, payload: bytes) -> None:
        """Carry a client's frame."""
        node = self.nodes[node_id]

        def arrive() -> None:
            if conn_id in self._connections and node.driver is not None:
                node.driver.client_frame(conn_id, payload)
                node.wake()

        self.network.stream(-client.number, node_id, lambda: node.when_running(arrive))

    def close_connection(self, node_id: int, conn_id: int) -> None:
        """Carry the end of a connection to the node."""
        if self._connections.pop(conn_id, None) is None:
            return
        node = self.nodes[node_id]

        def closed() -> None:
            if node.driver is not None:
                node.driver.client_closed(conn_id)
                node.wake()

        self.world.after(self.world.rng.randint(50, 5_000), lambda: node.when_running(closed))

    def _lose(self, conn_id: int) -> None:
        connection = self._connections.pop(conn_id, None)
        if connection is not None:
            client = connection[0]
            self.world.after(self.world.rng.randint(50, 5_000), lambda: client.lost(conn_id))

    # faults

    def _crashed(self, node: SimNode) -> None:
        for conn_id, (_, node_id, _) in list(self._connections.items()):
            if node_id == node.node_id:
                self._lose(conn_id)
        for other in self.nodes.values():
            if other is not node:
                self._links_lost(other, node, self.world.rng.randint(100, 3_000))

    def _links_lost(self, node: SimNode, peer: SimNode, delay_us: int) -> None:
        def lost() -> None:
            assert node.driver is not None
            node.driver.link_lost(peer.node_id)
            node.wake()

        self.world.after(delay_us, lambda: node.when_running(lost))

    def cut(self, side: set[int], *, both_ways: bool, clients: set[int]) -> None:
        """Cut some nodes (with some clients) off from the rest; connections across break after a while."""
        self.world.note(f"cut {sorted(side)} both_ways={both_ways}")
        rest = set(self.nodes) - side
        self.network.cut(side, rest, both_ways=both_ways)
        others = [-c.number for c in self.clients if c.number not in clients]
        self.network.cut([-c for c in clients], rest, both_ways=True)
        self.network.cut(others, side, both_ways=True)
        for a in side:
            for b in rest:
                delay_us = self.world.rng.randint(1_000, 2_000_000)
                self._links_lost(self.nodes[a], self.nodes[b], delay_us)
                self._links_lost(self.nodes[b], self.nodes[a], delay_us)

    def abandon(self, node_id: int) -> None:
        """Cut a node off from its peers, who are told at once by their sockets; itself and all clients are not."""
        self.world.note(f"abandon {node_id}")
        rest = set(self.nodes) - {node_id}
        self.network.cut({node_id}, rest, both_ways=True)
        for peer in sorted(rest):
            delay_us = self.world.rng.randint(100, 2_000)
            self._links_lost(self.nodes[peer], self.nodes[node_id], delay_us)

    def heal(self) -> None:
        """Let everything through, and everybody run."""
        self.world.note("heal")
        self.network.heal()
        for a in self.nodes.values():
            for b in self.nodes.values():
                if a is not b:
                    self._links_lost(a, b, self.world.rng.randint(100, 20_000))
        for client in self.clients:
            if self.world.chance(0.3):
                client.drop()

    def leader(self) -> SimNode | None:
        """Return the node that serves, if one does."""
        for node in self.nodes.values():
            if node.driver is not None and node.driver.serving and not node.paused:
                return node
        return None

    def check_drained(self) -> None:
        """After the end: nothing is held, waited for or kept for anybody (guarantee 7)."""
        leader = self.leader()
        if leader is None or leader.driver is None:
            raise Violation("liveness: no leader although nothing is wrong any more")
        table = leader.driver.table
        left = (table.lock_count, table.waiter_count, table.session_count)
        if any(left) or table.handing_on or table.ending:
            raise Violation(
                f"liveness: {left} locks, waiters and sessions are left when nobody wants any"
            )
