"""Runs one node as a process: `serve` blocks until it is told to stop."""

import asyncio
import gc
import logging
import os
import signal
import sys

import uvloop

from raftlock.audit import AUDIT_DIRECTORY
from raftlock.locks import UnknownVersion
from raftlock.server.config import ServerConfig
from raftlock.server.files import raise_file_limit
from raftlock.server.membership_store import NodeStore, open_store
from raftlock.server.node import Node
from raftlock.storage import OsDisk, StorageError
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
    # What a start reads makes no garbage, and looking at it again and again would double the time (decision 17).
    gc.disable()
    raise_file_limit()
    # The system's resolver waits 5 s for each answer and asks twice: a link would wait that long for a name server that
    # is gone, also after it is back. Read at the first lookup.
    os.environ.setdefault("RES_OPTIONS", "timeout:1 attempts:2")
    try:
        uvloop.run(_serve(config, _open(config)))
    except (StorageError, UnknownVersion) as error:
        # A version that this build does not know is an older build on a directory with which nothing is wrong.
        raise StorageError(f"data_dir {config.data_dir}: {error}") from error


def _open(config: ServerConfig) -> NodeStore:
    try:
        config.data_dir.mkdir(parents=True, exist_ok=True)
        disk = OsDisk(config.data_dir)

        def open_audit() -> OsDisk:
            (config.data_dir / AUDIT_DIRECTORY).mkdir(exist_ok=True)
            disk.fsync_dir()
            return OsDisk(config.data_dir / AUDIT_DIRECTORY)

        return open_store(
            disk,
            node_id=NodeId(config.node_id),
            segment_size=config.segment_size,
            open_audit=open_audit if config.audit == "on" else None,
        )
    except OSError as error:
        raise StorageError(error.strerror or str(error)) from error


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
