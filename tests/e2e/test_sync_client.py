"""Client and AsyncClient on a real cluster: losses, callbacks, forks, failovers; the two side by side."""

import asyncio
import os
import signal
import threading

import pytest

from raftlock.client import (
    AsyncClient,
    Client,
    FencingGuard,
    LockLost,
    NotAcquired,
    StaleToken,
    SyncLock,
)
from tests.e2e.conftest import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


def test_both_clients_offer_the_same() -> None:
    """What AsyncClient and its lock offer, Client and its lock offer under the same names."""
    of_asyncio_only = {"deadline_us", "connection_fileno", "release_later"}
    public = [
        {name for name in dir(kind) if not name.startswith("_")} - of_asyncio_only
        for kind in (AsyncClient, Client)
    ]

    assert public[0] == public[1]


def test_a_lock_excludes_and_is_renewed(cluster: Cluster) -> None:
    """A second client is refused and learns who holds; the first is renewed over several ttls; tokens grow."""
    with Client(cluster.endpoints, owner="a") as a, Client(cluster.endpoints, owner="b") as b:
        with a.lock("r", ttl=3, metadata={"job": "x"}) as lock:
            refused = b.acquire("r")
            with pytest.raises(NotAcquired, match="'a'"):
                b.lock("r").__enter__()
            waiting = threading.Event()
            assert not waiting.wait(4)
            info = b.get("r")
            checked = b.check("r", lock.token)
        after = b.acquire("r")

        assert (refused, checked, lock.held) == (None, True, False)
        assert info is not None
        assert (info.owner, info.token, info.metadata) == ("a", lock.token, {"job": "x"})
        assert after is not None
        assert after.token > lock.token
        assert [found.token for found in b.list(prefix="r")] == [after.token]


def test_a_lock_that_is_taken_away_is_lost(cluster: Cluster) -> None:
    """force_release at once: the event is set, the callback is called, and the block raises LockLost."""
    called: list[int] = []

    def body() -> None:
        with client.lock("r", ttl=60) as lock:
            told = threading.Event()

            def tell(lost: SyncLock) -> None:
                called.append(lost.token)
                told.set()

            lock.on_lost(tell)
            assert admin.force_release("r", lock.token, reason="test", now=True)
            assert lock.lost.wait(60)
            assert told.wait(60)
            called.append(lock.token)

    with (
        Client(cluster.endpoints) as client,
        Client(cluster.endpoints) as admin,
        pytest.raises(LockLost, match=r"taken away|not held"),
    ):
        body()

    assert len(set(called)) == 1
    assert len(called) == 2


def test_locks_in_the_session_and_with_a_ttl_of_their_own(cluster: Cluster) -> None:
    """Without a ttl a lock lives in the session; change_ttl is for the others; both go with close()."""
    with Client(cluster.endpoints) as watcher:
        with Client(cluster.endpoints) as client:
            inside, own = client.acquire("in-session"), client.acquire("own", ttl=5)
            assert inside is not None
            assert own is not None
            own.change_ttl(30)
            infos = [watcher.get("in-session"), watcher.get("own")]
            with pytest.raises(ValueError, match="no ttl of its own"):
                inside.change_ttl(30)

        assert [info and info.ttl for info in infos] == [None, 30.0]
        while watcher.list():
            pass
        assert (inside.held, own.held) == (False, False)


def test_a_waiter_is_served_when_the_holder_leaves(cluster: Cluster) -> None:
    """A thread that waits gets the lock when it is released, with a larger token."""
    with Client(cluster.endpoints) as a, Client(cluster.endpoints) as b:
        held = a.acquire("r")
        assert held is not None
        got: list[SyncLock | None] = []
        waiter = threading.Thread(target=lambda: got.append(b.acquire("r", ttl=30, wait=60)))
        waiter.start()
        while (info := a.get("r")) is None or not info.waiters:
            pass
        held.release()
        waiter.join()

        assert got[0] is not None
        assert got[0].held
        assert got[0].token > held.token


def test_it_goes_on_with_another_node(cluster: Cluster) -> None:
    """kill -9 of the leader: locks stay held under their tokens, and calls under way are answered by another node."""
    with Client(cluster.endpoints) as client:
        lock = client.acquire("r", ttl=10)
        assert lock is not None
        cluster.kill(asyncio.run(cluster.leader()))
        after = client.acquire("after", ttl=10)

        assert after is not None
        assert (client.check("r", lock.token), lock.held) == (True, True)
        assert after.token > lock.token


def test_a_stopped_cluster_loses_the_lock_by_its_deadline(cluster: Cluster) -> None:
    """All nodes stopped: the lock is lost though its thread only waits, and not before the nodes could have ended it."""
    with Client(cluster.endpoints) as client:

        def body() -> None:
            with client.lock("r", ttl=1) as lock:
                for node_id in cluster.ids:
                    cluster.signal(node_id, signal.SIGSTOP)
                assert lock.lost.wait(60)
                assert not lock.held

        with pytest.raises(LockLost, match="deadline"):
            body()
        client.close(timeout=0.1)


def test_a_forked_child_locks_for_itself(cluster: Cluster) -> None:
    """The child's handle is lost, the parent's is not; the child's client is another owner to the cluster."""
    with Client(cluster.endpoints) as client, client.lock("r", ttl=5) as lock:
        reader, writer = os.pipe()
        if (pid := os.fork()) == 0:
            text = "failed"
            try:
                refused, own = client.acquire("r"), client.acquire("of-the-child", ttl=30)
                text = f"{lock.held} {refused} {own is not None and own.held}"
            finally:
                os.write(writer, text.encode())
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as stream:
            told = stream.read()
        os.waitpid(pid, 0)
        mine, of_the_child = client.get("r"), client.get("of-the-child")

        assert told == "False None True"
        assert lock.held
        assert mine is not None
        assert of_the_child is not None
        assert mine.session != of_the_child.session
        assert client.check("r", lock.token)


async def test_the_async_body_is_cancelled_and_the_callback_called(cluster: Cluster) -> None:
    """A loss cancels the body of `async with`, which raises LockLost; on_lost is called; the task is not left cancelled."""
    called: list[int] = []

    async def body() -> None:
        async with client.lock("r", ttl=60) as lock:
            lock.on_lost(lambda lost: called.append(lost.token))
            await admin.force_release("r", lock.token, reason="test", now=True)
            await asyncio.Event().wait()

    async with AsyncClient(cluster.endpoints) as client, AsyncClient(cluster.endpoints) as admin:
        with pytest.raises(LockLost):
            await body()
        task = asyncio.current_task()
        assert task is not None
        assert (len(called), task.cancelling()) == (1, 0)
        assert await client.get("r") is None


async def test_a_body_that_keeps_the_loop_busy_is_told_at_its_end(cluster: Cluster) -> None:
    """A body that blocks its event loop beyond the deadline leaves its block with LockLost."""
    async with AsyncClient(cluster.endpoints) as client:

        async def body() -> None:
            async with client.lock("r", ttl=0.2) as lock:
                while lock.held:
                    pass

        with pytest.raises(LockLost, match="deadline"):
            await body()


async def test_a_cancel_from_outside_goes_through(cluster: Cluster) -> None:
    """A body that is cancelled by its caller releases the lock and stays cancelled."""
    inside = asyncio.Event()

    async def body() -> None:
        async with client.lock("r", ttl=60):
            inside.set()
            await asyncio.Event().wait()

    async with AsyncClient(cluster.endpoints) as client:
        task = asyncio.create_task(body())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert await client.get("r") is None


async def test_an_ending_lock_lives_to_its_deadline(cluster: Cluster) -> None:
    """force_release at expiry: the holder keeps the lock, is renewed no more, and loses it at the deadline."""
    async with AsyncClient(cluster.endpoints) as client, AsyncClient(cluster.endpoints) as admin:
        lock = await client.acquire("r", ttl=3)
        assert lock is not None
        asked = await admin.force_release("r", lock.token, reason="test")
        held = lock.held
        await lock.lost.wait()
        while await admin.get("r") is not None:
            await asyncio.sleep(0.01)

        assert (asked, held, lock.held) == (True, True, False)


def test_a_guard_refuses_who_was_overtaken(cluster: Cluster) -> None:
    """Tokens from the cluster, on the side that keeps the resource: the smaller one is refused once a larger was seen."""
    guard = FencingGuard()
    with Client(cluster.endpoints) as client:
        with client.lock("r") as first:
            guard.check("r", first.token)
        with client.lock("r") as second:
            guard.check("r", second.token)

    with pytest.raises(StaleToken) as caught:
        guard.check("r", first.token)
    assert (caught.value.token, caught.value.highest) == (first.token, second.token)
