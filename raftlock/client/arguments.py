"""What a caller may pass to a client. A wrong value raises ValueError that names it and what is allowed."""

from collections.abc import Callable
from typing import TypeVar

from raftlock_wire import limits
from raftlock_wire.errors import BadField
from raftlock_wire.messages import check_metadata, check_owner, check_resource

Value = TypeVar("Value")

DEFAULT_ENDPOINTS = ("127.0.0.1:7401", "127.0.0.1:7402", "127.0.0.1:7403")


def endpoint(value: str) -> str:
    """Check a node's address."""
    host, colon, port = value.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        raise ValueError(f"endpoints: {value!r} is not host:port with a port from 1 to 65535")
    return value


def host_and_port(value: str) -> tuple[str, int]:
    """Split an address; brackets around an IPv6 address are taken off."""
    host, _, port = endpoint(value).rpartition(":")
    return host.strip("[]"), int(port)


def milliseconds(name: str, seconds: float, low_ms: int, high_ms: int) -> int:
    """Return seconds as milliseconds within bounds."""
    value_ms = round(seconds * 1_000) if seconds == seconds and abs(seconds) < 1e12 else -1
    if not low_ms <= value_ms <= high_ms:
        raise ValueError(
            f"{name}: {seconds} is not within {low_ms / 1_000:g} to {high_ms / 1_000:g} seconds"
        )
    return value_ms


def ttl_milliseconds(ttl: float | None) -> int:
    """Return a lock's ttl in milliseconds; 0 for one that lives in its session."""
    return 0 if ttl is None else milliseconds("ttl", ttl, limits.TTL_MS_MIN, limits.TTL_MS_MAX)


def resource(value: str) -> None:
    """Check a resource's name."""
    checked(lambda: check_resource(value))
    utf8("resource", value)


def owner(value: str) -> None:
    """Check an owner's name."""
    checked(lambda: check_owner(value))
    utf8("owner", value)


def metadata(value: dict[str, str] | None) -> None:
    """Check metadata."""
    checked(lambda: check_metadata(value))


def reason(value: str) -> None:
    """Check the reason for ending a lock."""
    utf8("reason", value)
    if not 1 <= len(value.encode()) <= limits.REASON_SIZE_MAX:
        raise ValueError(f"reason: 1 to {limits.REASON_SIZE_MAX} bytes of UTF-8 are needed")


def utf8(name: str, value: str) -> None:
    """Refuse half of a surrogate pair: a name from the command line that was not UTF-8 has such."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: {value!r} is not UTF-8") from error


def node_id(value: int) -> int:
    """Check a node's id."""
    if not 1 <= value <= limits.NODE_ID_MAX:
        raise ValueError(f"node_id: {value} is not an integer from 1 to {limits.NODE_ID_MAX}")
    return value


def checked(check: Callable[[], Value]) -> Value:
    """Return what a check returns; what the protocol does not allow is a ValueError."""
    try:
        return check()
    except (BadField, UnicodeEncodeError) as error:
        raise ValueError(str(error)) from error
