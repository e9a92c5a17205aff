"""The client connections of this node: their hello, what each may name, and what waits for the leader.

It owns the Origins of this node, and those that followers announced. It must not know the lock table.
"""

from typing import Any

from raftlock.server.door import Sorted, unknown
from raftlock.server.leading import OPENING
from raftlock.server.origin import Origin
from raftlock.server.outbox import Outbox
from raftlock_wire import limits
from raftlock_wire.codec import pack, unpack
from raftlock_wire.errors import BadField
from raftlock_wire.ids import NO_NODE, NodeId
from raftlock_wire.membership import Membership
from raftlock_wire.messages import Event, Op, check_request
from raftlock_wire.status import Status

Request = tuple[Any, ...]
Answer = tuple[Any, ...]


class Clients:
    """All connections whose requests come to this node, directly or through a follower."""

    def __init__(self, *, node_id: NodeId, cluster_id: str, outbox: Outbox) -> None:
        self._node_id = node_id
        self._cluster_id = cluster_id
        self._outbox = outbox
        self.local: dict[int, Origin] = {}
        self.remote: dict[tuple[NodeId, int], Origin] = {}
        self._forwarding: dict[int, Origin] = {}

    def opened(self, conn_id: int, address: str) -> None:
        """Know a new connection."""
        self.local[conn_id] = Origin(node=NO_NODE, conn_id=conn_id, principal="", address=address)

    def closed(self, conn_id: int) -> Origin | None:
        """Forget a connection. A lost connection alone ends no lock (guarantee 7)."""
        self._forwarding.pop(conn_id, None)
        return self.local.pop(conn_id, None)

    def behind(self, node: NodeId, conn_id: int, principal: str, address: str) -> Origin:
        """Return the origin of a connection that a follower serves (R7: its envelope, from members only)."""
        origin = self.remote.get((node, conn_id))
        if origin is None:
            origin = Origin(node=node, conn_id=conn_id, principal=principal, address=address)
            self.remote[node, conn_id] = origin
        return origin

    def closed_behind(self, node: NodeId, conn_id: int) -> Origin | None:
        """Forget a connection that a follower served."""
        return self.remote.pop((node, conn_id), None)

    def node_lost(self, node: NodeId) -> list[Origin]:
        """Forget all connections behind a follower whose link is gone."""
        keys = [key for key in self.remote if key[0] == node]
        return [self.remote.pop(key) for key in keys]

    # hello

    def hello(self, origin: Origin, requests: tuple[Any, ...], membership: Membership) -> Answer:
        """Answer the first frame of a connection: a HELLO, alone. A refusal has status BAD_REQUEST or worse."""
        request = requests[0]
        try:
            check_request(request)
            if len(requests) != 1 or request[0] != Op.HELLO:
                raise BadField("request", "the first frame of a connection is one HELLO, alone")
        except BadField as error:
            return (0, int(Status.BAD_REQUEST), False, error.field, error.problem)
        _, request_id, version_min, version_max, cluster_id, _, client_name = request
        version = limits.PROTOCOL_VERSION
        if not version_min <= version <= version_max:
            return (request_id, int(Status.UNSUPPORTED_VERSION), False, version, version)
        if cluster_id not in (None, self._cluster_id):
            why = f"{cluster_id} is not this cluster, which is {self._cluster_id}"
            return (request_id, int(Status.BAD_REQUEST), False, "cluster_id", why)
        origin.greeted = True
        origin.client_name = client_name
        nodes = [(m.node_id, m.client_address) for m in membership.members]
        bounds = {
            "frame_size_max": limits.FRAME_SIZE_MAX,
            "frame_messages_max": limits.FRAME_MESSAGES_MAX,
            "requests_max": limits.REQUESTS_PER_CONNECTION_MAX,
            "slots_max": limits.SLOTS_MAX,
        }
        return (
            request_id,
            int(Status.OK),
            True,
            version,
            self._cluster_id,
            self._node_id,
            nodes,
            bounds,
        )

    # sessions on a connection

    def note_opening(
        self, origin: Origin, requests: tuple[Request, ...] | list[Request]
    ) -> list[Answer]:
        """Remember which requests will attach a session when they are answered. Return refusals beyond the bound."""
        refused: list[Answer] = []
        for request in requests:
            if request[0] in OPENING:
                if len(origin.attached) + len(origin.opening) >= limits.SESSIONS_PER_CONNECTION_MAX:
                    most = limits.SESSIONS_PER_CONNECTION_MAX
                    refused.append(
                        (
                            request[1],
                            int(Status.QUOTA_EXCEEDED),
                            False,
                            "sessions_per_connection",
                            most,
                        )
                    )
                else:
                    origin.opening[request[1]] = request[0]
        return refused

    # forwarding (R7)

    def forwarded(self, origin: Origin, sorted_: Sorted) -> None:
        """Note what was sent on to the leader, once."""
        for request in (*sorted_.logged, *sorted_.others):
            origin.outstanding[request[1]] = None
        # A client that closed right after its request waits for nothing.
        if origin.conn_id in self.local:
            self._forwarding[origin.conn_id] = origin

    def result(self, conn_id: int, payload: bytes) -> None:
        """Hand on what the leader answered, less what was answered UNKNOWN meanwhile."""
        origin = self.local.get(conn_id)
        if origin is None:
            return
        answers: list[Answer] = []
        for message in unpack(payload, array_count_max=1 << 20)[1:]:
            if message[0] == 0:
                self._outbox.event(origin, message)
            elif message[0] in origin.outstanding:
                del origin.outstanding[message[0]]
                answers.append(message)
        if answers:
            self._outbox.answers(origin, answers)
        if not origin.outstanding:
            self._forwarding.pop(conn_id, None)

    def leader_lost(self) -> None:
        """Answer UNKNOWN for all that was sent on, and tell every attached client that its routes are gone (R6, R7)."""
        for origin in self._forwarding.values():
            answers = [unknown(request_id) for request_id in origin.outstanding]
            origin.outstanding.clear()
            self._outbox.answers(origin, answers)
        self._forwarding.clear()
        for origin in self.local.values():
            if origin.attached:
                self._outbox.event(origin, (0, int(Event.ROUTES_LOST)))


def refused_hello(answer: Answer) -> tuple[str, str]:
    """Return why a hello was refused: the reason that is counted, and the same in words."""
    if answer[1] == Status.UNSUPPORTED_VERSION:
        _, _, _, version_min, version_max = answer
        spoken = (
            f"{version_min}" if version_min == version_max else f"{version_min} to {version_max}"
        )
        return "version", f"the hello was refused: this node speaks version {spoken}"
    _, _, _, field, problem = answer
    reason = "cluster_id" if field == "cluster_id" else "hello"
    return reason, f"the hello was refused: {field}: {problem}"


def goodbye(code: str, text: str) -> bytes:
    """Return the payload that says why the server closes a connection."""
    return pack([0, (0, int(Event.GOODBYE), code, text)])
