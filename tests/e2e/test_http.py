"""HTTP on real nodes: locks for curl through any node, metrics, health, and the document that describes it."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from raftlock.client import AsyncClient
from raftlock.telemetry.metrics import METRICS
from tests.e2e.conftest import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]

ACQUIRE: dict[str, Any] = {"resourceId": "order:1/a b", "ttl": 30, "clientId": "me"}
RETRY_S = 60.0


class Caller:
    """One HTTP client of a cluster."""

    def __init__(self, cluster: Cluster, session: aiohttp.ClientSession) -> None:
        self.cluster = cluster
        self._session = session

    async def post(
        self, node_id: int, operation: str, body: Any, **headers: str
    ) -> tuple[int, Any]:
        """Send an operation to a node. Return its code and its JSON."""
        url = f"{self.cluster.http(node_id)}/api/v1/locks/{operation}"
        async with self._session.post(url, json=body, headers=headers) as response:
            return response.status, await response.json(content_type=None)

    async def get(self, node_id: int, path: str) -> tuple[int, Any]:
        """Get a path of a node."""
        async with self._session.get(self.cluster.http(node_id) + path) as response:
            return response.status, await response.json(content_type=None)

    async def metrics(self, node_id: int) -> dict[tuple[str, ...], float]:
        """Scrape a node: (name, *label values) to value."""
        async with self._session.get(f"{self.cluster.http(node_id)}/metrics") as response:
            text = await response.text()
        families = text_string_to_metric_families(text)
        return {(s.name, *s.labels.values()): s.value for f in families for s in f.samples}

    async def acquired(self, node_id: int, body: Any = ACQUIRE, **headers: str) -> dict[str, Any]:
        """Acquire, and insist on it."""
        code, answer = await self.post(node_id, "acquire", body, **headers)
        assert code == 200, answer
        return dict(answer)

    async def waiters(self, node_id: int, count: int) -> None:
        """Wait until the resource has so many waiters."""
        while True:
            _, lock = await self.get(node_id, "/api/v1/locks/order:1%2Fa%20b")
            if lock.get("waiters") == count:
                return
            await asyncio.sleep(0.02)


@pytest_asyncio.fixture
async def caller(cluster: Cluster) -> AsyncIterator[Caller]:
    """A client of a cluster that has a leader whom every node knows."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(RETRY_S):
        found = Caller(cluster, session)
        for node_id in cluster.ids:
            while (await found.get(node_id, "/readyz"))[0] != 200:
                await asyncio.sleep(0.02)
        yield found


async def test_a_lock_over_http_lives_from_acquire_to_release(caller: Caller) -> None:
    """Acquire, refused to others, renew, check, get, list, release: each through another node."""
    token = (await caller.acquired(1, {**ACQUIRE, "metadata": {"job": "7"}}))["lockToken"]
    grant = {"resourceId": ACQUIRE["resourceId"], "lockToken": token}
    refused = await caller.post(2, "acquire", {**ACQUIRE, "clientId": "you"})
    renewed = await caller.post(3, "renew", grant)
    checked = await caller.post(1, "check", grant)
    stale_token = await caller.post(2, "check", {**grant, "lockToken": token - 1})
    shown = await caller.get(2, "/api/v1/locks/order%3A1%2Fa%20b")
    listed = await caller.get(3, "/api/v1/locks?prefix=order:&limit=10")
    released = await caller.post(1, "release", grant)
    again = await caller.post(2, "release", grant)
    gone = await caller.get(3, "/api/v1/locks/order%3A1%2Fa%20b")

    assert (refused[0], refused[1]["type"], refused[1]["holder"]["lockToken"]) == (
        409,
        "urn:raftlock:problem:held",
        token,
    )
    assert (renewed[0], renewed[1]["lockToken"], renewed[1]["success"]) == (200, token, True)
    assert 29_000 < renewed[1]["expiresInMs"] <= 29_700
    assert checked == (200, {"held": True, "status": "OK", "currentToken": token})
    assert stale_token == (200, {"held": False, "status": "NOT_HELD", "currentToken": token})
    assert (shown[0], shown[1]["clientId"], shown[1]["metadata"]) == (200, "me", {"job": "7"})
    assert [lock["lockToken"] for lock in listed[1]["locks"]] == [token]
    assert (released, again) == (
        (200, {"success": True, "released": True}),
        (200, {"success": True, "released": False}),
    )
    assert (gone[0], gone[1]["type"]) == (404, "urn:raftlock:problem:not-found")


async def test_a_waiting_caller_gets_the_lock_when_it_is_free(caller: Caller) -> None:
    """A blocking acquire through one node is answered when the lock is released through another: held, not offered."""
    token = (await caller.acquired(1))["lockToken"]
    waiting = asyncio.create_task(
        caller.acquired(2, {**ACQUIRE, "clientId": "next", "blocking": True, "timeout": 40})
    )
    await caller.waiters(3, 1)
    await caller.post(3, "release", {"resourceId": ACQUIRE["resourceId"], "lockToken": token})
    granted = await waiting

    _, lock = await caller.get(1, "/api/v1/locks/order:1%2Fa%20b")
    assert granted["lockToken"] > token
    assert (lock["state"], lock["clientId"], lock["lockToken"]) == (
        "HELD",
        "next",
        granted["lockToken"],
    )


async def test_a_wait_ends_without_a_trace(caller: Caller) -> None:
    """A wait that passes is a 409 `timeout`, and the queue is empty by then."""
    await caller.acquired(1)
    code, problem = await caller.post(2, "acquire", {**ACQUIRE, "blocking": True, "timeout": 0.2})
    _, lock = await caller.get(3, "/api/v1/locks/order:1%2Fa%20b")

    assert (code, problem["type"], lock["waiters"]) == (409, "urn:raftlock:problem:timeout", 0)


async def test_a_caller_who_hangs_up_leaves_nothing(caller: Caller) -> None:
    """The waiter of a connection that is gone leaves the queue; the lock goes to nobody who is not there."""
    token = (await caller.acquired(1))["lockToken"]
    waiting = asyncio.create_task(
        caller.post(2, "acquire", {**ACQUIRE, "clientId": "left", "blocking": True, "timeout": 60})
    )
    await caller.waiters(3, 1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await caller.waiters(3, 0)
    await caller.post(1, "release", {"resourceId": ACQUIRE["resourceId"], "lockToken": token})

    assert (await caller.get(1, "/api/v1/locks/order:1%2Fa%20b"))[0] == 404
    while (metrics := await caller.metrics(2))[("raftlock_http_withdrawals_in_progress",)]:
        await asyncio.sleep(0.02)
    assert metrics["raftlock_http_requests_total", "499", "/api/v1/locks/acquire"] == 1


async def test_an_idempotency_key_gives_the_same_lock_through_another_node(caller: Caller) -> None:
    """The same key and body is the same acquire through any node; without it the second one is refused."""
    key = {"Idempotency-Key": "job-7"}
    first = await caller.acquired(1, **key)
    second = await caller.acquired(2, **key)
    other_body = await caller.post(3, "acquire", {**ACQUIRE, "ttl": 31}, **key)
    other_key = await caller.post(3, "acquire", ACQUIRE, **{"Idempotency-Key": "job-8"})
    await caller.post(
        1, "release", {"resourceId": ACQUIRE["resourceId"], "lockToken": first["lockToken"]}
    )
    over = await caller.post(2, "acquire", ACQUIRE, **key)

    assert first["lockToken"] == second["lockToken"]
    assert [
        (code, answer["type"].rpartition(":")[2]) for code, answer in (other_body, other_key, over)
    ] == [
        (422, "key-reused"),
        (409, "held"),
        (409, "not-held"),
    ]


async def test_a_key_survives_its_callers_connection_and_its_leader(caller: Caller) -> None:
    """A keyed wait whose caller vanished and whose leader was killed is gone on with through another node."""
    cluster = caller.cluster
    leader = await cluster.leader()
    follower, other = (i for i in cluster.ids if i != leader)
    body = {**ACQUIRE, "clientId": "next", "blocking": True, "timeout": 50}
    held = await caller.acquired(leader)
    waiting = asyncio.create_task(
        caller.post(follower, "acquire", body, **{"Idempotency-Key": "w"})
    )
    await caller.waiters(follower, 1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    cluster.kill(leader)
    await cluster.leader(other_than=leader)
    again = asyncio.create_task(caller.post(other, "acquire", body, **{"Idempotency-Key": "w"}))
    grant = {"resourceId": ACQUIRE["resourceId"], "lockToken": held["lockToken"]}
    while (await caller.post(follower, "release", grant))[0] != 200:
        await asyncio.sleep(0.05)
    code, granted = await again

    assert (code, granted["success"]) == (200, True)
    _, lock = await caller.get(follower, "/api/v1/locks/order:1%2Fa%20b")
    assert (lock["lockToken"], lock["waiters"]) == (granted["lockToken"], 0)


async def test_http_and_the_protocol_share_their_locks(caller: Caller) -> None:
    """A lock of a client of the protocol is seen, refused and released over HTTP by its token, and the client hears."""
    async with AsyncClient(caller.cluster.endpoints, owner="python") as client:
        lock = await client.acquire("order:1/a b", ttl=20)
        assert lock is not None
        refused = await caller.post(1, "acquire", ACQUIRE)
        await caller.post(2, "release", {"resourceId": "order:1/a b", "lockToken": lock.token})

        assert (refused[0], refused[1]["holder"]["clientId"]) == (409, "python")
        assert not await client.check("order:1/a b", lock.token)


async def test_metrics_and_health_of_leader_and_follower(caller: Caller) -> None:
    """Every node serves the whole table; one of three serves, and what it answered is counted on it."""
    leader = await caller.cluster.leader()
    await caller.acquired(leader)
    scrapes = {i: await caller.metrics(i) for i in caller.cluster.ids}
    statuses = {i: (await caller.get(i, "/statusz"))[1] for i in caller.cluster.ids}
    names = {
        name.removesuffix(end)
        for s in scrapes.values()
        for name, *_ in s
        for end in ("", "_bucket")
    }

    assert {i for i, s in scrapes.items() if s[("raftlock_serving",)]} == {leader}
    assert scrapes[leader]["raftlock_operations_total", "acquire", "ok"] == 1
    assert {s[("raftlock_locks",)] for s in scrapes.values()} <= {0, 1}
    assert scrapes[leader][("raftlock_wal_sync_duration_seconds_count",)] > 0
    # Those of the shipper are there where one runs (test_shipping.py).
    ours = [m.name for m in METRICS if not m.name.startswith("raftlock_audit_ship_")]
    assert [name for name in ours if name not in names] == []
    assert {i: (s["id"], s["role"]) for i, s in statuses.items()} == {
        i: (i, "leader" if i == leader else "follower") for i in caller.cluster.ids
    }
    assert [(await caller.get(i, "/healthz"))[0] for i in caller.cluster.ids] == [200, 200, 200]


async def test_without_a_majority_nothing_is_said_to_have_failed(caller: Caller) -> None:
    """A node alone is alive and not ready; an acquire is 503 and says whether it may yet take effect."""
    cluster = caller.cluster
    leader = await cluster.leader()
    alone, other = (i for i in cluster.ids if i != leader)
    cluster.signal(leader, signal.SIGSTOP)
    cluster.signal(other, signal.SIGSTOP)
    while (await caller.get(alone, "/readyz"))[0] != 503:
        await asyncio.sleep(0.02)
    refused = await caller.post(alone, "acquire", ACQUIRE)
    alive = await caller.get(alone, "/healthz")
    cluster.signal(leader, signal.SIGCONT)
    cluster.signal(other, signal.SIGCONT)

    assert (refused[0], refused[1]["outcome"] in ("unknown", "not_taken"), alive[0]) == (
        503,
        True,
        200,
    )


async def test_a_node_without_a_cluster_lives_and_is_not_ready(tmp_path: Path) -> None:
    """Before bootstrap: alive, not ready, and every operation is 503 `not_taken`."""
    cluster = Cluster(tmp_path)
    try:
        cluster.start(1)
        async with aiohttp.ClientSession() as session, asyncio.timeout(RETRY_S):
            caller = Caller(cluster, session)
            while True:
                try:
                    alive = await caller.get(1, "/healthz")
                    break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.05)
            ready = await caller.get(1, "/readyz")
            refused = await caller.post(1, "acquire", ACQUIRE)
            status = await caller.get(1, "/statusz")
            metrics = await caller.metrics(1)

        assert (alive[0], ready[0], refused[0], refused[1]["outcome"]) == (
            200,
            503,
            503,
            "not_taken",
        )
        assert (status[1]["cluster_id"], metrics[("raftlock_has_cluster",)]) == (None, 0)
    finally:
        cluster.stop_all()


async def test_bad_input_is_told_what_is_wrong(caller: Caller) -> None:
    """Each wrong request gets the problem of its kind, as problem details."""
    url = f"{caller.cluster.http(1)}/api/v1/locks/acquire"
    sent = [
        ({"data": b"{}", "headers": {"Content-Type": "text/plain"}}, 415),
        ({"data": b"x" * 20_000, "headers": {"Content-Type": "application/json"}}, 413),
        ({"data": b"{", "headers": {"Content-Type": "application/json"}}, 400),
        ({"json": {**ACQUIRE, "ttl": -1}}, 400),
        ({"json": ACQUIRE, "headers": {"Authorization": "Basic x"}}, 401),
        ({"json": ACQUIRE, "headers": {"Idempotency-Key": "x" * 300}}, 400),
    ]
    codes = []
    async with aiohttp.ClientSession() as session:
        for arguments, _ in sent:
            async with session.post(url, **arguments) as response:  # type: ignore[arg-type]
                problem = await response.json(content_type="application/problem+json")
                codes.append(response.status)
                assert problem["status"] == response.status
        async with session.put(url) as response:
            allow = response.headers["Allow"]

    assert codes == [code for _, code in sent]
    assert allow == "GET, HEAD, POST"


async def test_every_documented_path_is_there_and_answers_as_documented(caller: Caller) -> None:
    """OpenAPI's paths are the server's; what each answers to good and bad requests fits its schema."""
    _, document = await caller.get(1, "/api/v1/openapi.json")
    token = (await caller.acquired(1))["lockToken"]
    grant = {"resourceId": ACQUIRE["resourceId"], "lockToken": token}
    bodies = {"acquire": ACQUIRE, "renew": grant, "release": grant, "check": grant}

    def fits(path: str, method: str, code: int, answer: Any) -> None:
        content = document["paths"][path][method]["responses"][str(code)]["content"]
        (media,) = content.values()
        schema = {**media["schema"], "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(answer)

    for path, methods in document["paths"].items():
        if path == "/metrics":
            continue
        for method in methods:
            if method == "post":
                name = path.rpartition("/")[2]
                for body in (
                    bodies[name],
                    {**bodies[name], "resourceId": ""},
                    {"x": 1},
                    bodies[name],
                ):
                    fits(path, method, *await caller.post(2, name, body))
            else:
                for resource in ("order:1%2Fa%20b", "nobody", "%FF"):
                    fits(path, method, *await caller.get(3, path.replace("{resource}", resource)))
    fits("/api/v1/locks", "get", *await caller.get(1, "/api/v1/locks?limit=0"))
