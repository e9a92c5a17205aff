"""A histogram of plain integers: one bisect and three additions an observation, no lock, no clock.

It owns counts. What it counts (microseconds, requests, bytes) is its owner's business.
"""

from bisect import bisect_left
from collections.abc import Sequence

DURATION_US = (
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000,
)  # fmt: skip
"""Upper bounds for durations: from a fast disk's sync to the longest wait for a leader."""
COUNT = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 16_384)
SIZE = tuple(64 << (2 * step) for step in range(9))
"""Upper bounds for bytes: 64 B to 4 MiB."""


class Histogram:
    """Counts of observations by upper bound, their number and their sum."""

    __slots__ = ("bounds", "count", "counts", "total")

    def __init__(self, bounds: Sequence[int]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        """Observations up to each bound and above the one before; the last is what lies above all bounds."""
        self.count = 0
        self.total = 0

    def observe(self, value: int) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.count += 1
        self.total += value

    def cumulative(self, unit: float) -> list[tuple[str, float]]:
        """Return (upper bound in `unit`s, observations up to it) as Prometheus wants them, +Inf last."""
        found: list[tuple[str, float]] = []
        seen = 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            seen += count
            found.append((f"{bound * unit:.10g}", seen))
        return [*found, ("+Inf", seen + self.counts[-1])]
