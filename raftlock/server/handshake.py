"""The first frames on a peer port: a member's hello, and the bootstrap of an empty node (decision 13).

It owns their bytes and the decision who is a member. It must not know sockets.
"""

from typing import Any, NamedTuple

from raftlock_wire.codec import pack, unpack
from raftlock_wire.errors import BadFrame
from raftlock_wire.ids import NodeId
from raftlock_wire.limits import PROTOCOL_VERSION
from raftlock_wire.membership import Membership, cluster_id_of, decode_membership

HELLO = 64
HELLO_ANSWER = 65
BOOTSTRAP_ASK = 66
BOOTSTRAP_TELL = 67
BOOTSTRAP_SET = 68
BOOTSTRAP_DONE = 69
ARRAY_MAX = 16
"""No first frame is a longer array: what one who is not known yet announces costs next to nothing."""


class PeerHello(NamedTuple):
    """Who calls, whom it wants, of which cluster, and what it knows.

    [64, version, from, incarnation, to, cluster_id, first, ttl, state_machine_version_max]
    """

    version: int
    from_id: NodeId
    from_incarnation: str
    to_id: NodeId
    cluster_id: str
    first_membership: bytes
    """What the cluster was bootstrapped with: an empty node that it lists takes it."""
    logged_renewal_ttl_ms: int
    state_machine_version_max: int
    """The highest version of the state machine that the caller's build knows (decision 7)."""


class HelloAnswer(NamedTuple):
    """[65, ok, why, incarnation, state_machine_version_max]"""

    accepted: bool
    why: str
    incarnation: str
    state_machine_version_max: int


class BootstrapTell(NamedTuple):
    """What a node says of itself: [67, node_id, incarnation, cluster_id | "", peer address, client address]."""

    node_id: NodeId
    incarnation: str
    cluster_id: str
    peer_address: str
    client_address: str


class BootstrapSet(NamedTuple):
    """The command: [68, cluster_id, membership, logged_renewal_ttl_ms]."""

    cluster_id: str
    first_membership: bytes
    logged_renewal_ttl_ms: int


class BootstrapDone(NamedTuple):
    """[69, ok, why]"""

    accepted: bool
    why: str


class Refusal(NamedTuple):
    """Why a caller is not let in: the reason that is counted (telemetry.metrics), and the same in words."""

    reason: str
    why: str


FirstFrame = PeerHello | HelloAnswer | BootstrapTell | BootstrapSet | BootstrapDone | None
_SHAPES: dict[int, tuple[type[Any], tuple[type, ...]]] = {
    HELLO: (PeerHello, (int, int, str, int, str, bytes, int, int)),
    HELLO_ANSWER: (HelloAnswer, (bool, str, str, int)),
    BOOTSTRAP_TELL: (BootstrapTell, (int, str, str, str, str)),
    BOOTSTRAP_SET: (BootstrapSet, (str, bytes, int)),
    BOOTSTRAP_DONE: (BootstrapDone, (bool, str)),
}
_CODES = {shape: code for code, (shape, _) in _SHAPES.items()}


def encode(message: FirstFrame) -> bytes:
    """Return the payload; None asks a node who it is."""
    if message is None:
        return pack([BOOTSTRAP_ASK])
    return pack([_CODES[type(message)], *message])


def decode(payload: bytes) -> FirstFrame:
    """Decode a first frame. Raise BadFrame for anything else."""
    array = unpack(payload, array_count_max=ARRAY_MAX)
    if array == (BOOTSTRAP_ASK,):
        return None
    # A code may be anything that msgpack knows, a map too.
    if type(array) is tuple and array and type(array[0]) is int and array[0] in _SHAPES:
        kind, types = _SHAPES[array[0]]
        if tuple(map(type, array[1:])) == types:
            message: FirstFrame = kind(*array[1:])
            return message
    raise BadFrame("not a first frame of the peer port")


def lists(membership: Membership, node_id: NodeId, incarnation: str) -> bool:
    """Return whether the membership holds this node with this incarnation."""
    member = membership.get(node_id)
    return member is not None and member.incarnation == incarnation


def refuse_hello(
    hello: PeerHello,
    *,
    node_id: NodeId,
    incarnation: str,
    cluster_id: str | None,
    membership: Membership,
) -> Refusal | None:
    """Return why this node does not take the caller as a member; None if it does.

    A node without a cluster (cluster_id None) looks at the membership that the caller brings.
    """
    if hello.version != PROTOCOL_VERSION:
        return Refusal("version", f"version {hello.version} is not {PROTOCOL_VERSION}")
    if hello.to_id != node_id:
        return Refusal("node", f"this is node {node_id}, not {hello.to_id}")
    if cluster_id is None:
        why = refuse_first(
            hello.first_membership,
            hello.cluster_id,
            node_id=node_id,
            incarnation=incarnation,
            cluster_id=None,
        )
        return Refusal("membership", why) if why else None
    if hello.cluster_id != cluster_id:
        return Refusal("cluster_id", f"cluster {hello.cluster_id} is not {cluster_id}")
    if not lists(membership, hello.from_id, hello.from_incarnation):
        caller = f"node {hello.from_id} with incarnation {hello.from_incarnation}"
        return Refusal("not_member", f"{caller} is not a member")
    return None


def refuse_first(
    first_membership: bytes,
    new_cluster_id: str,
    *,
    node_id: NodeId,
    incarnation: str,
    cluster_id: str | None,
) -> str:
    """Return why this node does not take a first membership; empty text if it does."""
    if cluster_id is not None and cluster_id != new_cluster_id:
        return f"this node is of cluster {cluster_id} already"
    try:
        first = decode_membership(first_membership)
    except BadFrame as error:
        return str(error)
    if cluster_id_of(first) != new_cluster_id:
        return "the cluster id is not that of the membership"
    if not lists(first, node_id, incarnation):
        return f"node {node_id} with incarnation {incarnation} is not in the membership"
    return ""
