"""Each example does on a real cluster what its page says."""

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from raftlock.client import Client
from tests.e2e.conftest import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("docs")]
ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"


def start(cluster: Cluster, name: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start an example."""
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAFTLOCK_ENDPOINTS": ",".join(cluster.endpoints)},
    )


def output(process: "subprocess.Popen[str]") -> list[str]:
    """Wait for an example. Return its lines."""
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return out.splitlines()


def module(name: str, endpoints: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import an example, for this cluster."""
    monkeypatch.setenv("RAFTLOCK_ENDPOINTS", ",".join(endpoints))
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_each_example_is_named_by_a_page_and_run_by_a_test() -> None:
    """No example without a page that names it, and without a test here."""
    here = Path(__file__).read_text()
    pages = "\n".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    examples = sorted(path.name for path in EXAMPLES.glob("*.py"))

    assert examples
    assert [name for name in examples if f"examples/{name}" not in pages] == []
    assert [name for name in examples if f'"{name.removesuffix(".py")}' not in here] == []


def test_leader_election(shared_cluster: Cluster) -> None:
    """One of two leads; when it is killed the other leads, with a larger token."""
    first = start(shared_cluster, "leader_election.py")
    assert first.stdout is not None
    words = first.stdout.readline().split()
    second = start(shared_cluster, "leader_election.py")
    with Client(shared_cluster.endpoints) as client:
        while (info := client.get("leader:reports")) is None or not info.waiters:
            time.sleep(0.02)
    first.kill()
    first.communicate()
    assert second.stdout is not None
    heir = second.stdout.readline().split()
    second.send_signal(signal.SIGKILL)
    second.communicate()

    assert words[:-1] == ["process", str(first.pid), "leads", "with", "token"]
    assert heir[:-1] == ["process", str(second.pid), "leads", "with", "token"]
    assert int(heir[-1]) > int(words[-1])


def test_cron(shared_cluster: Cluster) -> None:
    """Of five hosts one runs the command, the others say so; each period has its own turn."""
    lines: list[str] = []
    # Over the boundary of a period each side of it has its turn.
    while True:
        slot = time.time() // 600
        hosts = [
            start(shared_cluster, "cron.py", f"job-{len(lines)}", "10m", "--", "echo", "ran")
            for _ in range(5)
        ]
        lines = [line for host in hosts for line in output(host)]
        if time.time() // 600 == slot:
            break

    assert (lines.count("ran"), len(lines)) == (1, 5)


def test_cron_runs_once_a_period(shared_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose clock is behind by less than a period does not run the job again; the next period is a new one."""
    cron = module("cron", shared_cluster.endpoints, monkeypatch)
    with Client(shared_cluster.endpoints) as client:
        turns = [cron.is_mine(client, "clocks", 60, now) for now in (600.0, 659.0, 601.0, 660.0)]

    assert turns == [True, False, False, True]


def test_guarded_writer(shared_cluster: Cluster) -> None:
    """The writer that slept over its lease is refused by the database, and changes nothing."""
    wrote, refused, balance = output(start(shared_cluster, "guarded_writer.py"))
    token = wrote.split()[1]

    assert wrote == f"token {token} wrote 200"
    assert refused.startswith("refused: token ")
    assert refused.endswith(f"for 'alice' is below {token}, which was seen already")
    assert balance == "balance: 200"


async def test_fastapi_app(shared_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two requests for one order: one is served, one gets 409; a lock that is taken away ends its request with 503."""
    app = module("fastapi_app", shared_cluster.endpoints, monkeypatch).app
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://shop", timeout=60) as http,
    ):
        locks = app.state.locks
        slow = asyncio.create_task(http.post("/orders/1/charge?seconds=600"))
        while (held := await locks.get("order:1")) is None:
            await asyncio.sleep(0.01)
        busy = await http.post("/orders/1/charge")
        other = await http.post("/orders/2/charge")
        await locks.force_release("order:1", held.token, reason="test", now=True)
        ended = await slow
        again = await http.post("/orders/1/charge")

    assert (busy.status_code, busy.json()) == (409, {"detail": "busy", "held_by": "shop"})
    assert (other.status_code, other.json()["order"]) == (200, "2")
    assert (ended.status_code, "is lost" in ended.json()["detail"]) == (503, True)
    assert (again.status_code, again.json()["fencing_token"] > held.token) == (200, True)


def test_celery_tasks(shared_cluster: Cluster) -> None:
    """Of four workers that get the task at once one runs it; sent again later it runs again, under a larger token."""
    *lines, again = output(start(shared_cluster, "celery_tasks.py"))
    ran = [line for line in lines if line.startswith("rebuilt under token ")]

    assert (len(lines), len(ran)) == (4, 1)
    assert lines.count("skipped: another worker has it") == 3
    assert again.startswith("again: rebuilt under token ")
    assert int(again.split()[-1]) > int(ran[0].split()[-1])
