"""`make docker-cluster`: three nodes in containers until Ctrl-C, served at ports of this machine."""

import os
import signal
import socket
import sys
import threading

from deploy.cluster import Cluster
from deploy.engine import EngineError, arguments, engine_or_exit, say


def main() -> None:
    """Run three nodes in containers until Ctrl-C. What they made is removed at the end."""
    parser = arguments(main.__doc__ or "")
    parser.add_argument(
        "--base-port", type=int, default=7401, help="client ports from here (0: any)"
    )
    options = parser.parse_args()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    engine = engine_or_exit(options)
    ports = _ports(options.base_port)
    cluster = Cluster(engine, options.tag, f"raftlock-{os.getpid()}", published=ports)
    code = 0
    try:
        cluster.start()
        cluster.wait_healthy()
        say(f"image {options.tag}, network {cluster.network}, engine {engine}")
        say(f"cluster ready: {cluster.endpoints}")
        stopping.wait()
        cluster.stop()
        say("stopped")
    except EngineError as error:
        if not stopping.is_set():
            sys.stderr.write(f"deploy: {error}\n{cluster.logs()}\n")
            code = 1
    finally:
        cluster.remove()
    sys.exit(code)


def _ports(base: int) -> list[int]:
    if base:
        return [base, base + 1, base + 2]
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


if __name__ == "__main__":
    main()
