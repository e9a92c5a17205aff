"""One abuser in a process of its own: `python -m chaos.abuse.abuser NAME --clients A,… --peers A,… --http A,… --seconds T`.

It prints one JSON object when it has ended: what it tried, and what the nodes did to it.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import msgpack

from raftlock_wire.limits import SLOTS_MAX, WAITERS_PER_RESOURCE_MAX
from raftlock_wire.messages import ListBy, Op
from raftlock_wire.status import Status

CONNECT_TIMEOUT_S = 5.0
THREADS = 16
LORIS = 400
CROWD = 10_000
CROWD_AT_ONCE = 200
DEAF = 16
FLOOD_CONNECTIONS = 8
ACQUIRES_IN_FRAME = 512
FLOOD_TTL_MS = 10_000
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def frame(*message: object) -> bytes:
    """Return one request in a frame of its own."""
    payload: bytes = msgpack.packb([list(message)])
    return struct.pack(">I", len(payload)) + payload


def hello() -> bytes:
    """Return a client's hello."""
    return frame(Op.HELLO, 1, 1, 1, None, None, "abuse")


class Abuse:
    """What an abuser knows and counts."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.clients = options.clients.split(",")
        self.peers = options.peers.split(",")
        self.http = options.http.split(",")
        self.until = time.monotonic() + float(options.seconds)
        self.count: Counter[str] = Counter()
        self.rng = random.Random(options.seed)

    @property
    def going(self) -> bool:
        """Return whether there is time left."""
        return time.monotonic() < self.until

    async def open(self, endpoint: str, *, deaf: bool = False) -> Streams | None:
        """Open a connection, or count that it was not possible."""
        host, _, port = endpoint.rpartition(":")
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                sock = socket.socket()
                sock.setblocking(False)
                if deaf:
                    # What the kernel or this process buffers shall not look like reading.
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
                streams = await asyncio.open_connection(sock=sock, limit=1 if deaf else 1 << 16)
        except (OSError, TimeoutError):
            self.count["connections not made"] += 1
            return None
        self.count["connections made"] += 1
        return streams

    async def until_closed(self, reader: asyncio.StreamReader) -> None:
        """Read until the node closes, and count that; or until the time is up."""
        try:
            async with asyncio.timeout(max(0.0, self.until - time.monotonic())):
                while await reader.read(1 << 16):
                    pass
                self.count["closed by the node"] += 1
        except TimeoutError:
            self.count["left open by the node"] += 1
        except OSError:
            self.count["reset by the node"] += 1


async def random_bytes(abuse: Abuse) -> None:
    """Send noise to all three ports: bytes, frames of noise, true messages with noise in them, lengths beyond all."""

    async def one() -> None:
        while abuse.going:
            ports = abuse.rng.choice([abuse.clients, abuse.peers, abuse.http])
            streams = await abuse.open(abuse.rng.choice(ports))
            if streams is None:
                await asyncio.sleep(0.05)
                continue
            reader, writer = streams
            with contextlib.suppress(OSError):
                noise = _noise(abuse.rng)
                abuse.count["bytes"] += len(noise)
                writer.write(noise)
                await writer.drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await abuse.until_closed(reader)
            writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(THREADS)))


def _noise(rng: random.Random) -> bytes:
    body = rng.randbytes(rng.randrange(1, 4_000))
    match rng.randrange(5):
        case 0:
            return body
        case 1:
            return struct.pack(">I", len(body)) + body
        case 2:
            return struct.pack(">I", rng.randrange(1 << 16, 1 << 32)) + body
        case 3:
            changed = bytearray(hello() + frame(Op.ACQUIRE, 2, 1, 0, 1, "r", "o", 1_000, 0, None))
            changed[rng.randrange(4, len(changed))] ^= 1 << rng.randrange(8)
            return bytes(changed)
    strange: list[object] = [
        rng.randrange(80),
        1,
        *(rng.choice([None, -1, 2**63, "x", b"", [], {}]) for _ in "12345678"),
    ]
    return hello() + frame(*strange)


async def slow_loris(abuse: Abuse) -> None:
    """Begin a hello, or an HTTP request, on hundreds of connections, and send a byte of it a second."""
    text = b"POST /v1/locks/x HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 4_000

    async def one(number: int) -> None:
        while abuse.going:
            ports, slow = (abuse.http, text) if number % 4 == 0 else (abuse.clients, hello())
            if number % 4 == 1:
                ports = abuse.peers
            streams = await abuse.open(ports[number % len(ports)])
            if streams is None:
                await asyncio.sleep(0.5)
                continue
            reader, writer = streams
            dripping = asyncio.create_task(_drip(writer, slow))
            await abuse.until_closed(reader)
            dripping.cancel()
            writer.transport.abort()

    await asyncio.gather(*(one(number) for number in range(LORIS)))


async def _drip(writer: asyncio.StreamWriter, slow: bytes) -> None:
    with contextlib.suppress(OSError):
        for position in range(len(slow) - 1):
            writer.write(slow[position : position + 1])
            await writer.drain()
            await asyncio.sleep(1.0)


async def crowd(abuse: Abuse) -> None:
    """Open ten thousand connections that say hello and then nothing, all to one node."""
    kept: list[asyncio.StreamWriter] = []
    gate = asyncio.Semaphore(CROWD_AT_ONCE)

    async def one() -> None:
        async with gate:
            streams = await abuse.open(abuse.clients[0])
            if streams is None:
                return
            reader, writer = streams
            kept.append(writer)
            try:
                writer.write(hello())
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await reader.readexactly(4)
                abuse.count["greeted"] += 1
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                abuse.count["not greeted"] += 1

    await asyncio.gather(*(one() for _ in range(CROWD)))
    await asyncio.sleep(max(0.0, abuse.until - time.monotonic()))
    for writer in kept:
        writer.transport.abort()


async def never_read(abuse: Abuse) -> None:
    """Ask for what has long answers, again and again, and read none of them."""
    questions = b"".join(
        [frame(Op.LIST, 2, ListBy.PREFIX, "", "", 1_000, True)]
        + [frame(Op.NODE_STATUS, n) for n in range(3, 1_003)]
    )

    async def one(number: int) -> None:
        while abuse.going:
            endpoint = abuse.clients[number % len(abuse.clients)]
            streams = await abuse.open(endpoint, deaf=True)
            if streams is None:
                await asyncio.sleep(0.2)
                continue
            writer = streams[1]
            try:
                async with asyncio.timeout(max(0.1, abuse.until - time.monotonic())):
                    writer.write(hello())
                    while True:
                        writer.write(questions)
                        await writer.drain()
                        abuse.count["bytes"] += len(questions)
                        await asyncio.sleep(0.001)
            except TimeoutError:
                abuse.count["left open, not read from any more"] += 1
            except OSError:
                abuse.count["closed by the node"] += 1
            writer.transport.abort()

    await asyncio.gather(*(one(number) for number in range(DEAF)))


async def flood(abuse: Abuse) -> None:
    """Let sessions of a few connections wait in one queue, with all slots that each session has, until it takes no more."""

    async def one(number: int) -> None:
        streams = await abuse.open(abuse.clients[number % len(abuse.clients)])
        if streams is None:
            return
        reader, writer = streams
        try:
            async with asyncio.timeout(max(0.1, abuse.until - time.monotonic())):
                writer.write(hello())
                for _ in range(WAITERS_PER_RESOURCE_MAX // SLOTS_MAX):
                    await _fill(abuse, reader, writer)
                while True:
                    await _messages(reader)
        except TimeoutError:
            abuse.count["left open by the node"] += 1
        except (OSError, asyncio.IncompleteReadError):
            abuse.count["closed by the node"] += 1
        writer.transport.abort()

    await asyncio.gather(*(one(number) for number in range(FLOOD_CONNECTIONS)))


async def _fill(abuse: Abuse, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Open a session and let all its slots wait."""
    writer.write(frame(Op.OPEN_SESSION, 2, os.urandom(16), FLOOD_TTL_MS))
    session: object = None
    while session is None:
        for message in await _messages(reader):
            if message[0] == 2:
                if message[1] != Status.OK:
                    abuse.count[Status(message[1]).name] += 1
                    await asyncio.sleep(0.1)
                    writer.write(frame(Op.OPEN_SESSION, 2, os.urandom(16), FLOOD_TTL_MS))
                else:
                    session = message[3]
                    abuse.count["sessions"] += 1
    for begin in range(0, SLOTS_MAX, ACQUIRES_IN_FRAME):
        slots = range(begin, begin + ACQUIRES_IN_FRAME)
        payload = msgpack.packb(
            [[Op.ACQUIRE, 3 + slot, session, slot, 1, "abuse:one", "abuser", 1_000, 600_000, None] for slot in slots]
        )  # fmt: skip
        writer.write(struct.pack(">I", len(payload)) + payload)
        await writer.drain()
        abuse.count["acquires"] += len(slots)
    left = SLOTS_MAX
    while left:
        for message in await _messages(reader):
            if message[0]:
                left -= 1
                abuse.count[Status(message[1]).name] += 1


async def _messages(reader: asyncio.StreamReader) -> list[list[Any]]:
    size: int = struct.unpack(">I", await reader.readexactly(4))[0]
    found: list[list[Any]] = msgpack.unpackb(await reader.readexactly(size))[1:]
    return found


ABUSES: dict[str, Callable[[Abuse], Coroutine[None, None, None]]] = {
    "random bytes": random_bytes,
    "slow-loris": slow_loris,
    "10,000 connections": crowd,
    "clients that never read": never_read,
    "a flood of waiters": flood,
}


def main() -> None:
    """Read the command line and abuse."""
    parser = argparse.ArgumentParser(prog="python -m chaos.abuse.abuser", description=__doc__)
    parser.add_argument("name", choices=ABUSES)
    for ports in ("clients", "peers", "http"):
        parser.add_argument(f"--{ports}", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    abuse = Abuse(options)
    asyncio.run(ABUSES[options.name](abuse))
    print(json.dumps(dict(abuse.count)))


if __name__ == "__main__":
    main()
