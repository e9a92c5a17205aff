"""Scenarios after what users of other lock services reported, where no other test tells them whole: see tests/PAINS.md."""

import asyncio
import random
from typing import Any

import pytest

from raftlock.client import AsyncClient, LockLost, NotAcquired
from raftlock.client.session import ClientSession
from raftlock.locks import LockTable
from raftlock.locks.snapshot import encode_state
from raftlock_wire.codec import unpack
from raftlock_wire.messages import Event, Op
from raftlock_wire.status import Status
from tests.unit.client.fake_node import FakeNode
from tests.unit.client.scripted import SECOND, Scripted
from tests.unit.locks.kit import Log
from tests.unit.server import kit
from tests.unit.server.kit import Nodes, renew

HOUR_US = 3_600_000_000


def with_lease(ttl_ms: int = 1_000) -> tuple[Nodes, int, int, int]:
    """Return nodes, who leads, a connection of a session there, and the token of its lease on `r`."""
    nodes = Nodes()
    leader = nodes.lead()
    conn = nodes.connect(leader)
    session = nodes.open(conn, ttl_ms=60_000)
    return nodes, leader, conn, nodes.acquire(conn, session, ttl_ms=ttl_ms)[4]


@pytest.mark.parametrize("hours", [-10, 10])
def test_a_jump_of_every_wall_clock_ends_no_lease_and_keeps_none(
    hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No deadline is judged by it: the lease lives for its ttl on the monotonic clock, and ends then."""
    nodes, _, _, _ = with_lease()
    nodes.run(100)
    monkeypatch.setattr(kit, "WALL_US", kit.WALL_US + hours * HOUR_US)

    passed = nodes.until(lambda: nodes.table().lookup("r") is None)

    assert 850 <= passed <= 1_150


def test_a_deposed_leader_that_was_stalled_ends_no_live_lease() -> None:
    """It comes back with the lease nearly due, hears of nobody, and logs its Expire: the holder renews elsewhere all along."""
    nodes, old, _, token = with_lease(ttl_ms=1_000)
    nodes.run(960)
    nodes.isolate(old)
    nodes.frozen.add(old)
    conn = nodes.connect(nodes.lead())
    renewed = [nodes.ask(conn, renew(10, ("r", token)))[3][0][0]]
    nodes.frozen.discard(old)
    log = nodes.drivers[old].raft
    before = log.last_index
    nodes.until(lambda: log.last_index > before)
    expires = unpack(log.entry(log.last_index).data)[0][2]
    nodes.cut.clear()
    for number in range(4):
        nodes.run(300)
        renewed.append(nodes.ask(conn, renew(20 + number, ("r", token)))[3][0][0])
    nodes.run(100)

    held = [driver.table.lookup("r") for driver in nodes.drivers.values()]
    assert (expires[:4], set(renewed), [grant and grant.token for grant in held]) == (
        (Op.EXPIRE_LOCK, 0, "r", token),
        {Status.OK},
        [token] * 3,
    )


def test_one_release_wakes_one_waiter() -> None:
    """Of twenty who wait, the first is told; the others hear nothing, and none of them asks again."""
    nodes, leader, holder, token = with_lease(ttl_ms=10_000)
    waiters = [nodes.connect(leader) for _ in range(20)]
    for conn in waiters:
        nodes.acquire(conn, nodes.open(conn, ttl_ms=60_000), wait_ms=60_000)
    for conn in waiters:
        nodes.took(conn)
    nodes.ask(holder, (int(Op.RELEASE), 9, "r", token))
    nodes.run(50)

    told = [[message[:2] for message in nodes.took(conn)] for conn in waiters]
    assert told == [[(0, Event.OFFERED)], *[[]] * 19]


def test_two_thousand_leases_that_end_within_a_second_hold_up_nobody() -> None:
    """Each ends in its time (guarantee 4), and one that is renewed meanwhile is answered at once and lives."""
    nodes, _, conn, token = with_lease(ttl_ms=1_000)
    session = nodes.open(nodes.connect(nodes.leader()), ttl_ms=60_000)
    other = nodes.connect(nodes.leader())
    nodes.send(other, (int(Op.OPEN_SESSION), 2, b"crowd" + bytes(11), 60_000))
    nodes.run(10)
    crowd = next(m[3] for m in nodes.took(other) if m[0] == 2)
    for first in range(0, 2_000, 100):
        requests = [
            (int(Op.ACQUIRE), 10 + i, crowd, i, 1, f"n{i}", "o", 1_000, 0, None)
            for i in range(first, first + 100)
        ]
        nodes.send(other, *requests)
        nodes.run(10)
    full = nodes.table().lock_count
    slowest = 0
    for number in range(14):
        began_us = nodes.now_us
        assert nodes.ask(conn, renew(100 + number, ("r", token)))[3][0][0] == Status.OK
        slowest = max(slowest, nodes.now_us - began_us)
        nodes.run(90)

    assert (session > 0, full, nodes.table().lock_count, slowest <= 20_000) == (
        True,
        2_001,
        1,
        True,
    )


def test_released_locks_leave_nothing() -> None:
    """After ten thousand names that were locked once, the state is as large as before, and so is every index."""
    log = Log()
    session = log.open()
    log.acquire(session, "first", n=1)
    log.release("first", log.token("first"))
    before = size(log.table)
    for n in range(2, 10_002):
        token = log.acquire(session, f"name:{n}", n=n)[4]
        log.release(f"name:{n}", token)
    merging = sum(log.table.merge_index(500) for _ in range(100))

    leftover = (sum(map(len, log.table.buckets)), len(log.table.queues), len(log.table.index.delta))
    assert (size(log.table) - before < 64, leftover, merging < 100) == (True, (0, 0, 0), True)


def size(table: LockTable) -> int:
    """Return the bytes of the whole state."""
    return sum(map(len, encode_state(table)))


def test_a_released_lock_is_renewed_no_more() -> None:
    """No timer of it goes on, whether its release was answered at once or late."""
    client = Scripted()
    handle = client.hold(ttl_ms=3_000)
    client.core.release(handle, client.now_us)
    release = client.take(Op.RELEASE)
    client.wait(SECOND // 2)
    client.answer(release, Status.OK)
    client.sent()
    client.wait(2 * SECOND)

    assert Op.RENEW not in client.ops()


def test_retries_of_many_clients_spread() -> None:
    """Those who were refused at one moment come back at moments of their own."""

    class Drawn(Scripted):
        def __init__(self, seed: int) -> None:
            super().__init__(connect=False)
            rng = random.Random(seed)
            self.core = ClientSession(rng=rng, nonces=lambda: bytes(16), session_ttl_ms=10_000)
            self.connect()

    moments: set[int] = set()
    for seed in range(50):
        client = Drawn(seed)
        client.want()
        client.answer(client.take(Op.OPEN_SESSION), Status.NO_QUORUM, "no leader")
        due_us = client.core.next_deadline_us()
        assert due_us is not None
        moments.add(due_us - client.now_us)

    assert (len(moments) > 40, max(moments) > 2 * min(moments)) == (True, True)


# the client on a real socket


def with_node(main: Any) -> Any:
    """Run a coroutine function of (client, node) against a node that does as it is told."""
    node = FakeNode()

    async def run() -> Any:
        async with AsyncClient([node.endpoint], owner="me") as client:
            try:
                return await main(client, node)
            finally:
                node.silent = False

    try:
        return asyncio.run(run())
    finally:
        node.close()


def test_a_cancelled_release_is_still_a_release() -> None:
    """Who gives up waiting for the answer leaves no lock behind: the release was sent, and is asked for on."""

    async def main(client: AsyncClient, node: FakeNode) -> tuple[int, bool]:
        lock = await client.acquire("r", ttl=60)
        node.silent = True
        release = asyncio.create_task(lock.release())
        await asyncio.to_thread(node.wait_for, Op.RELEASE)
        release.cancel()
        with pytest.raises(asyncio.CancelledError):
            await release
        node.silent = False
        await asyncio.to_thread(node.wait_for, Op.RELEASE, 2)
        other = await client.acquire("r", ttl=60)
        return len(node.seen(Op.RELEASE)), lock.held or not other.held

    releases, wrong = with_node(main)

    assert (releases >= 2, wrong) == (True, False)


def test_a_block_is_not_entered_without_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal is an error at `async with`, never a body that runs unlocked."""
    held = (int(Status.HELD), True, 0, 5, "another", 1, 1, None, 1)
    answer = FakeNode._answer
    monkeypatch.setattr(
        FakeNode, "_answer", lambda node, r: held if r[0] == Op.ACQUIRE else answer(node, r)
    )
    ran: list[bool] = []

    async def main(client: AsyncClient, node: FakeNode) -> str:
        del node
        try:
            async with client.lock("r"):
                ran.append(True)
        except (NotAcquired, LockLost) as error:
            return type(error).__name__
        return "entered"

    assert (with_node(main), ran) == ("NotAcquired", [])
