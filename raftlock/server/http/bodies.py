"""What HTTP requests say, checked: JSON bodies, the resource in a path, and a list's query.

It owns the fields' names on HTTP and what each may be. Raises Problem with the field and what is allowed.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from raftlock.server.http.problems import Problem, bad_field
from raftlock_wire import limits
from raftlock_wire.codec import pack
from raftlock_wire.messages import ListBy

WAIT_S_DEFAULT = 30
LIST_LIMIT_DEFAULT = 100

NAME = f"text of 1 to {limits.RESOURCE_SIZE_MAX} bytes of UTF-8"
OWNER = f"text of 1 to {limits.OWNER_SIZE_MAX} bytes of UTF-8"
TTL = f"seconds, a number from {limits.TTL_MS_MIN / 1_000} to {limits.TTL_MS_MAX // 1_000}"
WAIT = f"seconds, a number from 0 to {limits.HTTP_WAIT_S_MAX}; only with blocking"
TOKEN = f"a whole number from 1 to {limits.NUMBER_MAX}"
METADATA = f"an object of at most {limits.METADATA_KEYS_MAX} texts, {limits.METADATA_SIZE_MAX} bytes in all"
LIMIT = f"a whole number from 1 to {limits.LIST_PAGE_MAX}"
IDEMPOTENCY_KEY = f"1 to {limits.HTTP_IDEMPOTENCY_KEY_SIZE_MAX} printable ASCII characters"
BOOLEAN = "true or false"


class Order(NamedTuple):
    """What an acquire asks for."""

    resource: str
    owner: str
    ttl_ms: int
    wait_ms: int
    """0: do not wait."""
    metadata: dict[str, str] | None


class Grant(NamedTuple):
    """A resource and the token that names the grant of it."""

    resource: str
    token: int


class Page(NamedTuple):
    """Which part of which list."""

    by: ListBy
    what: str
    cursor: str
    limit: int
    stale: bool


def decode(data: bytes) -> dict[str, Any]:
    """Decode a body: one JSON object, no field twice, no number that JSON does not know."""
    try:
        value = json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise bad_field("body", "it is nested too deeply", "one JSON object") from None
    except ValueError as error:
        raise bad_field("body", f"not JSON: {error}", "one JSON object") from None
    if type(value) is not dict:
        raise bad_field("body", f"{show(value)} is not an object", "one JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def acquire_order(body: Mapping[str, Any]) -> Order:
    """Read the body of an acquire."""
    only(body, ("resourceId", "ttl", "clientId", "blocking", "timeout", "metadata"))
    resource = _text(body, "resourceId", limits.RESOURCE_SIZE_MAX, NAME)
    owner = _text(body, "clientId", limits.OWNER_SIZE_MAX, OWNER)
    ttl_ms = _milliseconds(body, "ttl", limits.TTL_MS_MIN, limits.TTL_MS_MAX, TTL)
    blocking = body.get("blocking", False)
    if type(blocking) is not bool:
        raise bad_field("blocking", f"{show(blocking)} is neither", BOOLEAN)
    wait_ms = 0
    if "timeout" in body:
        wait_ms = _milliseconds(body, "timeout", 0, limits.HTTP_WAIT_S_MAX * 1_000, WAIT)
        if not blocking and wait_ms:
            raise bad_field("timeout", "it says how long to wait, and blocking is not true", WAIT)
    elif blocking:
        wait_ms = WAIT_S_DEFAULT * 1_000
    return Order(resource, owner, ttl_ms, wait_ms, _metadata(body))


def grant(body: Mapping[str, Any]) -> Grant:
    """Read the body of a renew, a release or a check."""
    only(body, ("resourceId", "lockToken"))
    token = _present(body, "lockToken", TOKEN)
    if type(token) is not int or not 1 <= token <= limits.NUMBER_MAX:
        raise bad_field("lockToken", f"{show(token)} is not allowed", TOKEN)
    return Grant(_text(body, "resourceId", limits.RESOURCE_SIZE_MAX, NAME), token)


def resource_in_path(raw: str) -> str:
    """Return the resource of a percent-encoded path segment."""
    try:
        name = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise bad_field("resourceId", "its bytes are not UTF-8", NAME) from None
    check_text(name, "resourceId", limits.RESOURCE_SIZE_MAX, NAME)
    return name


def page(query: Mapping[str, str]) -> Page:
    """Read the query of a list."""
    only(query, ("prefix", "owner", "cursor", "limit", "stale"))
    if "prefix" in query and "owner" in query:
        raise bad_field("owner", "a list is by prefix or by owner, not by both", OWNER)
    by = ListBy.OWNER if "owner" in query else ListBy.PREFIX
    what = query.get("owner", query.get("prefix", ""))
    name = "owner" if by is ListBy.OWNER else "prefix"
    check_text(what, name, limits.RESOURCE_SIZE_MAX, NAME, low=0)
    cursor = query.get("cursor", "")
    check_text(cursor, "cursor", limits.CURSOR_SIZE_MAX, "the cursor of the page before", low=0)
    text = query.get("limit", str(LIST_LIMIT_DEFAULT))
    if not (text.isascii() and text.isdigit() and len(text) <= 4):
        raise bad_field("limit", f"{show(text)} is not allowed", LIMIT)
    if not 1 <= int(text) <= limits.LIST_PAGE_MAX:
        raise bad_field("limit", f"{text} is not allowed", LIMIT)
    return Page(by, what, cursor, int(text), stale(query))


def stale(query: Mapping[str, str]) -> bool:
    """Return whether a query allows an answer of this node's own state."""
    text = query.get("stale", "false")
    if text not in ("true", "false"):
        raise bad_field("stale", f"{show(text)} is neither", BOOLEAN)
    return text == "true"


def idempotency_key(header: str | None) -> str | None:
    """Return the key of a request that may be sent again, or None."""
    if header is None:
        return None
    fits = 1 <= len(header) <= limits.HTTP_IDEMPOTENCY_KEY_SIZE_MAX
    if not (fits and header.isascii() and header.isprintable()):
        raise bad_field("Idempotency-Key", f"{show(header)} is not allowed", IDEMPOTENCY_KEY)
    return header


def bearer(header: str | None) -> str | None:
    """Return the token of an Authorization header, or None when there is none."""
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not 1 <= len(token) <= 4_096 or not token.isascii():
        raise Problem("unauthenticated", "Authorization: only `Bearer TOKEN` is known")
    return token


# fields


def only(body: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Refuse fields that are not known."""
    for name in body:
        if name not in known:
            raise bad_field(_show_name(name), "it is not a field here", ", ".join(known))


def _present(body: Mapping[str, Any], field: str, allowed: str) -> Any:
    if field not in body:
        raise bad_field(field, "it is missing", allowed)
    return body[field]


def _text(body: Mapping[str, Any], field: str, size_max: int, allowed: str) -> str:
    value = _present(body, field, allowed)
    if type(value) is not str:
        raise bad_field(field, f"{show(value)} is not text", allowed)
    check_text(value, field, size_max, allowed)
    return value


def check_text(value: str, field: str, size_max: int, allowed: str, *, low: int = 1) -> None:
    """Refuse a text that is too short, too long, or no UTF-8."""
    size = _size(value)
    if size is None:
        raise bad_field(field, "it holds half of a surrogate pair", allowed)
    if not low <= size <= size_max:
        raise bad_field(field, f"it has {size} bytes", allowed)


def _size(value: str) -> int | None:
    """Return the bytes of a text in UTF-8; None for one that has no such form."""
    try:
        return len(value.encode())
    except UnicodeEncodeError:
        return None


def _milliseconds(body: Mapping[str, Any], field: str, low: int, high: int, allowed: str) -> int:
    value = _present(body, field, allowed)
    if type(value) not in (int, float) or not low <= value * 1_000 <= high:
        raise bad_field(field, f"{show(value)} is not allowed", allowed)
    milliseconds: int = round(value * 1_000)
    return milliseconds


def _metadata(body: Mapping[str, Any]) -> dict[str, str] | None:
    value = body.get("metadata")
    if value is None:
        return None
    if type(value) is not dict or len(value) > limits.METADATA_KEYS_MAX:
        raise bad_field("metadata", f"{show(value)} is not allowed", METADATA)
    for key, text in value.items():
        if type(text) is not str or _size(key) is None or _size(text) is None:
            raise bad_field("metadata", f"{show(key)}: {show(text)} is not allowed", METADATA)
    if len(pack(value)) > limits.METADATA_SIZE_MAX:
        raise bad_field("metadata", f"{len(pack(value))} bytes encoded", METADATA)
    return value


def show(value: Any) -> str:
    """Return what a caller sent, short enough and safe for a text."""
    # ASCII: what a caller sent goes back to him in a text that any encoder takes.
    try:
        text = ascii(value)
    except RecursionError:
        return f"a {type(value).__name__} that is nested too deeply"
    return text if len(text) <= 60 else text[:57] + "..."


def _show_name(name: str) -> str:
    return name if name.isascii() and name.isprintable() and len(name) <= 60 else show(name)
