"""aiohttp's side of a connection, with this interface's last word: what no handler answered is a problem too.

It owns the answers to what is no HTTP, and to a bug in a handler. It must not know what a request asks for.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import web

from raftlock.server.http.problems import CONTENT_TYPE, Problem
from raftlock.telemetry import logs

log = logging.getLogger("raftlock.http")

REQUEST_ID = web.RequestKey("request_id", str)
"""Under which a request keeps its id."""


class Protocol(web.RequestHandler):
    """aiohttp's protocol of one connection. Made with `bad_http`, which is told of what is no HTTP."""

    __slots__ = ("_bad_http",)

    def __init__(
        self, manager: web.Server, *, bad_http: Callable[[], None], idle_timeout_s: float
    ) -> None:
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=idle_timeout_s,
            # A body is read as it comes: `read` refuses encodings, and none grows in this node's memory.
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own word for none
        )
        self._bad_http = bad_http

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what was not answered, and close the connection (aiohttp.web.RequestHandler)."""
        request_id = request.get(REQUEST_ID) or new_id()
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            problem = self._bug(request, request_id)
        else:
            self._bad_http()
            first_line = (message or str(exc)).strip().partition("\n")[0]
            problem = Problem("bad-request", f"this is no HTTP: {first_line:.200}", field="request")
        if request.writer is not None and request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        response = as_response(problem, request_id)
        response.force_close()
        return response

    @staticmethod
    def _bug(request: web.BaseRequest, request_id: str) -> Problem:
        logs.event(
            log,
            "http_failed",
            level=logging.ERROR,
            exc_info=True,
            method=request.method,
            path=f"{request.path:.200}",
            request_id=request_id,
        )
        why = f"a bug in this node; its log has the event http_failed with the request id {request_id}"
        return Problem("internal", why)


def new_id() -> str:
    """Return an id for a request that came without one."""
    return secrets.token_hex(8)


def as_response(problem: Problem, request_id: str) -> web.Response:
    """Return a problem as an answer to a request."""
    headers = {
        "Content-Type": CONTENT_TYPE,
        "Cache-Control": "no-store",
        "X-Request-Id": request_id,
        **problem.headers(),
    }
    problem.extra["requestId"] = request_id
    return web.Response(status=problem.status, body=problem.body(), headers=headers)
