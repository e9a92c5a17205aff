"""Runs one node as a process: `serve` blocks until it is told to stop."""

import asyncio
import logging
import os
import signal
import sys

import uvloop

from raftlock.audit import AUDIT_DIRECTORY
from raftlock.server.config import ServerConfig
from raftlock.server.membership_store import NodeStore, open_store
from raftlock.server.node import Node
from raftlock.storage import OsDisk
from raftlock.telemetry import logs
from raftlock_wire.ids import NodeId

log = logging.getLogger("raftlock")

SWITCH_INTERVAL_S = 0.0005
"""The disk thread waits at most so long for the interpreter after a sync, not the default 5 ms."""


def serve(config: ServerConfig) -> None:
    """Run a node until SIGTERM or SIGINT. Raise StorageError or OSError when it cannot start or the disk fails."""
    logs.configure(level=config.log_level, log_format=config.log_format, node_id=config.node_id)
    logs.event(log, "starting", data_dir=config.data_dir, pid=os.getpid())
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    config.data_dir.mkdir(parents=True, exist_ok=True)
    disk = OsDisk(config.data_dir)

    def open_audit() -> OsDisk:
        (config.data_dir / AUDIT_DIRECTORY).mkdir(exist_ok=True)
        disk.fsync_dir()
        return OsDisk(config.data_dir / AUDIT_DIRECTORY)

    store = open_store(
        disk,
        node_id=NodeId(config.node_id),
        segment_size=config.segment_size,
        open_audit=open_audit if config.audit == "on" else None,
    )
    uvloop.run(_serve(config, store))


async def _serve(config: ServerConfig, store: NodeStore) -> None:
    node = Node(config, store)
    loop = asyncio.get_running_loop()
    stopping: set[asyncio.Task[None]] = set()

    def stop(name: str) -> None:
        logs.event(log, "stopping", why=name)
        stopping.add(loop.create_task(node.stop()))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)
    await node.run()
    logs.event(log, "stopped")
