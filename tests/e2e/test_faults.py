"""What the system under a node does wrong: ports, directories, configuration, clocks, disks, lost majorities.

Each message is one clear line on stderr. docs/faults.md has the table of these tests.
"""

import asyncio
import contextlib
import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftlock.client import AsyncClient, OutcomeUnknown, Unavailable
from raftlock.client.async_client import fetch_status
from raftlock.server.bootstrap import BootstrapError, bootstrap
from raftlock_wire.messages import Op
from raftlock_wire.status import Status
from tests.e2e.conftest import Cluster, free_ports
from tests.e2e.node import Ended, events, fault_library, run_to_the_end, server_command
from tests.e2e.raw import RawClient
from tests.e2e.scrape import becomes, grows, scrape

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]

HOUR_S = 3_600.0
SERVER = (sys.executable, "-m", "raftlock.cli.main", "server")


def log_of(cluster: Cluster, node_id: int) -> str:
    """Return what a node logged."""
    return (cluster.folder / f"node-{node_id}.log").read_text()


def wait_until(condition: object, *, seconds: float = 60) -> None:
    """Wait until a condition holds."""
    assert callable(condition)
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


# what keeps a node from starting: one line, and no more


@pytest.mark.parametrize("which", [0, 1], ids=["client_address", "peer_address"])
def test_a_port_in_use_is_named(tmp_path: Path, which: int) -> None:
    """A node whose port is taken says which address it is, and ends with 1."""
    ports = free_ports(3)
    with socket.create_server(("127.0.0.1", ports[which])):
        ended = run_to_the_end(server_command(tmp_path / "data", ports=ports))

    field = ("client_address", "peer_address")[which]
    why = os.strerror(errno.EADDRINUSE)
    line = f"raftlock: {field}: cannot listen on 127.0.0.1:{ports[which]}: {why}\n"
    assert ended == Ended(1, line)


def test_a_directory_in_use_is_refused(cluster: Cluster) -> None:
    """Two processes never share a data directory; the one that has it goes on."""
    folder = cluster.folder / "node-1"
    ended = run_to_the_end(server_command(folder, node_id=1))

    why = "another process has this data directory open"
    assert ended == Ended(1, f"raftlock: data_dir {folder}: {why}\n")
    assert cluster.processes[1].poll() is None


def test_another_nodes_directory_is_refused(cluster: Cluster) -> None:
    """A directory belongs to the node that formatted it."""
    cluster.kill(1)
    folder = cluster.folder / "node-1"
    ended = run_to_the_end(server_command(folder, node_id=2))

    why = "the data directory is node 1's, not node 2's"
    assert ended == Ended(1, f"raftlock: data_dir {folder}: {why}\n")


def test_a_directory_of_other_things_is_left_alone(tmp_path: Path) -> None:
    """A directory that holds something else is neither formatted nor touched."""
    (tmp_path / "thesis.tex").write_text("years of work")
    ended = run_to_the_end(server_command(tmp_path))

    why = "the data directory holds thesis.tex but no identity: it is not a node's"
    assert ended == Ended(1, f"raftlock: data_dir {tmp_path}: {why}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    """A data_dir that cannot be one is named."""
    (tmp_path / "file").write_text("")
    ended = run_to_the_end(server_command(tmp_path / "file" / "data"))

    assert ended == Ended(1, f"raftlock: data_dir {tmp_path}/file/data: Not a directory\n")


def test_a_node_of_another_cluster_takes_no_part(cluster: Cluster, tmp_path: Path) -> None:
    """A node started with the data of another cluster is refused by the members, and both sides log why."""
    leader = asyncio.run(cluster.leader())
    other = next(i for i in cluster.ids if i != leader)
    own_folder, foreign = cluster.folder / f"node-{other}", tmp_path / "foreign"
    client, peer, http = free_ports(3)
    alone = subprocess.Popen(
        server_command(foreign, node_id=other, ports=[client, peer, http]),
        stderr=subprocess.DEVNULL,
    )
    try:
        other_cluster = bootstrap({other: f"127.0.0.1:{peer}"}, wait_s=60)
    finally:
        alone.kill()
        alone.wait()
    cluster.kill(other)
    own_folder.rename(tmp_path / "own")
    foreign.rename(own_folder)
    cluster.start(other)
    with pytest.raises(BootstrapError, match="which these nodes do not make"):
        bootstrap({i: cluster.peer(i) for i in cluster.ids}, wait_s=60)
    wait_until(lambda: events(log_of(cluster, leader), "refused_by_peer"))
    with grows(cluster.http(leader), f'raftlock_refused_by_peer_total{{peer="{other}"}}'):
        pass
    with grows(cluster.http(other), 'raftlock_peer_connections_refused_total{reason="cluster_id"}'):
        pass

    first = events(log_of(cluster, leader), "refused_by_peer")[0]
    why = str(first["why"])
    assert (first["peer"], why.endswith(f" is not {other_cluster}")) == (str(other), True)
    assert asyncio.run(cluster.leader(other_than=other)) in cluster.ids


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "node_id = 0\ndata_dir = 'x'\n",
            "node_id (--node-id): 0 is not a whole number from 1 to 65535",
        ),
        (
            "node_id = 'one'\ndata_dir = 'x'\n",
            "node_id (--node-id): 'one' is not a whole number from 1 to 65535",
        ),
        ("nodeid = 1\n", "nodeid: is not a field; the fields are"),
        ("node_id = \n", "config: {path}: Invalid value (at line 1, column 11)"),
        ("node_id = 1\n", "data_dir (--data-dir): is required: in the file, as --data-dir"),
        (
            "node_id = 1\ndata_dir = 'x'\nclient_address = '7401'\n",
            "client_address (--client): '7401' is not host:port with a port from 1 to 65535",
        ),
        (
            "node_id = 1\ndata_dir = 'x'\nheartbeat_ms = 100\n",
            "election_min_ms (--election-min-ms): 150 is less than two heartbeats of 100 ms",
        ),
        ("node_id = 1\ndata_dir = 'x'\nlog_level = 'loud'\n", "'loud' is not one of debug, info"),
        ("\xff\xfe", "config: {path}: "),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path: Path, text: str, message: str) -> None:
    """Field, value and what is allowed, with exit code 2; nothing is created."""
    path = tmp_path / "raftlock.toml"
    path.write_text(text, encoding="latin-1")
    ended = run_to_the_end([*SERVER, "--config", str(path)])

    assert ended.code == 2
    assert message.format(path=path) in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["raftlock.toml"]


def test_a_configuration_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A file that cannot be read is named with the reason."""
    path = tmp_path / "missing.toml"
    ended = run_to_the_end([*SERVER, "--config", str(path)])

    assert (ended.code, f"'{path}' does not exist" in ended.stderr) == (2, True)


# what befalls a running node


async def listens(http: str) -> bool:
    """Return whether a node's HTTP port answers."""
    try:
        await asyncio.to_thread(scrape, http)
    except OSError:
        return False
    return True


async def test_a_wall_clock_set_back_takes_nothing_away(cluster: Cluster, tmp_path: Path) -> None:
    """The wall clock of all nodes goes back an hour: tokens still grow, and no lease ends early."""
    library = fault_library(tmp_path)
    offset = tmp_path / "offset"
    offset.write_text("0")
    for node_id in cluster.ids:
        cluster.kill(node_id)
        cluster.environment[node_id] = {
            "LD_PRELOAD": str(library),
            "WALL_OFFSET": str(offset),
        }
        cluster.start(node_id)
    await cluster.leader()
    # Two of them make a leader: the third may still be starting.
    for node_id in cluster.ids:
        while not await listens(cluster.http(node_id)):
            await asyncio.sleep(0.02)
    async with AsyncClient(cluster.endpoints) as client:
        kept = await client.acquire("kept", ttl=HOUR_S, renew=False)
        # A holder that never gives up by itself: our client would, at its own deadline.
        with RawClient(cluster.endpoint(await cluster.leader())) as holder:
            session = holder.ask_until_final(Op.OPEN_SESSION, b"c" * 16, 60_000)[2]
            began = time.monotonic()
            short = holder.ask_until_final(Op.ACQUIRE, session, 0, 1, "short", "o", 2_000, 0, None)
            before = [
                scrape(cluster.http(i))["raftlock_wall_clock_behind_seconds"] for i in cluster.ids
            ]
            offset.write_text("-3600")
            behind = [
                scrape(cluster.http(i))["raftlock_wall_clock_behind_seconds"] for i in cluster.ids
            ]
            heir = await client.acquire("short", ttl=5, wait=30)
            waited = time.monotonic() - began
        # And once more with nothing in memory.
        for node_id in cluster.ids:
            cluster.kill(node_id)
            cluster.start(node_id)
        await cluster.leader()
        later = await client.acquire("later")

        assert kept is not None
        assert heir is not None
        assert later is not None
        assert waited >= 2.0
        assert max(before) < 60 < 3_500 < min(behind) <= max(behind) <= 3_600
        assert kept.token < short[3] < heir.token < later.token
        assert await client.check("kept", kept.token)


@pytest.fixture
def small_disks(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes with a disk of 24 MiB each."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    cluster = Cluster(tmp_path)
    folders = [tmp_path / f"node-{i}" for i in cluster.ids]
    mounted: list[Path] = []
    try:
        for folder in folders:
            folder.mkdir()
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)],
                capture_output=True,
                check=False,
            )
            if done.returncode:
                pytest.skip(f"tmpfs cannot be mounted here: {done.stderr.decode().strip()}")
            mounted.append(folder)
        cluster.start_all()
        yield cluster
    finally:
        cluster.stop_all()
        for folder in mounted:
            subprocess.run(["umount", str(folder)], check=False)


def fill(folder: Path) -> Path:
    """Use up the room of a disk. Return the file that does it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(64 << 10)):
            pass
    return filler


def acquire_until(
    client: RawClient, session: int, wanted: tuple[int, str], *, seconds: float = 120
) -> tuple[int, str]:
    """Acquire and release locks with 1 KiB of metadata until an acquire gets (status, reason)."""
    metadata = {"k": "x" * 1_000}
    until = time.monotonic() + seconds
    n = 1
    while time.monotonic() < until:
        n += 1
        answer = client.ask(Op.ACQUIRE, session, 1, n, f"full:{n}", "o", 600_000, 0, metadata)
        got = (int(answer[0]), str(answer[3]) if answer[0] == Status.OVERLOADED else "")
        if got == wanted:
            return got
        if answer[0] == Status.OK:
            client.ask_until_final(Op.RELEASE, f"full:{n}", answer[3])
    raise AssertionError(f"no acquire was answered {wanted}")


def test_a_full_disk_refuses_new_locks_and_keeps_the_old(small_disks: Cluster) -> None:
    """All disks full: acquire is OVERLOADED for reason disk; renew, release and get go on; freed room heals it."""
    cluster = small_disks
    with RawClient(cluster.endpoint(asyncio.run(cluster.leader()))) as client:
        session = client.ask_until_final(Op.OPEN_SESSION, b"d" * 16, 300_000)[2]
        held = [
            client.ask_until_final(Op.ACQUIRE, session, slot, 1, name, "o", 30_000, 0, None)[3]
            for slot, name in ((10, "renewed"), (11, "released"))
        ]
        fillers = [fill(cluster.folder / f"node-{i}") for i in cluster.ids]
        refused = acquire_until(client, session, (Status.OVERLOADED, "disk"))
        renewed = client.ask_until_final(Op.RENEW, [["renewed", held[0]]])
        released = client.ask_until_final(Op.RELEASE, "released", held[1])
        shown = client.ask_until_final(Op.GET, "renewed", False)
        full = [scrape(cluster.http(i)) for i in cluster.ids]
        for filler in fillers:
            filler.unlink()
        healed = acquire_until(client, session, (Status.OK, ""))

    assert refused == (Status.OVERLOADED, "disk")
    assert (renewed[2][0][0], released[0], shown[0]) == (Status.OK, Status.OK, Status.OK)
    assert healed == (Status.OK, "")
    assert sum(node['raftlock_refusals_total{reason="disk"}'] for node in full) >= 1
    assert min(node["raftlock_wal_room"] for node in full) == 0
    for node_id in cluster.ids:
        becomes(cluster.http(node_id), "raftlock_wal_room", 1)
    assert {i: p.poll() for i, p in cluster.processes.items()} == {1: None, 2: None, 3: None}
    assert events("".join(log_of(cluster, i) for i in cluster.ids), "disk_full")
    assert events("".join(log_of(cluster, i) for i in cluster.ids), "disk_has_room")


def test_a_full_disk_of_the_leader_costs_no_service(small_disks: Cluster) -> None:
    """The leader's disk alone is full: it hands over, and locks are granted by another node."""
    cluster = small_disks
    leader = asyncio.run(cluster.leader())
    other = next(i for i in cluster.ids if i != leader)
    fill(cluster.folder / f"node-{leader}")
    with RawClient(cluster.endpoint(other)) as client:
        session = client.ask_until_final(Op.OPEN_SESSION, b"l" * 16, 300_000)[2]
        metadata = {"k": "x" * 1_000}
        n = 1
        until = time.monotonic() + 120
        while not events(log_of(cluster, leader), "disk_full"):
            assert time.monotonic() < until
            n += 1
            answer = client.ask(Op.ACQUIRE, session, 1, n, f"full:{n}", "o", 600_000, 0, metadata)
            if answer[0] == Status.OK:
                client.ask_until_final(Op.RELEASE, f"full:{n}", answer[3])
        wait_until(lambda: asyncio.run(cluster.leader()) != leader)
        metrics = scrape(cluster.http(leader))
        after = client.ask_until_final(Op.ACQUIRE, session, 2, 1, "after", "o", 10_000, 0, None)

    assert after[0] == Status.OK
    assert (metrics["raftlock_wal_room"], metrics["raftlock_step_downs_total"]) == (0, 1)


async def until_back(cluster: Cluster, node_id: int) -> None:
    """Wait until a node follows or leads again."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with contextlib.suppress(OSError, TimeoutError, Unavailable):
            if (await fetch_status(cluster.endpoint(node_id), timeout=1.0)).healthy:
                return
        await asyncio.sleep(0.05)
    raise TimeoutError(f"node {node_id} is not back")


async def test_a_failed_sync_ends_the_node_and_loses_nothing(
    cluster: Cluster, tmp_path: Path
) -> None:
    """EIO from fdatasync: the node says so in one line and ends; the others go on; started again it catches up."""
    library = fault_library(tmp_path)
    flag = tmp_path / "fail"
    leader = await cluster.leader()
    cluster.kill(leader)
    cluster.environment[leader] = {"LD_PRELOAD": str(library), "FAIL_SYNC_IF": str(flag)}
    cluster.start(leader)
    await until_back(cluster, leader)
    async with AsyncClient(cluster.endpoints) as client:
        before = await client.acquire("before", ttl=HOUR_S, renew=False)
        assert before is not None
        flag.write_text("")
        during = await client.acquire("during", ttl=HOUR_S, renew=False)
        assert during is not None
        code = await asyncio.to_thread(cluster.processes[leader].wait, 60)
        said = log_of(cluster, leader).splitlines()[-1]
        flag.unlink()
        other = next(i for i in cluster.ids if i != leader)
        connected = f'raftlock_peer_connected{{peer="{leader}"}}'
        await asyncio.to_thread(becomes, cluster.http(other), connected, 0)
        cluster.start(leader)
        for node_id in cluster.ids:
            if node_id != leader:
                cluster.kill(node_id)
                cluster.start(node_id)
        await cluster.leader()
        kept = [await client.check(lock.resource, lock.token) for lock in (before, during)]

        folder = cluster.folder / f"node-{leader}"
        why = "writing the log: [Errno 5] Input/output error"
        assert (code, said) == (1, f"raftlock: data_dir {folder}: {why}")
        assert kept == [True, True]
        assert "Traceback" not in log_of(cluster, leader)


async def test_a_minority_grants_nothing(cluster: Cluster) -> None:
    """Two of three killed: the third answers NO_QUORUM or UNKNOWN, never a grant; our client says so in bounded time."""
    survivor = 2
    with RawClient(cluster.endpoint(survivor)) as client:
        session = client.ask_until_final(Op.OPEN_SESSION, b"m" * 16, 300_000)[2]
        with grows(cluster.http(survivor), 'raftlock_refusals_total{reason="no_leader"}'):
            for node_id in cluster.ids:
                if node_id != survivor:
                    cluster.kill(node_id)
            # Whatever is asked is answered before the socket's timeout of 20 s.
            answers = set()
            until = time.monotonic() + 3
            n = 0
            while time.monotonic() < until:
                n += 1
                acquire = (Op.ACQUIRE, session, 0, n, f"no:{n}", "o", 10_000, 0, None)
                answers.add(client.ask(*acquire)[0])
                answers.add(client.ask(Op.GET, "no", False)[0])
        becomes(cluster.http(survivor), "raftlock_serving", 0)
    async with AsyncClient(cluster.endpoints) as refused:
        with pytest.raises((Unavailable, OutcomeUnknown)):
            await refused.acquire("nobody")

    assert answers <= {Status.NO_QUORUM, Status.UNKNOWN}


def test_a_node_out_of_descriptors_says_so_and_serves_on(tmp_path: Path) -> None:
    """A node that may open few files takes as many clients as it can, and tells the next one why not."""
    ports = free_ports(3)
    limited = ["sh", "-c", 'ulimit -n 600; exec "$@"', "sh"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*limited, *server_command(tmp_path / "data", ports=ports)], stderr=log
        )
    clients: list[RawClient] = []
    try:
        bootstrap({1: f"127.0.0.1:{ports[1]}"}, wait_s=60)
        endpoint = f"127.0.0.1:{ports[0]}"
        clients += [RawClient(endpoint) for _ in range(600 - 512)]
        with (
            grows(
                f"http://127.0.0.1:{ports[2]}",
                'raftlock_client_connections_refused_total{reason="limit"}',
            ),
            RawClient(endpoint, hello=False) as beyond,
        ):
            frame = beyond.frame()
        served = clients[-1].ask_until_final(Op.GET, "x", False)
    finally:
        for client in clients:
            client.close()
        process.kill()
        process.wait()

    assert frame is not None
    assert frame[1][2:] == ("refused", "more than 88 connections")
    assert served[0] == Status.OK
    refusals = events((tmp_path / "log").read_text(), "client_refused")
    assert [event["why"] for event in refusals] == ["more than 88 connections"]


def test_a_node_without_a_cluster_turns_clients_away(tmp_path: Path) -> None:
    """Before bootstrap a client is told that there is no cluster yet, and the node goes on waiting."""
    ports = free_ports(3)
    root = f"http://127.0.0.1:{ports[2]}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(server_command(tmp_path / "data", ports=ports), stderr=log)
    try:
        wait_until(lambda: events((tmp_path / "log").read_text(), "waiting"))
        with (
            grows(root, 'raftlock_client_connections_refused_total{reason="no_cluster"}'),
            RawClient(f"127.0.0.1:{ports[0]}", hello=False) as client,
        ):
            frame = client.frame()
        code = process.poll()
    finally:
        process.kill()
        process.wait()

    assert frame is not None
    assert (frame[1][2:], code) == (("refused", "this node has no cluster yet"), None)
