"""Where the run's audit is shipped to, and how that place goes away: a real S3 store behind a door, or a directory."""

import asyncio
import os
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from socket import socket
from typing import Protocol

import boto3

from chaos.wiring import free_ports

SERVER = "RAFTLOCK_S3_SERVER"
"""A program that starts and stops a store: `PROGRAM start DIR`, with the first of ten ports in S3_PORT."""
KEYS = {"AWS_ACCESS_KEY_ID": "raftlock", "AWS_SECRET_ACCESS_KEY": "raftlock-secret"}
REGION = "us-east-1"
BUCKET = "audit"
START_S = 280.0


class Store(Protocol):
    """A place that can be away."""

    url: str
    endpoint: str
    how: str

    def start(self) -> None:
        """Be there."""

    def stop(self) -> None:
        """Be gone for good."""

    def away(self, *, silent: bool) -> None:
        """Refuse, or say nothing at all."""

    def back(self) -> None:
        """Answer again."""

    def settings(self) -> Mapping[str, str]:
        """Return the variables by which nodes and commands reach it."""


class DirectoryStore:
    """A directory. Away, a file stands in its place."""

    endpoint = ""
    how = "a directory"

    def __init__(self, folder: Path) -> None:
        self._root = folder / "store"
        self._aside = folder / "store-away"
        self.url = self._root.as_uri()

    def start(self) -> None:
        """See Store."""
        self._root.mkdir()

    def stop(self) -> None:
        """See Store."""
        self.back()

    def away(self, *, silent: bool) -> None:
        """See Store. A directory cannot be silent."""
        del silent
        if not self._aside.exists():
            self._root.rename(self._aside)
            self._root.write_text("away\n")

    def back(self) -> None:
        """See Store."""
        if self._aside.exists():
            self._root.unlink()
            self._aside.rename(self._root)

    def settings(self) -> dict[str, str]:
        """See Store."""
        return {"RAFTLOCK_AUDIT_TIER": self.url}


class S3Store:
    """A real store on loopback, and a door before it, where the nodes knock."""

    def __init__(self, folder: Path, server: Path, host: str) -> None:
        """`host` is where nodes find the door."""
        self._folder, self._server = folder / "s3", server
        self._port = _ten_ports()
        self._door = Door(host, self._port)
        self.url = f"s3://{BUCKET}/run"
        self.endpoint = f"http://{host}:{self._door.port}"
        self.how = "S3 (Ceph RGW)"

    def start(self) -> None:
        """See Store."""
        self._do("start")
        self._door.start()
        client = boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{self._port}", region_name=REGION,
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )  # fmt: skip
        client.create_bucket(Bucket=BUCKET)

    def stop(self) -> None:
        """See Store."""
        self._door.stop()
        self._do("stop")

    def away(self, *, silent: bool) -> None:
        """See Store."""
        self._door.set("silent" if silent else "shut")

    def back(self) -> None:
        """See Store."""
        self._door.set("open")

    def settings(self) -> dict[str, str]:
        """See Store."""
        return {
            "RAFTLOCK_AUDIT_TIER": self.url,
            "RAFTLOCK_AUDIT_ENDPOINT": self.endpoint,
            "RAFTLOCK_AUDIT_REGION": REGION,
            **KEYS,
        }

    def _do(self, verb: str) -> None:
        done = subprocess.run(
            [self._server, verb, self._folder],
            env={**os.environ, "S3_PORT": str(self._port), "S3_DAY": "86400"},
            capture_output=True, text=True, check=False, timeout=START_S,
        )  # fmt: skip
        if done.returncode:
            raise OSError(f"the S3 store: {verb}: {done.stderr.strip()}")


class Door:
    """A TCP forwarder that can be shut (each connection is ended at once) or silent (nothing goes through)."""

    def __init__(self, host: str, target_port: int) -> None:
        [self.port] = free_ports(1)
        self._host, self._target = host, target_port
        self._state = "open"
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._run, name="door", daemon=True)

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        if not self._ready.wait(10):
            raise OSError(f"nothing listens at {self._host}:{self.port}")

    def stop(self) -> None:
        """Listen no more."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def set(self, state: str) -> None:
        """Be open, shut or silent; what goes through now ends unless it stays open."""
        self._loop.call_soon_threadsafe(self._turn, state)

    def _turn(self, state: str) -> None:
        self._state = state
        for writer in list(self._writers):
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._one, self._host, self.port))
        self._ready.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._state == "shut":
            writer.transport.abort()
            return
        self._writers.add(writer)
        try:
            if self._state == "silent":
                await reader.read()
                return
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(far)
            try:
                await asyncio.gather(_pump(reader, far), _pump(far_reader, writer))
            finally:
                self._writers.discard(far)
                far.transport.abort()
        except OSError:
            return
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


def _ten_ports() -> int:
    """Return the first of ten free ports in a row."""
    first = 20_000 + os.getpid() % 500 * 20
    while True:
        if set(range(first, first + 10)) <= set(_free(range(first, first + 10))):
            return first
        first += 20


def _free(ports: range) -> list[int]:
    found = []
    for port in ports:
        with suppress(OSError), socket() as one:
            one.bind(("127.0.0.1", port))
            found.append(port)
    return found


def make_store(folder: Path, host: str) -> Store:
    """Return the store that this machine can have."""
    server = os.environ.get(SERVER, "")
    return S3Store(folder, Path(server), host) if server else DirectoryStore(folder)
