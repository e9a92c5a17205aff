"""The HTTP server of a node: its socket, what each request passes through, and what is counted of it.

It owns the bounds of HTTP. It must not know what an operation does.
"""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from raftlock.server.http.gateway import Gateway
from raftlock.server.http.guard import Guards
from raftlock.server.http.health import NodeHandlers
from raftlock.server.http.lane import NotServed
from raftlock.server.http.locks import CALLER, LockHandlers, caller_of, not_served
from raftlock.server.http.problems import Problem
from raftlock.server.http.protocol import REQUEST_ID, Protocol, as_response, new_id
from raftlock.server.http.records import RecordsHandler
from raftlock.server.samples import node_samples
from raftlock.telemetry import logs
from raftlock.telemetry.exposition import Exposition, Samples
from raftlock.telemetry.histogram import DURATION_US, Histogram
from raftlock_wire.limits import (
    HTTP_BODY_SIZE_MAX,
    HTTP_IDLE_TIMEOUT_S,
    HTTP_REQUESTS_MAX,
    NONCE_SIZE,
)

if TYPE_CHECKING:
    from raftlock.server.node import Node

log = logging.getLogger("raftlock.http")

STOP_TIMEOUT_S = 1.0
LISTEN_BACKLOG = 1_024
CALLER_LEFT = "499"
"""The code under which a request is counted whose caller hung up."""
BUG = "500"
"""And one whose handler raised what it should not: the protocol answers it."""
REQUEST_ID_SIZE_MAX = 128
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def clock_s() -> float:
    """Return a clock that also runs while the machine sleeps, where there is one (guarantee 10)."""
    return time.clock_gettime(_CLOCK)


class HttpServer:
    """Serves HTTP for one node."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._gateway = Gateway(
            node,
            cluster_id=lambda: node.store.cluster_id or "",
            clock=clock_s,
            jitter=random.SystemRandom().random,
            nonces=lambda: secrets.token_bytes(NONCE_SIZE),
        )
        exposition = Exposition(self._samples) if node.config.metrics == "on" else None
        app = web.Application(client_max_size=HTTP_BODY_SIZE_MAX, middlewares=[self._middleware])
        LockHandlers(self._gateway).add_to(app.router)
        RecordsHandler(self._gateway, caller_of).add_to(app.router)
        NodeHandlers(node, exposition).add_to(app.router)
        # A caller who hangs up ends his handler: that is how a waiting acquire is withdrawn.
        self._runner = web.AppRunner(
            app,
            handler_cancellation=True,
            shutdown_timeout=STOP_TIMEOUT_S,
        )
        self._guards: Guards | None = None
        self._socket: asyncio.Server | None = None
        self._in_progress = 0
        self._answered: dict[tuple[str, ...], float] = {}
        self._durations: dict[str, Histogram] = {}

    # life

    async def start(self) -> None:
        """Listen. Raise OSError when the address is taken."""
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        refused = self._node.meter.http_refused

        def bad_http() -> None:
            refused["bad_http"] += 1

        self._guards = Guards(
            lambda: Protocol(server, bad_http=bad_http, idle_timeout_s=HTTP_IDLE_TIMEOUT_S),
            refused,
        )
        host, _, port = self._node.config.http_address.rpartition(":")
        self._socket = await asyncio.get_running_loop().create_server(
            self._guards.incoming, host.strip("[]"), int(port), backlog=LISTEN_BACKLOG
        )

    async def stop(self) -> None:
        """Stop listening, and end what is under way."""
        if self._socket is not None:
            self._socket.close()
        await self._runner.cleanup()
        await self._gateway.stop()

    # requests

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Bound, time and count a request; turn what it raises into a problem."""
        assert self._guards is not None
        transport = request.transport
        route = _route(request)
        request[REQUEST_ID] = request_id = id_of(request)
        began_s = time.monotonic()
        code = BUG
        self._guards.request_begins(transport)
        self._in_progress += 1
        try:
            response = await self._answer(request, handler)
            code = str(response.status)
            response.headers["X-Request-Id"] = request_id
            return response
        except asyncio.CancelledError:
            code = CALLER_LEFT
            raise
        finally:
            self._in_progress -= 1
            self._guards.request_ends(transport)
            self._count(route, code, int((time.monotonic() - began_s) * 1e6))
            if log.isEnabledFor(logging.DEBUG):
                self._trace(request, route, code)

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            # Health and metrics answer also then.
            busy = self._in_progress + self._gateway.withdrawals
            if busy > HTTP_REQUESTS_MAX and request.path.startswith("/api/"):
                raise Problem(
                    "overloaded",
                    f"more than {HTTP_REQUESTS_MAX} requests are under way on this node",
                    retry_after_ms=1_000,
                )
            return await handler(request)
        except Problem as problem:
            return as_response(problem, request[REQUEST_ID])
        except NotServed as error:
            return as_response(not_served(error), request[REQUEST_ID])
        except web.HTTPException as error:
            return as_response(_problem_of(error, request), request[REQUEST_ID])

    # what is counted

    def _count(self, route: str, code: str, took_us: int) -> None:
        key = (route, code)
        self._answered[key] = self._answered.get(key, 0) + 1
        histogram = self._durations.get(route)
        if histogram is None:
            histogram = self._durations[route] = Histogram(DURATION_US)
        histogram.observe(took_us)

    def _samples(self) -> Samples:
        return {
            **node_samples(self._node),
            "raftlock_http_requests_total": {**self._answered},
            "raftlock_http_request_duration_seconds": {
                (route,): (histogram, 1e-6) for route, histogram in self._durations.items()
            },
            "raftlock_http_requests_in_progress": {(): self._in_progress},
            "raftlock_http_withdrawals_in_progress": {(): self._gateway.withdrawals},
            "raftlock_http_connections": {(): len(self._guards) if self._guards else 0},
        }

    @staticmethod
    def _trace(request: web.Request, route: str, code: str) -> None:
        caller = request.get(CALLER)
        logs.event(
            log,
            "http_request",
            level=logging.DEBUG,
            method=request.method,
            route=route,
            code=code,
            conn=caller.conn if caller is not None else 0,
            request_id=request[REQUEST_ID],
        )


def _route(request: web.Request) -> str:
    """Return the pattern of the path: few enough to be a label."""
    resource = request.match_info.route.resource
    return "unknown" if resource is None else resource.canonical


def id_of(request: web.Request) -> str:
    """Return the caller's id of a request, or one made for it when there is none that may stand in a log."""
    given = request.headers.get("X-Request-Id", "")
    fits = 1 <= len(given) <= REQUEST_ID_SIZE_MAX and given.isascii() and given.isprintable()
    return given if fits else new_id()


def _problem_of(error: web.HTTPException, request: web.Request) -> Problem:
    """Return what aiohttp refuses, as a problem. Raise what is none of it."""
    match error:
        case web.HTTPRequestEntityTooLarge():
            return Problem(
                "too-large",
                f"the body has more than {HTTP_BODY_SIZE_MAX} bytes",
                field="body",
                allowed=f"at most {HTTP_BODY_SIZE_MAX} bytes",
            )
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            return Problem("method-not-allowed", f"{request.method!a}", allowed=allowed)
        case web.HTTPNotFound():
            return Problem("not-found", f"no such path: {request.path!a}")
        case _:
            raise error
