"""Changes of the members on real processes: nodes come, catch up, vote, lead, and go; locks and tokens outlive it."""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from raftlock.client import AsyncClient, ChangeRefused, Lock, Members
from raftlock.server.bootstrap import ask_node
from tests.e2e.conftest import Cluster
from tests.e2e.node import events
from tests.e2e.scrape import grows

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


def members_command(cluster: Cluster, *arguments: str) -> tuple[int, Any]:
    """Run `raftlock members … --json`. Return its exit code and its object, or the end of what it said."""
    command = [sys.executable, "-m", "raftlock.cli.main", "members", *arguments]
    done = subprocess.run(
        [*command, "--json", "--timeout", "20s", "--endpoints", ",".join(cluster.endpoints)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


async def change(cluster: Cluster, *arguments: str) -> dict[str, Any]:
    """Change the members by the command, which must succeed. Return what it says."""
    code, said = await asyncio.to_thread(members_command, cluster, *arguments)
    assert (code, said["status"]) == (0, "OK"), said
    return dict(said)


def log_of(cluster: Cluster, node_id: int) -> str:
    """Return what a node logged."""
    return (cluster.folder / f"node-{node_id}.log").read_text()


async def until(condition: Any, *, seconds: float = 60) -> None:
    """Wait until an awaited condition holds."""
    end = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


async def caught_up(client: AsyncClient, node_id: int) -> None:
    """Wait until a member keeps up with the leader."""

    async def up() -> bool:
        member = (await client.members()).get(node_id)
        return member is not None and member.behind == 0 and member.heard is not None

    await until(up)


def roles(members: Members) -> dict[int, str]:
    """Return who votes."""
    return {m.node_id: "voter" if m.voter else "learner" for m in members.members}


class Working:
    """A client that holds one lock throughout, and takes and releases another again and again."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        self.held: Lock | None = None
        self.tokens: list[int] = []
        self.stop = False

    async def run(self) -> None:
        """Work until told to stop. A lock that is lost raises."""
        async with self.client.lock("held throughout", ttl=5.0) as lock:
            self.held = lock
            while not self.stop:
                async with self.client.lock("passing", ttl=5.0, wait=30.0) as passing:
                    self.tokens.append(passing.token)
                await asyncio.sleep(0.01)


@asynccontextmanager
async def working(cluster: Cluster, *endpoints: str) -> AsyncIterator[Working]:
    """Let a client work for the body; its lock must be held at the end, and its tokens must only have grown."""
    async with AsyncClient(endpoints or cluster.endpoints, request_timeout=30.0) as client:
        work = Working(client)
        task = asyncio.create_task(work.run())
        await until(lambda: asyncio.sleep(0, len(work.tokens) > 3))
        try:
            yield work
            seen = len(work.tokens)
            await until(lambda: asyncio.sleep(0, len(work.tokens) > seen + 3))
            assert work.held is not None
            assert await client.check("held throughout", work.held.token)
        finally:
            work.stop = True
            await task
        assert work.tokens == sorted(set(work.tokens))


LOCKS, ROUNDS = 1_000, 30
"""Enough entries that more than the log that is kept behind a snapshot (16 MiB) lies behind the last one."""


def fill(cluster: Cluster, node_id: int) -> None:
    """Take and release locks with much metadata, again and again; the last ones stay."""

    async def take() -> None:
        async with AsyncClient([cluster.endpoint(node_id)]) as client:
            for last in (*[False] * (ROUNDS - 1), True):
                locks = await asyncio.gather(
                    *(
                        client.acquire(
                            f"filled:{i}", ttl=3_600, renew=False, metadata={"x": "y" * 900}
                        )
                        for i in range(LOCKS)
                    )
                )
                if not last:
                    await asyncio.gather(*(lock.release() for lock in locks if lock is not None))

    asyncio.run(take())


def test_a_cluster_grows_and_loses_its_old_leader(cluster: Cluster) -> None:
    """A fourth node is added and votes; the leader removes itself; one more is killed: two of three go on."""
    cluster.start(4)

    async def run() -> tuple[int, int]:
        old = await cluster.leader()
        async with working(cluster) as work:
            added = await change(cluster, "add", cluster.peer(4), "--promote")
            assert added == {"status": "OK", "node_id": 4, "state": "voter"}
            assert roles(await work.client.members()) == dict.fromkeys((1, 2, 3, 4), "voter")
            removed = await change(cluster, "remove", str(old))
            assert removed == {"status": "OK", "node_id": old, "state": "removed"}
            cluster.ids = tuple(i for i in (1, 2, 3, 4) if i != old)
            new = await cluster.leader()
            killed = next(i for i in cluster.ids if i not in (new, 4))
            cluster.kill(killed)
            await asyncio.sleep(0.5)
            left = await work.client.members()
            assert left.settled
            assert roles(left) == dict.fromkeys(cluster.ids, "voter")
        return old, killed

    old, killed = asyncio.run(run())

    status = cluster.status(old)
    assert status is not None
    assert (status.role, status.healthy, status.leader) == ("removed", False, 0)
    assert events(log_of(cluster, old), "removed")
    assert killed in (1, 2, 3)


def test_a_new_node_catches_up_by_a_snapshot(cluster: Cluster) -> None:
    """The log from the start is gone by then. With it alone and one other node nothing is lost."""
    for node_id in (1, 2, 3, 4):
        cluster.environment[node_id] = {"RAFTLOCK_SNAPSHOT_LOG_SIZE": str(1 << 20)}
    for node_id in (1, 2, 3):
        cluster.kill(node_id)
        cluster.start(node_id)
    leader = asyncio.run(cluster.leader())
    fill(cluster, leader)
    cluster.start(4)

    async def run() -> int:
        async with AsyncClient(cluster.endpoints, request_timeout=30.0) as client:
            before = await client.acquire("before", ttl=600, renew=False)
            assert before is not None
            await change(cluster, "add", cluster.peer(4), "--promote")
            leads = await cluster.leader()
            first = next(i for i in (1, 2, 3) if i != leads)
            gone = (await client.members()).get(first)
            assert gone is not None
            cluster.kill(first)
            await client.remove_member(first, incarnation=gone.incarnation)
            cluster.ids = tuple(i for i in (1, 2, 3, 4) if i != first)
            old = await cluster.leader()
            cluster.kill(old)
            cluster.ids = tuple(i for i in cluster.ids if i != old)
            await cluster.leader()
            assert await client.check("before", before.token)
            return len(await client.list(prefix="filled:"))

    assert asyncio.run(run()) == LOCKS
    assert events(log_of(cluster, 4), "snapshot_installed")


def test_a_node_that_was_down_meanwhile_comes_back(cluster: Cluster) -> None:
    """It knows neither the node that was added nor that another is gone; those it still knows bring it the news."""
    cluster.start(4)

    async def run() -> dict[int, str]:
        leader = await cluster.leader()
        down, removed = (i for i in (1, 2, 3) if i != leader)
        cluster.kill(down)
        async with working(cluster) as work:
            await change(cluster, "add", cluster.peer(4), "--promote")
            await change(cluster, "remove", str(removed))
            cluster.kill(removed)
            cluster.start(down)
            await caught_up(work.client, down)
            # Of the three that are left, the one that came back and the new one must do without the third.
            cluster.kill(leader)
            cluster.ids = (down, 4)
            await cluster.leader()
            return roles(await work.client.members())

    found = asyncio.run(run())

    assert len(found) == 3
    assert set(found.values()) == {"voter"}
    assert {*cluster.ids} < {*found}


def test_a_replaced_disk_is_refused_until_its_node_is_removed_and_added(cluster: Cluster) -> None:
    """Under its old name an emptied directory is nobody; under its new incarnation it learns, and then votes."""
    leader = asyncio.run(cluster.leader())
    lost = next(i for i in (1, 2, 3) if i != leader)
    cluster.kill(lost)
    shutil.rmtree(cluster.folder / f"node-{lost}")
    cluster.start(lost)

    async def run() -> None:
        async with working(cluster) as work:
            old = (await work.client.members()).get(lost)
            assert old is not None
            await until(
                lambda: asyncio.sleep(0, bool(events(log_of(cluster, leader), "refused_by_peer")))
            )
            new = await asyncio.to_thread(ask_node, cluster.peer(lost))
            assert (new.cluster_id, new.incarnation == old.incarnation) == ("", False)
            with pytest.raises(ChangeRefused) as refused:
                await work.client.add_member(
                    lost,
                    incarnation=new.incarnation,
                    peer_address=cluster.peer(lost),
                    client_address=cluster.endpoint(lost),
                )
            assert refused.value.cause == "incarnation"
            await change(cluster, "remove", str(lost))
            await change(cluster, "add", cluster.peer(lost), "--promote")
            now = (await work.client.members()).get(lost)
            assert now is not None
            assert (now.incarnation, now.voter) == (new.incarnation, True)
            cluster.kill(next(i for i in (1, 2, 3) if i not in (leader, lost)))
            await asyncio.sleep(0.5)

    asyncio.run(run())


def test_a_removed_directory_does_not_come_back(cluster: Cluster) -> None:
    """Its node is told so, also after a restart; emptied, it is another one and may be added."""
    leader = asyncio.run(cluster.leader())
    gone = next(i for i in (1, 2, 3) if i != leader)
    removed = members_command(cluster, "remove", str(gone))
    again = members_command(cluster, "remove", str(gone))
    cluster.kill(gone)
    cluster.start(gone)

    async def says_removed() -> bool:
        status = await asyncio.to_thread(cluster.status, gone)
        return status is not None and status.role == "removed"

    with grows(cluster.http(leader), 'raftlock_peer_connections_refused_total{reason="removed"}'):
        asyncio.run(until(says_removed))
    code, refused = members_command(cluster, "add", cluster.peer(gone))
    cluster.kill(gone)
    shutil.rmtree(cluster.folder / f"node-{gone}")
    cluster.start(gone)
    added = members_command(cluster, "add", cluster.peer(gone), "--promote")

    ok = {"status": "OK", "node_id": gone, "state": "removed"}
    assert (removed, again, code) == ((0, ok), (0, ok), 1)
    assert "empty its data directory" in refused["error"]
    assert added == (0, {"status": "OK", "node_id": gone, "state": "voter"})


def test_a_node_moves_to_another_address(cluster: Cluster) -> None:
    """Started elsewhere and added again it is the same member; the others call it there, and clients are told."""
    leader = asyncio.run(cluster.leader())
    moved = next(i for i in (1, 2, 3) if i != leader)
    cluster.kill(moved)
    cluster.move(moved, to=5)
    cluster.start(moved)
    code, _ = members_command(cluster, "add", cluster.peer(moved))

    async def run() -> Members:
        async with AsyncClient([cluster.endpoint(leader)]) as client:
            await caught_up(client, moved)
            return await client.members()

    found = asyncio.run(run()).get(moved)
    assert found is not None
    assert (code, found.voter, found.peer_address, found.client_address) == (
        0,
        True,
        cluster.peer(moved),
        cluster.endpoint(moved),
    )


def test_what_would_leave_no_majority_is_refused(cluster: Cluster) -> None:
    """With one of three dead the other may not go; the dead one may."""
    leader = asyncio.run(cluster.leader())
    dead, alive = (i for i in (1, 2, 3) if i != leader)
    cluster.kill(dead)
    time.sleep(1.0)
    refused = members_command(cluster, "remove", str(alive))
    removed = members_command(cluster, "remove", str(dead))

    assert (refused[0], removed) == (1, (0, {"status": "OK", "node_id": dead, "state": "removed"}))
    assert "keep up" in refused[1]["error"]


def test_a_cluster_grows_to_five_and_shrinks_to_three(cluster: Cluster) -> None:
    """One node after the other, under load; with five, two may be killed at once."""

    async def run() -> dict[int, str]:
        async with working(cluster) as work:
            for new in (4, 5):
                cluster.start(new)
                await change(cluster, "add", cluster.peer(new), "--promote")
            cluster.ids = (1, 2, 3, 4, 5)
            leads = await cluster.leader()
            killed = [i for i in cluster.ids if i != leads][:2]
            for node_id in killed:
                cluster.kill(node_id)
            await cluster.leader()
            await asyncio.sleep(0.5)
            for node_id in killed:
                await change(cluster, "remove", str(node_id))
            cluster.ids = tuple(i for i in cluster.ids if i not in killed)
            return roles(await work.client.members())

    found = asyncio.run(run())

    assert found == dict.fromkeys(cluster.ids, "voter")
    assert len(found) == 3


def test_a_client_finds_members_that_it_was_not_told_of(cluster: Cluster) -> None:
    """It knows one node, which is removed and stopped: the nodes that it named are tried, and no lock is lost."""

    async def run() -> None:
        old = await cluster.leader()
        async with working(cluster, cluster.endpoint(old)):
            await change(cluster, "remove", str(old))
            cluster.kill(old)
            await asyncio.sleep(0.5)

    asyncio.run(run())


def test_a_node_that_knows_nobody_any_more_is_called_back(cluster: Cluster) -> None:
    """All that it knew are gone when it starts again: the members of now call it, and it answers where they say."""

    async def run() -> dict[int, str]:
        leader = await cluster.leader()
        down, other = (i for i in (1, 2, 3) if i != leader)
        cluster.kill(down)
        for new in (4, 5):
            cluster.start(new)
            await change(cluster, "add", cluster.peer(new), "--promote")
        for gone in (other, leader):
            await change(cluster, "remove", str(gone))
            cluster.kill(gone)
        cluster.ids = (down, 4, 5)
        await cluster.leader(other_than=down)
        async with working(cluster, cluster.endpoint(4), cluster.endpoint(5)) as work:
            cluster.start(down)
            await caught_up(work.client, down)
            cluster.kill(4)
            cluster.ids = (down, 5)
            await cluster.leader()
            return roles(await work.client.members())

    found = asyncio.run(run())

    assert found == {**dict.fromkeys(cluster.ids, "voter"), 4: "voter"}
