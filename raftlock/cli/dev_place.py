"""Where `raftlock dev` runs: a data directory and ports that are its own for as long as it runs.

It owns the refusal of what belongs to somebody else. It must not know what a node is.
"""

import contextlib
import errno
import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from raftlock.cli.common import fail

HOST = "127.0.0.1"
NOTE = "dev.json"
"""What the data was made for. The nodes' addresses are in their logs, so other ports would never find each other."""
LINE_SIZE_MAX = 4_096


@contextlib.contextmanager
def claim(data: Path, nodes: int, base_port: int, ports: Sequence[int]) -> Iterator[None]:
    """Hold a data directory while the ports are free, or say why these are not for this cluster, and end."""
    # Here, so that the client's commands work on Windows, which has no fcntl.
    import fcntl

    with (data / NOTE).open("a+") as note:
        try:
            fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fail(f"{data} is in use by another `raftlock dev`; choose another directory: --data")
        note.seek(0)
        wanted = {"nodes": nodes, "base_port": base_port}
        made_for = json.loads(note.read() or "null")
        if made_for not in (None, wanted):
            flags = f"--nodes {made_for['nodes']} --base-port {made_for['base_port']}"
            fail(f"{data} is the data of `raftlock dev {flags}`; say that, or choose another directory: --data")  # fmt: skip
        check_ports(ports)
        if made_for is None:
            json.dump(wanted, note)
            note.flush()
        yield


def check_ports(ports: Sequence[int]) -> None:
    """See that each port is free, or say which is not, and end."""
    for port in ports:
        try:
            socket.create_server((HOST, port)).close()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                fail(f"{HOST}:{port}: {error.strerror}")
            fail(
                f"{HOST}:{port} is in use (by another cluster?); choose other ports, with data of their own: "
                "raftlock dev --base-port 17401 --data .raftlock-17401"
            )


def last_line(log: Path) -> str:
    """Return the last line of a node's log: what it said when it ended."""
    with log.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - LINE_SIZE_MAX))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("raftlock: ") if lines else f"{log} is empty"
