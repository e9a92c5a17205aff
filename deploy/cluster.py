"""Three nodes in containers on a network of their own.

It owns the names of all that it makes, and removes all of it. It must not know what is tested.
"""

import json
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from deploy.engine import Engine, EngineError

NODES = (1, 2, 3)
CLIENT_PORT, PEER_PORT, HTTP_PORT = 7401, 7411, 7421
HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
"""A node needs no privilege and writes to its data directory alone."""


class Cluster:
    """Containers, volumes and a network that begin with one name."""

    def __init__(
        self,
        engine: Engine,
        image: str,
        name: str,
        *,
        published: Sequence[int] = (),
        published_http: Sequence[int] = (),
    ) -> None:
        """`published`: ports of this machine, one a node, for clients outside the network; `published_http`: for HTTP."""
        self.engine = engine
        self.network = name
        self._image = image
        self._published = dict(zip(NODES, published, strict=True)) if published else {}
        self._published_http = (
            dict(zip(NODES, published_http, strict=True)) if published_http else {}
        )

    def container(self, node_id: int) -> str:
        """Return a node's container, which is its name in the network too."""
        return f"{self.network}-n{node_id}"

    @property
    def endpoints(self) -> str:
        """Return the client addresses, as clients are told them."""
        return ",".join(self._client_address(node_id) for node_id in NODES)

    def url(self, node_id: int) -> str:
        """Return where this machine reaches a node's HTTP."""
        return f"http://127.0.0.1:{self._published_http[node_id]}"

    def _client_address(self, node_id: int) -> str:
        if self._published:
            return f"127.0.0.1:{self._published[node_id]}"
        return f"{self.container(node_id)}:{CLIENT_PORT}"

    def reachable(self) -> str:
        """Return the client addresses of the nodes that have one now, by number.

        The name servers of some engines fail for a minute when a network changes. Nodes live with that, and so does a
        client that knew an address; a new process that is only told names does not.
        """
        form = f'{{{{(index .NetworkSettings.Networks "{self.network}").IPAddress}}}}'
        found = []
        for node_id in NODES:
            done = self.engine.call("inspect", f"--format={form}", self.container(node_id), check=False)  # fmt: skip
            address = done.stdout.strip()
            if done.returncode == 0 and address[:1].isdigit():
                found.append(f"{address}:{CLIENT_PORT}")
        return ",".join(found)

    def start(self) -> None:
        """Make everything, and make the nodes one cluster."""
        self.engine.call("network", "create", self.network)
        for node_id in NODES:
            self.engine.call("volume", "create", self._volume(node_id))
            self._start_node(node_id)
        nodes = ",".join(f"{i}={self.container(i)}:{PEER_PORT}" for i in NODES)
        self.engine.call(
            "run", "--rm", f"--network={self.network}", self._image,
            "bootstrap", "--wait=30", f"--nodes={nodes}",
        )  # fmt: skip

    def _start_node(self, node_id: int) -> None:
        address = self._client_address(node_id)
        port = address.rpartition(":")[2]
        publish = [f"--publish=127.0.0.1:{port}:{port}"] if self._published else []
        if self._published_http:
            publish.append(f"--publish=127.0.0.1:{self._published_http[node_id]}:{HTTP_PORT}")
        self.engine.call(
            "run", "--detach", *HARDENED, *publish,
            f"--name={self.container(node_id)}",
            f"--network={self.network}",
            f"--volume={self._volume(node_id)}:/var/lib/raftlock",
            f"--env=RAFTLOCK_NODE_ID={node_id}",
            f"--env=RAFTLOCK_CLIENT_ADDRESS={address}",
            f"--env=RAFTLOCK_PEER_ADDRESS={self.container(node_id)}:{PEER_PORT}",
            self._image,
        )  # fmt: skip

    def _volume(self, node_id: int) -> str:
        return f"{self.network}-data{node_id}"

    # what the nodes say

    def is_healthy(self, node_id: int) -> bool:
        """Run a node's health check by hand: not every engine runs it by itself."""
        done = self.engine.call("exec", self.container(node_id), "raftlock", "healthcheck", check=False)  # fmt: skip
        return done.returncode == 0

    def wait_healthy(self, nodes: Sequence[int] = NODES, *, within_s: float = 90) -> None:
        """Wait until nodes are healthy."""
        for node_id in nodes:
            wait_for(
                lambda node_id=node_id: self.is_healthy(node_id),  # type: ignore[misc]
                f"node {node_id} is healthy",
                within_s,
            )

    def logs(self) -> str:
        """Return the end of what the nodes logged."""
        parts = []
        for node_id in NODES:
            done = self.engine.call("logs", "--tail=30", self.container(node_id), check=False)
            parts.append(f"--- node {node_id}\n{done.stdout}{done.stderr}")
        return "\n".join(parts)

    # the end

    def stop(self) -> None:
        """End the nodes in order: each hands over and closes its log."""
        for node_id in NODES:
            self.engine.call("stop", self.container(node_id))

    def remove(self) -> None:
        """Remove all containers, volumes and the network, whatever state they are in."""
        containers = [self.container(node_id) for node_id in NODES]
        for container in [f"{self.network}-client", *containers]:
            self._try("rm", "--force", "--volumes", container)
        for node_id in NODES:
            self._try("volume", "rm", "--force", self._volume(node_id))
        self._try("network", "rm", self.network)

    def _try(self, *arguments: str) -> None:
        """Remove something that may not exist: the next one is to be removed all the same."""
        try:
            self.engine.call(*arguments, check=False, timeout_s=30)
        except EngineError as error:
            self.leftover = f"{error}"

    leftover: str = ""
    """Why something could not be removed."""


def wait_for(condition: Callable[[], bool], what: str, within_s: float = 90) -> float:
    """Wait until a condition holds and return the seconds it took. Raise EngineError if it does not come."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > within_s:
            raise EngineError(f"not within {within_s:g} s: {what}")
        time.sleep(0.2)
    return time.monotonic() - began


def free_ports(count: int) -> list[int]:
    """Return ports of this machine's loopback that were free a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(sock.getsockname()[1]) for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def last_json(text: str) -> Any:
    """Return the JSON of the last line."""
    return json.loads(text.strip().splitlines()[-1])
