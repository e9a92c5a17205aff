"""The arithmetic of the figures: percentiles, fairness, order, skew and schedules. Pure, so that it can be tested."""

import bisect
import itertools
import math
import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hdrh.histogram import HdrHistogram

LATENCY_US_MAX = 600_000_000
SIGNIFICANT_DIGITS = 3


def latency_summary(seconds: Iterable[float]) -> dict[str, float]:
    """Return count, mean, percentiles and maximum of latencies, in milliseconds, by an HdrHistogram (3 digits)."""
    histogram = HdrHistogram(1, LATENCY_US_MAX, SIGNIFICANT_DIGITS)
    total = 0.0
    number = 0
    longest = 0.0
    for value in seconds:
        number += 1
        total += value
        longest = max(longest, value)
        histogram.record_value(min(LATENCY_US_MAX, max(1, round(value * 1e6))))
    if not number:
        return dict.fromkeys(
            ("p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "mean_ms", "max_ms"), 0.0
        ) | {"count": 0}
    return {
        "count": number,
        "mean_ms": round(total / number * 1e3, 3),
        "p50_ms": histogram.get_value_at_percentile(50) / 1e3,
        "p90_ms": histogram.get_value_at_percentile(90) / 1e3,
        "p99_ms": histogram.get_value_at_percentile(99) / 1e3,
        "p99_9_ms": histogram.get_value_at_percentile(99.9) / 1e3,
        # The exact one, not the end of its bucket.
        "max_ms": round(longest * 1e3, 3),
    }


class Schedule:
    """An open loop's times of sending: fixed by the rate alone, however late the answers are.

    A load that waits for an answer before it sends the next request asks less while the server is slow, and so
    leaves out the very latencies that matter (coordinated omission). Here each operation has its time beforehand, and
    its latency counts from that time, sent late or not.
    """

    def __init__(self, rate: float, began: float) -> None:
        self.rate = rate
        self.began = began
        self._next = 0

    def due(self, now: float) -> range:
        """Return the numbers of the operations whose time has come since the last call."""
        until = max(self._next, math.floor((now - self.began) * self.rate + 1e-9) + 1)
        numbers = range(self._next, until)
        self._next = until
        return numbers

    def time_of(self, number: int) -> float:
        """Return the intended time of an operation."""
        return self.began + number / self.rate


def slope(at: Sequence[float], values: Sequence[float]) -> float:
    """Return how steeply values rise over `at`, by least squares; 0 where all are at one place."""
    mean_at, mean = sum(at) / len(at), sum(values) / len(values)
    spread = sum((x - mean_at) ** 2 for x in at)
    if not spread:
        return 0.0
    return sum((x - mean_at) * (y - mean) for x, y in zip(at, values, strict=True)) / spread


def jain(shares: Sequence[float]) -> float:
    """Return Jain's index of fairness: 1 if all shares are equal, 1/n if one has everything."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0


class Served(NamedTuple):
    """One acquire that waited and was served. Times are of the client's clock, in seconds."""

    token: int
    sent_at: float
    queued_at: float
    """When the answer arrived that it is in the queue."""


def overtaken(served: Iterable[Served]) -> int:
    """Return how many acquires were served after one that was sent only when they were known to be queued.

    Requests in flight together are concurrent and may be served in any order; this counts what no order of the log
    explains.
    """
    count = 0
    latest_sent = -math.inf
    for one in sorted(served):
        count += one.queued_at < latest_sent
        latest_sent = max(latest_sent, one.sent_at)
    return count


class Zipf:
    """Numbers from 0 to count - 1, number k with a weight of 1 / (k + 1) ** exponent."""

    def __init__(self, count: int, exponent: float, rng: random.Random) -> None:
        weights = ((k + 1) ** -exponent for k in range(count))
        self._sums: list[float] = list(itertools.accumulate(weights))
        self._rng = rng

    def draw(self) -> int:
        """Return the next number."""
        return bisect.bisect_right(
            self._sums, self._rng.random() * self._sums[-1], hi=len(self._sums) - 1
        )

    def share(self, number: int) -> float:
        """Return how often a number is expected among the draws."""
        before = self._sums[number - 1] if number else 0.0
        return (self._sums[number] - before) / self._sums[-1]
