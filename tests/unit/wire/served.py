"""A cluster of production drivers on perfect disks and a perfect network, in steps of a clock that the test moves.

What goes in and out are the payloads of client connections, so that the vectors hold what the server really says. Ids,
tokens and times are the same in every run.
"""

import dataclasses
import random
from pathlib import Path
from typing import Any

from raftlock.server.audit_jobs import AuditRunner
from raftlock.server.config import ServerConfig
from raftlock.server.driver import Driver
from raftlock.server.effects import Effects
from raftlock.server.handshake import BootstrapSet
from raftlock.server.jobs import JobRunner
from raftlock.server.membership_store import open_store
from raftlock.server.origin import Origin
from raftlock.server.record_jobs import RecordsRunner
from raftlock.testing.disk import SimDisk
from raftlock_wire.codec import pack, unpack
from raftlock_wire.ids import NO_NODE, NodeId
from raftlock_wire.membership import Member, cluster_id_of, membership

START_US = 1_000_000
WALL_US = 1_800_000_000_000_000
STEP_US = 10_000
"""Below the stall of the lease clock, so that all time counts."""
LOGGED_RENEWAL_TTL_MS = 60_000
ADDRESS = "192.0.2.7:50000"
PID = 4_711
PASSES_MAX = 1_000

Message = tuple[Any, ...]


class Served:
    """The cluster. Node 1 alone leads at once; of several, one is elected when time is moved."""

    def __init__(self, nodes: int = 1, *, audit: bool = False) -> None:
        self.now_us = START_US
        self.drivers: dict[int, Driver] = {}
        self.frames: dict[int, list[bytes]] = {}
        """Payloads for each connection, in order."""
        self.closed: set[int] = set()
        self.cut: set[int] = set()
        """Nodes that hear nobody and are heard by nobody."""
        self._runners: dict[int, JobRunner] = {}
        self._home: dict[int, int] = {}
        disks = {i: SimDisk(rng=random.Random(i)) for i in range(1, nodes + 1)} if audit else {}
        """Where the audits are."""
        self._auditors: dict[int, AuditRunner] = {}
        self._readers: dict[int, RecordsRunner] = {}
        configs = {
            i: ServerConfig(
                node_id=i,
                data_dir=Path("/simulated"),
                client_address=f"192.0.2.{i}:7401",
                peer_address=f"192.0.2.{i}:7411",
                segment_size=1 << 20,
            )
            for i in range(1, nodes + 1)
        }
        stores = {
            i: open_store(
                SimDisk(rng=random.Random(i)),
                node_id=NodeId(i),
                segment_size=1 << 20,
                incarnation=f"{i:032x}",
                open_audit=(lambda i=i: disks[i]) if audit else None,
            )
            for i in configs
        }
        first = membership(
            Member(NodeId(i), f"{i:032x}", config.peer_address, config.client_address)
            for i, config in configs.items()
        )
        command = BootstrapSet(cluster_id_of(first), first.encode(), LOGGED_RENEWAL_TTL_MS)
        for i, store in stores.items():
            store.set_cluster(command)
            self._runners[i] = JobRunner(store.store)
            driver = store.make_driver(configs[i], now_us=self.now_us, rng=random.Random(i))
            driver.config = dataclasses.replace(driver.config, pid=PID)
            self.drivers[i] = driver
            self._readers[i] = RecordsRunner(disks.get(i))
            if store.audit is not None:
                self._auditors[i] = AuditRunner(store.audit)

    # time

    def settle(self) -> None:
        """Take turns, without moving the clock, until nobody has anything to do."""
        for _ in range(PASSES_MAX):
            busy = [self._turn(i) for i in self.drivers]
            if not any(busy):
                return
        raise AssertionError("the cluster does not come to rest")

    def advance(self, ms: int) -> None:
        """Move the clock, in steps that the lease clock counts."""
        until_us = self.now_us + ms * 1_000
        while self.now_us < until_us:
            self.now_us = min(self.now_us + STEP_US, until_us)
            self.settle()

    def until_served(self) -> int:
        """Move the clock until a node that is not cut off serves. Return its id."""
        for _ in range(PASSES_MAX):
            self.advance(10)
            for i, driver in self.drivers.items():
                if driver.serving and i not in self.cut:
                    return i
        raise AssertionError("nobody serves")

    def _turn(self, i: int) -> bool:
        driver = self.drivers[i]
        wall_us = WALL_US + self.now_us - START_US
        effects = driver.turn(self.now_us, wall_us)
        for job in effects.jobs:
            driver.job_done(job, self._runners[i].run(job))
        for audit_job in effects.audit_jobs:
            driver.audit_job_done(audit_job, self._auditors[i].run(audit_job))
        for records_job in effects.record_jobs:
            driver.front.records.done(self._readers[i].run(records_job))
        self._carry(i, effects)
        return bool(
            effects.jobs
            or effects.record_jobs
            or effects.peer_frames
            or effects.client_frames
            or effects.wake_us <= self.now_us
        )

    def _carry(self, i: int, effects: Effects) -> None:
        for peer, payload in effects.peer_frames:
            if peer in self.drivers and not self.cut & {i, peer}:
                self.drivers[peer].peer_frame(NodeId(i), payload)
        for conn_id, payload in effects.client_frames:
            self.frames[conn_id].append(payload)
        self.closed |= {conn_id for (conn_id,) in effects.client_closes}

    # connections

    def connect(self, node: int = 1, *, principal: str = "") -> int:
        """Open a connection, without a hello. Return its id. Another principal is what authentication would give it."""
        conn_id = len(self._home) + 1
        self._home[conn_id] = node
        self.frames[conn_id] = []
        clients = self.drivers[node].clients
        self.drivers[node].client_opened(conn_id, ADDRESS)
        if principal:
            clients.local[conn_id] = Origin(
                node=NO_NODE, conn_id=conn_id, principal=principal, address=ADDRESS
            )
        return conn_id

    def send(self, conn_id: int, payload: bytes) -> list[bytes]:
        """Send one payload. Return those that came for the connection until the cluster was at rest."""
        before = len(self.frames[conn_id])
        self.drivers[self._home[conn_id]].client_frame(conn_id, payload)
        self.settle()
        return self.frames[conn_id][before:]

    def ask(self, conn_id: int, *request: Any) -> Message:
        """Send one request. Return its answer."""
        frames = self.send(conn_id, pack([request]))
        return next(m for m in messages(frames) if m[0] == request[1])

    def command(self, request: Message, node: int = 1) -> None:
        """Let the leader log a command of its own."""
        self.drivers[node].leading.batcher.command(request)
        self.settle()

    def drop_link(self, node: int, peer: int) -> None:
        """Let a node learn that its link with a peer is gone."""
        self.drivers[node].link_lost(NodeId(peer))


def messages(frames: list[bytes]) -> list[Message]:
    """Return the messages of frames, in order."""
    return [m for frame in frames for m in unpack(frame, array_count_max=1 << 20)[1:]]
