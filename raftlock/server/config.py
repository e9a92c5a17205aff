"""The configuration of a node: every field with its unit, its default and what is allowed."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from raftlock_wire import limits


class ConfigError(ValueError):
    """A field of the configuration is missing or not allowed."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """One node. Addresses are host:port; times are milliseconds."""

    node_id: int
    """1 to 65,535, different for each node of the cluster."""
    data_dir: Path
    """Formatted at the first start; one process at a time."""
    client_address: str = "127.0.0.1:7401"
    """Where clients connect; also what members and clients are told."""
    peer_address: str = "127.0.0.1:7411"
    """Where the other nodes connect; also what they are told."""
    http_address: str = "127.0.0.1:7421"
    """Kept for the HTTP interface; nothing listens there yet."""
    heartbeat_ms: int = 30
    election_min_ms: int = 150
    election_max_ms: int = 300
    segment_size: int = 64 << 20
    """Bytes of one preallocated segment of the log."""
    snapshot_log_size: int = 256 << 20
    """Bytes of log after which a snapshot is saved (and when the log is twice the last snapshot)."""
    log_level: str = "info"

    def __post_init__(self) -> None:
        _whole("node_id", self.node_id, 1, 65_535)
        for name in ("client_address", "peer_address", "http_address"):
            check_address(name, getattr(self, name))
        _whole("heartbeat_ms", self.heartbeat_ms, 1, 10_000)
        _whole("election_min_ms", self.election_min_ms, 2 * self.heartbeat_ms, 60_000)
        _whole("election_max_ms", self.election_max_ms, self.election_min_ms + 1, 120_000)
        _whole("segment_size", self.segment_size, 1 << 20, 1 << 30)
        _whole("snapshot_log_size", self.snapshot_log_size, 1 << 16, 1 << 40)
        if self.log_level not in LOG_LEVELS:
            raise ConfigError(
                "log_level", f"{self.log_level!r} is not one of {', '.join(LOG_LEVELS)}"
            )


LOG_LEVELS = ("debug", "info", "warning", "error")
BOOTSTRAP_LOGGED_RENEWAL_TTL_MS = limits.LOGGED_RENEWAL_TTL_MS_DEFAULT


def config_from(values: dict[str, Any]) -> ServerConfig:
    """Build a configuration from a decoded file or flags. Raise ConfigError that names an unknown or missing field."""
    known = {field.name for field in fields(ServerConfig)}
    for name in values:
        if name not in known:
            raise ConfigError(name, f"is not a field; the fields are {', '.join(sorted(known))}")
    for name in ("node_id", "data_dir"):
        if name not in values:
            raise ConfigError(name, "is required")
    return ServerConfig(**{**values, "data_dir": Path(values["data_dir"])})


def check_address(name: str, value: Any) -> None:
    """Accept host:port with a port from 1 to 65,535."""
    host, colon, port = str(value).rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        raise ConfigError(name, f"{value!r} is not host:port with a port from 1 to 65535")


def _whole(name: str, value: Any, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(name, f"{value!r} is not a whole number from {low} to {high}")
