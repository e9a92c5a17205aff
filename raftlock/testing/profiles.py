"""What a profile is: which faults strike and how often, how many clients there are, and how small the bounds.

It owns what the seed draws before a run begins. It must not know how a fault is carried out.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

FAULTS_US = 25_000_000
"""Faults strike in the first 25 simulated seconds; then the run must come to rest."""
RATE_SPREAD = 0.005
"""Clocks differ by up to 1 % in rate (guarantee 10)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong. The three draws, each from 0 up to 1, say on whom, how much, and which way."""

    at_us: int
    kind: str
    pick: float
    amount: float
    way: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Kinds of faults with their weights, and the ranges that a seed draws from."""

    weights: Mapping[str, int]
    gap_us: tuple[int, int] = (150_000, 2_000_000)
    clients: tuple[int, int] = (8, 16)
    extreme_clocks: bool = False
    spares: int = 0
    mixed: float = 0.0
    """The share of seeds in which nodes of two builds run, and are upgraded one by one."""
    busy: bool = False
    """Clients ask several times as often, and the bounds on what is open are small enough to be met."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What one seed of a profile begins with."""

    nodes: int
    spares: int
    node_rates: tuple[float, ...]
    client_rates: tuple[float, ...]
    logged_renewal_ttl_ms: int
    segment_size: int
    snapshot_log_size: int
    compact_keep_size: int
    resources: int
    busy: bool
    bounds_small: bool
    next_build: tuple[bool, ...]
    """For each node whether it starts with the next release's build; empty: all have this one's, for the whole run."""
    faults: tuple[Fault, ...]


PROCESSES = {
    "crash": 3, "crash_leader": 3, "kill": 2, "crash_all": 1, "crash_in_disk": 3, "crash_in_turn": 3, "pause": 2,
    "pause_leader": 2, "transfer": 2, "snapshot": 2,
    "diverge": 3, "in_transfer": 2,
}  # fmt: skip
CLIENTS = {"client_dies": 2, "client_pauses": 3}
NETWORK = {
    "cut": 3, "cut_leader": 3, "abandon_leader": 4, "bridge": 2, "ring": 2, "clog": 3, "slow_peer": 2, "slow_client": 2,
    "lossy": 4, "diverge": 3,
}  # fmt: skip
DISK = {
    "crash": 2, "crash_all": 2, "crash_in_disk": 6, "crash_in_turn": 2, "kill": 2, "sync_fails": 4, "disk_full": 3,
    "slow_disk": 4, "rot": 2, "empty": 1, "snapshot": 3, "crash_in_start": 3,
    "diverge": 3, "in_transfer": 2,
}  # fmt: skip
CLOCK = {
    "sleep": 4, "sleep_leader": 4, "wall_jump": 4, "pause": 2, "pause_leader": 4, "stall_leader": 4, "crash_leader": 3,
    "abandon_leader": 3, "client_pauses": 4, "transfer": 2,
}  # fmt: skip
MEMBERSHIP = {
    "add_learner": 5, "promote": 5, "remove": 3, "remove_leader": 2, "replace": 2, "empty": 1, "snapshot": 3,
    "crash": 2, "crash_leader": 2, "cut": 2, "cut_leader": 2, "abandon_leader": 2, "transfer": 2, "kill": 1,
    "lonely_change": 4, "diverge": 2, "in_transfer": 3,
}  # fmt: skip
OVERLOAD = {
    "crash_leader": 2, "kill": 2, "slow_disk": 4, "disk_full": 3, "stall_leader": 3, "pause_leader": 2, "quota": 3,
    "client_dies": 4, "client_pauses": 3, "abandon_leader": 2, "lossy": 2, "snapshot": 2,
}  # fmt: skip


def _together(*weights: Mapping[str, int]) -> dict[str, int]:
    """Return all kinds, each with the largest weight that it has anywhere."""
    found: dict[str, int] = {}
    for some in weights:
        for kind, weight in some.items():
            found[kind] = max(weight, found.get(kind, 0))
    return found


PROFILES: dict[str, Profile] = {
    "default": Profile(
        weights={
            **PROCESSES, **CLIENTS, "cut": 2, "cut_leader": 2, "abandon_leader": 3, "lossy": 2, "slow_disk": 1,
        },
    ),
    "network": Profile(weights=_together(NETWORK, CLIENTS, {"crash_leader": 1, "transfer": 1})),
    "disk": Profile(weights=_together(DISK, CLIENTS, {"cut_leader": 1, "abandon_leader": 1})),
    "clock": Profile(weights=CLOCK, extreme_clocks=True),
    "membership": Profile(weights=_together(MEMBERSHIP, CLIENTS), spares=2),
    "overload": Profile(weights=OVERLOAD, clients=(16, 32), busy=True),
    "everything": Profile(
        weights=_together(PROCESSES, CLIENTS, NETWORK, DISK, CLOCK, MEMBERSHIP, OVERLOAD), spares=2, extreme_clocks=True,
        mixed=0.25,
    ),
    "versions": Profile(
        weights=_together(PROCESSES, CLIENTS, {"cut": 2, "cut_leader": 2, "abandon_leader": 2, "add_learner": 2, "lossy": 1}),
        spares=1,
        mixed=1.0,
    ),
}  # fmt: skip
VERSIONS = ("upgrade", "downgrade", "in_switch", "new_command")
"""Faults of a run with nodes of two builds; they come beside those of its profile."""


def draw(name: str, rng: random.Random) -> Setup:
    """Draw what one run begins with, its schedule of faults too."""
    profile = PROFILES[name]
    nodes = rng.choice([3, 3, 3, 5])
    spares = profile.spares if nodes == 3 else min(profile.spares, 1)
    clients = rng.randint(*profile.clients)
    spread = RATE_SPREAD

    def rate() -> float:
        if profile.extreme_clocks:
            return 1 + rng.choice([-spread, spread, 0.0])
        return 1 + rng.uniform(-spread, spread)

    setup = Setup(
        nodes=nodes,
        spares=spares,
        node_rates=tuple(rate() for _ in range(nodes + spares)),
        client_rates=tuple(rate() for _ in range(clients)),
        logged_renewal_ttl_ms=rng.choice([0, 2_000, 2_000, 60_000]),
        segment_size=rng.choice([1 << 14, 1 << 16, 1 << 18]),
        snapshot_log_size=rng.choice([1 << 13, 1 << 15, 1 << 17]),
        compact_keep_size=rng.choice([0, 0, 1 << 12]),
        resources=rng.choice([2, 4, 4, 8]),
        busy=profile.busy or (name == "everything" and rng.random() < 0.2),
        bounds_small=rng.random() < 0.5 or profile.busy,
        next_build=(),
        faults=_schedule(profile, rng),
    )
    # Last, so that a seed without it draws the same as before there were versions.
    if not profile.mixed or rng.random() >= profile.mixed:
        return setup
    changes = _changes_of_version(nodes + spares, rng)
    return replace(
        setup,
        next_build=tuple(rng.random() < 0.25 for _ in range(nodes + spares)),
        faults=tuple(sorted((*setup.faults, *changes), key=lambda fault: fault.at_us)),
    )


def _changes_of_version(nodes: int, rng: random.Random) -> list[Fault]:
    """Draw an upgrade for each node, the way back for some, and what strikes at the switch."""
    faults: list[Fault] = []

    def add(kind: str, from_s: float, to_s: float, count: int = 1) -> None:
        for _ in range(count):
            at_us = int(rng.uniform(from_s, to_s) * 1_000_000)
            draws = {"pick": rng.random(), "amount": rng.random(), "way": rng.random()}
            faults.append(Fault(at_us=at_us, kind=kind, **draws))

    add("upgrade", 2, 16, nodes + 1)
    add("downgrade", 3, 22, rng.randint(0, 2))
    add("upgrade", 15, 23, 2)
    add("in_switch", 0.1, 3)
    add("new_command", 8, 24.5, 8)
    return faults


def _schedule(profile: Profile, rng: random.Random) -> tuple[Fault, ...]:
    kinds, weights = list(profile.weights), list(profile.weights.values())
    faults: list[Fault] = []
    at_us = rng.randint(500_000, 2_000_000)
    while at_us < FAULTS_US:
        kind = rng.choices(kinds, weights)[0]
        faults.append(
            Fault(at_us=at_us, kind=kind, pick=rng.random(), amount=rng.random(), way=rng.random())
        )
        at_us += rng.randint(*profile.gap_us)
    return tuple(faults)
