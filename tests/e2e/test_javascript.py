"""The client in JavaScript, written from wire/PROTOCOL.md and wire/vectors alone, keeps to both and to real nodes.

It is the proof that the document is enough: if a change of the protocol breaks it, the change is not compatible.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import Cluster

ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "docs" / "clients" / "javascript"
NODE_MAJOR_MIN = 20
INSTALL_S_MAX = 120
FILE_MS_MAX = 120_000
RUN_S_MAX = 200

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


def node_major() -> int:
    """Return the major version of the Node here, 0 if there is none."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return 0
    done = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    return int(done.stdout.strip().removeprefix("v").split(".")[0])


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A copy of the client with the locked version of its dependency."""
    if (major := node_major()) < NODE_MAJOR_MIN:
        pytest.skip(
            f"node {NODE_MAJOR_MIN} or later and npm are needed; node here: {major or 'none'}"
        )
    copy = tmp_path / "javascript"
    shutil.copytree(CLIENT, copy, ignore=shutil.ignore_patterns("node_modules"))
    done = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund", "--prefer-offline"],
        cwd=copy, capture_output=True, text=True, timeout=INSTALL_S_MAX, check=False,
    )  # fmt: skip
    if done.returncode != 0 and "network" in done.stderr.lower():
        pytest.skip(f"npm ci reaches no registry: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return copy


def run_tests(installed: Path, environment: dict[str, str]) -> str:
    """Run the client's own tests; return what they printed, or fail with it."""
    done = subprocess.run(
        ["node", "--test", "--test-reporter=tap", f"--test-timeout={FILE_MS_MAX}", "test/"],
        cwd=installed,
        env={**os.environ, "RAFTLOCK_VECTORS": str(ROOT / "wire" / "vectors"), **environment},
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
    return done.stdout


def test_the_javascript_client_works_on_real_nodes(installed: Path, cluster: Cluster) -> None:
    """Vectors, rules and a cluster whose nodes are stopped and killed: every test of the client passes, none is skipped."""
    printed = run_tests(
        installed,
        {"RAFTLOCK_ENDPOINTS": ",".join(cluster.endpoints), "RAFTLOCK_MAY_KILL": "1"},
    )

    counts = dict(
        line.split()[1:]
        for line in printed.splitlines()
        if line.startswith(("# fail", "# skipped"))
    )
    assert counts == {"fail": "0", "skipped": "0"}
