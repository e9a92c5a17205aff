"""The handler of the audit: a query to a page of this node's records, and the page to JSON.

It owns the fields' names of both. What they may be is `openapi`'s to say, and a test holds the two together.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from aiohttp import web

from raftlock.server.http.bodies import check_text, only, show
from raftlock.server.http.problems import bad_field, line
from raftlock_wire import limits

if TYPE_CHECKING:
    from raftlock.server.http.gateway import Gateway

PATH = "/api/v1/audit"
LIMIT_DEFAULT = 100
FROM = "INDEX or INDEX.POSITION, as `nextFrom` said"
MOMENT = "a time such as 2026-11-25T13:00:00Z, or 90s, 2h, 7d ago"
LIMIT = f"a whole number from 1 to {limits.AUDIT_PAGE_MAX}"
TOKEN = f"a whole number from 1 to {limits.NUMBER_MAX}"
_TEXTS = {
    "resource": limits.RESOURCE_SIZE_MAX,
    "prefix": limits.RESOURCE_SIZE_MAX,
    "owner": limits.OWNER_SIZE_MAX,
    "operation": limits.OPERATION_SIZE_MAX,
}
NAMES = ("from", *_TEXTS, "token", "since", "until", "limit")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class RecordsPage(NamedTuple):
    """Which records: the fields of AUDIT_READ, in their order."""

    from_index: int
    from_position: int
    resource: str | None
    prefix: str | None
    owner: str | None
    token: int | None
    operation: str | None
    since_us: int | None
    until_us: int | None
    limit: int


class RecordsHandler:
    """GET /api/v1/audit."""

    def __init__(self, gateway: "Gateway", caller_of: Any) -> None:
        self._gateway = gateway
        self._caller_of = caller_of

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the route."""
        router.add_get(PATH, self.records)

    async def records(self, request: web.Request) -> web.Response:
        """GET …?resource=&prefix=&owner=&token=&operation=&since=&until=&from=&limit=."""
        page = records_page(request.query)
        found = await self._gateway.records(page, self._caller_of(request))
        applied_index, spans, index, position, complete, rows = found
        following = None if complete else next_path(page, index, position)
        headers = {"Cache-Control": "no-store"}
        if following is not None:
            headers["Link"] = f'<{following}>; rel="next"'
        body = {
            "records": [{k: v for k, v in row.items() if v != ""} for row in rows],
            "next": following,
            "nextFrom": f"{index}.{position}",
            "complete": complete,
            "appliedIndex": applied_index,
            "spans": spans,
        }
        return web.Response(body=line(body), content_type="application/json", headers=headers)


def records_page(query: Mapping[str, str]) -> RecordsPage:
    """Read the query."""
    only(query, NAMES)
    texts = {name: query.get(name) for name in _TEXTS}
    for name, text in texts.items():
        if text is not None:
            check_text(text, name, _TEXTS[name], f"text of 1 to {_TEXTS[name]} bytes of UTF-8")
    begin = query.get("from", "1")
    match = re.fullmatch(r"(\d{1,16})(?:\.(\d{1,16}))?", begin, re.ASCII)
    index, position = (int(match[1]), int(match[2] or 0)) if match else (0, 0)
    if not (1 <= index <= limits.NUMBER_MAX and position <= limits.NUMBER_MAX):
        raise bad_field("from", f"{show(begin)} is not allowed", FROM)
    return RecordsPage(
        index,
        position,
        texts["resource"],
        texts["prefix"],
        texts["owner"],
        _number(query["token"], "token", limits.NUMBER_MAX, TOKEN) if "token" in query else None,
        texts["operation"],
        _moment(query, "since"),
        _moment(query, "until"),
        _number(query.get("limit", str(LIMIT_DEFAULT)), "limit", limits.AUDIT_PAGE_MAX, LIMIT),
    )


def next_path(page: RecordsPage, index: int, position: int) -> str:
    """Return where the next page is, with times that stand still."""
    asked: dict[str, Any] = {
        **{name: getattr(page, name) for name in (*_TEXTS, "token")},
        "since": _text(page.since_us),
        "until": _text(page.until_us),
        "limit": page.limit,
        "from": f"{index}.{position}",
    }
    return f"{PATH}?{urlencode({name: v for name, v in asked.items() if v is not None})}"


def _number(text: str, name: str, high: int, allowed: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and 1 <= int(text) <= high):
        raise bad_field(name, f"{show(text)} is not allowed", allowed)
    return int(text)


def _moment(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    # A plus in a query is a space to those who decode it.
    ago = re.fullmatch(r"(\d{1,9})([smhd])", text, re.ASCII)
    try:
        if ago is not None:
            moment = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            moment = datetime.fromisoformat(text.replace(" ", "+"))
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0, (moment - _EPOCH) // timedelta(microseconds=1))
    except (OverflowError, ValueError):
        raise bad_field(name, f"{show(text)} is not allowed", MOMENT) from None


def _text(wall_us: int | None) -> str | None:
    if wall_us is None:
        return None
    return f"{_EPOCH + timedelta(microseconds=wall_us):%Y-%m-%dT%H:%M:%S.%f}Z"
