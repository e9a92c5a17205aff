"""The workloads of a comparison that are commands of their own: each is run, and its JSON read."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SINGLES: dict[str, tuple[str, ...]] = {
    "open_67000": ("latency", "--rate", "67000", "--seconds", "60", "--connections", "8"),
    "renew": ("renew", "--leases", "1000000", "--ttl", "10", "--seconds", "30"),
    "expiry": ("expiry", "--leases", "1000000", "--fill", "90"),
    "followers": ("follower",),
}
"""Workload to the command and its options."""
TIMEOUT_S = 900.0


def run_single(workload: str) -> dict[str, Any]:
    """Run one command, with its table shown. Return what it wrote; what went wrong is in `failed`."""
    with tempfile.TemporaryDirectory(prefix="raftlock-single-") as folder:
        file = Path(folder) / "out.json"
        command = [sys.executable, "-m", "bench", *SINGLES[workload], "--json", str(file)]
        print(f"{workload}: python -m bench {' '.join(SINGLES[workload])}", flush=True)
        try:
            code = subprocess.run(command, timeout=TIMEOUT_S, check=False).returncode
        except subprocess.TimeoutExpired:
            return {"failed": f"not over within {TIMEOUT_S:g} s"}
        document: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if code:
        document["failed"] = f"exit code {code}"
    return document
