"""`make docker-cluster`: three nodes in containers until Ctrl-C, served at ports of this machine."""

import os
import signal
import sys
import threading

from deploy.cluster import NODES, Cluster, free_ports
from deploy.engine import EngineError, arguments, engine_or_exit, say


def main() -> None:
    """Run three nodes in containers until Ctrl-C. What they made is removed at the end."""
    parser = arguments(main.__doc__ or "")
    parser.add_argument(
        "--base-port",
        type=int,
        default=7401,
        help="client ports from here, HTTP from 20 above (0: any)",
    )
    options = parser.parse_args()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    engine = engine_or_exit(options)
    base = options.base_port
    ports = [*range(base, base + 3), *range(base + 20, base + 23)] if base else free_ports(6)
    name = f"raftlock-{os.getpid()}"
    cluster = Cluster(engine, options.tag, name, published=ports[:3], published_http=ports[3:])
    code = 0
    try:
        cluster.start()
        cluster.wait_healthy()
        say(f"image {options.tag}, network {cluster.network}, engine {engine}")
        say(f"http: {' '.join(cluster.url(node_id) for node_id in NODES)}")
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


if __name__ == "__main__":
    main()
