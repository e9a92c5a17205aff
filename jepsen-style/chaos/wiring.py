"""How the nodes of a run are connected: what a network of any kind offers to nodes and nemesis, and the plain loopback.

`network.py` is the one with namespaces, `proxies.py` the one for machines that forbid them. It must not know faults by
their names, but for those that a wiring cannot do.
"""

import contextlib
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where one node is: what others are told, and where it listens if that is another host."""

    client: str
    peer: str
    http: str
    listen_host: str = ""


class Places(Protocol):
    """Where the nodes of one run are."""

    node_ids: list[int]

    @property
    def left_out(self) -> dict[str, str]:
        """Return the faults that cannot be done there, each with the reason."""

    def prefix(self, node_id: int) -> list[str]:
        """Return what to put before a command so that it runs where the node is."""

    def addresses(self, node_id: int) -> Addresses:
        """Return where a node is."""


class Wiring(Places, Protocol):
    """The network between the nodes of one run, and between them and the clients."""

    def up(self) -> None:
        """Build it."""

    def down(self) -> None:
        """Take it away."""

    def heal(self) -> None:
        """Let everything through at full speed."""

    def drop(self, pairs: Iterable[tuple[int, int]], *, also_clients: Iterable[int] = ()) -> None:
        """Let nothing through from the first to the second of each pair, nor between clients and some nodes."""

    def lose(self, node_ids: Iterable[int], percent: int) -> None:
        """Lose some of the packets that arrive at these nodes."""

    def slow(self, node_id: int, kilobits: int) -> None:
        """Let a node send no faster than this."""

    def delay(self, pairs: Iterable[tuple[int, int]], low_ms: int, high_ms: int) -> None:
        """Let what goes from the first to the second of each pair take longer, each time otherwise."""

    def reset(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Reset each connection of these pairs as it is used, and refuse new ones."""

    def lose_tails(self, node_ids: Iterable[int]) -> None:
        """End all connections of these nodes without what was under way on them."""


def free_ports(count: int, hosts: Iterable[str] = ("127.0.0.1",)) -> list[int]:
    """Return ports that the kernel says are free on all of these hosts."""
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            with contextlib.suppress(OSError):
                for host in hosts:
                    if host != "127.0.0.1":
                        stack.enter_context(socket.socket()).bind((host, port))
                found.append(port)
        return found


class Loopback:
    """Nodes side by side on the loopback device, and nothing between them."""

    def __init__(self, node_ids: Iterable[int]) -> None:
        self.node_ids = list(node_ids)
        ports = iter(free_ports(3 * len(self.node_ids)))
        self._addresses = {
            node_id: Addresses(
                client=f"127.0.0.1:{next(ports)}",
                peer=f"127.0.0.1:{next(ports)}",
                http=f"127.0.0.1:{next(ports)}",
            )
            for node_id in self.node_ids
        }

    @property
    def left_out(self) -> dict[str, str]:
        """See Places."""
        return {"disk full": "plain folders have no size of their own"}

    def prefix(self, node_id: int) -> list[str]:
        """See Places."""
        del node_id
        return []

    def addresses(self, node_id: int) -> Addresses:
        """See Places."""
        return self._addresses[node_id]
