"""`python -m bench ceiling`: what the load generator can do at most, against a server that does nothing.

The stub is a process of its own and answers OK. If a cluster comes near these figures, the generator is what was
measured. Both processes' shares of a core are stated: the generator's is what it takes from the cluster beside it.
"""

import argparse
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop

from bench.latency import measure as measure_open
from bench.report import add_common, machine_line, positive, table, write
from bench.throughput import DEFAULT, WORKLOADS, measure, names_of

HELP = "the generator's own ceiling, against a stub that does nothing"
START_TIMEOUT_S = 10.0


@contextlib.contextmanager
def stub() -> Iterator[tuple[str, int]]:
    """Run the stub on a free port. Give its address and its pid."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.stub", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        ready, _, port = process.stdout.readline().partition(": ")
        if ready != "stub ready":
            raise RuntimeError("the stub did not start")
        yield f"127.0.0.1:{int(port)}", process.pid
    finally:
        process.terminate()
        process.wait(START_TIMEOUT_S)


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def run(options: argparse.Namespace) -> int:
    """Measure the generator on each workload, and its open loop; print a table, write JSON."""
    names = names_of(options.workloads)
    if names is None:
        return 2
    results: dict[str, dict[str, Any]] = {}
    with stub() as (address, pid):
        jobs = [
            (
                name,
                measure(
                    address,
                    connections=WORKLOADS[name][0],
                    depth=WORKLOADS[name][1],
                    seconds=options.seconds,
                ),
            )
            for name in names
        ]
        rate = measure_open(address, rate=options.rate, connections=8, seconds=options.seconds)
        jobs.append((f"open {options.rate:g}/s", rate))
        for name, job in jobs:
            began, own, its = time.perf_counter(), time.process_time(), cpu_seconds(pid)
            result = uvloop.run(job)
            took = time.perf_counter() - began
            result["generator_cores"] = round((time.process_time() - own) / took, 2)
            result["stub_cores"] = round((cpu_seconds(pid) - its) / took, 2)
            results[name] = result
    rows = [
        (
            name,
            *WORKLOADS.get(name, (8, None)),
            result["operations_per_second"],
            float(result["p50_ms"]),
            float(result["p99_ms"]),
            result["generator_cores"],
            result["stub_cores"],
            result["errors"],
        )
        for name, result in results.items()
    ]
    heads = ("workload", "conns", "depth", "op/s", "p50 ms", "p99 ms", "generator cores", "stub cores", "errors")  # fmt: skip
    print(table(heads, rows))
    print(f"{options.seconds:g} s each; {machine_line('a stub, not raftlock: no log, no disk, no locks')}")  # fmt: skip
    write(options, results)
    return 1 if any(result["errors"] for result in results.values()) else 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add_common(parser, seconds=3.0, endpoints=False)
    parser.add_argument("--workloads", default=",".join(DEFAULT), help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument(
        "--rate", type=positive, default=67_000.0, help="of the open loop (default: 67000/s)"
    )
