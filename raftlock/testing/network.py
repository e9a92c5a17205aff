"""The simulated network: what carries payloads between members, and between clients and nodes.

Between members it is worse than TCP: it may lose, double and reorder single messages, and cut one way only. A client's
connection keeps its order, as TCP does, and may be cut at any moment.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from raftlock.testing.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFaults:
    """How bad the network is. Probabilities are per message."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay_min_us: int = 50
    delay_max_us: int = 500
    tail: float = 0.005


class Network:
    """Delivers messages between numbered hosts: nodes are positive, clients negative."""

    def __init__(self, world: World, faults: NetworkFaults) -> None:
        self._world = world
        self.faults = faults
        self._cut: set[tuple[int, int]] = set()
        self._last_arrival: dict[tuple[int, int], int] = {}
        self.sent = 0
        self.dropped = 0

    def cut(self, sources: Iterable[int], targets: Iterable[int], *, both_ways: bool) -> None:
        """Drop everything from the sources to the targets, and the other way."""
        targets = list(targets)
        for source in sources:
            for target in targets:
                self._cut.add((source, target))
                if both_ways:
                    self._cut.add((target, source))

    def heal(self) -> None:
        """Let everything through again."""
        self._cut.clear()

    def connected(self, source: int, target: int) -> bool:
        """Return whether a message from source to target gets through."""
        return (source, target) not in self._cut

    def datagram(self, source: int, target: int, deliver: Callable[[], None]) -> None:
        """Send a message that may be lost, doubled and overtaken."""
        world, faults = self._world, self.faults
        self.sent += 1
        if world.chance(faults.loss):
            self.dropped += 1
            return
        copies = 2 if world.chance(faults.duplicate) else 1
        for _ in range(copies):
            self._arrive(source, target, world.now_us + self._delay_us(), deliver)

    def stream(self, source: int, target: int, deliver: Callable[[], None]) -> None:
        """Send a part of a stream: it arrives after what was sent before it, or never."""
        self.sent += 1
        arrival = self._world.now_us + self._delay_us()
        arrival = max(arrival, self._last_arrival.get((source, target), 0) + 1)
        self._last_arrival[source, target] = arrival
        self._arrive(source, target, arrival, deliver)

    def _delay_us(self) -> int:
        faults = self.faults
        return self._world.delay_us(faults.delay_min_us, faults.delay_max_us, faults.tail)

    def _arrive(self, source: int, target: int, time_us: int, deliver: Callable[[], None]) -> None:
        def arrive() -> None:
            if (source, target) in self._cut:
                self.dropped += 1
            else:
                deliver()

        self._world.at(time_us, arrive)
