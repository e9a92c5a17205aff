"""The worlds by name, each with the bounds within which its search is exhaustive."""

from collections.abc import Callable

from raftlock.testing.explore.lease_client import Act
from raftlock.testing.explore.lease_state import LeaseBounds
from raftlock.testing.explore.lease_world import LeaseWorld
from raftlock.testing.explore.raft_world import RaftBounds, RaftWorld, entry, members
from raftlock.testing.explore.search import World
from raftlock_wire.entry import HardState
from raftlock_wire.ids import NodeId, Term

STEP_US = 40_000
"""Of worlds with leases of 100 ms: a lease that is not renewed is over at its holder after two steps, at the leader
after three."""
SESSION_STEP_US = 400_000
"""Of worlds with sessions of 1 s, likewise."""

_OWN = Act("acquire", "r", 100)
_WAIT = Act("acquire", "r", 100, 60_000)
_IN_SESSION = Act("acquire", "r")
_WAIT_IN_SESSION = Act("acquire", "r", 0, 60_000)
_RELEASE = Act("release")
_GIVE_UP = Act("give_up")
_END_SOFTLY = Act("end_softly", "r")


def _vote(term: int, voted_for: int = 0) -> HardState:
    return HardState(Term(term), NodeId(voted_for))


def _uncommitted(name: str, bounds: RaftBounds) -> RaftWorld:
    """Figure 8: two members each have an entry that was never committed, of terms one after the other."""
    nodes = [
        (_vote(2, 3), (entry(1, 1, b"one"),)),
        (_vote(2, 3), ()),
        (_vote(2, 3), (entry(1, 2, b"two"),)),
    ]
    return RaftWorld(name, nodes=nodes, first=members(1, 2, 3), bounds=bounds, led=True)


def _fresh(name: str, bounds: RaftBounds) -> RaftWorld:
    """Three members that are alike, without any log."""
    return RaftWorld(name, nodes=[(_vote(0), ())] * 3, first=members(1, 2, 3), bounds=bounds)


def _membership(name: str, bounds: RaftBounds) -> RaftWorld:
    """A fourth member joins, and one leaves, in either order, asked of any leader."""
    nodes = [(_vote(1), (entry(1, 1),))] * 3 + [(_vote(0), ())]
    changes = [members(1, 2, 3, 4), members(1, 2)]
    return RaftWorld(
        name,
        nodes=nodes,
        first=members(1, 2, 3),
        bounds=bounds,
        changes=changes,
        symmetric=False,
        campaigners=(0, 1),
        led=True,
    )


def _shrinking(name: str, bounds: RaftBounds) -> RaftWorld:
    """Three members become two, and one."""
    return RaftWorld(
        name,
        nodes=[(_vote(1), (entry(1, 1),))] * 3,
        first=members(1, 2, 3),
        bounds=bounds,
        changes=[members(1, 2), members(1)],
        symmetric=False,
        led=True,
    )


def _leases(name: str, scripts: list[list[Act]], bounds: LeaseBounds) -> LeaseWorld:
    return LeaseWorld(name, scripts=scripts, bounds=bounds)


WORLDS: dict[str, Callable[[str], World]] = {
    "lease": lambda name: _leases(
        name, [[_OWN], [_WAIT]], LeaseBounds(step_us=STEP_US, steps=4, slow=1)
    ),
    "lease-failover": lambda name: _leases(
        name, [[_OWN]], LeaseBounds(step_us=STEP_US, steps=3, elections=1, moves=1)
    ),
    "lease-failover-two": lambda name: _leases(
        name, [[_OWN], [_WAIT]], LeaseBounds(step_us=STEP_US, steps=4, elections=1, moves=2)
    ),
    "cancel": lambda name: _leases(
        name, [[_OWN, _GIVE_UP], [_WAIT]], LeaseBounds(step_us=STEP_US, steps=2, moves=1)
    ),
    "cancel-failover": lambda name: _leases(
        name, [[_OWN, _GIVE_UP]], LeaseBounds(step_us=STEP_US, steps=2, elections=1, moves=1)
    ),
    "offer": lambda name: _leases(
        name, [[_OWN, _RELEASE], [_WAIT]], LeaseBounds(step_us=STEP_US, steps=5, slow=1)
    ),
    "offer-late": lambda name: _leases(
        name, [[_OWN, _RELEASE], [_WAIT]], LeaseBounds(step_us=60_000, steps=3, slow=2)
    ),
    "offer-failover": lambda name: _leases(
        name,
        [[_OWN, _RELEASE], [_WAIT]],
        LeaseBounds(step_us=STEP_US, steps=4, elections=1, moves=1),
    ),
    "cut": lambda name: _leases(
        name,
        [[_IN_SESSION], [_END_SOFTLY, _WAIT_IN_SESSION]],
        LeaseBounds(step_us=SESSION_STEP_US, steps=3, session_ttl_ms=1_000),
    ),
    "cut-failover": lambda name: _leases(
        name,
        [[_IN_SESSION], [_END_SOFTLY, _WAIT_IN_SESSION]],
        LeaseBounds(step_us=SESSION_STEP_US, steps=3, elections=1, moves=1, session_ttl_ms=1_000),
    ),
    "election": lambda name: _fresh(name, RaftBounds(timeouts=2)),
    "election-uncommitted": lambda name: _uncommitted(name, RaftBounds(timeouts=1)),
    "election-crash": lambda name: _fresh(name, RaftBounds(timeouts=2, crashes=1, slow_disks=True)),
    "membership": lambda name: _membership(name, RaftBounds(timeouts=1, changes=2)),
    "membership-shrinks": lambda name: _shrinking(name, RaftBounds(timeouts=1, changes=2)),
}


def world(name: str) -> World:
    """Return a world by its name. Raise KeyError for one that does not exist."""
    return WORLDS[name](name)
