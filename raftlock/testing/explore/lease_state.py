"""What a state of a world of leases is made of, and the bounds of such a world."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseBounds:
    """How much of everything that could go on for ever."""

    step_us: int
    steps: int
    """Steps of time."""
    elections: int = 0
    moves: int = 0
    """Connections that break."""
    slow: int = 0
    """Steps of time that pass although a frame, an agreement or a timer could still come in the step before."""
    session_ttl_ms: int = 60_000

    def words(self) -> str:
        """Return the bounds as text."""
        return (
            f"{self.steps} steps of {self.step_us // 1_000} ms, {self.elections} failovers, "
            f"{self.moves} broken connections, {self.slow} steps with something under way"
        )


class Line(NamedTuple):
    """A client and its connection. `up` and `down` are frames under way, in order."""

    part: int
    node: int
    conn: int
    up: tuple[bytes, ...]
    down: tuple[bytes, ...]
    done: int
    """Acts of its script that are done."""


class LeaseState(NamedTuple):
    """One state of the world."""

    now_us: int
    term: int
    leader: int
    """Position of the node elected last."""
    nodes: tuple[int, ...]
    agreed: tuple[tuple[int, int], ...]
    """Of each node: the index and round that a majority has answered in its term, whether it has heard or not."""
    stable: int
    """The highest index that a majority ever agreed on: no later leader is without it."""
    lines: tuple[Line, ...]
    late: tuple[tuple[int, int, tuple[bytes, ...]], ...]
    """Node, connection and frames that are under way on connections that broke."""
    elections: int
    moves: int
    slow: int
    conns: int
    tokens: tuple[tuple[str, int], ...]
    """The largest token that anyone believed in, by resource."""
