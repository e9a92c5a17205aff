"""The simulator: a few whole runs, the same run twice, and a share of the planted bugs."""

import os
import subprocess
import sys

import pytest

from raftlock.testing.sim import run_seed
from tests.sim.planted import PLANTED, hunt

ONE_SEED = "from raftlock.testing.sim import run_seed; print(run_seed(7).trace_hash)"


@pytest.mark.parametrize("seed", range(3))
def test_a_seed_breaks_no_promise(seed: int) -> None:
    """A run with crashes, partitions, pauses and lost writes ends without a violation, and drains."""
    result = run_seed(seed)

    assert (result.failure, result.granted > 0, result.crashes > 0) == ("", True, True), result


def test_a_seed_decides_a_run() -> None:
    """One seed gives one trace, whatever the hash seed of the process."""
    traces = [
        subprocess.run(
            [sys.executable, "-c", ONE_SEED],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "4242")
    ]

    assert traces[0] == traces[1]


@pytest.mark.parametrize(
    "name",
    [
        "leases that count from before the election",
        "an answer to entries that does not wait for the disk",
        "renewals answered without a quorum",
        "a sync that does not sync",
        "a snapshot that does not wait for the audit",
    ],
)
def test_a_planted_bug_is_caught(name: str) -> None:
    """The monitor is not blind: a bug planted in the production code fails a run within a few seeds."""
    caught = hunt(name, range(6))

    assert (name in PLANTED, caught is not None) == (True, True)
