"""A lock as its holder sees it: the token, and the deadline that the holder counts with (guarantee 10)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto


def margin_us(ttl_us: int) -> int:
    """Return what a client takes off a ttl: clocks may differ in rate by 1 %, and 5 ms (guarantee 10)."""
    return ttl_us // 100 + 5_000


class HandleState(Enum):
    """What a handle is."""

    HELD = auto()
    RELEASED = auto()
    LOST = auto()


@dataclass(slots=True, eq=False)
class Handle:
    """One grant that this client holds. Times are microseconds of the client's own clock."""

    resource: str
    token: int
    owner: str
    ttl_us: int
    """Of its own lease; 0: it lives with the session, whose deadline is its own."""
    session: int
    rev: int
    own_deadline_us: int
    """For a lease of its own; for a lock cut out of its session, the deadline that it had, for good (L9)."""
    renews: bool = True
    """False for a lock that is left to its ttl."""
    state: HandleState = HandleState.HELD
    why_lost: str = ""
    release_owed: bool = False
    """Lost by the client's own count only: the server may still keep it, until it is released or runs out."""
    known_ttl_us: int = 0
    """Its lease's ttl as the server said it last."""
    changes: list[int] = field(default_factory=list)
    """The ttls of changes that are not answered: the shortest of all counts (L8)."""
    frozen: bool = False
    """ENDING: the deadline moves no more."""
    next_renew_us: int = 0
    renew_id: int = 0
    on_lost: Callable[["Handle"], None] | None = None

    def __post_init__(self) -> None:
        self.known_ttl_us = self.ttl_us

    def count_ttl(self) -> None:
        """Count with the shortest ttl that the lease may have."""
        self.ttl_us = min([self.known_ttl_us, *self.changes])

    @property
    def in_session(self) -> bool:
        """Return whether the lock has no lease of its own."""
        return self.ttl_us == 0
