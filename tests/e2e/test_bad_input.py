"""What strangers and broken clients send: each gets an answer that says what is wrong, and others are served meanwhile.

docs/faults.md has the table of these tests.
"""

import asyncio
import contextlib
import json
import random
import resource as rlimits
import socket
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from raftlock.client import AsyncClient
from raftlock.server import handshake
from raftlock_wire import limits
from raftlock_wire.ids import NodeId
from raftlock_wire.messages import Event, ListBy, Op
from raftlock_wire.status import Status
from tests.e2e.conftest import Cluster
from tests.e2e.node import events
from tests.e2e.raw import RawClient
from tests.e2e.scrape import becomes, grows, scrape

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]

NONCES = iter(range(1, 1 << 40))


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes for the whole module: nothing here may harm them."""
    running = Cluster(tmp_path_factory.mktemp("steady"))
    try:
        running.start_all()
        asyncio.run(running.leader())
        yield running
        assert {i: p.poll() for i, p in running.processes.items()} == {1: None, 2: None, 3: None}
        assert "Traceback" not in "".join(log_of(running, i) for i in running.ids)
    finally:
        running.stop_all()


def log_of(cluster: Cluster, node_id: int) -> str:
    """Return what a node logged."""
    return (cluster.folder / f"node-{node_id}.log").read_text()


def nonce() -> bytes:
    """Return one that was not used."""
    return next(NONCES).to_bytes(16, "big")


def open_session(client: RawClient, ttl_ms: int = 60_000) -> int:
    """Open a session of a connection's own."""
    answer = client.ask_until_final(Op.OPEN_SESSION, nonce(), ttl_ms)
    assert answer[0] == Status.OK
    return int(answer[2])


def serves(endpoint: str) -> list[int]:
    """Acquire and release a lock at a node as others do. Return the statuses."""
    with RawClient(endpoint) as client:
        session = open_session(client)
        name = f"served:{session}"
        acquired = client.ask_until_final(Op.ACQUIRE, session, 0, 1, name, "o", 10_000, 0, None)
        released = client.ask_until_final(Op.RELEASE, name, acquired[3])
        closed = client.ask_until_final(Op.CLOSE_SESSION, session)
        return [int(hello) for hello in (acquired[0], released[0], closed[0])]


SERVED = [Status.OK, Status.OK, Status.OK]


def last_words(client: RawClient) -> tuple[Any, ...]:
    """Return the goodbye with which the server closes a connection: (code, text)."""
    while (frame := client.frame()) is not None:
        for message in frame[1:]:
            if message[:2] == (0, Event.GOODBYE):
                assert client.frame() is None
                return tuple(message[2:])
    raise AssertionError("the server closed without a word")


def send_frame(client: RawClient, payload: bytes) -> None:
    """Send one frame with any payload."""
    client.send_bytes(struct.pack(">I", len(payload)) + payload)


# bytes that are no protocol


def test_random_bytes_end_their_connection_alone(steady: Cluster) -> None:
    """Garbage on 40 connections, framed and not: each is closed with a word, and the node serves on."""
    rng = random.Random(7)
    codes = set()
    with grows(
        steady.http(1),
        'raftlock_refusals_total{reason="bad_frame"}',
        'raftlock_client_connections_refused_total{reason="bad_frame"}',
        'raftlock_client_connections_refused_total{reason="frame_too_large"}',
    ):
        for number in range(40):
            with RawClient(steady.endpoint(1), hello=False) as client:
                junk = rng.randbytes(rng.randint(5, 4_096))
                # Half of them are framed properly: what they hold is still no message.
                if number % 2:
                    send_frame(client, junk)
                else:
                    client.send_bytes(b"\xff" + junk)
                codes.add(last_words(client)[0])

    assert (codes, serves(steady.endpoint(1))) == ({"frame_too_large", "bad_frame"}, SERVED)
    assert events(log_of(steady, 1), "client_refused")


@pytest.mark.parametrize(
    ("hello", "size_max"), [(False, limits.HELLO_FRAME_SIZE_MAX), (True, limits.FRAME_SIZE_MAX)]
)
def test_a_huge_frame_is_refused_by_its_header(steady: Cluster, hello: bool, size_max: int) -> None:
    """The announced size is judged, not read; the sender gets the limit in words although it goes on sending."""
    with (
        grows(
            steady.http(1),
            'raftlock_client_connections_refused_total{reason="frame_too_large"}',
        ),
        RawClient(steady.endpoint(1), hello=hello) as client,
    ):
        client.send_bytes(struct.pack(">I", size_max + 1) + bytes(64 << 10))
        words = last_words(client)

    assert words == ("frame_too_large", f"frame of {size_max + 1} bytes exceeds {size_max}")


def stream(client: RawClient, *, seconds: float) -> None:
    """Send zeros until the connection breaks or the time is over."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        client.send_bytes(bytes(1 << 20))


def test_an_endless_frame_costs_no_memory(steady: Cluster) -> None:
    """A stream that never ends its frame is closed; the node holds none of it."""
    before = rss(steady, 1)
    with (
        grows(
            steady.http(1),
            'raftlock_client_connections_refused_total{reason="frame_too_large"}',
        ),
        RawClient(steady.endpoint(1)) as client,
    ):
        client.send_bytes(struct.pack(">I", (1 << 32) - 1))
        with pytest.raises(OSError):
            stream(client, seconds=60)

    assert rss(steady, 1) - before < 32 << 20


def test_a_slow_hello_is_cut_off(steady: Cluster) -> None:
    """A client that says its hello a byte a second is told after 5 s that it took too long."""
    with (
        grows(
            steady.http(1),
            'raftlock_client_connections_refused_total{reason="no_hello"}',
        ),
        RawClient(steady.endpoint(1), hello=False) as client,
    ):
        client.send_bytes(struct.pack(">I", 30))
        for _ in range(2):
            client.send_bytes(b"\x91")
            assert serves(steady.endpoint(1)) == SERVED
            time.sleep(1)
        words = last_words(client)

    assert words == ("hello", f"no hello within {limits.HELLO_TIMEOUT_MS} ms")


def test_an_unknown_version_is_told_the_known_one(steady: Cluster) -> None:
    """A client that speaks only later versions learns which this node speaks."""
    with (
        grows(
            steady.http(1),
            'raftlock_client_connections_refused_total{reason="version"}',
        ),
        RawClient(steady.endpoint(1), hello=False) as client,
    ):
        answer = client.ask(Op.HELLO, 2, 9, None, None, "from the future")
        words = last_words(client)

    assert answer == (Status.UNSUPPORTED_VERSION, False, 1, 1)
    assert words == ("hello", "the hello was refused: this node speaks version 1")


def test_a_client_of_another_cluster_is_turned_away(steady: Cluster) -> None:
    """A client that names a cluster reaches no other one by mistake."""
    with RawClient(steady.endpoint(1)) as client:
        cluster_id = client.hello[3]
    with (
        grows(steady.http(1), 'raftlock_client_connections_refused_total{reason="cluster_id"}'),
        RawClient(steady.endpoint(1), hello=False) as client,
    ):
        answer = client.ask(Op.HELLO, 1, 1, "another", None, "lost")
        words = last_words(client)

    why = f"another is not this cluster, which is {cluster_id}"
    assert answer == (Status.BAD_REQUEST, False, "cluster_id", why)
    assert words == ("hello", f"the hello was refused: cluster_id: {why}")


def test_the_first_frame_is_a_hello(steady: Cluster) -> None:
    """A request before the hello is refused, and the connection closed."""
    with (
        grows(
            steady.http(1),
            'raftlock_client_connections_refused_total{reason="hello"}',
        ),
        RawClient(steady.endpoint(1), hello=False) as client,
    ):
        client.send(Op.GET, "x", False)
        words = last_words(client)

    assert (words[0], "HELLO" in words[1]) == ("hello", True)


# values that are not allowed

ACQUIRE = (Op.ACQUIRE, 1, 0, 1, "name", "owner", 10_000, 0, None)


def acquire_with(position: int, value: Any) -> tuple[Any, ...]:
    """Return an acquire with one other field."""
    fields = list(ACQUIRE)
    fields[position] = value
    return tuple(fields)


@pytest.mark.parametrize(
    ("request_", "field", "allowed"),
    [
        (acquire_with(4, ""), "resource", "1 to 512"),
        (acquire_with(4, "x" * 513), "resource", "1 to 512"),
        (acquire_with(4, "é" * 257), "resource", "1 to 512"),
        (acquire_with(4, 7), "resource", "1 to 512"),
        (acquire_with(5, ""), "owner", "1 to 256"),
        (acquire_with(5, "x" * 257), "owner", "1 to 256"),
        (acquire_with(6, 99), "ttl_ms", "100 to 86400000"),
        (acquire_with(6, 86_400_001), "ttl_ms", "100 to 86400000"),
        (acquire_with(6, -1), "ttl_ms", "100 to 86400000"),
        (acquire_with(6, 1.5), "ttl_ms", "100 to 86400000"),
        (acquire_with(6, True), "ttl_ms", "100 to 86400000"),
        (acquire_with(7, -1), "wait_ms", "0 to 86400000"),
        (acquire_with(7, 86_400_001), "wait_ms", "0 to 86400000"),
        (acquire_with(8, {"k": "x" * 1_024}), "metadata", "exceed 1024"),
        (acquire_with(8, {"k": 1}), "metadata", "text to text"),
        (acquire_with(8, "text"), "metadata", "map of text to text"),
        (acquire_with(2, 4_096), "slot", "0 to 4095"),
        (acquire_with(3, 0), "n", "1 to 9007199254740991"),
        ((Op.OPEN_SESSION, b"short", 10_000), "nonce", "16 bytes"),
        ((Op.OPEN_SESSION, bytes(16), 999), "ttl_ms", "1000 to 300000"),
        ((Op.RENEW, []), "leases", "1 to 1000"),
        ((Op.RELEASE, "name", 0), "token", "1 to 9007199254740991"),
        ((Op.LIST, 0, "", "", 1_001, False), "limit", "1 to 1000"),
        ((Op.FORCE_RELEASE, "name", 1, "", True), "reason", "1 to 1024"),
        ((99,), "code", "not a known request"),
        ((Op.GET, "name"), "request", "elements"),
    ],
)
def test_a_value_out_of_range_is_named_with_its_range(
    steady: Cluster, request_: tuple[Any, ...], field: str, allowed: str
) -> None:
    """BAD_REQUEST says which field and what is allowed; the connection stays, and serves on."""
    with (
        grows(
            steady.http(1),
            'raftlock_refusals_total{reason="bad_request"}',
        ),
        RawClient(steady.endpoint(1)) as client,
    ):
        status, final, named, problem = client.ask(*request_)
        after = client.ask_until_final(Op.GET, "after", False)

    assert (status, final, named) == (Status.BAD_REQUEST, False, field)
    assert allowed in problem
    assert after[0] == Status.OK


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resource": ""}, "resource: 0 bytes of UTF-8 are not within 1 to 512"),
        ({"resource": "x" * 513}, "resource: 513 bytes of UTF-8 are not within 1 to 512"),
        ({"ttl": 0.05}, "ttl: 0.05 is not within 0.1 to 86400 seconds"),
        ({"ttl": 86_401}, "ttl: 86401 is not within 0.1 to 86400 seconds"),
        ({"wait": -1}, "wait: -1 is not within 0 to 86400 seconds"),
        ({"owner": "x" * 257}, "owner: 257 bytes of UTF-8 are not within 1 to 256"),
        ({"metadata": {"k": "x" * 1_024}}, "metadata: 1030 bytes encoded exceed 1024"),
    ],
)
async def test_our_client_refuses_it_before_it_is_sent(
    steady: Cluster, arguments: dict[str, Any], message: str
) -> None:
    """The client names the field and the range in the caller's units."""
    async with AsyncClient(steady.endpoints) as client:
        with pytest.raises(ValueError) as raised:
            await client.acquire(**{"resource": "name", **arguments})

    assert str(raised.value) == message


def test_a_frame_of_mixed_requests_is_answered_one_by_one(steady: Cluster) -> None:
    """A wrong request beside good ones spoils none of them."""
    with (
        grows(
            steady.http(1),
            'raftlock_refusals_total{reason="bad_request"}',
        ),
        RawClient(steady.endpoint(1)) as client,
    ):
        batch = [[Op.GET, 11, "a", False], [Op.GET, 12, "", False], [Op.GET, 13, "c", False]]
        send_frame(client, msgpack.packb(batch))
        answers: dict[int, int] = {}
        while len(answers) < 3:
            frame = client.frame()
            assert frame is not None
            answers |= {message[0]: message[1] for message in frame[1:]}

    assert answers == {11: Status.OK, 12: Status.BAD_REQUEST, 13: Status.OK}


# too much of what is allowed


def rss(cluster: Cluster, node_id: int) -> int:
    """Return the resident bytes of a node."""
    pages = int(Path(f"/proc/{cluster.processes[node_id].pid}/statm").read_text().split()[1])
    return pages * rlimits.getpagesize()


def test_a_client_that_never_reads_is_disconnected(steady: Cluster) -> None:
    """Answers pile up for one that does not read: it is cut off, the node's memory stays bounded, others are served."""
    leader = asyncio.run(steady.leader())
    endpoint = steady.endpoint(leader)
    with RawClient(endpoint) as holder:
        session = open_session(holder)
        metadata = {"k": "x" * 1_000}
        batch = [
            [Op.ACQUIRE, 100 + i, session, i, 1, f"fat:{i}", "o", 60_000, 0, metadata]
            for i in range(1_000)
        ]
        send_frame(holder, msgpack.packb(batch))
        answered = 0
        while answered < len(batch):
            frame = holder.frame()
            assert frame is not None
            answered += len(frame) - 1
        before = rss(steady, leader)
        unread = 'raftlock_client_connections_refused_total{reason="unread"}'
        with grows(steady.http(leader), unread), RawClient(endpoint) as deaf:
            pages = [[Op.LIST, 1, ListBy.PREFIX, "fat:", "", 1_000, True]] * 16
            send_frame(deaf, msgpack.packb(pages))
            words = "it does not read what it is sent"
            until = time.monotonic() + 60
            while words not in log_of(steady, leader) and time.monotonic() < until:
                assert serves(endpoint) == SERVED
                time.sleep(0.5)
            assert serves(endpoint) == SERVED
            grown = rss(steady, leader) - before
        holder.ask_until_final(Op.CLOSE_SESSION, session)

    assert grown < 64 << 20
    assert words in log_of(steady, leader)


def test_a_frame_full_of_lists_does_not_stall_a_node(steady: Cluster) -> None:
    """4,096 pages asked for at once: a few are answered, the rest are told to come again."""
    with (
        grows(
            steady.http(1),
            'raftlock_refusals_total{reason="queue"}',
            by=4_096 - limits.PAGES_PER_TURN_MAX,
        ),
        RawClient(steady.endpoint(1)) as client,
    ):
        batch = [[Op.LIST, i + 1, ListBy.PREFIX, "", "", 1_000, True] for i in range(4_096)]
        send_frame(client, msgpack.packb(batch))
        statuses: list[int] = []
        while len(statuses) < 4_096:
            frame = client.frame()
            assert frame is not None
            statuses += [message[1] for message in frame[1:]]

    pages = limits.PAGES_PER_TURN_MAX
    assert (statuses.count(Status.OK), statuses.count(Status.OVERLOADED)) == (pages, 4_096 - pages)


def test_ten_thousand_connections(steady: Cluster) -> None:
    """10,000 clients are connected to one node at once, and one more is served as ever."""
    soft, hard = rlimits.getrlimit(rlimits.RLIMIT_NOFILE)
    if hard != rlimits.RLIM_INFINITY and hard < 11_500:
        pytest.skip(f"the hard limit of open files is {hard}: 10,000 connections need 11,500")
    rlimits.setrlimit(rlimits.RLIMIT_NOFILE, (max(soft, 11_500), hard))
    host, _, port = steady.endpoint(2).rpartition(":")
    payload = msgpack.packb([[Op.HELLO, 1, 1, 1, None, None, "many"]])
    hello = struct.pack(">I", len(payload)) + payload
    clients: list[socket.socket] = []
    try:
        for _ in range(10_000):
            client = socket.create_connection((host, int(port)), timeout=60)
            client.sendall(hello)
            clients.append(client)
        greeted = sum(bool(client.recv(4)) for client in clients)
        counted = scrape(steady.http(2))["raftlock_client_connections"]

        assert (greeted, serves(steady.endpoint(2))) == (10_000, SERVED)
        assert counted >= 10_000
    finally:
        for client in clients:
            client.close()
        rlimits.setrlimit(rlimits.RLIMIT_NOFILE, (soft, hard))
    becomes(steady.http(2), "raftlock_client_connections", 0)


def flood(client: RawClient, session: int) -> list[int]:
    """Let each slot of a session wait for one lock; ask again what was not answered for good. Return the statuses."""
    done: dict[int, int] = {}
    while missing := [slot for slot in range(limits.SLOTS_MAX) if slot not in done]:
        for part in filter(None, (missing[:2_048], missing[2_048:])):
            batch = [
                [Op.ACQUIRE, 1_000_000 + slot, session, slot, 1, "flood", "o", 10_000, 600_000, None]
                for slot in part
            ]  # fmt: skip
            send_frame(client, msgpack.packb(batch))
        answered = 0
        while answered < len(missing):
            frame = client.frame()
            assert frame is not None
            for message in frame[1:]:
                if message[0] >= 1_000_000:
                    answered += 1
                    if message[1] in (Status.QUEUED, Status.QUOTA_EXCEEDED):
                        done[message[0] - 1_000_000] = message[1]
    return list(done.values())


def test_a_flood_of_waiters_ends_at_the_limit(steady: Cluster) -> None:
    """A queue takes 100,000 waiters and not one more; another lock is served, and the queue goes with its sessions."""
    leader = asyncio.run(steady.leader())
    endpoint = steady.endpoint(leader)
    with RawClient(endpoint) as client:
        holder = open_session(client)
        held = client.ask_until_final(Op.ACQUIRE, holder, 0, 1, "flood", "o", 0, 0, None)
        sessions = [open_session(client) for _ in range(25)]
        statuses: dict[int, int] = {}
        over = 25 * 4_096 - limits.WAITERS_PER_RESOURCE_MAX
        with grows(
            [steady.http(i) for i in steady.ids],
            'raftlock_operations_total{operation="acquire", status="quota_exceeded"}',
            by=over,
        ):
            for session in sessions:
                for status in flood(client, session):
                    statuses[status] = statuses.get(status, 0) + 1
        assert serves(endpoint) == SERVED
        info = client.ask_until_final(Op.GET, "flood", False)
        for session in (*sessions, holder):
            client.ask_until_final(Op.CLOSE_SESSION, session)
        # The lock passes the dead waiters by in bounded steps.
        until = time.monotonic() + 60
        while client.ask_until_final(Op.GET, "flood", False)[3] is not None:
            assert time.monotonic() < until

    assert held[0] == Status.OK
    assert info[0] == Status.OK
    assert statuses == {
        Status.QUEUED: limits.WAITERS_PER_RESOURCE_MAX,
        Status.QUOTA_EXCEEDED: over,
    }


# the port of the other nodes


BAD_PEER_FRAME = 'raftlock_peer_connections_refused_total{reason="bad_frame"}'
LARGE_PEER_FRAME = 'raftlock_peer_connections_refused_total{reason="frame_too_large"}'


@pytest.mark.parametrize(
    ("data", "series"),
    [
        (struct.pack(">I", 5) + b"junk!", BAD_PEER_FRAME),
        (struct.pack(">I", 1 << 20) + bytes(100), LARGE_PEER_FRAME),
        (b"GET / HTTP/1.1\r\n\r\n", LARGE_PEER_FRAME),
        (struct.pack(">I", 1) + b"\x90", BAD_PEER_FRAME),
    ],
    ids=["junk", "a frame over 64 KiB", "http", "an empty array"],
)
def test_a_stranger_on_the_peer_port_is_cut_off(steady: Cluster, data: bytes, series: str) -> None:
    """What is no member's first frame ends the connection; the cluster goes on."""
    with (
        grows(steady.http(1), series),
        RawClient(steady.peer(1), hello=False) as stranger,
    ):
        stranger.send_bytes(data)
        with contextlib.suppress(ConnectionResetError):
            assert stranger.frame() is None

    assert serves(steady.endpoint(1)) == SERVED
    assert events(log_of(steady, 1), "peer_refused")


@pytest.mark.parametrize(
    ("change", "why", "series"),
    [
        (
            {},
            f"node 9 with incarnation {'0' * 32} is not a member",
            'raftlock_peer_connections_refused_total{reason="not_member"}',
        ),
        (
            {"version": 2},
            "version 2 is not 1",
            'raftlock_peer_connections_refused_total{reason="version"}',
        ),
        (
            {"cluster_id": "other"},
            "cluster other is not ",
            'raftlock_peer_connections_refused_total{reason="cluster_id"}',
        ),
        (
            {"to_id": 2},
            "this is node 1, not 2",
            'raftlock_peer_connections_refused_total{reason="node"}',
        ),
    ],
)
def test_a_caller_that_is_no_member_is_told_why(
    steady: Cluster, change: dict[str, Any], why: str, series: str
) -> None:
    """A node that is not listed with its incarnation, is of another version or cluster, or wants another node."""
    with RawClient(steady.endpoint(1)) as client:
        cluster_id = client.hello[3]
    nobody = b"\x90"
    hello = handshake.PeerHello(
        1, NodeId(9), "0" * 32, NodeId(1), cluster_id, nobody, 60_000, 1, nobody
    )
    with (
        grows(steady.http(1), series),
        RawClient(steady.peer(1), hello=False) as stranger,
    ):
        send_frame(stranger, handshake.encode(hello._replace(**change)))
        answer = stranger.frame()

    assert answer is not None
    assert (answer[1], answer[2].startswith(why)) == (False, True)


def test_silent_callers_on_the_peer_port_are_bounded(steady: Cluster) -> None:
    """300 callers that say nothing: some are cut off at once, all within 5 s; the members are not disturbed."""
    host, _, port = steady.peer(1).rpartition(":")
    with grows(
        steady.http(1),
        'raftlock_peer_connections_refused_total{reason="limit"}',
        'raftlock_peer_connections_refused_total{reason="no_hello"}',
        by=300 - limits.PEER_CALLERS_MAX,
    ):
        callers = [socket.create_connection((host, int(port)), timeout=20) for _ in range(300)]
        try:
            assert serves(steady.endpoint(1)) == SERVED
            for caller in callers:
                with contextlib.suppress(ConnectionResetError):
                    assert caller.recv(1) == b""
        finally:
            for caller in callers:
                caller.close()

        assert serves(steady.endpoint(1)) == SERVED


# HTTP


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
