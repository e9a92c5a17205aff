"""The handlers of the lock operations: HTTP requests to the gateway, and its results to JSON.

It owns the shape of the answers. Which fields there are stands in `openapi`, and a test holds the two together.
"""

import asyncio
import time
from typing import Any

from aiohttp import web

from raftlock.server.http import bodies
from raftlock.server.http.acquiring import Granted
from raftlock.server.http.gateway import Caller, Gateway
from raftlock.server.http.lane import NotServed
from raftlock.server.http.problems import Problem, bad_field, line
from raftlock_wire.limits import HTTP_HEADER_TIMEOUT_S
from raftlock_wire.messages import GrantState
from raftlock_wire.status import Status

PREFIX = "/api/v1/locks"
CALLER = web.RequestKey("caller", Caller)


class LockHandlers:
    """One handler an operation."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_post(f"{PREFIX}/acquire", self.acquire)
        router.add_post(f"{PREFIX}/renew", self.renew)
        router.add_post(f"{PREFIX}/release", self.release)
        router.add_post(f"{PREFIX}/check", self.check)
        router.add_get(PREFIX, self.list)
        router.add_get(f"{PREFIX}/{{resource:.+}}", self.get)

    async def acquire(self, request: web.Request) -> web.Response:
        """POST …/acquire."""
        order = bodies.acquire_order(await read(request))
        key = bodies.idempotency_key(request.headers.get("Idempotency-Key"))
        acquired = await self._gateway.acquire(order, key=key, caller=caller_of(request))
        heard = request.transport is not None and not request.transport.is_closing()
        acquired.settle(heard=heard)
        return answer(self._granted(acquired.granted))

    async def renew(self, request: web.Request) -> web.Response:
        """POST …/renew."""
        grant = bodies.grant(await read(request))
        return answer(self._granted(await self._gateway.renew(grant, caller_of(request))))

    async def release(self, request: web.Request) -> web.Response:
        """POST …/release."""
        grant = bodies.grant(await read(request))
        released = await self._gateway.release(grant, caller_of(request))
        return answer({"success": True, "released": released})

    async def check(self, request: web.Request) -> web.Response:
        """POST …/check."""
        grant = bodies.grant(await read(request))
        checked = await self._gateway.check(grant, caller_of(request))
        held = checked[1] == Status.OK
        current = checked[3] if checked[1] == Status.NOT_HELD else grant.token
        return answer(
            {"held": held, "status": Status(checked[1]).name, "currentToken": current or None}
        )

    async def get(self, request: web.Request) -> web.Response:
        """GET …/{resource}."""
        raw = request.rel_url.raw_path.removeprefix(f"{PREFIX}/")
        resource = bodies.resource_in_path(raw)
        stale = bodies.stale(request.query)
        age_ms, info = await self._gateway.get(resource, caller_of(request), stale=stale)
        if info is None:
            raise Problem("not-found", f"nobody holds {resource!r}")
        return answer({**lock_of(info), "ageMs": age_ms})

    async def list(self, request: web.Request) -> web.Response:
        """GET …?prefix=&owner=&cursor=&limit=&stale=."""
        page = bodies.page(request.query)
        age_ms, infos, cursor = await self._gateway.page(page, caller_of(request))
        return answer(
            {"locks": [lock_of(info) for info in infos], "cursor": cursor or None, "ageMs": age_ms}
        )

    def _granted(self, granted: Granted) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "success": True,
            "lockToken": granted.token,
            "lockId": f"{granted.resource}#{granted.token}",
            "ttl": granted.ttl_ms / 1_000,
            "expiresAt": None,
            "expiresInMs": None,
        }
        if granted.deadline_s is not None:
            left_ms = max(0, int((granted.deadline_s - self._gateway.clock()) * 1_000))
            shown["expiresInMs"] = left_ms
            shown["expiresAt"] = time.time_ns() // 1_000_000 + left_ms
        return shown


def lock_of(info: tuple[Any, ...]) -> dict[str, Any]:
    """Return what HTTP shows of a lock."""
    return {
        "resourceId": info[0],
        "state": GrantState(info[1]).name,
        "lockToken": info[2],
        "lockId": f"{info[0]}#{info[2]}",
        "clientId": info[4],
        "session": info[5],
        "ttl": info[8] / 1_000,
        "acquiredAt": info[9] // 1_000,
        "clientAddress": info[11],
        "metadata": info[12],
        "waiters": info[13],
        "expiresInMs": info[14],
    }


async def read(request: web.Request) -> dict[str, Any]:
    """Read a JSON body within its time and size. JSON only: no page in a browser can send that to another site."""
    if request.content_type != "application/json":
        raise Problem(
            "unsupported-media-type",
            f"Content-Type is {request.content_type!a}: send application/json (curl --json)",
            field="Content-Type",
            allowed="application/json",
        )
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise Problem(
            "unsupported-media-type",
            f"Content-Encoding is {encoding!a}: send the body as it is",
            field="Content-Encoding",
            allowed="identity",
        )
    try:
        async with asyncio.timeout(HTTP_HEADER_TIMEOUT_S):
            data = await request.read()
    except TimeoutError:
        raise bad_field(
            "body", f"it did not come within {HTTP_HEADER_TIMEOUT_S} s", "one JSON object"
        ) from None
    return bodies.decode(data)


def caller_of(request: web.Request) -> Caller:
    """Return who asks. Bearer credentials go to the core as a client's do; nothing checks them yet."""
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    caller = Caller(
        address=f"{peer[0]}:{peer[1]}" if peer else "unknown",
        credentials=bodies.bearer(request.headers.get("Authorization")),
    )
    request[CALLER] = caller
    return caller


def answer(body: dict[str, Any]) -> web.Response:
    """Return 200 with a JSON object."""
    return web.Response(body=line(body), content_type="application/json", headers=NO_STORE)


def not_served(error: NotServed) -> Problem:
    """Return the problem for a request that had no final answer."""
    kind = "unknown" if error.unknown else "unavailable"
    return Problem(kind, error.why, retry_after_ms=error.retry_after_ms)


NO_STORE = {"Cache-Control": "no-store"}
