"""What callers of HTTP do wrong.

docs/faults.md has the table of these tests.
"""

import contextlib
import json
import resource as rlimits
import socket
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from raftlock_wire import limits
from raftlock_wire.messages import Op
from tests.e2e.conftest import Cluster
from tests.e2e.raw import RawClient
from tests.e2e.scrape import grows
from tests.e2e.strangers import SERVED, serves

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


REQUESTS = 'raftlock_http_requests_total{code="%d", route="%s"}'
JSON = {"content-type": "application/json"}


def http(root: str, method: str, path: str, data: bytes | None) -> tuple[int, str, dict[str, Any]]:
    """Send a request of any kind. Return its status, type and JSON."""
    request = urllib.request.Request(root + path, data=data, headers=JSON, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.headers["content-type"], json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["content-type"], json.load(error)


@pytest.mark.parametrize(
    ("method", "path", "data", "status", "kind"),
    [
        ("GET", "/nowhere", None, 404, "not-found"),
        ("DELETE", "/api/v1/locks/acquire", None, 405, "method-not-allowed"),
        ("POST", "/api/v1/locks/acquire", b"{", 400, "bad-request"),
        ("POST", "/api/v1/locks/acquire", b'{"ttl": 0}', 400, "bad-request"),
        ("POST", "/api/v1/locks/acquire", b"x" * 20_000, 413, "too-large"),
    ],
)
def test_a_wrong_http_request_is_a_problem(
    steady: Cluster, method: str, path: str, data: bytes | None, status: int, kind: str
) -> None:
    """Problem details with the request's id, counted by route and code."""
    route = "unknown" if status in (404, 405) else path
    root = steady.http(1)
    with grows(root, REQUESTS % (status, route)):
        code, content_type, problem = http(root, method, path, data)

    assert (code, content_type, problem["status"]) == (status, "application/problem+json", status)
    assert problem["type"] == f"urn:raftlock:problem:{kind}"
    assert problem["requestId"]


def http_endpoint(cluster: Cluster, node_id: int) -> str:
    """Return a node's HTTP address."""
    return cluster.http(node_id).removeprefix("http://")


def test_what_is_no_http_is_refused(steady: Cluster) -> None:
    """A client of the protocol on the wrong port gets an HTTP 400 and the end of its connection."""
    with (
        grows(steady.http(1), 'raftlock_http_connections_refused_total{reason="bad_http"}'),
        RawClient(http_endpoint(steady, 1), hello=False) as client,
    ):
        client.send(Op.HELLO, 1, 1, None, None, "lost")
        client.send_bytes(b"\r\n\r\n")
        answer = client.rest()

    assert answer.startswith(b"HTTP/1.0 400 Bad Request\r\n")
    assert b"application/problem+json" in answer


def dribble(client: RawClient, *, seconds: int) -> None:
    """Send a header twice a second, until the connection breaks or the time is over."""
    for number in range(2 * seconds):
        client.send_bytes(b"x-%d: y\r\n" % number)
        time.sleep(0.5)


def test_headers_that_never_end_are_cut_off(steady: Cluster) -> None:
    """A request that dribbles has 10 s for its headers, whatever it sends meanwhile."""
    with (
        grows(steady.http(1), 'raftlock_http_connections_refused_total{reason="slow"}'),
        RawClient(http_endpoint(steady, 1), hello=False) as client,
    ):
        client.send_bytes(b"GET /healthz HTTP/1.1\r\n")
        with pytest.raises(OSError):
            dribble(client, seconds=30)

    assert serves(steady.endpoint(1)) == SERVED


def test_http_connections_are_bounded(steady: Cluster) -> None:
    """Beyond 4,096 a connection is closed at once, and clients of the protocol are served."""
    soft, hard = rlimits.getrlimit(rlimits.RLIMIT_NOFILE)
    if hard != rlimits.RLIM_INFINITY and hard < 5_500:
        pytest.skip(f"the hard limit of open files is {hard}: 4,096 connections need 5,500")
    rlimits.setrlimit(rlimits.RLIMIT_NOFILE, (max(soft, 5_500), hard))
    host, _, port = http_endpoint(steady, 3).rpartition(":")
    callers: list[socket.socket] = []
    try:
        with grows(steady.http(3), 'raftlock_http_connections_refused_total{reason="limit"}'):
            for _ in range(limits.HTTP_CONNECTIONS_MAX + 50):
                caller = socket.create_connection((host, int(port)), timeout=60)
                callers.append(caller)
                # One that was answered may idle for a minute; a silent one only for ten seconds.
                with contextlib.suppress(OSError):
                    caller.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
                    caller.recv(4_096)
            served = serves(steady.endpoint(3))
            # They make room for the scrape.
            for caller in callers:
                caller.close()
    finally:
        for caller in callers:
            caller.close()
        rlimits.setrlimit(rlimits.RLIMIT_NOFILE, (soft, hard))

    assert served == SERVED
