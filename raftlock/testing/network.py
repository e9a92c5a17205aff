"""The simulated network: what carries payloads between members, and between clients and nodes.

Between members it is worse than TCP: it may lose, double, reorder and keep back single messages, also beyond a restart,
and cut one way only. A client's connection keeps its order, as TCP does, and may break at any moment, in mid-frame too.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from raftlock.testing.world import World

DELAY_MAX_US = 3_000_000
ECHO_MAX_US = 5_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFaults:
    """How bad the network is. Probabilities are per message."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay_min_us: int = 50
    delay_max_us: int = 500
    tail: float = 0.005
    """Of a delay out of a heavy tail: ten times the longest usual one and more, up to seconds."""
    echo: float = 0.0
    """Of a second copy that comes up to seconds later, whoever was restarted in between."""
    torn: float = 0.0
    """Of a connection that breaks in the middle of this frame."""


class Network:
    """Delivers messages between numbered hosts: nodes are positive, clients negative."""

    def __init__(self, world: World, faults: NetworkFaults) -> None:
        self._world = world
        self._rng = world.stream("network")
        self.faults = faults
        self._cut: set[tuple[int, int]] = set()
        self._clogged: dict[tuple[int, int], list[Callable[[], None]]] = {}
        self.slow_us: dict[int, int] = {}
        """Host to what each message from or to it takes longer."""
        self._last_arrival: dict[tuple[int, int], int] = {}
        self.sent = 0
        self.dropped = 0

    # faults

    def cut(self, sources: Iterable[int], targets: Iterable[int], *, both_ways: bool) -> None:
        """Drop everything from the sources to the targets, and the other way."""
        targets = list(targets)
        for source in sources:
            for target in targets:
                if source != target:
                    self._cut.add((source, target))
                    if both_ways:
                        self._cut.add((target, source))

    def clog(self, source: int, target: int) -> None:
        """Keep back everything on one way, until it is unclogged and comes all at once."""
        self._clogged.setdefault((source, target), [])

    def unclog(self, source: int, target: int) -> None:
        """Let what was kept back arrive, in its order."""
        for deliver in self._clogged.pop((source, target), ()):
            self._world.after(self._rng.randint(1, 50), deliver)

    def heal(self) -> None:
        """Let everything through again."""
        self._cut.clear()
        self.slow_us.clear()
        for source, target in list(self._clogged):
            self.unclog(source, target)

    def connected(self, source: int, target: int) -> bool:
        """Return whether a message from source to target gets through."""
        return (source, target) not in self._cut

    def tears(self) -> bool:
        """Return whether a connection breaks in the middle of the frame that is being sent."""
        torn = self.faults.torn
        return torn > 0 and self._rng.random() < torn

    # messages

    def datagram(self, source: int, target: int, deliver: Callable[[], None]) -> None:
        """Send a message that may be lost, doubled and overtaken."""
        world, faults, rng = self._world, self.faults, self._rng
        self.sent += 1
        if faults.loss and rng.random() < faults.loss:
            self.dropped += 1
            return
        self._arrive(source, target, world.now_us + self._delay_us(source, target), deliver)
        if faults.duplicate and rng.random() < faults.duplicate:
            self._arrive(source, target, world.now_us + self._delay_us(source, target), deliver)
        if faults.echo and rng.random() < faults.echo:
            late_us = world.now_us + rng.randint(50_000, ECHO_MAX_US)
            self._arrive(source, target, late_us, deliver)

    def stream(self, source: int, target: int, deliver: Callable[[], None]) -> None:
        """Send a part of a stream: it arrives after what was sent before it, or never."""
        self.sent += 1
        arrival = self._world.now_us + self._delay_us(source, target)
        arrival = max(arrival, self._last_arrival.get((source, target), 0) + 1)
        self._last_arrival[source, target] = arrival
        self._arrive(source, target, arrival, deliver)

    def delay_us(self, low_us: int, high_us: int) -> int:
        """Draw a delay of something else that the network tells: a closed socket, say."""
        return self._rng.randint(low_us, high_us)

    def _delay_us(self, source: int, target: int) -> int:
        faults, rng = self.faults, self._rng
        low, high = faults.delay_min_us, faults.delay_max_us
        delay = low + int((high - low) * rng.random())
        if faults.tail and rng.random() < faults.tail:
            delay = min(DELAY_MAX_US, int(10 * high * rng.paretovariate(1.2)))
        if self.slow_us:
            delay += self.slow_us.get(source, 0) + self.slow_us.get(target, 0)
        return delay

    def _arrive(self, source: int, target: int, time_us: int, deliver: Callable[[], None]) -> None:
        pair = (source, target)

        def arrive() -> None:
            if pair in self._cut:
                self.dropped += 1
            elif pair in self._clogged:
                self._clogged[pair].append(deliver)
            else:
                deliver()

        self._world.at(time_us, arrive)
