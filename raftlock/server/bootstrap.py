"""The one command that makes a cluster of formatted, empty nodes (decision 13).

It asks each listed node who it is, makes the first membership and the cluster id of the answers, and tells each node.
Repeated with the same list it finishes what was half done; another list is refused while a listed node has a cluster.
"""

import socket
import time
from collections.abc import Mapping

from raftlock.server import handshake
from raftlock.transport.frames import frame
from raftlock_wire.errors import BadFrame
from raftlock_wire.ids import NodeId
from raftlock_wire.limits import LOGGED_RENEWAL_TTL_MS_DEFAULT
from raftlock_wire.membership import Member, cluster_id_of, membership

ANSWER_TIMEOUT_S = 5.0
RETRY_S = 0.05


class BootstrapError(Exception):
    """A node could not be asked, or refused."""


def bootstrap(
    nodes: Mapping[int, str],
    *,
    wait_s: float = 10.0,
    logged_renewal_ttl_ms: int = LOGGED_RENEWAL_TTL_MS_DEFAULT,
) -> str:
    """Make the nodes (id to peer address) one cluster and return its id. Nodes that are not up are waited for."""
    until = time.monotonic() + wait_s
    told = [_tell(node_id, address, until) for node_id, address in sorted(nodes.items())]
    first = membership(
        Member(t.node_id, t.incarnation, nodes[t.node_id], t.client_address) for t in told
    )
    cluster_id = cluster_id_of(first)
    for t in told:
        if t.cluster_id not in ("", cluster_id):
            raise BootstrapError(
                f"node {t.node_id} is of cluster {t.cluster_id}, which these nodes do not make: "
                f"list the nodes of that cluster, or replace the node with an empty one"
            )
    command = handshake.BootstrapSet(cluster_id, first.encode(), logged_renewal_ttl_ms)
    for t in told:
        done = _ask(nodes[t.node_id], command, until)
        if not isinstance(done, handshake.BootstrapDone) or not done.accepted:
            why = (
                done.why
                if isinstance(done, handshake.BootstrapDone)
                else "it did not answer as a node does"
            )
            raise BootstrapError(f"node {t.node_id} at {nodes[t.node_id]} refused: {why}")
    return cluster_id


def ask_node(address: str, *, wait_s: float = 10.0) -> handshake.BootstrapTell:
    """Ask the node with this peer address who it is. Raise ValueError for an address that is none, BootstrapError."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdigit()):
        raise ValueError(f"{address!r} is not HOST:PORT")
    return _told(address, time.monotonic() + wait_s)


def _told(address: str, until: float) -> handshake.BootstrapTell:
    told = _ask(address, None, until)
    if not isinstance(told, handshake.BootstrapTell):
        raise BootstrapError(f"what answers at {address} is not a raftlock node")
    return told


def _tell(node_id: int, address: str, until: float) -> handshake.BootstrapTell:
    told = _told(address, until)
    if told.node_id != node_id:
        raise BootstrapError(f"the node at {address} is {told.node_id}, not {node_id}")
    return told


def _ask(address: str, message: handshake.FirstFrame, until: float) -> handshake.FirstFrame:
    host, _, port = address.rpartition(":")
    while True:
        try:
            with socket.create_connection((host, int(port)), timeout=ANSWER_TIMEOUT_S) as sock:
                sock.sendall(frame(handshake.encode(message)))
                size = int.from_bytes(_read(sock, 4), "big")
                return handshake.decode(_read(sock, min(size, 1 << 20)))
        except OSError as error:
            if time.monotonic() >= until:
                raise BootstrapError(f"no answer from {address}: {error}") from error
            time.sleep(RETRY_S)
        except BadFrame as error:
            raise BootstrapError(
                f"what answers at {address} is not a raftlock node: {error}"
            ) from error


def _read(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise ConnectionResetError("the connection was closed")
        data += part
    return data


def parse_nodes(text: str) -> dict[NodeId, str]:
    """Read ID=HOST:PORT,... Raise ValueError that names the part that is wrong."""
    nodes: dict[NodeId, str] = {}
    for part in text.split(","):
        node_id, equals, address = part.strip().partition("=")
        host, colon, port = address.rpartition(":")
        if not (equals and node_id.isdigit() and colon and host and port.isdigit()):
            raise ValueError(f"{part!r} is not ID=HOST:PORT")
        if NodeId(int(node_id)) in nodes:
            raise ValueError(f"node {node_id} is listed twice")
        nodes[NodeId(int(node_id))] = address
    return nodes
