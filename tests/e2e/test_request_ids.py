"""The way of a request through the logs: from the caller's id over a follower to the leader."""

import asyncio
import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.node import events
from tests.e2e.scrape import becomes

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


@pytest.fixture
def talkative(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes that log at debug level."""
    running = Cluster(tmp_path)
    running.environment = {i: {"RAFTLOCK_LOG_LEVEL": "debug"} for i in running.ids}
    try:
        running.start_all()
        yield running
    finally:
        running.stop_all()


def logged(cluster: Cluster, node_id: int, name: str, **fields: object) -> dict[str, object]:
    """Return the first event of a node with these fields, as soon as it is there."""
    until = time.monotonic() + 60
    while True:
        log = (cluster.folder / f"node-{node_id}.log").read_text()
        whole = log[: log.rfind("\n") + 1]
        for event in events(whole, name):
            if fields.items() <= event.items():
                return event
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_callers_id_leads_to_the_leaders_log(talkative: Cluster) -> None:
    """X-Request-Id stands in the follower's `http_request` with a connection's id, and that id in the leader's `request`."""
    leader = asyncio.run(talkative.leader())
    follower = next(i for i in talkative.ids if i != leader)
    becomes(talkative.http(follower), "raftlock_leader_id", leader)
    order = {"resourceId": "r", "clientId": "me", "ttl": 30}
    request = urllib.request.Request(
        f"{talkative.http(follower)}/api/v1/locks/acquire",
        data=json.dumps(order).encode(),
        headers={"content-type": "application/json", "X-Request-Id": "order-7"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        returned = response.headers["X-Request-Id"]
    taken = logged(talkative, follower, "http_request", request_id="order-7")
    sent_on = logged(talkative, follower, "request", conn=taken["conn"], goes=f"node-{leader}")
    let_in = logged(talkative, leader, "request", conn=taken["conn"], goes="log")

    assert (returned, taken["code"], taken["method"]) == ("order-7", "200", "POST")
    assert (sent_on["came"], let_in["came"]) == ("client", f"node-{follower}")
