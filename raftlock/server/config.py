"""The configuration of a node: every field with its unit, its default and what is allowed.

`SETTINGS` is the one list: the TOML file, the flags, the RAFTLOCK_… variables and the printed example are made of it.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("auto", "text", "json")
ON_OFF = ("on", "off")
FILE_SIZE_MAX = 64 << 10
DOTS_MAX = 64
"""In one line of a file: what Python's TOML parser does for a dotted key grows with the square of its parts."""


class ConfigError(ValueError):
    """A field of the configuration is missing or not allowed."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One field: where it may be said, and what it may be."""

    name: str
    doc: str
    kind: type[int] | type[str]
    default: int | str | None = None
    """None: it is required."""
    low: int = 0
    high: int = 0
    choices: tuple[str, ...] = ()
    address: bool = False
    flag: str = ""

    @property
    def option(self) -> str:
        """Return the flag of `raftlock server`."""
        return self.flag or "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Return the environment variable."""
        return "RAFTLOCK_" + self.name.upper()

    @property
    def allowed(self) -> str:
        """Return what is allowed, in words."""
        if self.kind is int:
            return f"a whole number from {self.low} to {self.high}"
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        return "host:port" if self.address else "text"

    def check(self, value: Any) -> None:
        """Raise ConfigError unless `value` is allowed."""
        if self.kind is int:
            if type(value) is not int or not self.low <= value <= self.high:
                raise ConfigError(self.name, f"{_show(value)} is not {self.allowed}")
        elif not isinstance(value, str):
            raise ConfigError(self.name, f"{_show(value)} is not text")
        elif self.choices and value not in self.choices:
            raise ConfigError(self.name, f"{_show(value)} is not {self.allowed}")
        elif self.address:
            check_address(self.name, value)


SETTINGS = (
    Setting(
        name="node_id", kind=int, low=1, high=65_535, doc="Different for each node of the cluster."
    ),
    Setting(
        name="data_dir",
        kind=str,
        doc="Where the node keeps its state. Formatted at the first start; for one process at a time.",
    ),
    Setting(
        name="client_address",
        flag="--client",
        kind=str,
        address=True,
        default="127.0.0.1:7401",
        doc="Where clients connect, and what members and clients are told.",
    ),
    Setting(
        name="peer_address",
        flag="--peer",
        kind=str,
        address=True,
        default="127.0.0.1:7411",
        doc="Where the other nodes connect, and what they are told.",
    ),
    Setting(
        name="http_address",
        flag="--http",
        kind=str,
        address=True,
        default="127.0.0.1:7421",
        doc="Where HTTP is served: locks for curl, metrics, health. It is not authenticated.",
    ),
    Setting(
        name="http",
        flag="--http-enabled",
        kind=str,
        choices=ON_OFF,
        default="on",
        doc="Whether HTTP is served.",
    ),
    Setting(
        name="metrics",
        kind=str,
        choices=ON_OFF,
        default="on",
        doc="Whether the node counts what it does, and serves /metrics.",
    ),
    Setting(
        name="listen_host",
        kind=str,
        default="",
        doc="Listen for clients and nodes here instead of at the hosts of their addresses (0.0.0.0: everywhere).",
    ),
    Setting(
        name="heartbeat_ms",
        kind=int,
        low=1,
        high=10_000,
        default=30,
        doc="How often a leader says that it is there. Milliseconds.",
    ),
    Setting(
        name="election_min_ms",
        kind=int,
        low=2,
        high=60_000,
        default=150,
        doc="A leader that is not heard for a random time from here to election_max_ms is replaced. At least two heartbeats.",
    ),
    Setting(
        name="election_max_ms",
        kind=int,
        low=3,
        high=120_000,
        default=300,
        doc="See election_min_ms; longer than that.",
    ),
    Setting(
        name="segment_size",
        kind=int,
        low=1 << 20,
        high=1 << 30,
        default=64 << 20,
        doc="Bytes of one preallocated segment of the log.",
    ),
    Setting(
        name="snapshot_log_size",
        kind=int,
        low=1 << 12,
        high=1 << 40,
        default=256 << 20,
        doc="Bytes of log after which a snapshot is saved (and when the log is twice the last snapshot).",
    ),
    Setting(
        name="audit",
        kind=str,
        choices=ON_OFF,
        default="on",
        doc="Keep every applied command with its result in audit segments. The same on every node.",
    ),
    Setting(
        name="audit_size",
        kind=int,
        low=1 << 20,
        high=1 << 50,
        default=10 << 30,
        doc="Bytes of finished audit segments on this node; beyond it the oldest are deleted.",
    ),
    Setting(
        name="audit_hours",
        kind=int,
        low=1,
        high=876_000,
        default=168,
        doc="Hours after which a finished audit segment is deleted. 168 is seven days.",
    ),
    Setting(
        name="audit_tier",
        kind=str,
        default="",
        doc="Where finished audit segments are shipped, while this node leads: s3://BUCKET/PREFIX or file:///DIRECTORY. Empty: nowhere. The same on every node.",
    ),
    Setting(
        name="audit_endpoint",
        kind=str,
        default="",
        doc="The endpoint of an S3 store that is not AWS's.",
    ),
    Setting(name="audit_region", kind=str, default="", doc="The region of the bucket."),
    Setting(
        name="audit_every_s",
        kind=int,
        low=1,
        high=3_600,
        default=10,
        doc="How often the shipper looks for finished segments. Seconds.",
    ),
    Setting(
        name="log_level",
        kind=str,
        choices=LOG_LEVELS,
        default="info",
        doc="What is logged, to stderr.",
    ),
    Setting(
        name="log_format",
        kind=str,
        choices=LOG_FORMATS,
        default="auto",
        doc="How: text for people, one JSON object a line for programs; auto is text on a terminal.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """One node. What each field means stands in SETTINGS."""

    node_id: int
    data_dir: Path
    client_address: str = "127.0.0.1:7401"
    peer_address: str = "127.0.0.1:7411"
    http_address: str = "127.0.0.1:7421"
    http: str = "on"
    metrics: str = "on"
    listen_host: str = ""
    heartbeat_ms: int = 30
    election_min_ms: int = 150
    election_max_ms: int = 300
    segment_size: int = 64 << 20
    snapshot_log_size: int = 256 << 20
    audit: str = "on"
    audit_size: int = 10 << 30
    audit_hours: int = 168
    audit_tier: str = ""
    audit_endpoint: str = ""
    audit_region: str = ""
    audit_every_s: int = 10
    log_level: str = "info"
    log_format: str = "auto"

    def __post_init__(self) -> None:
        for setting in SETTINGS:
            value = getattr(self, setting.name)
            setting.check(str(value) if setting.name == "data_dir" else value)
        if self.election_min_ms < 2 * self.heartbeat_ms:
            raise ConfigError(
                "election_min_ms",
                f"{self.election_min_ms} is less than two heartbeats of {self.heartbeat_ms} ms",
            )
        if self.election_max_ms <= self.election_min_ms:
            raise ConfigError(
                "election_max_ms",
                f"{self.election_max_ms} is not more than election_min_ms, which is {self.election_min_ms}",
            )
        if self.audit_tier:
            check_tier(self.audit_tier, audit=self.audit)

    def listen(self, address: str) -> tuple[str, int]:
        """Return the host and port to listen on for an address that others are told."""
        host, _, port = address.rpartition(":")
        return self.listen_host or host.strip("[]"), int(port)


def config_from(values: Mapping[str, Any]) -> ServerConfig:
    """Build a configuration from a decoded file or flags. Raise ConfigError that names an unknown or missing field."""
    known = {setting.name: setting for setting in SETTINGS}
    for name in values:
        if name not in known:
            raise ConfigError(name, f"is not a field; the fields are {', '.join(sorted(known))}")
    for setting in SETTINGS:
        if setting.default is None and setting.name not in values:
            raise ConfigError(
                setting.name,
                f"is required: in the file, as {setting.option} or as {setting.variable}",
            )
    known["data_dir"].check(values["data_dir"])
    return ServerConfig(**{**values, "data_dir": Path(values["data_dir"])})


def read_file(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raise ConfigError when it cannot be read or is no TOML."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_SIZE_MAX + 1)
    except OSError as error:
        raise ConfigError("config", f"{path}: {error.strerror}") from error
    return parse(data, where=str(path))


def parse(data: bytes, *, where: str) -> dict[str, Any]:
    """Decode a TOML file. Raise ConfigError, which names the file, when it is none."""
    if len(data) > FILE_SIZE_MAX:
        raise ConfigError("config", f"{where}: it is larger than {FILE_SIZE_MAX} bytes")
    try:
        text = data.decode()
        for number, line in enumerate(text.split("\n"), 1):
            if line.count(".") > DOTS_MAX and not line.lstrip().startswith("#"):
                problem = f"line {number} has {line.count('.')} dots, and {DOTS_MAX} are the most"
                raise ConfigError("config", f"{where}: {problem}")
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError("config", f"{where}: it is nested too deeply") from None
    except ConfigError:
        raise
    except ValueError as error:
        # Not only TOMLDecodeError: a number of thousands of digits, a date that is none, bytes that are no UTF-8.
        raise ConfigError("config", f"{where}: {error}") from error


def example() -> str:
    """Return a whole configuration file, each field with its meaning, what is allowed and its default."""
    lines = [
        "# The configuration of one raftlock node. A flag wins over a variable, a variable over this file.",
        "",
    ]
    for setting in SETTINGS:
        lines.append(f"# {setting.doc}")
        lines.append(f"# {setting.allowed.capitalize()}. {setting.option}, {setting.variable}.")
        if setting.default is None:
            value = "1" if setting.kind is int else '"/var/lib/raftlock"'
            lines.append(f"{setting.name} = {value}")
        else:
            value = str(setting.default) if setting.kind is int else f'"{setting.default}"'
            lines.append(f"# {setting.name} = {value}")
        lines.append("")
    return "\n".join(lines)


def check_address(name: str, value: Any) -> None:
    """Accept host:port with a port from 1 to 65,535."""
    host, colon, port = str(value).rpartition(":")
    digits = port.isascii() and port.isdigit() and len(port) <= 5
    if not (colon and host and digits and 1 <= int(port) <= 65_535):
        raise ConfigError(name, f"{_show(value)} is not host:port with a port from 1 to 65535")


def check_tier(url: str, *, audit: str) -> None:
    """Accept an address of a tier, where there is something to ship."""
    # Here, so that the client's commands work where only the client is installed.
    from raftlock.audit.tiers import BadTier, parse_place

    if audit == "off":
        raise ConfigError("audit_tier", "there is nothing to ship while audit is off")
    try:
        parse_place(url)
    except BadTier as error:
        raise ConfigError("audit_tier", str(error)) from error


def _show(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:
        # Python writes no number of thousands of digits.
        return "a number of that size"
    except RecursionError:
        return "a value that is nested too deeply"
    return text if len(text) <= 60 else text[:57] + "..."
