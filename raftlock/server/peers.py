"""The links between members: each node calls each other one, and speaks on its own call (decision 13).

It owns the hellos on both ends and which connection belongs to which member. It must not know what members say.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from raftlock.server import handshake
from raftlock.server.membership_store import NodeStore
from raftlock.transport.connections import Connection, Link
from raftlock_wire import limits
from raftlock_wire.errors import BadFrame, FrameTooLarge
from raftlock_wire.ids import NO_NODE, NodeId
from raftlock_wire.membership import Member, Membership, decode_membership

if TYPE_CHECKING:
    from raftlock.server.node import Node

REMOVED_CALLS_S = 10.0
"""A node that was removed calls the members only so often: they will say the same, and log it."""
LEAVE_S = 1.0
"""The call of a member that was removed is closed so long after that is known to be committed."""


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
        self._followed: tuple[Membership, Membership] | None = None
        self._members: dict[NodeId, Member] = {}
        """Whom this node calls, by id."""
        self._introduced: dict[NodeId, Member] = {}
        """Callers that this node does not know as members yet, as they are in the members that they brought."""
        self._incarnations: dict[NodeId, str] = {}
        """Of those who called."""

    # the members

    def follow(self) -> None:
        """Call whom consensus lists now, and leave whom it does not: after each turn."""
        driver = self._node.driver
        if driver is None:
            return
        now, committed = driver.raft.membership, driver.raft.committed_membership
        followed = self._followed
        if followed is not None and followed[0] is now and followed[1] is committed:
            return
        self._followed = (now, committed)
        self._call_members()
        if any(i in committed.removed for i in self._incarnations.values()):
            # Not at once: what was sent to a client behind the link, or the end of a leadership, is on its way.
            asyncio.get_running_loop().call_later(LEAVE_S, self._close_removed)

    def _call_members(self) -> None:
        """Begin and end links so that there is one for each other member, of this incarnation."""
        assert self._followed is not None
        now, committed = self._followed
        # An uncommitted change may be undone: until it is committed, who it removes may be the one to undo it.
        wanted = {m.node_id: m for of in (committed, now) for m in of.members}
        wanted.update(self._introduced)
        wanted.pop(self._store.node_id, None)
        earlier, self._members = self._members, wanted
        for peer, member in earlier.items():
            if peer not in wanted:
                self._links.pop(peer).end()
            elif member.incarnation != wanted[peer].incarnation and peer in self._out:
                self._out[peer].abort()
        for peer in wanted:
            if peer not in self._links:
                self._links[peer] = link = Link(
                    partial(self._address, peer), Caller(self, peer), tag=peer, jitter=self._jitter
                )
                link.start()

    def _address(self, peer: NodeId) -> str:
        return self._members[peer].peer_address

    def _close_removed(self) -> None:
        assert self._followed is not None
        removed = self._followed[1].removed
        for peer, incarnation in list(self._incarnations.items()):
            if incarnation in removed and peer in self._in:
                self._in[peer].abort()

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
        driver = self._node.driver
        assert driver is not None
        hello = self._store.hello(peer, driver.raft.membership, self._node.version_max)
        return handshake.encode(hello)

    def called(self, connection: Connection, peer: NodeId, answer: handshake.HelloAnswer) -> bool:
        """Take a member's answer to our hello. Return whether the link may be used."""
        member = self._members.get(peer)
        known = member is not None and member.incarnation == answer.incarnation
        if known and answer.accepted is not answer.removed:
            self._node.greeted(peer, removed=answer.removed)
            link = self._links.get(peer)
            if link is not None:
                link.pause_min_s = REMOVED_CALLS_S if answer.removed else 0.0
        if not answer.accepted or not known:
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
            del self._incarnations[peer]
            self._node.peer_lost(peer)
            if self._introduced.pop(peer, None) is not None:
                self._call_members()

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
        store, driver = self._store, self._node.driver
        if driver is None and store.cluster_id is not None:
            # The port listens a moment before this node takes part: the caller tries again.
            connection.abort()
            return
        known = (
            (Membership(), Membership())
            if driver is None
            else (driver.raft.membership, driver.raft.committed_membership)
        )
        refusal = handshake.judge_hello(hello, store.callee(*known))
        if refusal is None and store.cluster_id is None:
            why = self._node.bootstrap(
                handshake.BootstrapSet(
                    hello.cluster_id, hello.first_membership, hello.logged_renewal_ttl_ms
                )
            )
            refusal = handshake.Refusal("membership", why) if why else None
        why = "" if refusal is None else refusal.why
        removed = refusal is not None and refusal.reason == handshake.REMOVED
        answer = handshake.HelloAnswer(
            not why, why, store.incarnation, self._node.version_max, removed
        )
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
        self._incarnations[hello.from_id] = hello.from_incarnation
        self._know(hello)

    def _know(self, hello: handshake.PeerHello) -> None:
        """Call back a caller that the members known here do not list: what it brought says where it is."""
        driver = self._node.driver
        assert driver is not None
        self._introduced.pop(hello.from_id, None)
        if not driver.raft.membership.lists(hello.from_id, hello.from_incarnation):
            member = decode_membership(hello.membership).get(hello.from_id)
            if member is not None and len(self._introduced) < limits.MEMBERS_MAX:
                self._introduced[hello.from_id] = member
        self.follow()
        self._call_members()


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
