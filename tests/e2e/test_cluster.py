"""What a user relies on, on real processes: kill -9, SIGSTOP, waiting, retries, orphans."""

import asyncio
import signal
import time

import pytest

from raftlock.client import AsyncClient, Lock, LockLost, NotAcquired, OutcomeUnknown, Unavailable
from raftlock.client.acquiring import AcquireResult
from raftlock.client.async_client import client_now_us, fetch_status
from raftlock_wire.messages import Op
from raftlock_wire.status import Status
from tests.e2e.conftest import Cluster
from tests.e2e.raw import RawClient

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


async def test_a_lock_excludes_and_its_tokens_grow(cluster: Cluster) -> None:
    """One holder at a time; who is refused learns who holds; each grant has a larger token."""
    async with (
        AsyncClient(cluster.endpoints, owner="a") as a,
        AsyncClient(cluster.endpoints, owner="b") as b,
    ):
        async with a.lock("demo", ttl=10) as first:
            refused = await b.try_acquire("demo")
            with pytest.raises(NotAcquired, match="'a'"):
                async with b.lock("demo"):
                    pass
            assert await b.check("demo", first.token)
        second = await b.acquire("demo")

        assert isinstance(refused, AcquireResult)
        assert (refused.holder, refused.holder_token) == ("a", first.token)
        assert second is not None
        assert second.token > first.token


async def test_a_release_serves_waiters_in_order(cluster: Cluster) -> None:
    """1,000 waiters of one resource, from two clients, are served in the order in which they were queued."""
    async with AsyncClient(cluster.endpoints) as a, AsyncClient(cluster.endpoints) as b:
        held = await a.acquire("queue")
        assert held is not None
        order: list[int] = []

        async def wait_for_it(number: int) -> None:
            lock = await (a, b)[number % 2].acquire("queue", ttl=30, wait=60)
            assert lock is not None
            order.append(number)
            await lock.release()

        tasks = []
        for number in range(1_000):
            tasks.append(asyncio.create_task(wait_for_it(number)))
            while (info := await a.get("queue")) is None or info.waiters <= number:
                await asyncio.sleep(0)
        await held.release()
        await asyncio.gather(*tasks)

        assert order == list(range(1_000))


async def test_a_cancelled_acquire_leaves_nothing(cluster: Cluster) -> None:
    """An acquire whose caller left is withdrawn: no waiter, no lock."""
    async with AsyncClient(cluster.endpoints) as a, AsyncClient(cluster.endpoints) as b:
        held = await a.acquire("orphan", ttl=30)
        assert held is not None
        waiting = asyncio.create_task(b.acquire("orphan", wait=30))
        while (info := await a.get("orphan")) is not None and not info.waiters:
            await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        while (info := await a.get("orphan")) is not None and info.waiters:
            await asyncio.sleep(0.01)
        await held.release()

        assert await a.get("orphan") is None


async def test_a_dead_holder_passes_on(cluster: Cluster) -> None:
    """A lock whose holder stopped renewing goes to the waiter, not before its ttl has passed."""
    async with AsyncClient(cluster.endpoints) as a, AsyncClient(cluster.endpoints) as b:
        began = time.monotonic()
        held = await a.acquire("dead", ttl=1.0, renew=False)
        assert held is not None
        heir = await b.acquire("dead", ttl=5, wait=20)

        assert heir is not None
        assert time.monotonic() - began >= 1.0
        assert heir.token > held.token
        assert held.lost.is_set()


async def test_a_dead_waiter_is_skipped(cluster: Cluster) -> None:
    """A waiter whose process is gone does not keep the lock from the one behind it."""
    async with AsyncClient(cluster.endpoints) as a, AsyncClient(cluster.endpoints) as c:
        held = await a.acquire("skip", ttl=60)
        assert held is not None
        with RawClient(cluster.endpoint(await cluster.leader())) as dying:
            session = dying.ask(Op.OPEN_SESSION, b"d" * 16, 1_000)[2]
            queued = dying.ask(Op.ACQUIRE, session, 0, 1, "skip", "dying", 5_000, 60_000, None)
        behind = asyncio.create_task(c.acquire("skip", ttl=5, wait=60))
        while (info := await a.get("skip")) is not None and info.waiters != 1:
            await asyncio.sleep(0.02)
        await held.release()
        heir = await behind

        assert queued[0] == Status.QUEUED
        assert heir is not None
        assert heir.token > held.token


async def test_a_retry_on_another_node_gives_the_same_token(cluster: Cluster) -> None:
    """The same key sent again after the leader's death has its effect once, and re-arms nothing (R1, R2)."""
    leader = await cluster.leader()
    with RawClient(cluster.endpoint(leader)) as first:
        nonce = b"n" * 16
        session = first.ask(Op.OPEN_SESSION, nonce, 60_000)[2]
        acquire = (Op.ACQUIRE, session, 0, 1, "retry", "o", 30_000, 0, None)
        granted = first.ask(*acquire)
        cluster.kill(leader)
    await cluster.leader(other_than=leader)
    other = next(i for i in cluster.ids if i != leader)
    with RawClient(cluster.endpoint(other)) as second:
        attached = second.ask_until_final(Op.ATTACH, session, nonce)
        again = second.ask_until_final(*acquire)
        renewed = second.ask_until_final(Op.RENEW, [["retry", granted[3]]])

    assert (attached[0], again) == (Status.OK, granted)
    assert renewed[2][0][0] == Status.OK


async def test_a_client_retries_on_another_node_by_itself(cluster: Cluster) -> None:
    """An acquire that is under way when the leader dies ends as one grant, counted from its first attempt."""
    async with AsyncClient(cluster.endpoints) as client:
        await client.acquire("warm")
        leader = await cluster.leader()
        cluster.signal(leader, signal.SIGSTOP)
        began_us = client_now_us()
        acquiring = asyncio.create_task(client.acquire("under-way", ttl=30))
        await asyncio.sleep(0.05)
        cluster.kill(leader)
        lock = await acquiring

        assert lock is not None
        assert await client.check("under-way", lock.token)
        # Before its first renewal is answered a deadline counts from the first attempt; after it, from that renewal.
        assert began_us < client.deadline_us(lock.handle) < client_now_us() + 30_000_000


async def test_kill_of_the_leader_loses_nothing(cluster: Cluster) -> None:
    """Locks that were acknowledged are there after kill -9 of the leader, under the same tokens."""
    async with AsyncClient(cluster.endpoints) as client:
        locks = await asyncio.gather(*(client.acquire(f"keep:{i}", ttl=30) for i in range(50)))
        leader = await cluster.leader()
        cluster.kill(leader)
        await cluster.leader(other_than=leader)
        kept = [await client.check(lock.resource, lock.token) for lock in locks if lock is not None]
        after = await client.acquire("after")

        assert (kept, len(kept)) == ([True] * 50, 50)
        assert after is not None
        assert after.token > max(lock.token for lock in locks if lock is not None)


async def test_kill_of_all_nodes_loses_nothing(cluster: Cluster) -> None:
    """All nodes killed at once and started again: every acknowledged lock is there."""
    async with AsyncClient(cluster.endpoints) as client:
        locks = await asyncio.gather(*(client.acquire(f"all:{i}", ttl=60) for i in range(50)))
        for node_id in cluster.ids:
            cluster.processes[node_id].kill()
        for node_id in cluster.ids:
            cluster.processes[node_id].wait()
            cluster.start(node_id)
        await cluster.leader()
        kept = [await client.check(lock.resource, lock.token) for lock in locks if lock is not None]

        assert (kept, len(kept)) == ([True] * 50, 50)


@pytest.mark.parametrize("who", ["leader", "follower"])
async def test_a_stopped_node_catches_up_and_grants_nothing_stale(
    cluster: Cluster, who: str
) -> None:
    """SIGSTOP of a node: the others go on; when it wakes up it grants nothing, and catches up."""
    leader = await cluster.leader()
    stopped = leader if who == "leader" else next(i for i in cluster.ids if i != leader)
    others = [cluster.endpoint(i) for i in cluster.ids if i != stopped]
    async with AsyncClient(others) as client:
        held = await client.acquire("stop", ttl=30)
        assert held is not None
        cluster.signal(stopped, signal.SIGSTOP)
        await cluster.leader(other_than=stopped)
        passed = await client.acquire("meanwhile", ttl=30)
        assert passed is not None
        cluster.signal(stopped, signal.SIGCONT)
        async with AsyncClient([cluster.endpoint(stopped)]) as late:
            refused = await late.try_acquire("meanwhile")
        while True:
            status = await fetch_status(cluster.endpoint(stopped))
            if status.applied_index >= passed.handle.rev and status.leader:
                break
            await asyncio.sleep(0.01)

        assert isinstance(refused, AcquireResult)
        assert refused.holder_token == passed.token
        assert await client.check("stop", held.token)


async def test_a_minority_grants_nothing(cluster: Cluster) -> None:
    """With two of three nodes gone there is no grant, and the caller learns that in bounded time."""
    leader = await cluster.leader()
    for node_id in cluster.ids:
        if node_id != leader:
            cluster.kill(node_id)
    async with AsyncClient([cluster.endpoint(leader)]) as client:
        with pytest.raises((OutcomeUnknown, Unavailable)):
            await client.check("x", 1)
        await client.close(timeout=0.1)


async def test_the_body_is_cancelled_when_the_lock_is_taken_away(cluster: Cluster) -> None:
    """A lock that an administrator ends cancels the body of `async with`, which raises LockLost."""
    async with AsyncClient(cluster.endpoints) as client, AsyncClient(cluster.endpoints) as admin:

        async def body() -> None:
            async with client.lock("forced", ttl=60) as lock:
                assert await admin.force_release("forced", lock.token, reason="test", now=True)
                await asyncio.Event().wait()

        with pytest.raises(LockLost, match="taken away"):
            await body()


async def test_locks_live_with_their_session(cluster: Cluster) -> None:
    """A client that closes takes the locks of its session along, and leaves those with a lease that it does not renew."""
    async with AsyncClient(cluster.endpoints) as watcher:
        async with AsyncClient(cluster.endpoints) as client:
            mine = await client.acquire("in-session")
            left = await client.acquire("left", ttl=60, renew=False)
        while await watcher.get("in-session") is not None:
            await asyncio.sleep(0.01)

        assert isinstance(mine, Lock)
        assert isinstance(left, Lock)
        assert await watcher.check("left", left.token)
