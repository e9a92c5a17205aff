"""Reading the audit over the network, on real processes: every node, every filter, page by page, beside what was shipped."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from raftlock.audit.manifest import encode_cluster
from raftlock.audit.shipper import Shipper
from raftlock.audit.tiers import FileTier
from raftlock.cli.audit_formats import said
from raftlock.client import AsyncClient, AuditQuestion, Client
from raftlock.client.node_pages import NodePages
from raftlock_wire.messages import Op
from raftlock_wire.status import Status
from tests.e2e.conftest import Cluster
from tests.e2e.raw import RawClient
from tests.e2e.test_audit import directory, fill, segments, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]

Row = dict[str, Any]
NOTHING = (None,) * 7


def cli(cluster: Cluster, *arguments: str | Path, endpoints: str = "") -> Any:
    """Run a command as a user does: the nodes are known by RAFTLOCK_ENDPOINTS."""
    command = [sys.executable, "-m", "raftlock.cli.main", *map(str, arguments)]
    environment = {**os.environ, "RAFTLOCK_ENDPOINTS": endpoints or ",".join(cluster.endpoints)}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env=environment
    )


def told(cluster: Cluster, node_id: int, **wanted: Any) -> list[Row]:
    """Return the records that one node tells."""
    node = NodePages(cluster.endpoint(node_id), timeout_s=10)
    page = node.page(AuditQuestion(**wanted))
    node.close()
    assert page.complete
    return [*map(said, page.records)]


def get(url: str) -> Any:
    """Return what HTTP answers."""
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response), response.headers


async def test_every_node_tells_a_lock_s_life(cluster: Cluster) -> None:
    """Grant and release are told by each node by itself, the same rows; by the commands too, with no flag at all."""
    async with (
        AsyncClient(cluster.endpoints, owner="me") as client,
        client.lock("demo", ttl=10) as lock,
    ):
        token = lock.token
    for node_id in cluster.ids:
        wait_for(
            lambda i=node_id: len(told(cluster, i, resource="demo")) == 2,
            f"node {node_id} does not tell",
        )

    rows = [told(cluster, node_id, resource="demo") for node_id in cluster.ids]
    by_token = told(cluster, 1, token=token, operation="release")
    story = cli(cluster, "history", "demo")
    queried = cli(cluster, "audit", "query", "--prefix", "dem", "--format", "json")
    tailed = cli(cluster, "audit", "tail", "-n", "1", "--resource", "demo")
    report = cli(cluster, "audit", "report", "--json")
    http, _ = get(f"{cluster.http(2)}/api/v1/audit?resource=demo&since=1h")

    assert rows[0] == rows[1] == rows[2] == http["records"] == json.loads(queried.stdout)
    assert [(r["operation"], r["status"], r["token"]) for r in rows[0]] == [
        ("acquire", "OK", token),
        ("release", "OK", token),
    ]
    assert by_token == rows[0][1:] == [json.loads(tailed.stdout)]
    assert (story.returncode, "me held it" in story.stdout, "released" in story.stdout) == (
        0, True, True,
    )  # fmt: skip
    assert [hot["resource"] for hot in json.loads(report.stdout)["hot"]] == ["demo"]


async def test_what_is_answered_is_told_within_a_second(cluster: Cluster) -> None:
    """By the leader's own clock, and its own count: what it had applied when it was asked is told a second later."""
    leader = await cluster.leader()
    node = NodePages(cluster.endpoint(leader), timeout_s=10)
    async with AsyncClient([cluster.endpoint(leader)], owner="me") as client:
        lock = await client.acquire("fresh", ttl=10)
        answered = time.monotonic()
        while not (page := node.page(AuditQuestion(token=lock.token))).records:
            asked = time.monotonic()
            assert asked - answered < 30, "it is never told"
        late = node.page(AuditQuestion(), from_index=page.records[0]["index"])
    node.close()

    assert late.applied_index >= page.records[0]["index"]
    assert page.records[0]["resource"] == "fresh"


async def test_pages_and_a_shipped_prefix_are_one(cluster: Cluster, tmp_path: Path) -> None:
    """Over more than a segment: small pages, large pages, another node in between, and behind what was shipped."""
    leader = await cluster.leader()
    least, most = fill(cluster.endpoint(leader), 100)
    async with AsyncClient(cluster.endpoints, owner="me") as client:
        lock = await client.acquire("last", ttl=10)
        await client.release(lock)
    for node_id in cluster.ids:
        wait_for(lambda i=node_id: segments(cluster, i), f"node {node_id} finished no segment")
        wait_for(
            lambda i=node_id: any(
                r["resource"] == "last" for r in tail_of(cluster, i) if r["operation"] == "release"
            ),
            f"node {node_id} does not tell the last release",
        )
    Shipper(directory(cluster, 1), FileTier(tmp_path / "tier")).run_once()
    question = ("--operation", "acquire", "--format", "json")

    with Client([cluster.endpoint(2)]) as whole:
        found = [*map(said, whole.audit_records(AuditQuestion(operation="acquire")))]
    by_turns = pages_by_turns(cluster, AuditQuestion(operation="acquire"), limit=997)
    on_disk = cli(cluster, "audit", "query", *question, "--data", cluster.folder / "node-3")
    shipped = cli(
        cluster, "audit", "query", *question, "--from", (tmp_path / "tier").as_uri(), "--cost"
    )
    last = cli(cluster, "audit", "query", "--resource", "last", "--format", "json")

    assert least + 1 <= len(found) <= most + 1
    assert by_turns == found
    assert json.loads(on_disk.stdout) == found
    assert json.loads(shipped.stdout) == found, shipped.stderr
    assert "1 of 1 objects opened" in shipped.stderr
    assert [row["operation"] for row in json.loads(last.stdout)] == ["acquire", "release"]


def tail_of(cluster: Cluster, node_id: int) -> list[Row]:
    """Return a node's last records."""
    done = cli(cluster, "audit", "tail", "-n", "3", endpoints=cluster.endpoint(node_id))
    return [json.loads(line) for line in done.stdout.splitlines()]


def pages_by_turns(cluster: Cluster, question: AuditQuestion, *, limit: int) -> list[Row]:
    """Ask another node for each page."""
    nodes = [NodePages(endpoint, timeout_s=10) for endpoint in cluster.endpoints]
    found: list[Row] = []
    index, position, complete, asked = 1, 0, False, 0
    while not complete:
        page = nodes[asked % 3].page(
            question, from_index=index, from_position=position, limit=limit
        )
        found += map(said, page.records)
        index, position, complete = page.next_index, page.next_position, page.complete
        asked += 1
    for node in nodes:
        node.close()
    return found


def refuses(call: Callable[[], Any], code: int) -> Any:
    """Return the problem of an HTTP request that is refused."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        call()
    assert caught.value.code == code
    return json.load(caught.value)


async def test_what_is_wrong_is_named(cluster: Cluster, tmp_path: Path) -> None:
    """A bad field on the wire, on HTTP and on the command line; nodes that are not there; two places at once."""
    await cluster.leader()
    with RawClient(cluster.endpoint(1)) as client:
        bad = client.ask(Op.AUDIT_READ, 0, 0, *NOTHING, 10)
        large = client.ask(Op.AUDIT_READ, 1, 0, *NOTHING, 1_001)
        fine = client.ask(Op.AUDIT_READ, 1, 0, *NOTHING, 10)
    over = refuses(lambda: get(f"{cluster.http(1)}/api/v1/audit?limit=1001"), 400)
    when = refuses(lambda: get(f"{cluster.http(1)}/api/v1/audit?since=yesterday"), 400)
    unknown = refuses(lambda: get(f"{cluster.http(1)}/api/v1/audit?lock=a"), 400)
    operation = cli(cluster, "audit", "query", "--operation", "x" * 33)
    nobody = cli(cluster, "history", "demo", endpoints="127.0.0.1:9")
    (tmp_path / "cluster.json").write_bytes(encode_cluster("d" * 32))
    other = cli(cluster, "audit", "query", "--from", tmp_path.as_uri())
    both = cli(cluster, "history", "demo", "--data", ".", "--endpoints", cluster.endpoint(1))

    assert (bad[0], bad[2]) == (Status.BAD_REQUEST, "from_index")
    assert (large[0], large[2], fine[0]) == (Status.BAD_REQUEST, "limit", Status.OK)
    assert [over["field"], when["field"], unknown["field"]] == ["limit", "since", "lock"]
    assert (operation.returncode, "--operation" in operation.stderr) == (2, True)
    assert (nobody.returncode, "127.0.0.1:9" in nobody.stderr) == (69, True)
    assert (other.returncode, "not this cluster" in other.stderr) == (69, True)
    assert (both.returncode, "--data reads a disk" in both.stderr) == (2, True)


async def test_one_node_that_is_down_leaves_the_answer_whole(cluster: Cluster) -> None:
    """The others are asked; the command says on stderr which one did not answer."""
    async with AsyncClient(cluster.endpoints, owner="me") as client, client.lock("demo", ttl=10):
        pass
    for node_id in cluster.ids:
        wait_for(lambda i=node_id: len(told(cluster, i, resource="demo")) == 2, "not told")
    cluster.kill(1)

    story = cli(cluster, "history", "demo", "--json")

    assert (story.returncode, [one["end"] for one in json.loads(story.stdout)]) == (0, ["released"])
    assert f"{cluster.endpoint(1)}" in story.stderr


async def test_http_pages_lead_to_each_other(cluster: Cluster) -> None:
    """The next link, in the body and in the header, leads through all records; the last page has none."""
    async with AsyncClient(cluster.endpoints, owner="me") as client:
        for number in range(5):
            async with client.lock(f"n{number}", ttl=10):
                pass
    began = datetime.now(UTC).replace(year=2020)
    wait_for(lambda: len(told(cluster, 1, prefix="n")) == 10, "not told")
    root = cluster.http(1)
    path: str | None = f"/api/v1/audit?prefix=n&limit=3&since={began:%Y-%m-%dT%H:%M:%S}Z"
    found, sizes = [], []
    while path is not None:
        page, headers = get(root + path)
        found += page["records"]
        sizes.append(len(page["records"]))
        path = page["next"]
        assert headers.get("Link") == (None if path is None else f'<{path}>; rel="next"')

    assert found == told(cluster, 2, prefix="n")
    assert (sizes, page["complete"]) == ([3, 3, 3, 1], True)
