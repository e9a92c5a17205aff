"""Hosts that vanish without a word: their connections are half open, and a node gives them up in the time it says.

Each test has a network of its own (a namespace of this thread, whose packets a rule drops), so that nothing else on
this machine notices. docs/faults.md has the table of these tests.
"""

import asyncio
import ctypes
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftlock_wire import limits
from raftlock_wire.messages import Op
from raftlock_wire.status import Status
from tests.e2e.conftest import Cluster
from tests.e2e.raw import RawClient
from tests.e2e.scrape import becomes, grows, scrape

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]

CLONE_NEWNET = 0x40000000
SLACK_S = 10.0
"""How much later than the silence allowed a machine under load may be."""


@pytest.fixture
def network() -> Iterator[None]:
    """A network of this thread's own, with a loopback and nothing else: processes started meanwhile are in it."""
    if not shutil.which("nft") or not shutil.which("ip"):
        pytest.skip("nft and ip are needed to drop packets")
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET):
            pytest.skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True, capture_output=True)
            nft("add table inet t")
            nft("add chain inet t c { type filter hook input priority 0; }")
            yield
        finally:
            assert libc.setns(before, 0) == 0
    finally:
        os.close(before)


def nft(command: str) -> None:
    """Change the rules of this network."""
    done = subprocess.run(["nft", command], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nft {command}: {done.stderr.strip()}")


def vanish(port: int) -> None:
    """Let nothing pass from or to a port any more: its host is gone, and no connection is closed."""
    nft(f"add rule inet t c tcp sport {port} drop")
    nft(f"add rule inet t c tcp dport {port} drop")


@pytest.fixture
def hidden(network: None, tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes in a network of their own."""
    del network
    cluster = Cluster(tmp_path)
    try:
        cluster.start_all()
        asyncio.run(cluster.leader())
        yield cluster
    finally:
        cluster.stop_all()


def test_a_half_open_client_is_given_up(hidden: Cluster) -> None:
    """Clients of the protocol and of HTTP vanish with their host: after 30 s the node knows, and withdraws the wait."""
    root = hidden.http(1)
    with RawClient(hidden.endpoint(1)) as holder:
        session = holder.ask_until_final(Op.OPEN_SESSION, b"h" * 16, 300_000)[2]
        held = holder.ask_until_final(Op.ACQUIRE, session, 0, 1, "held", "o", 600_000, 0, None)
        gone = RawClient(hidden.endpoint(1))
        waiting = RawClient(root.removeprefix("http://"), hello=False)
        order = {"resourceId": "held", "clientId": "gone", "ttl": 60, "blocking": True}
        body = json.dumps({**order, "timeout": 3_600})
        waiting.send_bytes(
            b"POST /api/v1/locks/acquire HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(body), body.encode())
        )
        leader = asyncio.run(hidden.leader())
        becomes(hidden.http(leader), "raftlock_waiters", 1)
        began = time.monotonic()
        with grows(
            root,
            'raftlock_client_connections_refused_total{reason="silent"}',
            'raftlock_http_connections_refused_total{reason="silent"}',
        ):
            for client in (gone, waiting):
                vanish(client.port)
                client.close()
        took_s = time.monotonic() - began
        becomes(hidden.http(leader), "raftlock_waiters", 0)
        served = holder.ask_until_final(Op.RELEASE, "held", held[3])

    assert served[0] == Status.OK
    assert took_s < limits.CLIENT_SILENCE_MS / 1_000 + SLACK_S


def test_a_half_open_link_of_a_member_is_given_up(hidden: Cluster) -> None:
    """A follower's host vanishes: within seconds the leader gives its link up and counts it, and the others serve."""
    leader = asyncio.run(hidden.leader())
    follower = next(i for i in hidden.ids if i != leader)
    root = hidden.http(leader)
    assert scrape(root)[f'raftlock_peer_connected{{peer="{follower}"}}'] == 1
    began = time.monotonic()
    with grows(root, 'raftlock_peer_connections_refused_total{reason="silent"}'):
        vanish(int(hidden.peer(follower).rpartition(":")[2]))
        with RawClient(hidden.endpoint(leader)) as client:
            session = client.ask_until_final(Op.OPEN_SESSION, b"v" * 16, 60_000)[2]
            granted = client.ask_until_final(Op.ACQUIRE, session, 0, 1, "r", "o", 10_000, 0, None)
    took_s = time.monotonic() - began

    assert granted[0] == Status.OK
    assert took_s < limits.PEER_SILENCE_MS / 1_000 + SLACK_S
    becomes(root, f'raftlock_peer_connected{{peer="{follower}"}}', 0)
