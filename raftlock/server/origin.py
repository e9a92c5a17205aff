"""Where requests come from, and so where their answers go: a connection of this node, or one behind a follower."""

from raftlock_wire.codec import pack
from raftlock_wire.ids import NO_NODE, NodeId


class Origin:
    """One client connection, as the node sees it that answers for it.

    A connection that a follower serves has an Origin there, and another at the leader with the follower's `node`.
    """

    __slots__ = (
        "address",
        "attached",
        "client_name",
        "conn_id",
        "envelope",
        "greeted",
        "in_flight",
        "node",
        "opening",
        "outstanding",
        "principal",
        "waiting_size",
    )

    def __init__(self, *, node: NodeId, conn_id: int, principal: str, address: str) -> None:
        self.node = node
        """The follower that serves the connection; NO_NODE: it is our own."""
        self.conn_id = conn_id
        self.principal = principal
        self.address = address
        self.envelope = pack(principal) + pack(address)
        """The first two elements of this connection's groups in a batch."""
        self.client_name = ""
        self.greeted = False
        """Whether the hello was answered."""
        self.attached: set[int] = set()
        """Sessions that this connection may name (R6: memory of the node that serves the connection)."""
        self.opening: dict[int, int] = {}
        """Requests of open_session and attach that are not answered yet: request id to code."""
        self.outstanding: dict[int, None] = {}
        """Forwarded requests without an answer (R7): the ids, in order."""
        self.in_flight = 0
        """Requests without an answer."""
        self.waiting_size = 0
        """Bytes of frames that came and are not looked at yet."""

    @property
    def local(self) -> bool:
        """Return whether the connection is one of this node."""
        return self.node == NO_NODE
