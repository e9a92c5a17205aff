"""A member that lies, in a process of its own: it has a killed member's identity, its address, and no scruples.

`python -m chaos.abuse.liar --data COPY --node-id N --peer HOST:PORT --seconds T`. It lets the others call it and
listens to what the leader says; it calls them and lies. It prints one JSON object when it has ended: for each lie how
often it was told, and how often the link was closed for it.

What it leaves out is what no Raft resists (docs/proof-chaos.md): entries of its own in the name of a leader, and
acknowledgements of what is not on its disk.
"""

import argparse
import asyncio
import json
import os
import random
import struct
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack

from raftlock.locks import VERSIONS
from raftlock.raft import (
    AppendEntries,
    AppendEntriesResult,
    InstallSnapshot,
    InstallSnapshotResult,
    RequestVote,
    RequestVoteResult,
    TimeoutNow,
)
from raftlock.server import handshake, peer_codec
from raftlock.server.membership_store import NodeStore, open_store
from raftlock.storage import OsDisk
from raftlock_wire.entry import SnapshotMeta
from raftlock_wire.errors import BadFrame
from raftlock_wire.ids import Index, NodeId, Term
from raftlock_wire.messages import Op

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
PAUSE_S = 0.05
HUGE = (1 << 53) - 1
BEYOND = (1 << 64) - 1


class Liar:
    """The lying member."""

    def __init__(self, store: NodeStore, seconds: float, seed: int) -> None:
        self._store = store
        self._until = time.monotonic() + seconds
        self._rng = random.Random(seed)
        self.told: Counter[str] = Counter()
        self.closed: Counter[str] = Counter()
        self.term = 1
        self.leader = 0
        self.last_index = 1
        self._lies: dict[str, Callable[[], bytes]] = {
            "garbage": lambda: self._rng.randbytes(200),
            "a frame of no known kind": lambda: msgpack.packb([99, 1, 2]),
            "numbers beyond 53 bits": lambda: msgpack.packb([3, BEYOND, 1, BEYOND, BEYOND, [], BEYOND, BEYOND]),
            "numbers below zero": lambda: msgpack.packb([3, self.term, 1, -5, -7, [], -1, -1]),
            "an absurd term": lambda: _pack(
                RequestVote(term=Term(HUGE), last_log_index=Index(HUGE), last_log_term=Term(HUGE))
            ),
            "an absurd term in a pre-vote": lambda: _pack(
                RequestVote(
                    term=Term(HUGE), last_log_index=Index(HUGE), last_log_term=Term(HUGE), pre_vote=True
                )
            ),
            "the next term": lambda: _pack(
                RequestVote(
                    term=Term(self.term + 1), last_log_index=Index(0), last_log_term=Term(0)
                )
            ),
            "votes for everyone": lambda: _pack(
                RequestVoteResult(
                    term=Term(self.term), granted=True, asked_term=Term(self.term), pre_vote=self._flip()
                )
            ),
            "a wrong prev": lambda: _pack(self._append(prev_index=HUGE, prev_term=HUGE)),
            "a second leader of this term": lambda: _pack(
                self._append(prev_index=self.last_index, prev_term=self.term)
            ),
            "a commit index beyond everything": lambda: _pack(
                self._append(prev_index=0, prev_term=0, commit=HUGE)
            ),
            "a refusal that leads nowhere": lambda: _pack(
                AppendEntriesResult(
                    term=Term(self.term), success=False, match_index=Index(0),
                    conflict_term=Term(HUGE), conflict_index=Index(self._rng.choice([0, HUGE])),
                )
            ),
            "a snapshot of nothing": lambda: _pack(self._snapshot()),
            "progress of no snapshot": lambda: _pack(
                InstallSnapshotResult(
                    term=Term(self.term), meta_index=Index(HUGE), meta_sha256=bytes(32),
                    next_offset=HUGE, round=HUGE,
                )
            ),
            "lead at once": lambda: _pack(TimeoutNow(term=Term(self.term))),
            "requests of forged sessions": self._forged,
            "forwarded garbage": lambda: peer_codec.encode_forward(
                [(self._rng.randrange(1 << 40), "", "x", self._rng.randbytes(50)) for _ in "1234"]
            ),
            "answers for clients that are not its own": lambda: peer_codec.encode_forward_result(
                [(self._rng.randrange(1 << 50), self._rng.randbytes(50)) for _ in range(50)]
            ),
            "ends of clients that are not its own": lambda: peer_codec.encode_forward_closed(
                [self._rng.randrange(1 << 50) for _ in range(500)]
            ),
        }  # fmt: skip

    def _flip(self) -> bool:
        return self._rng.random() < 0.5

    def _append(self, *, prev_index: int, prev_term: int, commit: int = 0) -> AppendEntries:
        return AppendEntries(
            term=Term(self.term), leader_id=self._store.node_id, prev_log_index=Index(prev_index),
            prev_log_term=Term(prev_term), entries=(), leader_commit=Index(commit), round=HUGE,
        )  # fmt: skip

    def _snapshot(self) -> InstallSnapshot:
        meta = SnapshotMeta(Index(HUGE), Term(self.term), 0, 0, b"", 1 << 40, bytes(32))
        return InstallSnapshot(
            term=Term(self.term), leader_id=self._store.node_id, meta=meta, offset=0,
            data=self._rng.randbytes(1_000), done=False, round=0,
        )  # fmt: skip

    def _forged(self) -> bytes:
        """Return requests in the name of sessions that are others', with clients' ids that do not exist."""
        frames = []
        for _ in range(20):
            session = self._rng.randrange(1, 1 << 20)
            asked = self._rng.choice(
                [
                    [Op.KEEP_ALIVE, 1, session],
                    [Op.CLOSE_SESSION, 1, session],
                    [Op.ACQUIRE, 1, session, 0, 1 << 30, "honest:1", "liar", 60_000, 0, None],
                    [Op.CANCEL, 1, session, 0, 1 << 30],
                    [Op.ATTACH, 1, session, self._rng.randbytes(16)],
                    [Op.RELEASE, 1, "honest:1", self._rng.randrange(1 << 50)],
                    [Op.EXPIRE_SESSION, 0, session, 1],
                    [Op.SET_VERSION, 0, 9],
                ]
            )
            frames.append((self._rng.randrange(1 << 40), "", "liar", msgpack.packb([asked])))
        return peer_codec.encode_forward(frames)

    # links

    async def run(self, peer_address: str) -> None:
        """Listen at the member's address, and lie to every other one until the time is up."""
        host, _, port = peer_address.rpartition(":")
        server = await asyncio.start_server(self._called, host, int(port))
        others = [
            m for m in self._store.first_membership.members if m.node_id != self._store.node_id
        ]
        await asyncio.gather(*(self._lie_to(m.node_id, m.peer_address) for m in others))
        server.close()

    async def _called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take a member's call as a member would, and read what it says: that is where the term is known from."""
        try:
            await _read(reader)
            accepted = handshake.HelloAnswer(True, "", self._store.incarnation, max(VERSIONS))
            _write(writer, handshake.encode(accepted))
            while True:
                message = peer_codec.decode(await _read(reader))
                self.term = max(self.term, int(getattr(message, "term", 0)))
                if isinstance(message, AppendEntries):
                    self.leader = message.leader_id
                    self.last_index = message.prev_log_index + len(message.entries)
        except (OSError, asyncio.IncompleteReadError, BadFrame):
            writer.transport.abort()

    async def _lie_to(self, node_id: NodeId, address: str) -> None:
        while time.monotonic() < self._until:
            try:
                async with asyncio.timeout(2):
                    reader, writer = await self._call(node_id, address)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.2)
                continue
            while time.monotonic() < self._until:
                name = self._rng.choice(list(self._lies))
                if not await self._tell(name, reader, writer):
                    break
            writer.transport.abort()

    async def _call(self, node_id: NodeId, address: str) -> Streams:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        store = self._store
        assert store.cluster_id is not None
        hello = store.hello(node_id, store.first_membership, max(VERSIONS))
        _write(writer, handshake.encode(hello))
        await _read(reader)
        return reader, writer

    async def _tell(
        self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Tell one lie. Return whether the link is still open afterwards."""
        self.told[name] += 1
        try:
            _write(writer, self._lies[name]())
            async with asyncio.timeout(PAUSE_S):
                while await reader.read(1 << 16):
                    pass
        except TimeoutError:
            return True
        except OSError:
            pass
        self.closed[name] += 1
        return False


def _pack(message: Any) -> bytes:
    return peer_codec.encode(message)


def _write(writer: asyncio.StreamWriter, payload: bytes) -> None:
    writer.write(struct.pack(">I", len(payload)) + payload)


async def _read(reader: asyncio.StreamReader) -> bytes:
    size: int = struct.unpack(">I", await reader.readexactly(4))[0]
    return await reader.readexactly(size)


def main() -> None:
    """Read the command line and lie."""
    parser = argparse.ArgumentParser(prog="python -m chaos.abuse.liar", description=__doc__)
    parser.add_argument("--data", required=True, type=Path, help="a copy of the member's data")
    parser.add_argument("--node-id", required=True, type=int)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.nice(1)
    store = open_store(OsDisk(options.data), node_id=NodeId(options.node_id), segment_size=4 << 20)
    liar = Liar(store, options.seconds, options.seed)
    asyncio.run(liar.run(options.peer))
    count = {f"{name}: told": number for name, number in sorted(liar.told.items())} | {
        f"{name}: link closed": number for name, number in sorted(liar.closed.items())
    }
    print(json.dumps(count))


if __name__ == "__main__":
    main()
