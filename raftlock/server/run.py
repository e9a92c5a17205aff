"""Runs one node as a process: `serve` blocks until it is told to stop."""

import asyncio
import logging
import signal
import sys

import uvloop

from raftlock.server.config import ServerConfig
from raftlock.server.membership_store import NodeStore, open_store
from raftlock.server.node import Node
from raftlock.storage import OsDisk
from raftlock_wire.ids import NodeId

log = logging.getLogger("raftlock")

SWITCH_INTERVAL_S = 0.0005
"""The disk thread waits at most so long for the interpreter after a sync, not the default 5 ms."""


def serve(config: ServerConfig) -> None:
    """Run a node until SIGTERM or SIGINT. Raise StorageError or OSError when it cannot start or the disk fails."""
    logging.basicConfig(
        level=config.log_level.upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    config.data_dir.mkdir(parents=True, exist_ok=True)
    store = open_store(
        OsDisk(config.data_dir), node_id=NodeId(config.node_id), segment_size=config.segment_size
    )
    uvloop.run(_serve(config, store))


async def _serve(config: ServerConfig, store: NodeStore) -> None:
    node = Node(config, store)
    loop = asyncio.get_running_loop()
    stopping: set[asyncio.Task[None]] = set()

    def stop(name: str) -> None:
        log.info("event=stopping why=%s", name)
        stopping.add(loop.create_task(node.stop()))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)
    await node.run()
    log.info("event=stopped")
