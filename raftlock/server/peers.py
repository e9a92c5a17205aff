"""The links between members: each node calls each other one, and speaks on its own call (decision 13).

It owns the hellos on both ends and which connection belongs to which member. It must not know what members say.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from raftlock.server import handshake
from raftlock.server.membership_store import NodeStore
from raftlock.transport.connections import Connection, Link
from raftlock_wire import limits
from raftlock_wire.errors import BadFrame, FrameTooLarge
from raftlock_wire.ids import NO_NODE, NodeId
from raftlock_wire.limits import PROTOCOL_VERSION

if TYPE_CHECKING:
    from raftlock.server.node import Node


UNREAD = "it does not read what it is sent"
SILENT = f"its host is silent for {limits.PEER_SILENCE_MS} ms"


class Peers:
    """All links of a node with the other members."""

    def __init__(self, node: "Node", store: NodeStore, *, jitter: Callable[[], float]) -> None:
        self._node = node
        self._store = store
        self._jitter = jitter
        self._links: dict[NodeId, Link] = {}
        self._out: dict[NodeId, Connection] = {}
        self._in: dict[NodeId, Connection] = {}
        self._open: dict[Connection, None] = {}

    def start(self) -> None:
        """Call every other member."""
        for member in self._store.membership.members:
            if member.node_id != self._store.node_id:
                caller = Caller(self, member.node_id)
                link = Link(
                    lambda address=member.peer_address: address,  # type: ignore[misc]
                    caller,
                    tag=member.node_id,
                    jitter=self._jitter,
                )
                self._links[member.node_id] = link
                link.start()

    async def stop(self) -> None:
        """Close everything."""
        for link in self._links.values():
            await link.stop()
        for connection in list(self._open):
            connection.close()

    def send(self, peer: NodeId, payload: bytes) -> bool:
        """Send to a member over our link to it. Lost if there is none (False): consensus sends again."""
        connection = self._out.get(peer)
        if connection is not None:
            connection.send(payload)
        return connection is not None

    def connected_to(self, peer: NodeId) -> bool:
        """Return whether our link to a member is up."""
        return peer in self._out

    def hang_up(self, peer: NodeId) -> None:
        """End a member's call; it may call again."""
        connection = self._in.get(peer)
        if connection is not None:
            connection.abort()

    # our calls

    def hello(self, peer: NodeId) -> bytes:
        """Return the hello to a member."""
        store = self._store
        assert store.cluster_id is not None
        return handshake.encode(
            handshake.PeerHello(
                PROTOCOL_VERSION,
                store.node_id,
                store.incarnation,
                peer,
                store.cluster_id,
                store.first_membership.encode(),
                store.logged_renewal_ttl_ms,
                self._node.version_max,
            )
        )

    def called(self, connection: Connection, peer: NodeId, answer: handshake.HelloAnswer) -> bool:
        """Take a member's answer to our hello. Return whether the link may be used."""
        member = self._store.membership.get(peer)
        if not answer.accepted or member is None or member.incarnation != answer.incarnation:
            why = answer.why or "it is another incarnation than the membership lists"
            counted = self._node.meter.refused_by
            counted[peer] = counted.get(peer, 0) + 1
            self._node.complaints.say("refused_by_peer", peer=peer, why=why)
            return False
        self._out[peer] = connection
        self._node.peer_said(peer, answer.state_machine_version_max)
        return True

    def call_given_up(self, connection: Connection, reason: str, why: str) -> None:
        """Learn that our link is given up for what the member does, or does not."""
        self._give_up("peer_lost", connection, reason, why)

    def call_lost(self, connection: Connection, peer: NodeId) -> None:
        """Learn that our link to a member is gone."""
        if connection.timed_out:
            self._give_up("peer_lost", connection, "silent", SILENT)
        if self._out.get(peer) is connection:
            del self._out[peer]
            self._node.peer_lost(peer)

    # their calls

    def incoming(self) -> Connection:
        """Make the protocol of a call that comes in."""
        return Connection(
            self,
            frame_size_max=limits.HELLO_FRAME_SIZE_MAX,
            close_backlog_size=limits.WRITE_BUFFER_CLOSE_SIZE,
            silence_ms=limits.PEER_SILENCE_MS,
        )

    def connected(self, connection: Connection) -> None:
        """Let a caller say who it is, and close what does not in time."""
        self._open[connection] = None
        if len(self._open) - len(self._in) > limits.PEER_CALLERS_MAX:
            self._turn_away(connection, "limit", f"more than {limits.PEER_CALLERS_MAX} callers")
            return
        asyncio.get_running_loop().call_later(
            limits.HELLO_TIMEOUT_MS / 1_000, self._check_hello, connection
        )

    def _check_hello(self, connection: Connection) -> None:
        if connection in self._open and not connection.tag:
            self._turn_away(connection, "no_hello", f"no hello within {limits.HELLO_TIMEOUT_MS} ms")

    def _turn_away(self, connection: Connection, reason: str, why: str) -> None:
        self._give_up("peer_refused", connection, reason, why)
        connection.abort()

    def _give_up(self, event: str, connection: Connection, reason: str, why: str) -> None:
        self._node.meter.peers_refused[reason] += 1
        self._node.complaints.say(event, address=connection.address, reason=reason, why=why)

    def received(self, connection: Connection, payload: bytes) -> None:
        """See ConnectionHandler."""
        if connection.tag:
            self._node.peer_frame(connection, NodeId(connection.tag), payload)
            return
        try:
            message = handshake.decode(payload)
        except BadFrame as error:
            self._turn_away(connection, "bad_frame", str(error))
            return
        match message:
            case None:
                self._tell(connection)
            case handshake.BootstrapSet():
                self._set(connection, message)
            case handshake.PeerHello():
                self._accept(connection, message)
            case _:
                self._turn_away(
                    connection, "bad_frame", "its first frame is none that opens a call"
                )

    def refused(self, connection: Connection, error: FrameTooLarge) -> None:
        """See ConnectionHandler."""
        self._turn_away(connection, "frame_too_large", str(error))

    def unread(self, connection: Connection) -> None:
        """See ConnectionHandler."""
        self._give_up("peer_lost", connection, "unread", UNREAD)

    def disconnected(self, connection: Connection) -> None:
        """See ConnectionHandler."""
        if connection.timed_out:
            self._give_up("peer_lost", connection, "silent", SILENT)
        self._open.pop(connection, None)
        peer = NodeId(connection.tag)
        if peer != NO_NODE and self._in.get(peer) is connection:
            del self._in[peer]
            self._node.peer_lost(peer)

    def _tell(self, connection: Connection) -> None:
        store, config = self._store, self._node.config
        connection.send(
            handshake.encode(
                handshake.BootstrapTell(
                    store.node_id,
                    store.incarnation,
                    store.cluster_id or "",
                    config.peer_address,
                    config.client_address,
                )
            )
        )

    def _set(self, connection: Connection, message: handshake.BootstrapSet) -> None:
        store = self._store
        why = handshake.refuse_first(
            message.first_membership,
            message.cluster_id,
            node_id=store.node_id,
            incarnation=store.incarnation,
            cluster_id=store.cluster_id,
        )
        why = why or self._node.bootstrap(message)
        connection.send(handshake.encode(handshake.BootstrapDone(not why, why)))

    def _accept(self, connection: Connection, hello: handshake.PeerHello) -> None:
        store = self._store
        refusal = handshake.refuse_hello(
            hello,
            node_id=store.node_id,
            incarnation=store.incarnation,
            cluster_id=store.cluster_id,
            membership=store.membership,
        )
        if refusal is None and store.cluster_id is None:
            why = self._node.bootstrap(
                handshake.BootstrapSet(
                    hello.cluster_id, hello.first_membership, hello.logged_renewal_ttl_ms
                )
            )
            refusal = handshake.Refusal("membership", why) if why else None
        why = "" if refusal is None else refusal.why
        answer = handshake.HelloAnswer(not why, why, store.incarnation, self._node.version_max)
        connection.send(handshake.encode(answer))
        if refusal is not None:
            self._give_up("peer_refused", connection, *refusal)
            connection.close()
            return
        connection.tag = hello.from_id
        connection.frame_size_max = limits.PEER_FRAME_SIZE_MAX
        earlier = self._in.get(hello.from_id)
        self._in[hello.from_id] = connection
        if earlier is not None:
            # The member called again before we saw the end of its last call: what that one carried may be lost.
            self._node.peer_lost(hello.from_id)
            earlier.abort()
        self._node.peer_said(hello.from_id, hello.state_machine_version_max)


class Caller:
    """The life of our call to one member."""

    def __init__(self, peers: Peers, peer: NodeId) -> None:
        self._peers = peers
        self._peer = peer
        self._accepted: Connection | None = None

    def connected(self, connection: Connection) -> None:
        """See ConnectionHandler."""
        connection.send(self._peers.hello(self._peer))

    def received(self, connection: Connection, payload: bytes) -> None:
        """Take the answer to the hello; a member says nothing else on our call."""
        try:
            message = handshake.decode(payload)
        except BadFrame as error:
            self._peers.call_given_up(connection, "bad_frame", str(error))
            connection.abort()
            return
        if (
            not isinstance(message, handshake.HelloAnswer)
            or self._accepted is connection
            or not self._peers.called(connection, self._peer, message)
        ):
            connection.abort()
            return
        self._accepted = connection

    def refused(self, connection: Connection, error: FrameTooLarge) -> None:
        """See ConnectionHandler."""
        self._peers.call_given_up(connection, "frame_too_large", str(error))
        connection.abort()

    def unread(self, connection: Connection) -> None:
        """See ConnectionHandler."""
        self._peers.call_given_up(connection, "unread", UNREAD)

    def disconnected(self, connection: Connection) -> None:
        """See ConnectionHandler."""
        self._peers.call_lost(connection, self._peer)
