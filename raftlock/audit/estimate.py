"""What the audit takes and costs a month in each tier, from bytes that were measured and prices that can be changed.

Arithmetic alone. `measured.toml` and `prices.toml` beside this file have the numbers; the study's are in STUDY.
"""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

MEASURED = Path(__file__).with_name("measured.toml")
PRICES = Path(__file__).with_name("prices.toml")
DAY_S = 86_400
MONTH_DAYS = 30
SEGMENT_SIZE = 64 << 20


class BadPrices(ValueError):
    """A file of prices that is none, with what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Bytes an operation, when so many operations share an entry of the log."""

    batch: int
    raw_bytes: float
    """Content before lz4: 64 MiB of it end a segment."""
    node_bytes: float
    parquet_bytes: float

    def as_toml(self) -> str:
        """Return it as `measured.toml` has it."""
        lines = [f"{f.name} = {getattr(self, f.name)}" for f in fields(self)]
        return "\n[[batch]]\n" + "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Dollars."""

    node_gb_month: float
    warm_gb_month: float
    cold_gb_month: float
    put_1000: float
    move_1000: float

    @classmethod
    def of(cls, path: Path) -> Self:
        """Read a file. Raise BadPrices with what is wrong, and OSError."""
        try:
            values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadPrices(f"{path}: {error}") from error
        names = [f.name for f in fields(cls)]
        unknown = sorted(values.keys() - names)
        if unknown:
            raise BadPrices(f"{path}: {unknown[0]!r} is none of {', '.join(names)}")
        for name in names:
            value = values.get(name)
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise BadPrices(f"{path}: {name} must be dollars, 0 or more, and is {value!r}")
        return cls(**{name: float(values[name]) for name in names})


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How many days records are kept in each tier; a day in the cold tier comes after the warm ones."""

    node_days: float = 7
    warm_days: float = 90
    cold_days: float = 275


@dataclass(frozen=True, slots=True, kw_only=True)
class TierCost:
    """What a tier holds when it is full, and what that costs a month."""

    tier: str
    days: float
    bytes_an_operation: float
    size: float
    dollars: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The whole of it."""

    operations_a_day: float
    batch: int
    size_a_day: float
    """Bytes that are shipped a day."""
    tiers: tuple[TierCost, ...]
    requests_dollars: float

    @property
    def dollars(self) -> float:
        """Return the sum a month."""
        return sum(tier.dollars for tier in self.tiers) + self.requests_dollars


def read_measured(path: Path = MEASURED) -> list[Measured]:
    """Return what was measured, by the operations an entry."""
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    return [Measured(**one) for one in values["batch"]]


def batch_at(rate: float, found: list[Measured]) -> Measured:
    """Return what is nearest to a millisecond's operations in an entry: a turn under load takes about that."""
    return min(found, key=lambda one: abs(one.batch - rate / 1_000))


def estimate(
    *, rate: float, measured: Measured, prices: Prices, retention: Retention, nodes: int
) -> Estimate:
    """Return sizes and dollars of a mean rate of operations a second."""
    a_day = rate * DAY_S
    node = measured.node_bytes * a_day * retention.node_days * nodes
    warm = measured.parquet_bytes * a_day * retention.warm_days
    cold = measured.parquet_bytes * a_day * retention.cold_days
    # A segment ends when it is full or its hour is over.
    segments_a_day = max(24.0, measured.raw_bytes * a_day / SEGMENT_SIZE)
    moved = prices.move_1000 if retention.cold_days else 0.0
    requests = segments_a_day * MONTH_DAYS / 1_000 * (prices.put_1000 + moved)
    tiers = (
        _tier(
            f"{nodes} nodes", retention.node_days, measured.node_bytes, node, prices.node_gb_month
        ),
        _tier("warm", retention.warm_days, measured.parquet_bytes, warm, prices.warm_gb_month),
        _tier("cold", retention.cold_days, measured.parquet_bytes, cold, prices.cold_gb_month),
    )
    return Estimate(
        operations_a_day=a_day,
        batch=measured.batch,
        size_a_day=measured.parquet_bytes * a_day,
        tiers=tiers,
        requests_dollars=requests,
    )


def _tier(name: str, days: float, each: float, size: float, gb_month: float) -> TierCost:
    return TierCost(
        tier=name, days=days, bytes_an_operation=each, size=size, dollars=size / 1e9 * gb_month
    )


@dataclass(frozen=True, slots=True)
class Study:
    """A capacity study of such a service: what it takes for an operation, and at what prices. Its tiers overlap:
    the warm one holds the hot one's days again, and each is rounded to whole months of 52 TB."""

    rate: float = 66_667
    bytes_an_operation: float = 300
    hot_days: float = 7
    warm_months: float = 3
    cold_months: float = 12
    hot_gb_month: float = 0.10
    warm_gb_month: float = 0.02
    cold_gb_month: float = 0.004
    database_replicas: int = 3
    database_disk_tb: float = 16
    """Of each replica that serves the hot days; its plan counts them instead of the hot tier."""

    def at(self, rate: float) -> Estimate:
        """Return its arithmetic at a rate, without its rounding."""
        a_day = rate * DAY_S
        day = a_day * self.bytes_an_operation
        each = self.bytes_an_operation
        month = day * MONTH_DAYS
        tiers = (
            _tier("hot", self.hot_days, each, day * self.hot_days, self.hot_gb_month),
            _tier(
                "warm",
                self.warm_months * MONTH_DAYS,
                each,
                month * self.warm_months,
                self.warm_gb_month,
            ),
            _tier(
                "cold",
                self.cold_months * MONTH_DAYS,
                each,
                month * self.cold_months,
                self.cold_gb_month,
            ),
        )
        return Estimate(
            operations_a_day=a_day, batch=1, size_a_day=day, tiers=tiers, requests_dollars=0.0
        )


STUDY = Study()
