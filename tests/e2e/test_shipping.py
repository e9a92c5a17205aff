"""The shipper that each node runs, on a real cluster: killed, without its store, and over changes of the leader."""

import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftlock.audit.format import HEADER_SIZE, decode_header
from raftlock.audit.manifest import key_of
from raftlock.client import Client
from tests.e2e.conftest import Cluster
from tests.e2e.node import events, fault_library
from tests.e2e.scrape import becomes, grows, scrape
from tests.e2e.test_audit import cli, directory, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]

HOUR_S = 3_600


class Shipped:
    """A cluster whose nodes ship to a directory, and whose wall clock goes on by hours: each ends a segment."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.place = folder / "store"
        self._offset = folder / "offset"
        self._offset.write_text("0")
        self._hours = 0
        self._acquired = 0
        for node_id in cluster.ids:
            cluster.environment[node_id] = {
                "LD_PRELOAD": str(fault_library(folder)),
                "WALL_OFFSET": str(self._offset),
                "RAFTLOCK_AUDIT_TIER": self.place.as_uri(),
                "RAFTLOCK_AUDIT_EVERY_S": "1",
                # A busy machine costs no leader its office here.
                "RAFTLOCK_ELECTION_MIN_MS": "2000",
                "RAFTLOCK_ELECTION_MAX_MS": "3000",
            }

    def hours(self, count: int) -> None:
        """Let hours pass, with a lock taken and released in each."""
        with Client(self.cluster.endpoints, owner="me") as client:
            for _ in range(count):
                self._hours += 1
                self._offset.write_text(str(self._hours * HOUR_S))
                for _ in range(2):
                    self._acquired += 1
                    with client.lock(f"order:{self._acquired}", ttl=30):
                        pass

    def expected(self, node_id: int) -> set[str]:
        """Return the keys of a node's finished segments."""
        found = directory(self.cluster, node_id)
        heads = ((found.head(name), name) for _, _, name in found.segments())
        return {key_of(decode_header(head[:HEADER_SIZE], file=name)) for head, name in heads}

    def there(self) -> set[str]:
        """Return the keys in the store."""
        return {p.relative_to(self.place).as_posix() for p in self.place.rglob("*.parquet")}

    def all_there(self, node_id: int) -> None:
        """Wait until the store has what the node has, and see that it is whole and has no record twice."""
        wait_for(
            lambda: len(self.there()) >= self._hours and self.there() == self.expected(node_id),
            "the store lacks segments",
        )
        url = self.place.as_uri()
        checked = cli(
            "audit", "verify", "--from", url, "--compare", "--data", self.folder(node_id), "--json"
        )
        assert json.loads(checked.stdout)["ok"], checked.stdout
        rows = json.loads(
            cli("audit", "query", "--from", url, "--prefix", "order:", "--format", "json").stdout
        )
        acquired = [row["resource"] for row in rows if row["operation"] == "acquire"]
        assert len(acquired) == len(set(acquired))
        # The last hour's are in the segment under way.
        assert set(acquired) >= {f"order:{n + 1}" for n in range(self._acquired - 2)}

    def folder(self, node_id: int) -> Path:
        """Return a node's data directory."""
        return self.cluster.folder / f"node-{node_id}"

    def log(self, node_id: int) -> str:
        """Return a node's log."""
        return (self.cluster.folder / f"node-{node_id}.log").read_text()


@pytest.fixture
def shipped(tmp_path: Path) -> Iterator[Shipped]:
    """A cluster that ships."""
    cluster = Cluster(tmp_path)
    running = Shipped(cluster, tmp_path)
    try:
        cluster.start_all()
        yield running
    finally:
        cluster.stop_all()


async def test_a_shipper_killed_again_and_again_loses_and_doubles_nothing(
    shipped: Shipped,
) -> None:
    """kill -9 at random moments while hours pass: it is started again, and the store has each segment once."""
    leader = await shipped.cluster.leader()
    root, rng = shipped.cluster.http(leader), random.Random(5)

    def pid() -> int:
        started = events(shipped.log(leader), "shipper_started")
        return int(str(started[-1]["pid"]))

    with grows(root, "raftlock_audit_ship_restarts_total", by=3):
        for _ in range(3):
            becomes(root, "raftlock_audit_ship_running", 1)
            victim, there = pid(), len(shipped.there())
            shipped.hours(rng.randint(1, 4))
            if rng.random() < 0.7:
                wait_for(lambda n=there: len(shipped.there()) > n, "nothing was shipped")
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda v=victim: pid() != v, "it is not started again")
    shipped.all_there(leader)
    becomes(root, "raftlock_audit_ship_lag_bytes", 0)

    assert {one["code"] for one in events(shipped.log(leader), "shipper_ended")} == {-9}


async def test_while_the_store_is_away_the_lag_grows_and_then_goes_back(shipped: Shipped) -> None:
    """Locks go on without the store; bytes and segments that wait grow; all is shipped when it is back."""
    leader = await shipped.cluster.leader()
    root = shipped.cluster.http(leader)
    shipped.hours(2)
    becomes(root, 'raftlock_audit_ship_segments{tier="shipped"}', 2)
    away = shipped.place.with_name("away")
    shipped.place.rename(away)
    shipped.place.write_text("no directory")
    lags = []
    for waiting in (2, 4):
        with grows(root, 'raftlock_audit_ship_failures_total{kind="unavailable"}'):
            shipped.hours(2)
            becomes(root, 'raftlock_audit_ship_segments{tier="local"}', waiting)
        found = scrape(root)
        lags.append(
            (found["raftlock_audit_ship_lag_bytes"], found["raftlock_audit_ship_lag_seconds"])
        )
    shipped.place.unlink()
    away.rename(shipped.place)
    becomes(root, "raftlock_audit_ship_lag_bytes", 0)
    becomes(root, "raftlock_audit_ship_lag_seconds", 0)
    shipped.all_there(leader)

    assert lags[1] > lags[0] > (0, 0)
    assert [one["kind"] for one in events(shipped.log(leader), "ship_failed")] == ["unavailable"]


async def test_the_next_leader_ships_on(shipped: Shipped) -> None:
    """kill -9 of the leader: its shipper goes with it, another node's ships what comes, and the store is one chain."""
    leader = await shipped.cluster.leader()
    shipped.hours(2)
    shipped.all_there(leader)
    shipped_by = {
        i: scrape(shipped.cluster.http(i))["raftlock_audit_ship_shipped_total"]
        for i in shipped.cluster.ids
    }
    old = int(str(events(shipped.log(leader), "shipper_started")[-1]["pid"]))
    shipped.cluster.kill(leader)
    heir = await shipped.cluster.leader(other_than=leader)
    with grows(shipped.cluster.http(heir), "raftlock_audit_ship_shipped_total"):
        shipped.hours(2)
    becomes(shipped.cluster.http(heir), "raftlock_audit_ship_active", 1)
    becomes(shipped.cluster.http(heir), "raftlock_audit_ship_lag_bytes", 0)
    shipped.all_there(heir)

    led = {i for i in shipped.cluster.ids if events(shipped.log(i), "ships")}
    assert {i for i, count in shipped_by.items() if count} <= led - {heir}
    wait_for(lambda: not alive(old), "a shipper outlived its node")
    assert events(shipped.log(heir), "ships")


async def test_a_node_that_stops_ends_its_shipper(shipped: Shipped) -> None:
    """After SIGTERM the node ends with 0, and its shipper is gone."""
    leader = await shipped.cluster.leader()
    pids = [int(str(one["pid"])) for one in events(shipped.log(leader), "shipper_started")]
    shipped.cluster.signal(leader, signal.SIGTERM)
    code = shipped.cluster.processes[leader].wait(timeout=30)

    assert (code, [pid for pid in pids if alive(pid)]) == (0, [])


def alive(pid: int) -> bool:
    """Return whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
