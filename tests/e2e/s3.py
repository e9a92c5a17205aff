"""A real S3 store for the tests, where one can be had: started from a folder beside the repository, on ports of its own."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from socket import socket
from typing import Any

import boto3
import pytest

SERVER = Path(
    os.environ.get("RAFTLOCK_S3_SERVER", Path(__file__).resolve().parents[3] / "shared/s3/server")
)
"""Starts, stops, pauses and resumes a store: `SERVER start DIR` with its port in S3_PORT."""
PORTS = 10
KEYS = {"AWS_ACCESS_KEY_ID": "raftlock", "AWS_SECRET_ACCESS_KEY": "raftlock-secret"}


def ports_in_a_row() -> int:
    """Return the first of ten ports that nothing listens on."""
    for first in range(20_000 + os.getpid() % 500 * 20, 32_000, PORTS):
        with ExitStack() as stack:
            try:
                for port in range(first, first + PORTS):
                    stack.enter_context(socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    pytest.skip("no ten free ports in a row for the S3 store")


class Store:
    """A running store."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = ports_in_a_row()
        self.endpoint = f"http://127.0.0.1:{self._port}"

    def do(self, verb: str) -> "subprocess.CompletedProcess[str]":
        """Start, stop, pause or resume it."""
        return subprocess.run(
            [SERVER, verb, self._folder],
            env={**os.environ, "S3_PORT": str(self._port), "S3_DAY": "86400"},
            capture_output=True,
            text=True,
            check=False,
            timeout=280,
        )

    def client(self) -> Any:
        """Return boto3's client."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store for the tests of a module."""
    if not SERVER.exists():
        pytest.skip(f"no S3 store: {SERVER} is not there (RAFTLOCK_S3_SERVER names another)")
    store = Store(tmp_path_factory.mktemp("s3") / "store")
    try:
        started = store.do("start")
        if started.returncode:
            pytest.skip(f"the S3 store does not start: {started.stderr.strip()}")
        yield store
    finally:
        store.do("stop")
