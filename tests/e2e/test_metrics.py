"""What a node says of itself is so: values of /metrics against what was done to real nodes."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from raftlock.server.bootstrap import bootstrap
from raftlock_wire.messages import ListBy, Op
from raftlock_wire.status import Status
from tests.e2e.conftest import Cluster
from tests.e2e.raw import RawClient
from tests.e2e.scrape import scrape

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]

PATIENCE_S = 60.0


def settled(cluster: Cluster) -> dict[int, dict[str, float]]:
    """Scrape all nodes when everything is applied everywhere and recorded in the audit."""
    until = time.monotonic() + PATIENCE_S
    while True:
        found = {i: scrape(cluster.http(i)) for i in cluster.ids}
        ends = {
            scrape_[name]
            for scrape_ in found.values()
            for name in (
                "raftlock_last_index",
                "raftlock_durable_index",
                "raftlock_commit_index",
                "raftlock_applied_index",
                "raftlock_audit_recorded_index",
            )
        }
        # The counters of the audit move when the loop hears of the thread's work, a moment after its index.
        told = all(not scrape_["raftlock_audit_under_way_bytes"] for scrape_ in found.values())
        if len(ends) == 1 and told:
            return found
        assert time.monotonic() < until, ends
        time.sleep(0.1)


def settled_on(cluster: Cluster, name: str) -> dict[str, float]:
    """Scrape node 1 until a series keeps its value for half a second."""
    until = time.monotonic() + PATIENCE_S
    while True:
        found = scrape(cluster.http(1))
        time.sleep(0.5)
        if scrape(cluster.http(1))[name] == found[name]:
            return found
        assert time.monotonic() < until


def growth(before: dict[str, float], after: dict[str, float], prefix: str) -> dict[str, float]:
    """Return by how much series grew; what did not is left out."""
    return {
        name.removeprefix(prefix): value - before.get(name, 0)
        for name, value in after.items()
        if name.startswith(prefix) and value != before.get(name, 0)
    }


def work(client: RawClient) -> tuple[int, list[tuple[Any, ...]]]:
    """Do one of each kind. Return the session and the answers that a count depends on."""
    session = client.ask_until_final(Op.OPEN_SESSION, b"w" * 16, 300_000)[2]

    def acquire(slot: int, name: str, ttl_ms: int, wait_ms: int = 0) -> tuple[Any, ...]:
        return client.ask(Op.ACQUIRE, session, slot, 1, name, "o", ttl_ms, wait_ms, {"k": "v"})

    held = [acquire(slot, f"m:{slot}", 30_000) for slot in range(5)]
    logged = acquire(5, "m:logged", 600_000)
    refused = acquire(6, "m:0", 30_000)
    queued = acquire(7, "m:1", 30_000, 600_000)
    renewed = client.ask(Op.RENEW, [["m:0", held[0][3]], ["m:1", held[1][3]], ["m:9", 5]])
    released = client.ask(Op.RELEASE, "m:2", held[2][3])
    again = client.ask(Op.RELEASE, "m:2", held[2][3])
    client.ask(Op.CHECK, "m:0", held[0][3])
    client.ask(Op.GET, "m:0", False)
    client.ask(Op.LIST, ListBy.PREFIX, "m:", "", 10, False)
    client.ask(Op.KEEP_ALIVE, session)
    client.ask(Op.GET, "", False)
    return session, [*held, logged, refused, queued, renewed, released, again]


def test_what_was_done_is_what_is_counted(cluster: Cluster) -> None:
    """Operations by kind and status, the table's size, batches, indexes, and the audit, on leader and followers."""
    leader = asyncio.run(cluster.leader())
    before = settled(cluster)
    with RawClient(cluster.endpoint(leader)) as client:
        _, answers = work(client)
        after = settled(cluster)
    statuses = [Status(answer[0]) for answer in answers]

    assert statuses == [
        *[Status.OK] * 6, Status.HELD, Status.QUEUED, Status.OK, Status.OK, Status.NOT_HELD,
    ]  # fmt: skip
    operations = growth(before[leader], after[leader], "raftlock_operations_total")
    assert {name: count for name, count in operations.items() if "node_status" not in name} == {
        '{operation="open_session", status="ok"}': 1,
        '{operation="acquire", status="ok"}': 6,
        '{operation="acquire", status="held"}': 1,
        '{operation="acquire", status="queued"}': 1,
        '{operation="renew", status="ok"}': 2,
        '{operation="renew", status="not_held"}': 1,
        '{operation="release", status="ok"}': 1,
        '{operation="release", status="not_held"}': 1,
        '{operation="check", status="ok"}': 1,
        '{operation="get", status="ok"}': 1,
        '{operation="list", status="ok"}': 1,
        '{operation="keep_alive", status="ok"}': 1,
    }
    assert growth(before[leader], after[leader], "raftlock_refusals_total") == {
        '{reason="bad_request"}': 1
    }
    for found in after.values():
        sizes = ("locks", "waiters", "sessions", "logged_leases")
        assert [found[f"raftlock_{name}"] for name in sizes] == [5, 1, 1, 1]
    logged = 1 + 8 + 2
    batches = growth(before[leader], after[leader], "raftlock_batch_requests")
    assert batches["_sum"] >= logged
    entries = after[leader]["raftlock_applied_index"] - before[leader]["raftlock_applied_index"]
    for i in cluster.ids:
        grown = growth(before[i], after[i], "raftlock_")
        assert grown["entries_applied_total"] == grown["audit_entries_total"] == entries
        assert grown["audit_commands_total"] >= logged
        assert grown["wal_sync_duration_seconds_count"] >= 1
        assert grown["wal_written_bytes_total"] > 0
        assert after[i]["raftlock_audit_lag_entries"] == 0
    connections = growth(before[leader], after[leader], "raftlock_client_connections_total")
    assert set(connections) == {'{outcome="accepted"}'}


def test_a_follower_counts_what_it_sends_on(cluster: Cluster) -> None:
    """Requests that came to a follower are counted there as sent on, and answered on the leader."""
    leader = asyncio.run(cluster.leader())
    follower = next(i for i in cluster.ids if i != leader)
    before = settled(cluster)
    with RawClient(cluster.endpoint(follower)) as client:
        for _ in range(7):
            assert client.ask_until_final(Op.GET, "nobody", False)[0] == Status.OK
    after = settled(cluster)

    get = 'raftlock_operations_total{operation="get", status="ok"}'
    assert after[follower]["raftlock_forwarded_requests_total"] >= 7
    assert after[leader][get] - before[leader].get(get, 0) == 7
    assert get not in after[follower]


def test_a_stall_and_the_election_that_it_costs_are_seen(cluster: Cluster) -> None:
    """A leader that is stopped for a second: its longest stall says so, and the others count an election."""
    leader = asyncio.run(cluster.leader())
    before = {i: scrape(cluster.http(i)) for i in cluster.ids}
    began = time.monotonic()
    os.kill(cluster.processes[leader].pid, signal.SIGSTOP)
    asyncio.run(cluster.leader(other_than=leader))
    time.sleep(max(0.0, began + 1 - time.monotonic()))
    os.kill(cluster.processes[leader].pid, signal.SIGCONT)
    stopped_s = time.monotonic() - began
    asyncio.run(cluster.leader())
    after = settled(cluster)

    stall_s = after[leader]["raftlock_loop_longest_stall_seconds"]
    assert 0.9 <= stall_s <= stopped_s + 1
    won = sum(
        after[i]["raftlock_elections_total"] - before[i]["raftlock_elections_total"]
        for i in cluster.ids
    )
    assert won >= 1
    assert after[leader]["raftlock_step_downs_total"] >= 1
    assert len({found["raftlock_term"] for found in after.values()}) == 1
    roles = {i: found['raftlock_role{role="leader"}'] for i, found in after.items()}
    assert sorted(roles.values()) == [0, 0, 1]
    assert {found["raftlock_leader_id"] for found in after.values()} == {
        i for i, leads in roles.items() if leads
    }


def test_a_snapshot_is_timed_and_measured(tmp_path: Path) -> None:
    """A node that saves small snapshots: their number, time and size are there, and the size is the file's."""
    cluster = Cluster(tmp_path)
    cluster.environment[1] = {"RAFTLOCK_SNAPSHOT_LOG_SIZE": "4096"}
    try:
        cluster.start(1)
        bootstrap({1: cluster.peer(1)}, wait_s=60)
        with RawClient(cluster.endpoint(1)) as client:
            session = client.ask_until_final(Op.OPEN_SESSION, b"s" * 16, 300_000)[2]
            saved = 'raftlock_snapshots_total{outcome="saved"}'
            until = time.monotonic() + PATIENCE_S
            n = 0
            while scrape(cluster.http(1))[saved] < 2:
                assert time.monotonic() < until
                n += 1
                fields = (session, 0, n, f"s:{n}", "o", 30_000, 0, {"k": "x" * 900})
                token = client.ask_until_final(Op.ACQUIRE, *fields)[3]
                client.ask_until_final(Op.RELEASE, f"s:{n}", token)
        # Nothing is asked any more: the last snapshot is what lies there.
        found = settled_on(cluster, saved)
        sizes = {path.stat().st_size for path in (tmp_path / "node-1").rglob("*.snap*")}
    finally:
        cluster.stop_all()

    assert found["raftlock_snapshot_duration_seconds_count"] == found[saved]
    assert found["raftlock_snapshot_duration_seconds_sum"] > 0
    assert found["raftlock_snapshot_size_bytes"] in sizes
    assert found["raftlock_wal_size_bytes"] > 0
