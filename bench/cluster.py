"""A cluster of a bench's own: three nodes in a temporary folder, started before and ended after, whatever happens."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

NODES = 3
PORTS = (*range(NODES), *range(10, 10 + NODES), *range(20, 20 + NODES))
"""What a dev cluster listens on, from its base port: clients, peers, HTTP."""
STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class OwnCluster:
    """Where a running cluster is."""

    base_port: int
    folder: Path

    @property
    def endpoints(self) -> list[str]:
        """Return the client addresses."""
        return [f"127.0.0.1:{self.base_port + i}" for i in range(NODES)]

    def metrics(self, endpoint: str) -> dict[str, float]:
        """Return the metrics without labels of the node at a client address, by their names."""
        port = int(endpoint.rpartition(":")[2]) + 20
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        return {
            sample.name: sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if not sample.labels
        }


def free_base_port() -> int:
    """Return a port from which all ports of a dev cluster are free."""
    # Another bench may look at the same time: each begins somewhere else.
    first = random.SystemRandom().randrange(200)
    for number in range(200):
        base = 20_000 + 50 * ((first + number) % 200)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for offset in PORTS:
                sock = stack.enter_context(socket.socket())
                sock.bind(("127.0.0.1", base + offset))
            return base
    raise OSError("no free ports from 20000 to 30000")


@contextlib.contextmanager
def own_cluster(settings: Mapping[str, str] | None = None) -> Iterator[OwnCluster]:
    """Run a three-node cluster in a temporary folder. `settings` are RAFTLOCK_… variables for its nodes."""
    base = free_base_port()
    with tempfile.TemporaryDirectory(prefix="raftlock-bench-") as folder:
        command = [sys.executable, "-m", "raftlock.cli.main", "dev"]
        command += ["--data", folder, "--base-port", str(base)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(settings or {})}
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("cluster ready: "):
                    break
            else:
                logs = [log.read_text()[-1_000:] for log in sorted(Path(folder).glob("*.log"))]
                raise RuntimeError("the cluster did not start; the nodes said:\n" + "\n".join(logs))
            yield OwnCluster(base, Path(folder))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                # Its nodes die with it (die_with_parent).
                process.kill()
                process.wait()


@contextlib.contextmanager
def own_or(endpoints: str | None) -> Iterator[list[str]]:
    """Use a running cluster's addresses as given, or start one and use that."""
    if endpoints:
        yield endpoints.split(",")
        return
    with own_cluster() as cluster:
        yield cluster.endpoints
