"""What the records add up to: hot locks, long holds and waits, who let leases expire, what was forced and refused.

Pure: rows in, numbers out. It keeps the grants and waits that are open, and tables of names with a bound: beyond it the
names with the least are forgotten, and the tally says so.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from raftlock.audit.names import Row

NAMES_MAX = 20_000
"""Names in a table after it was cut; it is cut at twice that."""
LONGEST = 20
FORCED_MAX = 100
BINS_MAX = 240
DENIED = frozenset({"FORBIDDEN", "QUOTA_EXCEEDED", "BAD_REQUEST", "OVERLOADED", "SESSION_EXPIRED"})
SERIES = ("granted", "refused", "queued", "expired", "forced")
Value = TypeVar("Value")


@dataclass(slots=True)
class Use:
    """How one lock was used."""

    granted: int = 0
    refused: int = 0
    queued: int = 0
    expired: int = 0
    held_ms: float = 0.0
    """Of the holds that ended."""
    held_max_ms: float = 0.0
    waited_ms: float = 0.0
    """Of the waits that ended, however they did."""
    waited_max_ms: float = 0.0

    @property
    def weight(self) -> int:
        """Return what decides which locks are kept."""
        return self.granted + self.refused + self.queued


@dataclass(frozen=True, slots=True, order=True)
class Long:
    """A long hold or wait."""

    ms: float
    resource: str
    owner: str
    since: str
    end: str


class Names(Generic[Value]):
    """A table of names with a bound."""

    def __init__(
        self, make: Callable[[], Value], weight: Callable[[Value], float], *, size_max: int
    ) -> None:
        self._make, self._weight, self._size_max = make, weight, size_max
        self._values: dict[Any, Value] = {}
        self.cut = False
        """Names were forgotten: what is shown of the others may be too low."""

    def __getitem__(self, name: Any) -> Value:
        """Return what stands under a name, made if it is new."""
        found = self._values.get(name)
        if found is None:
            if len(self._values) >= 2 * self._size_max:
                self._values = dict(self.top(self._size_max))
                self.cut = True
            found = self._values[name] = self._make()
        return found

    def top(
        self, count: int, by: Callable[[Value], float] | None = None
    ) -> list[tuple[Any, Value]]:
        """Return the names with the most, those with nothing left out."""
        key = by or self._weight
        found = heapq.nlargest(count, self._values.items(), key=lambda item: key(item[1]))
        return [(name, value) for name, value in found if key(value) > 0]

    def __len__(self) -> int:
        """Return how many names it has."""
        return len(self._values)


@dataclass(slots=True)
class Timeline:
    """Counts over time, in at most BINS_MAX bins: when they are full, two become one."""

    start: float = 0.0
    width_s: float = 1.0
    bins: list[Counter[str]] = field(default_factory=list)

    def add(self, seconds: float, what: str) -> None:
        """Count something. Times do not go back."""
        if not self.bins:
            self.start = seconds // self.width_s * self.width_s
        number = int((seconds - self.start) / self.width_s)
        while number >= BINS_MAX:
            pairs = zip(self.bins[::2], [*self.bins[1::2], Counter()], strict=False)
            self.bins = [a + b for a, b in pairs]
            self.width_s *= 2
            number = int((seconds - self.start) / self.width_s)
        while len(self.bins) <= number:
            self.bins.append(Counter())
        self.bins[number][what] += 1


class Tally:
    """Adds up rows."""

    def __init__(self, *, names_max: int = NAMES_MAX) -> None:
        self.rows = 0
        self.first = self.last = ""
        """Times of the first and the last row."""
        self.operations: Counter[tuple[str, str]] = Counter()
        """By (operation, status)."""
        self.uses: Names[Use] = Names(Use, lambda use: use.weight, size_max=names_max)
        self.expired_owners: Names[list[int]] = Names(
            lambda: [0], lambda n: n[0], size_max=names_max
        )
        self.denied: Names[list[int]] = Names(lambda: [0], lambda n: n[0], size_max=names_max)
        """By (operation, status, owner or principal, address without its port)."""
        self.forced: list[Row] = []
        self.forced_count = 0
        self.holds: list[Long] = []
        self.waits: list[Long] = []
        self.hold_times: Counter[int] = Counter()
        """By the power of two of milliseconds below which they were."""
        self.wait_times: Counter[int] = Counter()
        self.timeline = Timeline()
        self._open: dict[int, tuple[str, str, str]] = {}
        self._waiting: dict[tuple[int, int, int], tuple[str, str, str]] = {}

    def add(self, rows: Iterable[Row]) -> None:
        """Take rows, in the order of the log."""
        for row in rows:
            self.rows += 1
            self.first = self.first or row["time"]
            self.last = row["time"]
            operation, status = row["operation"], row["status"]
            self.operations[operation, status] += 1
            take = _TAKES.get(operation)
            if take is not None:
                take(self, row)
            if status in DENIED:
                who = row.get("owner") or row.get("principal") or ""
                host = (row.get("address") or "").rpartition(":")[0]
                self.denied[operation, status, who, host][0] += 1

    @property
    def still_held(self) -> int:
        """Return how many grants that began in these records did not end in them."""
        return len(self._open)

    def _see(self, row: Row, what: str) -> None:
        self.timeline.add(datetime.fromisoformat(row["time"]).timestamp(), what)

    def _acquire(self, row: Row) -> None:
        status = row["status"]
        if status == "OK" and not row.get("repeated"):
            self._begin(row)
        elif status == "HELD":
            self.uses[row["resource"]].refused += 1
            self._see(row, "refused")
        elif status == "QUEUED":
            key = row["session"], row["slot"], row["n"]
            if key not in self._waiting:
                self._waiting[key] = row["resource"], row["owner"], row["time"]
                self.uses[row["resource"]].queued += 1
                self._see(row, "queued")

    def _begin(self, row: Row) -> None:
        self._open[row["token"]] = row["resource"], row.get("owner", ""), row["time"]
        self.uses[row["resource"]].granted += 1
        self._see(row, "granted")

    def _offer(self, row: Row) -> None:
        self._waited(row, "offered")
        # It is held from its first renewal on; what passes until then is part of the hold.
        self._begin(row)

    def _waited(self, row: Row, end: str) -> None:
        waiting = self._waiting.pop((row["session"], row["slot"], row["n"]), None)
        if waiting is None:
            return
        resource, owner, since = waiting
        ms = _ms(since, row["time"])
        use = self.uses[resource]
        use.waited_ms += ms
        use.waited_max_ms = max(use.waited_max_ms, ms)
        self.wait_times[_power(ms)] += 1
        _keep(self.waits, Long(ms, resource, owner, since, end))

    def _ended(self, row: Row, end: str) -> None:
        held = self._open.pop(row["token"], None)
        if held is None:
            return
        resource, owner, since = held
        ms = _ms(since, row["time"])
        use = self.uses[resource]
        use.held_ms += ms
        use.held_max_ms = max(use.held_max_ms, ms)
        self.hold_times[_power(ms)] += 1
        _keep(self.holds, Long(ms, resource, owner, since, end))

    def _release(self, row: Row) -> None:
        if row["status"] == "OK":
            self._ended(row, "released")

    def _expire(self, row: Row) -> None:
        self._ended(row, "expired")
        self.uses[row["resource"]].expired += 1
        self.expired_owners[row.get("owner", "")][0] += 1
        self._see(row, "expired")

    def _force(self, row: Row) -> None:
        if row["status"] == "OK":
            self.forced_count += 1
            holder = self._open.get(row["token"])
            self.forced.append({**row, "owner": holder[1] if holder is not None else ""})
            del self.forced[:-FORCED_MAX]
            self._see(row, "forced")


_TAKES: dict[str, Callable[[Tally, Row], None]] = {
    "acquire": Tally._acquire,
    "offer": Tally._offer,
    "release": Tally._release,
    "expire": Tally._expire,
    "end": lambda tally, row: tally._ended(row, row.get("reason", "")),
    "timeout": lambda tally, row: tally._waited(row, "its wait was over"),
    "wait_end": lambda tally, row: tally._waited(row, row.get("reason", "")),
    "force_release": Tally._force,
}


def _ms(since: str, until: str) -> float:
    delta = datetime.fromisoformat(until) - datetime.fromisoformat(since)
    return delta.total_seconds() * 1_000


def _power(ms: float) -> int:
    """Return the power of two below which a time is: 0 for less than a millisecond."""
    return max(0, int(ms).bit_length())


def _keep(longest: list[Long], one: Long) -> None:
    if len(longest) < LONGEST:
        heapq.heappush(longest, one)
    elif one > longest[0]:
        heapq.heapreplace(longest, one)
