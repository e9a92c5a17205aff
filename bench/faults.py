"""What befalls a node: kill -9, SIGSTOP, a cut network. Each can be undone."""

import os
import signal
from typing import Protocol

from bench.namespaces import Network
from bench.peers.base import Running

NAMES = ("kill", "stop", "cut")


class Fault(Protocol):
    """One kind of harm."""

    name: str
    text: str
    """For the reader of a table or picture."""

    def strike(self, running: Running, number: int) -> None:
        """Do it to a node, at once."""

    def heal(self, running: Running, number: int) -> None:
        """Undo it."""


class Kill:
    """The process is gone; the kernel closes its sockets."""

    name = "kill"
    text = "kill -9"

    def strike(self, running: Running, number: int) -> None:
        """See Fault."""
        os.kill(running.servers.pid(number), signal.SIGKILL)

    def heal(self, running: Running, number: int) -> None:
        """See Fault."""
        running.servers.restart(number)


class Stop:
    """The process stands still; its sockets stay open and take bytes in."""

    name = "stop"
    text = "SIGSTOP"

    def strike(self, running: Running, number: int) -> None:
        """See Fault."""
        os.kill(running.servers.pid(number), signal.SIGSTOP)

    def heal(self, running: Running, number: int) -> None:
        """See Fault."""
        os.kill(running.servers.pid(number), signal.SIGCONT)


class Cut:
    """The node runs, and nobody hears it, nor it anybody. Nothing is closed."""

    name = "cut"
    text = "a cut network"

    def __init__(self, network: Network) -> None:
        self._network = network

    def strike(self, running: Running, number: int) -> None:  # noqa: ARG002 - the network alone
        """See Fault."""
        self._network.cut(number)

    def heal(self, running: Running, number: int) -> None:  # noqa: ARG002 - the network alone
        """See Fault."""
        self._network.join(number)
