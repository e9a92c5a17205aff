"""The shipper's metrics, as a file for node_exporter's textfile collector."""

from dataclasses import dataclass
from pathlib import Path

from raftlock.audit.shipper import Lag


@dataclass(slots=True)
class ShipMetrics:
    """What a shipper has counted since it started."""

    shipped: int = 0
    failures: int = 0
    conflicts: int = 0
    passed_s: float = 0.0
    """When the last whole pass ended; 0: none has."""
    lag: Lag | None = None
    """As last seen: an outage does not take it away."""

    def write(self, path: Path, lag: Lag | None, *, now_s: float) -> None:
        """Replace the file. A scrape sees the old one or the new one, whole."""
        self.lag = lag or self.lag
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(self.text(now_s))
        temporary.replace(path)

    def text(self, now_s: float) -> str:
        """Return the exposition."""
        values = [
            ("shipped_total", "counter", "Segments that this process shipped.", self.shipped),
            ("failures_total", "counter", "Passes that the store broke off.", self.failures),
            ("conflicts_total", "counter", "Objects that are not what they must be.", self.conflicts),
            ("last_pass_timestamp_seconds", "gauge", "When a whole pass last ended.", self.passed_s),
        ]  # fmt: skip
        if self.lag is not None:
            behind_s = max(0.0, now_s - self.lag.since_us / 1e6) if self.lag.segments else 0.0
            values += [
                ("lag_segments", "gauge", "Finished segments that wait.", self.lag.segments),
                ("lag_bytes", "gauge", "Their bytes on this node.", self.lag.size),
                ("lag_seconds", "gauge", "Since the oldest of them ended.", round(behind_s, 3)),
            ]
        lines = []
        for name, kind, what, value in values:
            full = f"raftlock_audit_ship_{name}"
            lines += [f"# HELP {full} {what}", f"# TYPE {full} {kind}", f"{full} {value}"]
        return "\n".join(lines) + "\n"
