"""The HTTP server itself on a socket: every answer is a problem or 200, a bug's too, and carries the request's id."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from raftlock.server.http.server import HttpServer
from raftlock.server.meter import Meter
from raftlock_wire.codec import unpack
from raftlock_wire.messages import Op
from tests.e2e.conftest import free_ports

ACQUIRE = json.dumps({"resourceId": "r", "ttl": 1, "clientId": "c"})


class BrokenNode:
    """A node whose core raises what nobody expects."""

    connection_count = 0
    runner = None
    shipping = None

    def __init__(self, port: int, metrics: str) -> None:
        self.config = SimpleNamespace(metrics=metrics, http_address=f"127.0.0.1:{port}", node_id=1)
        self.store = SimpleNamespace(cluster_id="c")
        self.driver = None
        self.meter = Meter()

    def attach(self, port: Any) -> str:
        """Let nobody in."""
        raise LookupError("a bug")


class Server:
    """A server, and a client of a few lines."""

    def __init__(self, metrics: str = "on", kind: type[BrokenNode] = BrokenNode) -> None:
        (self._port,) = free_ports(1)
        self.node = kind(self._port, metrics)
        self.http = HttpServer(self.node)  # type: ignore[arg-type]

    async def send(self, data: str) -> tuple[int, dict[str, str], Any]:
        """Send bytes on a connection of their own. Return status, headers and JSON."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(data.encode())
        async with asyncio.timeout(20):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await reader.readexactly(int(headers["content-length"]))
            if int(head[0].split()[1]) == 500 or "host: x" not in data:
                headers["closed"] = str(await reader.read() == b"")
        writer.close()
        is_json = "json" in headers["content-type"]
        return int(head[0].split()[1]), headers, json.loads(body) if is_json else body.decode()

    async def ask(self, method: str, path: str, body: str = "", **more: str) -> Any:
        """Send a request."""
        headers = {"content-type": "application/json", **more, "content-length": str(len(body))}
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        return await self.send(f"{method} {path} HTTP/1.1\r\nhost: x\r\n{lines}\r\n{body}")


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    """A server of a broken node."""
    found = Server()
    await found.http.start()
    yield found
    await found.http.stop()


async def test_a_bug_is_a_problem_with_the_requests_id(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """500 `internal`, of unknown outcome; the log has one event with the traceback and the same id."""
    with caplog.at_level(logging.ERROR):
        status, headers, problem = await server.ask(
            "POST", "/api/v1/locks/acquire", ACQUIRE, x_request_id="order-7"
        )

    assert (status, headers["content-type"]) == (500, "application/problem+json")
    assert (problem["type"], problem["outcome"], problem["requestId"], problem["success"]) == (
        "urn:raftlock:problem:internal", "unknown", "order-7", False,
    )  # fmt: skip
    assert (headers["x-request-id"], headers["closed"]) == ("order-7", "True")
    (record,) = caplog.records
    assert record.event == "http_failed"  # type: ignore[attr-defined]
    assert record.fields["request_id"] == "order-7"  # type: ignore[attr-defined]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)
    scraped = (await server.ask("GET", "/metrics"))[2]
    counted = 'raftlock_http_requests_total{code="500",route="/api/v1/locks/acquire"} 1.0'
    assert counted in scraped.splitlines()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind"),
    [
        ("GET", "/nowhere", "", 404, "not-found"),
        ("DELETE", "/api/v1/locks/acquire", "", 405, "method-not-allowed"),
        ("POST", "/api/v1/locks/acquire", "x" * 20_000, 413, "too-large"),
        ("POST", "/api/v1/locks/acquire", "{", 400, "bad-request"),
        ("POST", "/api/v1/locks/acquire", '{"ttl": NaN}', 400, "bad-request"),
        ("POST", "/api/v1/locks/acquire", "[" * 16_000, 400, "bad-request"),
        ("GET", "/readyz", "", 503, "unavailable"),
    ],
)
async def test_what_is_refused_is_a_problem(
    server: Server, method: str, path: str, body: str, status: int, kind: str
) -> None:
    """Whoever refuses it, aiohttp's router included: problem details, with an id that was made for it."""
    found, headers, problem = await server.ask(method, path, body)

    assert (found, problem["status"], headers["content-type"]) == (
        status, status, "application/problem+json",
    )  # fmt: skip
    assert problem["type"] == f"urn:raftlock:problem:{kind}"
    assert headers["x-request-id"] == problem["requestId"] != ""
    assert ("allow" in headers) == (status == 405)


async def test_metrics_that_are_off_are_not_found() -> None:
    """`metrics = "off"`: the path is a 404 that says why."""
    off = Server("off")
    await off.http.start()
    status, _, problem = await off.ask("GET", "/metrics")
    await off.http.stop()

    assert (status, "switched off" in problem["detail"]) == (404, True)


@pytest.mark.parametrize(
    "data",
    ["hello, lock server\r\n\r\n", "GET / HTTP/1.1\r\nbad header\r\n\r\n", "\x16\x03\x01\r\n\r\n"],
)
async def test_what_is_no_http_is_a_problem(server: Server, data: str) -> None:
    """Bytes that no handler ever sees get a problem and the end of the connection, and are counted."""
    status, headers, problem = await server.send(data)

    assert (status, headers["content-type"], headers["closed"]) == (
        400, "application/problem+json", "True",
    )  # fmt: skip
    assert (problem["type"], problem["outcome"]) == ("urn:raftlock:problem:bad-request", "refused")
    assert problem["requestId"] == headers["x-request-id"]
    assert server.node.meter.http_refused["bad_http"] == 1


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "rot13"])
async def test_an_encoded_body_is_refused_unread(server: Server, encoding: str) -> None:
    """Nothing is unpacked, whether it is what it says or not, and the node calls nothing a bug of its own."""
    status, _, problem = await server.ask(
        "POST", "/api/v1/locks/acquire", ACQUIRE, content_encoding=encoding
    )

    assert (status, problem["field"], problem["allowed"]) == (415, "Content-Encoding", "identity")


class Listening(BrokenNode):
    """A node that keeps what a lane says, and ends the conversation then."""

    def __init__(self, port: int, metrics: str) -> None:
        super().__init__(port, metrics)
        self.heard: list[Any] = []

    def attach(self, port: Any) -> str:
        """Let everybody in."""
        port.tag = 1
        return ""

    def client_frame(self, port: Any, payload: bytes) -> None:
        """Keep a frame."""
        self.heard += unpack(payload)
        if len(self.heard) > 1:
            port.close()

    def client_disconnected(self, port: Any) -> None:
        """Forget it."""


async def test_bearer_credentials_are_handed_on() -> None:
    """The token of Authorization is the credentials of the hello, as a client's own; without one there are none."""
    server = Server(kind=Listening)
    await server.http.start()
    heard = []
    for headers in ({"authorization": "Bearer s3cret"}, {"authorization": "bEARER x"}, {}):
        server.node.heard.clear()  # type: ignore[attr-defined]
        await server.ask("GET", "/api/v1/locks/r", **headers)
        heard.append(server.node.heard[0])  # type: ignore[attr-defined]
    await server.http.stop()

    assert heard == [
        (int(Op.HELLO), 1, 1, 1, None, token, "http") for token in ("s3cret", "x", None)
    ]


async def test_an_id_that_may_not_stand_in_a_log_is_replaced(server: Server) -> None:
    """A caller's id comes back as it is; one that is too long or not printable does not."""
    given = [(await server.ask("GET", "/healthz", x_request_id=i))[1]["x-request-id"]
             for i in ("a b", "x" * 128, "x" * 129, "caf\u00e9")]  # fmt: skip

    assert given[:2] == ["a b", "x" * 128]
    assert [len(made) for made in given[2:]] == [16, 16]
