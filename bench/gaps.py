"""How long clients were without service around a fault. Pure but for the event that ends a probe.

It owns the times at which clients were granted something, and the arithmetic of the gaps. It must not know systems.
"""

import asyncio
import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

BEFORE_S = 1.0
"""A gap may begin so long before the fault: the last answer before it."""
BIN_MS = 10
TIMELINE_MS = (-500, 3_000)
FRESH_S = 0.5


@dataclass(slots=True, eq=False)
class Witness:
    """One client that acquires all the time, and when it was granted something, by `time.monotonic`."""

    granted_at: list[float] = field(default_factory=list)
    gone: bool = False
    """The client itself died with a node that it lived in."""


@dataclass(slots=True)
class Probe:
    """All clients of a run."""

    witnesses: list[Witness] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    refused: int = 0
    """Attempts that had no final answer."""

    def witness(self) -> Witness:
        """Return a new client's place."""
        self.witnesses.append(Witness())
        return self.witnesses[-1]

    def served(self, now: float) -> bool:
        """Return whether every client was granted something lately."""
        there = [one for one in self.witnesses if not one.gone]
        return bool(there) and all(
            one.granted_at and one.granted_at[-1] > now - FRESH_S for one in there
        )


@dataclass(frozen=True, slots=True)
class Struck:
    """One fault: from when on, and until when its consequences are looked at."""

    at: float
    until: float


def gap_ms(times: Sequence[float], struck: Struck) -> float:
    """Return the longest time without a grant that ends after the fault, in milliseconds."""
    seen = [t for t in times if struck.at - BEFORE_S <= t <= struck.until]
    # Without any grant it lasted from the fault on; the end counts as one, or a client that is never served has no gap.
    ends = [*(seen or [struck.at]), struck.until]
    gaps = [b - a for a, b in itertools.pairwise(ends) if b > struck.at]
    return round(max(gaps, default=0.0) * 1_000, 1)


def timeline(times: Iterable[float], at: float) -> list[tuple[int, int]]:
    """Return (milliseconds since the fault, grants in the 10 ms from there)."""
    counts = dict.fromkeys(range(*TIMELINE_MS, BIN_MS), 0)
    for time in times:
        bin_ms = math.floor((time - at) * 1_000 / BIN_MS) * BIN_MS
        if bin_ms in counts:
            counts[bin_ms] += 1
    return list(counts.items())


def summary(probe: Probe, faults: Sequence[Struck]) -> dict[str, Any]:
    """Return the gaps of every client at every fault, those of all together, and the grants around a middling fault."""
    clients = [
        [gap_ms(one.granted_at, struck) for one in probe.witnesses if _was_there(one, struck)]
        for struck in faults
    ]
    every = sorted(time for one in probe.witnesses for time in one.granted_at)
    service = [gap_ms(every, struck) for struck in faults]
    worst = [max(gaps, default=0.0) for gaps in clients]
    flat = [gap for gaps in clients for gap in gaps]
    middling = sorted(range(len(faults)), key=lambda i: worst[i])[len(faults) // 2]
    return {
        "faults": len(faults),
        "gap_median_ms": round(statistics.median(flat), 1),
        "gap_max_ms": max(flat),
        "service_gap_median_ms": round(statistics.median(service), 1),
        "service_gap_max_ms": max(service),
        "gaps_ms": clients,
        "service_gaps_ms": service,
        "grants": len(every),
        "refused": probe.refused,
        "timeline": timeline(every, faults[middling].at),
    }


def _was_there(one: Witness, struck: Struck) -> bool:
    """Return whether a client lived through the whole of a fault."""
    times = one.granted_at
    began = bool(times) and times[0] <= struck.at
    return began and not (one.gone and times[-1] <= struck.until)
