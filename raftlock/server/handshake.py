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

    [64, version, from, incarnation, to, cluster_id, first, ttl, state_machine_version_max, membership]
    """

    version: int
    from_id: NodeId
    from_incarnation: str
    to_id: NodeId
    cluster_id: str
    first_membership: bytes
    """What the cluster was bootstrapped with: it proves the cluster id, and an empty node that is a member takes it."""
    logged_renewal_ttl_ms: int
    state_machine_version_max: int
    """The highest version of the state machine that the caller's build knows (decision 7)."""
    membership: bytes
    """The members that the caller knows now: who is new to the cluster, or was down meanwhile, knows others."""


class HelloAnswer(NamedTuple):
    """[65, ok, why, incarnation, state_machine_version_max, removed]"""

    accepted: bool
    why: str
    incarnation: str
    state_machine_version_max: int
    removed: bool = False
    """The caller was a member, and was removed: a committed change says so."""


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


REMOVED = "removed"
"""The reason of a refusal that is for good, as far as this incarnation goes."""


class Callee(NamedTuple):
    """The node that is called, as far as it matters for who is let in."""

    node_id: NodeId
    incarnation: str
    cluster_id: str | None
    """None: it is empty, and waits for a cluster."""
    membership: Membership = Membership()
    """The members in force here."""
    committed: Membership = Membership()
    """The last members here that are known to be committed."""


FirstFrame = PeerHello | HelloAnswer | BootstrapTell | BootstrapSet | BootstrapDone | None
_SHAPES: dict[int, tuple[type[Any], tuple[type, ...]]] = {
    HELLO: (PeerHello, (int, int, str, int, str, bytes, int, int, bytes)),
    HELLO_ANSWER: (HelloAnswer, (bool, str, str, int, bool)),
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


def judge_hello(hello: PeerHello, callee: Callee) -> Refusal | None:
    """Return why a node does not take the caller as a member (decision 13); None if it does.

    It lets in whom the members that it knows list with this incarnation. One that is new to the cluster, or was down
    while the members changed, lets in a caller whose members list both of them: the caller knows more. Whom a committed
    change removed is out: what it knows is old.
    """
    if hello.version != PROTOCOL_VERSION:
        return Refusal("version", f"version {hello.version} is not {PROTOCOL_VERSION}")
    if hello.to_id != callee.node_id:
        return Refusal("node", f"this is node {callee.node_id}, not {hello.to_id}")
    try:
        theirs = decode_membership(hello.membership)
    except BadFrame as error:
        return Refusal("membership", str(error))
    if callee.cluster_id is None:
        why = _refuse_as_newcomer(hello, callee, theirs)
        return Refusal("membership", why) if why else None
    if hello.cluster_id != callee.cluster_id:
        return Refusal("cluster_id", f"cluster {hello.cluster_id} is not {callee.cluster_id}")
    caller = f"node {hello.from_id} with incarnation {hello.from_incarnation}"
    if hello.from_incarnation in callee.committed.removed:
        return Refusal(REMOVED, f"{caller} was removed")
    known = callee.membership.lists(hello.from_id, hello.from_incarnation)
    if not known and not _lists_both(theirs, hello, callee):
        return Refusal("not_member", f"{caller} is not a member")
    return None


def _refuse_as_newcomer(hello: PeerHello, callee: Callee, theirs: Membership) -> str:
    """Return why an empty node does not take a cluster from a caller: one of its memberships must list both."""
    try:
        first = decode_membership(hello.first_membership)
    except BadFrame as error:
        return str(error)
    if cluster_id_of(first) != hello.cluster_id:
        return _NOT_THAT_OF
    if _lists_both(theirs, hello, callee) or _lists_both(first, hello, callee):
        return ""
    return _not_in(callee.node_id, callee.incarnation)


def _lists_both(members: Membership, hello: PeerHello, callee: Callee) -> bool:
    return members.lists(hello.from_id, hello.from_incarnation) and members.lists(
        callee.node_id, callee.incarnation
    )


_NOT_THAT_OF = "the cluster id is not that of the membership"


def _not_in(node_id: NodeId, incarnation: str) -> str:
    return f"node {node_id} with incarnation {incarnation} is not in the membership"


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
        return _NOT_THAT_OF
    if not first.lists(node_id, incarnation):
        return _not_in(node_id, incarnation)
    return ""
