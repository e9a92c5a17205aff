"""What the tests of bad input share: connections by hand, their last words, and whether others are served."""

import resource as rlimits
import struct
from pathlib import Path
from typing import Any

from raftlock_wire.messages import Event, Op
from raftlock_wire.status import Status
from tests.e2e.conftest import Cluster
from tests.e2e.raw import RawClient

NONCES = iter(range(1, 1 << 40))


def log_of(cluster: Cluster, node_id: int) -> str:
    """Return what a node logged."""
    return (cluster.folder / f"node-{node_id}.log").read_text()


def nonce() -> bytes:
    """Return one that was not used."""
    return next(NONCES).to_bytes(16, "big")


def open_session(client: RawClient, ttl_ms: int = 60_000) -> int:
    """Open a session of a connection's own."""
    answer = client.ask_until_final(Op.OPEN_SESSION, nonce(), ttl_ms)
    assert answer[0] == Status.OK
    return int(answer[2])


def serves(endpoint: str) -> list[int]:
    """Acquire and release a lock at a node as others do. Return the statuses."""
    with RawClient(endpoint) as client:
        session = open_session(client)
        name = f"served:{session}"
        acquired = client.ask_until_final(Op.ACQUIRE, session, 0, 1, name, "o", 10_000, 0, None)
        released = client.ask_until_final(Op.RELEASE, name, acquired[3])
        closed = client.ask_until_final(Op.CLOSE_SESSION, session)
        return [int(hello) for hello in (acquired[0], released[0], closed[0])]


SERVED = [Status.OK, Status.OK, Status.OK]


def last_words(client: RawClient) -> tuple[Any, ...]:
    """Return the goodbye with which the server closes a connection: (code, text)."""
    while (frame := client.frame()) is not None:
        for message in frame[1:]:
            if message[:2] == (0, Event.GOODBYE):
                assert client.frame() is None
                return tuple(message[2:])
    raise AssertionError("the server closed without a word")


def send_frame(client: RawClient, payload: bytes) -> None:
    """Send one frame with any payload."""
    client.send_bytes(struct.pack(">I", len(payload)) + payload)


def rss(cluster: Cluster, node_id: int) -> int:
    """Return the resident bytes of a node."""
    pages = int(Path(f"/proc/{cluster.processes[node_id].pid}/statm").read_text().split()[1])
    return pages * rlimits.getpagesize()
