"""`raftlock dev`: a cluster on this machine, one process a node."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from raftlock.cli.child import die_with_parent
from raftlock.cli.common import emit, fail, json_option
from raftlock.cli.dev_place import claim, last_line
from raftlock.cli.progress import Progress
from raftlock.client import NodeStatus, Unavailable
from raftlock.client.async_client import fetch_status

POLL_S = 0.2
READY_TIMEOUT_S = 60.0
BOOTSTRAP_WAIT_S = 0.5
"""A node that does not listen yet is waited for in pieces of this, so that Ctrl-C is obeyed meanwhile."""
RESTART_AFTER_S = 1.0
STOP_TIMEOUT_S = 10.0
HOST = "127.0.0.1"


@click.command()
@click.option("--nodes", type=click.IntRange(1, 7), default=3, show_default=True)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".raftlock"),
    show_default=True,
)
@click.option(
    "--base-port",
    type=click.IntRange(1024, 65_000),
    default=7401,
    show_default=True,
    help="Client ports from here, peer ports from 10 above, HTTP from 20 above.",
)
@click.option(
    "--audit-s3",
    "tier",
    metavar="URL",
    help="Ship the audit there: s3://BUCKET/PREFIX or file:///DIRECTORY.",
)
@click.option("--no-restart", is_flag=True, help="Leave a killed node down.")
@json_option
def dev(
    nodes: int, data: Path, base_port: int, tier: str | None, no_restart: bool, as_json: bool
) -> None:
    """Run a cluster on this machine until Ctrl-C. Its data is kept and used again.

    With --json one object a line for each thing that happens; the one with "endpoints" says that the cluster is ready.

    \b
    Example: raftlock dev --nodes 3 --data /tmp/raftlock --base-port 7401
    Exit codes: 0 stopped; 1 it did not come up.
    """
    if tier:
        # Here, so that the other commands work where only the client is installed.
        from raftlock.cli.audit_place import check_tier

        check_tier(tier)
        # The nodes take it from here, and endpoint, region and credentials too.
        os.environ["RAFTLOCK_AUDIT_TIER"] = tier
    cluster = DevCluster(nodes, data, base_port, restart=not no_restart, as_json=as_json)
    data.mkdir(parents=True, exist_ok=True)
    with claim(data, nodes, base_port, cluster.ports()):
        sys.exit(asyncio.run(cluster.run()))


class DevCluster:
    """The nodes' processes, and what a person is told of them."""

    def __init__(
        self, nodes: int, data: Path, base_port: int, *, restart: bool, as_json: bool = False
    ) -> None:
        self._ids = range(1, nodes + 1)
        self._data = data
        self._base_port = base_port
        self._restart = restart
        self._as_json = as_json
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._ready = False
        self._failed = ""
        self._led: tuple[int, int] = (0, 0)
        self._watchers: set[asyncio.Task[None]] = set()

    def ports(self) -> list[int]:
        """Return every port that the nodes listen at."""
        return [self._base_port + ten + node - 1 for ten in (0, 10, 20) for node in self._ids]

    def client(self, node_id: int) -> str:
        """Return a node's client address."""
        return f"{HOST}:{self._base_port + node_id - 1}"

    def peer(self, node_id: int) -> str:
        """Return a node's peer address."""
        return f"{HOST}:{self._base_port + 10 + node_id - 1}"

    async def run(self) -> int:
        """Run until a signal. Return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        try:
            for node_id in self._ids:
                await self._start(node_id)
            await self._bootstrap()
            code = await self._watch()
        finally:
            self._stopping.set()
            await self._stop_all()
        if self._failed:
            fail(self._failed)
        return code

    async def _start(self, node_id: int) -> None:
        log_file = (self._data / f"node-{node_id}.log").open("ab")
        with log_file:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "raftlock.cli.main", "server",
                "--node-id", str(node_id),
                "--data-dir", str(self._data / f"node-{node_id}"),
                "--client", self.client(node_id),
                "--peer", self.peer(node_id),
                "--http", f"{HOST}:{self._base_port + 20 + node_id - 1}",
                stdout=log_file,
                stderr=log_file,
                # Ctrl-C at the terminal is for this process alone: it ends the nodes in order.
                process_group=0,
                preexec_fn=die_with_parent(os.getpid()),
            )  # fmt: skip
        self._processes[node_id] = process
        watcher = asyncio.create_task(self._guard(node_id, process))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _guard(self, node_id: int, process: asyncio.subprocess.Process) -> None:
        """Report a node that ended, and start it again after a second."""
        code = await process.wait()
        if self._stopping.is_set():
            return
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        log = self._data / f"node-{node_id}.log"
        if code > 0 and not self._ready:
            # Nobody killed it, and it has not served yet: it cannot start, and will not a second later.
            self._failed = f"node {node_id} ended with exit code {code}: {last_line(log)}"
            self._stopping.set()
            return
        self._say(f"node {node_id} lost ({how}); its log: {log}")
        if not self._restart:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESTART_AFTER_S):
                await self._stopping.wait()
                return
        await self._start(node_id)
        self._say(f"node {node_id} back (pid {self._processes[node_id].pid})")

    async def _bootstrap(self) -> None:
        from raftlock.server.bootstrap import BootstrapError, bootstrap

        nodes = {node_id: self.peer(node_id) for node_id in self._ids}
        deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
        with Progress("starting the nodes"):
            while not self._stopping.is_set():
                try:
                    await asyncio.to_thread(bootstrap, nodes, wait_s=BOOTSTRAP_WAIT_S)
                except BootstrapError as error:
                    in_time = asyncio.get_running_loop().time() < deadline
                    silent = isinstance(error.__cause__, OSError)
                    if not (silent and in_time) and not self._stopping.is_set():
                        fail(f"{error}; the nodes' logs are in {self._data}")
                else:
                    return

    async def _watch(self) -> int:
        deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
        while not self._stopping.is_set():
            answers = await asyncio.gather(*(self._ask(node_id) for node_id in self._ids))
            leaders = [
                s
                for s in answers
                if s is not None and s.role == "leader" and s.healthy and self._is_ours(s)
            ]
            if leaders:
                self._leads(max(leaders, key=lambda s: s.term))
            elif not self._ready and asyncio.get_running_loop().time() > deadline:
                fail(
                    f"no leader within {READY_TIMEOUT_S:.0f} s; the nodes' logs are in {self._data}"
                )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._stopping.wait()
        return 0

    def _leads(self, leader: NodeStatus) -> None:
        if (leader.id, leader.term) != self._led:
            self._led = (leader.id, leader.term)
            self._say(f"node {leader.id} leads term {leader.term}")
        if not self._ready:
            self._ready = True
            endpoints = [self.client(node_id) for node_id in self._ids]
            self._say("cluster ready: " + ",".join(endpoints), endpoints=endpoints)

    async def _ask(self, node_id: int) -> NodeStatus | None:
        try:
            return await fetch_status(self.client(node_id), timeout=1.0)
        except (OSError, TimeoutError, Unavailable):
            return None

    def _is_ours(self, status: NodeStatus) -> bool:
        """Say whether one of these processes answered: another cluster may have taken its port meanwhile."""
        process = self._processes.get(status.id)
        return process is not None and process.pid == status.pid

    async def _stop_all(self) -> None:
        """End the nodes: followers first, so that the leader need not hand over to one that goes as well."""
        running = [(i, p) for i, p in self._processes.items() if p.returncode is None]
        for _, process in sorted(running, key=lambda item: item[0] == self._led[0]):
            _signal(process, signal.SIGTERM)
        for node_id, process in running:
            try:
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                self._say(f"node {node_id} does not stop; it is killed")
                _signal(process, signal.SIGKILL)
                await process.wait()
        if self._ready:
            self._say("stopped")

    def _say(self, text: str, **values: Any) -> None:
        emit(self._as_json, {"event": text, **values}, text)


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
