"""Too much of what is allowed: connections, waiters, lists, answers that nobody reads.

docs/faults.md has the table of these tests.
"""

import asyncio
import resource as rlimits
import socket
import struct
import time

import msgpack
import pytest

from raftlock_wire import limits
from raftlock_wire.messages import ListBy, Op
from raftlock_wire.status import Status
from tests.e2e.conftest import Cluster
from tests.e2e.raw import RawClient
from tests.e2e.scrape import becomes, grows, scrape
from tests.e2e.strangers import SERVED, log_of, open_session, rss, send_frame, serves

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


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
