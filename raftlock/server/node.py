"""The wiring of one node: sockets, the disk thread and the clock around a Driver.

It owns what is impure, and decides nothing: everything that matters happens in `Driver.turn`.
"""

import asyncio
import gc
import logging
import os
import random
import time
from collections.abc import Callable
from typing import Any, Protocol

from raftlock.audit import AUDIT_DIRECTORY
from raftlock.locks import VERSIONS, UnknownVersion
from raftlock.server import handshake
from raftlock.server.audit_jobs import AuditJob, AuditRunner
from raftlock.server.clients import goodbye
from raftlock.server.complaints import Complaints
from raftlock.server.config import ServerConfig
from raftlock.server.disk_thread import DiskThread
from raftlock.server.driver import Driver
from raftlock.server.effects import Effects
from raftlock.server.files import connections_max
from raftlock.server.http.server import HttpServer
from raftlock.server.jobs import Job
from raftlock.server.membership_store import NodeStore
from raftlock.server.meter import Meter, TimedRunner
from raftlock.server.peers import Peers
from raftlock.server.record_jobs import RecordsJob, RecordsRead
from raftlock.server.record_thread import records_thread
from raftlock.server.shipping import Shipping, shipper_command
from raftlock.telemetry import logs
from raftlock.transport.connections import Connection
from raftlock_wire import limits
from raftlock_wire.errors import BadFrame, FrameTooLarge
from raftlock_wire.ids import NO_NODE, NodeId

log = logging.getLogger("raftlock.node")

HAND_OVER_S = 1.0
"""A node that stops waits so long for another one to lead."""
LISTEN_BACKLOG = 4_096
COLLECT_EVERY_S = 1.0
"""What came since the last one is looked at: at 100,000 locks a second ten seconds of it took 0.5 s."""


class ClientPort(Protocol):
    """What a client's conversation with this node goes through: a socket, or an HTTP request's lane."""

    tag: int
    address: str

    def send(self, payload: bytes) -> None:
        """Take one payload for the client."""

    def close(self) -> None:
        """End the conversation after what was sent."""

    def want_input(self, wanted: bool) -> None:
        """Learn whether more requests are welcome."""


class Node:
    """One running node. Create it in a running loop; `run` returns when it has stopped."""

    def __init__(self, config: ServerConfig, store: NodeStore) -> None:
        self._config = config
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._rng = random.SystemRandom()
        self._driver: Driver | None = None
        self._disk: DiskThread[Job] | None = None
        self._audit: DiskThread[AuditJob] | None = None
        self._records: DiskThread[RecordsJob] | None = None
        self._failure: BaseException | None = None
        self._stopped = asyncio.Event()
        self._stopping = False
        self._turn_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._connections: dict[int, ClientPort] = {}
        # A result meant for a connection of an earlier life of this process finds none: ids start anywhere.
        self._next_conn_id = self._rng.randrange(1, 1 << 50)
        self._connections_max = connections_max()
        self.complaints = Complaints()
        self._peers = Peers(self, store, jitter=self._rng.random)
        self._clients = ClientListener(self)
        self.meter = Meter()
        self.runner: TimedRunner | None = None
        self._http = HttpServer(self) if config.http == "on" else None
        self.shipping = Shipping(shipper_command(config)) if config.audit_tier else None

    # life

    async def run(self) -> None:
        """Serve until `stop` is called or the disk fails. Raise what ended it, if that was an error."""
        peer_server = await self._listen("peer_address", self._peers.incoming)
        client_server = await self._listen("client_address", self._clients.incoming)
        try:
            if self._http is not None:
                await self._http.start()
            logs.event(
                log,
                "listening",
                client=self._config.client_address,
                peer=self._config.peer_address,
                http=self._config.http_address if self._http is not None else "off",
            )
            if self._store.cluster_id is None:
                logs.event(log, "waiting", why="no_cluster", incarnation=self._store.incarnation)
            else:
                self.start_driver()
            await self._stopped.wait()
        finally:
            client_server.close()
            peer_server.close()
            self.meter.stop()
            if self.shipping is not None:
                self.shipping.stop()
            if self._http is not None:
                await self._http.stop()
            await self._peers.stop()
            for thread in (self._disk, self._audit, self._records):
                if thread is not None and self._failure is None:
                    thread.stop()
            self._store.close()
        if self._failure is not None:
            raise self._failure

    async def _listen(self, field: str, incoming: Callable[[], Connection]) -> asyncio.Server:
        host, port = self._config.listen(getattr(self._config, field))
        try:
            return await self._loop.create_server(incoming, host, port, backlog=LISTEN_BACKLOG)
        except OSError as error:
            # The number alone is meant for programs, and the text of a failed bind repeats it.
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise OSError(f"{field}: cannot listen on {host}:{port}: {why}") from error

    def start_driver(self) -> None:
        """Begin to take part in the cluster that the store knows."""
        self._driver = self._store.make_driver(self._config, now_us=self._now_us(), rng=self._rng)
        self.runner = TimedRunner(self._store.store)
        self._disk = DiskThread(
            self.runner, name="raftlock-disk", done=self._job_done, failed=self.fail
        )
        self._disk.start()
        if self._store.audit is not None:
            self._audit = DiskThread(
                AuditRunner(self._store.audit),
                name="raftlock-audit",
                done=self._audit_job_done,
                failed=self.fail,
            )
            self._audit.start()
        audited = self._store.audit is not None
        directory = self._config.data_dir / AUDIT_DIRECTORY if audited else None
        self._records = records_thread(directory, done=self._records_read, failed=self.fail)
        if self.shipping is not None:
            self.shipping.start()
        self._peers.follow()
        # Everything built so far lives as long as the process: the collector need not look at it again (decision 17).
        gc.collect()
        gc.freeze()
        gc.disable()
        self._loop.call_later(COLLECT_EVERY_S, self._collect)
        if self._config.metrics == "on":
            self.meter.watch(self._loop)
        self.wake()

    def _collect(self) -> None:
        # Young garbage only: our own structures have no cycles, so a full collection would only be a stall.
        gc.collect(1)
        self._loop.call_later(COLLECT_EVERY_S, self._collect)

    def fail(self, error: BaseException) -> None:
        """End the process for an error that nothing may follow (decision 12, style: a bug)."""
        if self._failure is None:
            self._failure = error
        self._stopped.set()

    async def stop(self) -> None:
        """Hand leadership over, say goodbye, and let `run` return."""
        if self._stopping:
            return
        self._stopping = True
        driver = self._driver
        if driver is not None:
            until = self._loop.time() + HAND_OVER_S
            if driver.hand_over(self._now_us()):
                self.wake()
                # Leadership ends in a turn of the driver, which tells nobody: it is looked at now and then.
                while driver.is_leader and self._loop.time() < until:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            driver.stop()
            self._turn()
        for connection in list(self._connections.values()):
            connection.close()
        self._stopped.set()

    # turns

    def wake(self) -> None:
        """Take a turn when the input that is ready has been read."""
        if not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        if self._driver is None or self._stopped.is_set():
            return
        began_us = self._now_us()
        try:
            effects = self._driver.turn(began_us, time.time_ns() // 1_000)
        except UnknownVersion as error:
            logs.event(log, "version_unknown", level=logging.ERROR, why=str(error))
            self.fail(error)
            return
        except Exception as error:  # noqa: BLE001 - a bug in the core: the process ends (style: failures)
            logs.event(log, "failed", level=logging.ERROR, error=repr(error), exc_info=True)
            self.fail(error)
            return
        self._carry_out(effects)
        liar = self._driver.raft.contradicted_by
        if liar != NO_NODE:
            self._driver.raft.contradicted_by = NO_NODE
            why = "it contradicts what this node knows of the term"
            self.complaints.say("bad_peer_frame", peer=liar, why=why)
            self._peers.hang_up(liar)
        self._peers.follow()
        if self.shipping is not None:
            self.shipping.lead(leads=self._driver.serving)
        ended_us = self._now_us()
        self.meter.turn(began_us, ended_us, self._driver.counters)
        if self._timer is not None:
            self._timer.cancel()
        delay_us = effects.wake_us - ended_us
        if delay_us <= 0:
            self.wake()
            self._timer = None
        else:
            self._timer = self._loop.call_later(delay_us / 1e6, self._timer_due)

    def _timer_due(self) -> None:
        # The loop runs timers before it looks at the sockets. After a stall, what has come meanwhile is read first: a
        # leader that was heard must not be taken for a lost one (decision 17).
        self._timer = None
        self._loop.call_soon(self.wake)

    def _carry_out(self, effects: Effects) -> None:
        assert self._disk is not None
        for job in effects.jobs:
            self._disk.submit(job)
        for audit_job in effects.audit_jobs:
            assert self._audit is not None
            self._audit.submit(audit_job)
        for records_job in effects.record_jobs:
            assert self._records is not None
            self._records.submit(records_job)
        for peer, payload in effects.peer_frames:
            if self._peers.send(peer, payload):
                self.meter.to_peers.add(len(payload))
        for conn_id, payload in effects.client_frames:
            connection = self._connections.get(conn_id)
            if connection is not None:
                connection.send(payload)
                self.meter.to_clients.add(len(payload))
                self.limit_input(connection)
        for (conn_id,) in effects.client_closes:
            connection = self._connections.get(conn_id)
            if connection is not None:
                connection.close()
        for event, fields in effects.notices:
            if event == "client_refused":
                self.meter.clients_refused[str(fields["reason"])] += 1
                self.complaints.say(event, **fields)
                continue
            self.meter.notice(event, fields)
            level = logging.DEBUG if event == "request" else logging.INFO
            logs.notice(log, event, fields, level=level)

    def limit_input(self, connection: ClientPort) -> None:
        """Stop reading from a connection with too much without an answer (decision 16)."""
        assert self._driver is not None
        connection.want_input(self._driver.front.wants_input(connection.tag))

    @staticmethod
    def _now_us() -> int:
        # Rounded up: a receipt may never be before the clock's own reading (L4).
        return -(-time.monotonic_ns() // 1_000)

    def _job_done(self, job: Job, result: Any) -> None:
        assert self._driver is not None
        self._driver.job_done(job, result)
        self.wake()

    def _audit_job_done(self, job: AuditJob, result: Any) -> None:
        assert self._driver is not None
        self._driver.audit_job_done(job, result)
        # Nearly all of them change nothing that a turn would act on, and the next turn takes them.
        if self._driver.wants_audit_jobs:
            self.wake()

    def _records_read(self, _: RecordsJob, read: RecordsRead) -> None:
        assert self._driver is not None
        self._driver.front.records.done(read)
        self.wake()

    # clients

    @property
    def driver(self) -> Driver | None:
        """Return the driver, or None while the node has no cluster."""
        return self._driver

    def attach(self, port: ClientPort) -> str:
        """Let a client in. Return why not, or empty text."""
        _, why = self._unwelcome()
        if why or self._driver is None:
            return why
        port.tag = self._next_conn_id
        self._next_conn_id += 1
        self._connections[port.tag] = port
        self._driver.client_opened(port.tag, port.address)
        return ""

    def _unwelcome(self) -> tuple[str, str]:
        """Return why no client is let in now: the reason that is counted, and the same in words. Empty if one is."""
        if self._driver is None:
            return "no_cluster", "this node has no cluster yet"
        if self._stopping:
            return "stopping", "this node is being stopped"
        if len(self._connections) >= self._connections_max:
            return "limit", f"more than {self._connections_max} connections"
        return "", ""

    def client_connected(self, connection: Connection) -> None:
        """Let a client in, and close what says no hello in time."""
        reason, _ = self._unwelcome()
        why = self.attach(connection)
        if why:
            self.meter.connections_refused += 1
            self.complain(connection, reason, why)
            connection.send(goodbye("refused", why))
            if len(self._connections) >= self._connections_max:
                # At once: one that lingers would take the descriptor that is missing.
                connection.hang_up()
            else:
                connection.close()
            return
        self.meter.connections_accepted += 1
        self._loop.call_later(limits.HELLO_TIMEOUT_MS / 1_000, self._check_hello, connection)

    def _check_hello(self, connection: Connection) -> None:
        assert self._driver is not None
        origin = self._driver.clients.local.get(connection.tag)
        if origin is not None and not origin.greeted:
            why = f"no hello within {limits.HELLO_TIMEOUT_MS} ms"
            self.complain(connection, "no_hello", why)
            connection.send(goodbye("hello", why))
            connection.close()

    def client_frame(self, connection: ClientPort, payload: bytes) -> None:
        """Take a client's frame."""
        if self._driver is not None and connection.tag:
            self.meter.from_clients.add(len(payload))
            self._driver.client_frame(connection.tag, payload)
            self.limit_input(connection)
            self.wake()

    def complain(self, connection: Connection, reason: str, why: str) -> None:
        """Count and log that a client is turned away or given up."""
        self.meter.clients_refused[reason] += 1
        self.complaints.say("client_refused", address=connection.address, reason=reason, why=why)

    def client_disconnected(self, connection: ClientPort) -> None:
        """Forget a client's connection."""
        if self._connections.pop(connection.tag, None) is not None and self._driver is not None:
            self._driver.client_closed(connection.tag)
            self.wake()

    # peers

    def peer_frame(self, connection: Connection, peer: NodeId, payload: bytes) -> None:
        """Take a member's frame."""
        assert self._driver is not None
        self.meter.from_peers.add(len(payload))
        try:
            self._driver.peer_frame(peer, payload)
        except BadFrame as error:
            self.meter.peers_refused["bad_frame"] += 1
            logs.event(log, "bad_peer_frame", level=logging.WARNING, peer=peer, why=str(error))
            connection.abort()
        self.wake()

    def peer_lost(self, peer: NodeId) -> None:
        """Learn that a link with a member is gone."""
        if self._driver is not None:
            self._driver.link_lost(peer)
            self.wake()

    @property
    def version_max(self) -> int:
        """Return the highest version of the state machine that this build knows."""
        return max(VERSIONS)

    def peer_said(self, peer: NodeId, version_max: int) -> None:
        """Learn by a member's hello that a link with it stands, and which version of the state machine it knows."""
        if self._driver is not None:
            self._driver.versions.said(peer, version_max)
            self.wake()

    def greeted(self, peer: NodeId, *, removed: bool) -> None:
        """Learn how a member answered our call."""
        if self._driver is not None:
            self._driver.removal.greeted(peer, removed=removed)
            self.wake()

    def bootstrap(self, message: handshake.BootstrapSet) -> str:
        """Take a first membership, from the command or from a member. Return why not, or empty text."""
        if self._store.cluster_id is not None:
            return (
                ""
                if self._store.cluster_id == message.cluster_id
                else f"cluster {self._store.cluster_id}"
            )
        self._store.set_cluster(message)
        self.start_driver()
        return ""

    # for HTTP and metrics

    @property
    def store(self) -> NodeStore:
        """Return who this node is."""
        return self._store

    @property
    def connection_count(self) -> int:
        """Return how many clients are attached."""
        return len(self._connections)

    def peer_is_connected(self, peer: NodeId) -> bool:
        """Return whether our link to a member is up."""
        return self._peers.connected_to(peer)

    @property
    def config(self) -> ServerConfig:
        """Return this node's configuration."""
        return self._config


class ClientListener:
    """Hands the life of client connections to the node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def incoming(self) -> Connection:
        """Make the protocol of a new connection."""
        return Connection(
            self,
            frame_size_max=limits.HELLO_FRAME_SIZE_MAX,
            close_backlog_size=limits.WRITE_BUFFER_CLOSE_SIZE,
            silence_ms=limits.CLIENT_SILENCE_MS,
            read_size_max=limits.CLIENT_READ_SIZE_MAX,
            send_buffer_size=limits.CLIENT_SEND_BUFFER_SIZE,
        )

    def connected(self, connection: Connection) -> None:
        """See ConnectionHandler."""
        self._node.client_connected(connection)

    def received(self, connection: Connection, payload: bytes) -> None:
        """Take a frame; after the first one, which is a hello or the last, frames may be large."""
        connection.frame_size_max = limits.FRAME_SIZE_MAX
        self._node.client_frame(connection, payload)

    def refused(self, connection: Connection, error: FrameTooLarge) -> None:
        """See ConnectionHandler."""
        self._node.complain(connection, "frame_too_large", str(error))
        connection.send(goodbye("frame_too_large", str(error)))
        connection.close()

    def unread(self, connection: Connection) -> None:
        """See ConnectionHandler."""
        self._node.complain(connection, "unread", "it does not read what it is sent")

    def disconnected(self, connection: Connection) -> None:
        """See ConnectionHandler."""
        if connection.timed_out:
            self._node.complain(
                connection, "silent", f"its host is silent for {limits.CLIENT_SILENCE_MS} ms"
            )
        self._node.client_disconnected(connection)
