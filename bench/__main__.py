"""`python -m bench throughput | failover | handover`: what a cluster does per second, what a dead node costs, who waits."""

import argparse
import contextlib
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgpack
import uvloop

from bench import failover, handover
from bench.load import find_leader, run_load

WORKLOADS = {
    "pipelined": (8, 256),
    "closed_1000": (1_000, 1),
    "closed_1": (1, 1),
}
"""Name to (connections, requests in flight on each)."""


def free_base_port() -> int:
    """Return a port from which the 23 ports of a dev cluster are free."""
    for base in range(20_000, 30_000, 50):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for offset in (*range(3), *range(10, 13)):
                sock = stack.enter_context(socket.socket())
                sock.bind(("127.0.0.1", base + offset))
            return base
    raise OSError("no free ports from 20000 to 30000")


@contextlib.contextmanager
def own_cluster() -> Iterator[list[str]]:
    """Run a three-node cluster in a temporary folder."""
    base = free_base_port()
    with tempfile.TemporaryDirectory(prefix="raftlock-bench-") as folder:
        command = [
            sys.executable,
            "-m",
            "raftlock.cli.main",
            "dev",
            "--data",
            folder,
            "--base-port",
            str(base),
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("cluster ready: "):
                    break
            else:
                raise RuntimeError("the cluster did not start")
            yield [f"127.0.0.1:{base + i}" for i in range(3)]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    cpu = "unknown"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "uvloop": version("uvloop"),
        "msgpack": ".".join(map(str, msgpack.version)),
        "nodes": 3,
        "fsync": True,
        "load_on_the_same_machine": True,
    }


async def measure(endpoint: str, name: str, seconds: float) -> dict[str, Any]:
    """Run one workload once."""
    connections, depth = WORKLOADS[name]
    tally, took = await run_load(
        endpoint, connections=connections, depth=depth, seconds=seconds, warmup=0.5
    )
    p50_ms, p99_ms, max_ms = tally.percentiles_ms(0.5, 0.99, 1.0)
    return {
        "operations_per_second": round(tally.operations / took),
        "p50_ms": p50_ms,
        "p99_ms": p99_ms,
        "max_ms": max_ms,
        "errors": tally.statuses,
        "token_errors": tally.token_errors,
    }


def throughput(options: argparse.Namespace) -> int:
    """Measure each workload in interleaved rounds, print a table of medians, and write JSON."""
    names = options.workloads.split(",")
    for name in names:
        if name not in WORKLOADS:
            print(f"--workloads: {name!r} is none of {', '.join(WORKLOADS)}", file=sys.stderr)
            return 2
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        endpoints = (
            options.endpoints.split(",")
            if options.endpoints
            else stack.enter_context(own_cluster())
        )
        for _ in range(options.rounds):
            for name in names:
                leader = uvloop.run(find_leader(endpoints))
                rounds[name].append(uvloop.run(measure(leader, name, options.seconds)))
    results = {name: summary(measured) for name, measured in rounds.items()}
    print(
        f"{'workload':<14}{'conns':>6}{'depth':>6}{'op/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}  errors"
    )
    for name, result in results.items():
        connections, depth = WORKLOADS[name]
        errors = ", ".join(f"{k} {v}" for k, v in result["errors"].items()) or "none"
        print(
            f"{name:<14}{connections:>6}{depth:>6}{result['operations_per_second']:>10,}{result['p50_ms']:>9.2f}"
            f"{result['p99_ms']:>9.2f}{result['max_ms']:>9.1f}  {errors}"
        )
    about = machine()
    print(
        f"medians of {options.rounds} rounds of {options.seconds:g} s; {about['nodes']} nodes, fsync on, load on the same {about['cores']} cores; Python {about['python']}, uvloop {about['uvloop']}, msgpack {about['msgpack']}"
    )
    if options.json:
        document = {
            "machine": about,
            "seconds": options.seconds,
            "results": results,
            "rounds": rounds,
        }
        Path(options.json).write_text(json.dumps(document, indent=2) + "\n")
    wrong = sum(r["token_errors"] for r in results.values())
    return 1 if wrong or any(r["errors"] for r in results.values()) else 0


def fail_over(options: argparse.Namespace) -> int:
    """Kill nodes of a cluster of our own."""
    with own_cluster() as endpoints:
        result = uvloop.run(
            failover.kill_under_load(
                endpoints,
                kills=options.kills,
                victims=options.victims,
                clients=options.clients,
                seed=options.seed,
            )
        )
    return failover.report(result | {"machine": machine()}, options.json)


def hand_over(options: argparse.Namespace) -> int:
    """Measure handovers on a cluster of our own."""
    with own_cluster() as endpoints:
        result = uvloop.run(handover.measure(endpoints, rounds=options.rounds))
    return handover.report(result | {"machine": machine()}, options.json)


def summary(measured: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians of several rounds, and all errors."""
    errors: dict[str, int] = {}
    for one in measured:
        for name, count in one["errors"].items():
            errors[name] = errors.get(name, 0) + count
    keys = ("operations_per_second", "p50_ms", "p99_ms", "max_ms")
    values: dict[str, Any] = {key: statistics.median(one[key] for one in measured) for key in keys}
    values["operations_per_second"] = round(values["operations_per_second"])
    return {
        **values,
        "errors": errors,
        "token_errors": sum(one["token_errors"] for one in measured),
    }


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("throughput", help="acquire and release on many resources")
    command.add_argument(
        "--endpoints", help="HOST:PORT,… of a running cluster (default: one of its own)"
    )
    command.add_argument(
        "--seconds", type=float, default=8.0, help="of each measurement (default: 8)"
    )
    command.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default: 3)")
    command.add_argument(
        "--workloads", default=",".join(WORKLOADS), help=f"of {', '.join(WORKLOADS)}"
    )
    command.add_argument("--json", metavar="FILE", help="write everything to FILE")
    failover.add_options(
        commands.add_parser("failover", help="kill -9 nodes of an own cluster under load")
    )
    handover.add_options(
        commands.add_parser("handover", help="how long a waiter waits after a release or a death")
    )
    run = {"throughput": throughput, "failover": fail_over, "handover": hand_over}
    options = parser.parse_args()
    return run[options.command](options)


if __name__ == "__main__":
    sys.exit(main())
