"""Shipping to a real S3 store: over its outages, over kill -9, by several shippers at once, from a real cluster."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from raftlock.audit.shipper import Shipper
from raftlock.client import AsyncClient
from tests.e2e.conftest import Cluster
from tests.e2e.s3 import KEYS, Store, s3
from tests.e2e.test_audit import cli, fill, segments, wait_for
from tests.unit.audit.ship_kit import MemoryTier, contents, files_of_days, node

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("s3")]
__all__ = ["s3"]
_numbers = count(1)


class Place:
    """A bucket of its own, and the commands on it."""

    def __init__(self, store: Store, *, versions: bool = False) -> None:
        self.store = store
        self.bucket = f"audit-{next(_numbers)}"
        self.client = store.client()
        self.client.create_bucket(Bucket=self.bucket)
        if versions:
            self.client.put_bucket_versioning(
                Bucket=self.bucket, VersioningConfiguration={"Status": "Enabled"}
            )
        self.url = f"s3://{self.bucket}/prod"

    def command(self, verb: str, *more: str | Path) -> list[str]:
        """Return a command on it."""
        which = "--to" if verb in ("ship", "init-bucket") else "--from"
        return [
            sys.executable, "-m", "raftlock.cli.main", "audit", verb, which, self.url,
            "--endpoint", self.store.endpoint, "--region", "us-east-1", *map(str, more),
        ]  # fmt: skip

    def run(self, verb: str, *more: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return subprocess.run(
            self.command(verb, *more),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, **KEYS},
        )

    @contextmanager
    def running(self, verb: str, *more: str | Path) -> Iterator["subprocess.Popen[str]"]:
        """Run a command beside the test; kill it at the end."""
        process = subprocess.Popen(
            self.command(verb, *more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **KEYS},
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def objects(self) -> dict[str, bytes]:
        """Return what is under the prefix."""
        listing = self.client.list_objects_v2(Bucket=self.bucket, Prefix="prod/")
        return {
            one["Key"].removeprefix("prod/"): self.client.get_object(
                Bucket=self.bucket, Key=one["Key"]
            )["Body"].read()
            for one in listing.get("Contents", ())
        }


def data_of(folder: Path) -> Path:
    """Return a data directory with three days of segments."""
    node(folder / "audit")
    return folder


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a store holds that nothing happened to."""
    tier = MemoryTier()
    Shipper(node(tmp_path_factory.mktemp("expected")), tier).run_once()
    return contents(tier)


def ok(done: "subprocess.CompletedProcess[str]") -> Any:
    """Return a command's JSON."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_killed_shipper_and_a_paused_store_lose_nothing(
    s3: Store, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    """kill -9 in the middle, with the store hanging, and then two shippers at once: each object once, as it must be."""
    place, data = Place(s3), data_of(tmp_path)
    with place.running("ship", "--data", data, "--every", "1s") as shipper:
        wait_for(lambda: len(place.objects()) > 3, "nothing was shipped")
        s3.do("pause")
        shipper.kill()
        shipper.wait()
    s3.do("resume")
    half = len(place.objects())

    with (
        place.running("ship", "--data", data, "--once") as one,
        place.running("ship", "--data", data, "--once") as two,
    ):
        codes = [one.wait(timeout=120), two.wait(timeout=120)]

    assert codes == [0, 0]
    assert half < len(expected)
    assert place.objects() == expected
    lag = ok(place.run("ship", "--data", data, "--status", "--json"))
    assert lag == {"segments": 0, "bytes": 0, "seconds": 0.0}


def test_a_shipper_outlasts_an_outage(
    s3: Store, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    """While the store is down it says so and tries again; `--once` gives up with 69; then everything is shipped."""
    place, data, metrics = Place(s3), data_of(tmp_path), tmp_path / "ship.prom"
    s3.do("stop")
    try:
        down = place.run("ship", "--data", data, "--once")
        with place.running("ship", "--data", data, "--every", "1s", "--metrics", metrics):
            wait_for(metrics.exists, "no failure was counted")
            failed = metrics.read_text()
            s3.do("start")
            wait_for(lambda: place.objects() == expected, "it does not catch up")
            wait_for(lambda: "lag_segments 0\n" in metrics.read_text(), "the lag stays")
    finally:
        s3.do("start")

    assert (down.returncode, "again in" in down.stderr) == (69, True)
    assert "raftlock_audit_ship_failures_total 0\n" not in failed
    report = ok(place.run("verify", "--json", "--compare", "--data", data))
    assert (report["ok"], report["compared"]) == (True, len(files_of_days()))


@pytest.mark.parametrize("versions", [False, True])
def test_what_differs_is_an_alarm_and_is_not_overwritten(
    s3: Store, tmp_path: Path, versions: bool, expected: dict[str, bytes]
) -> None:
    """An object that was altered is found by verify; one that is another node's is exit 4; the bytes stay."""
    place, data = Place(s3, versions=versions), data_of(tmp_path / "a")
    ok(place.run("ship", "--data", data, "--once", "--json"))
    key = sorted(expected)[-1]
    other = tmp_path / "b" / "audit"
    node(other, files_of_days(seed=2))
    foreign = place.run("ship", "--data", other.parent, "--once")
    place.client.put_object(Bucket=place.bucket, Key=f"prod/{key}", Body=b"rewritten")

    altered = place.run("verify", "--json")

    assert foreign.returncode == 4
    assert altered.returncode == 1
    wrong = json.loads(altered.stdout.splitlines()[0])["problems"]
    assert {one["key"] for one in wrong} == {key}
    assert place.objects() == {**expected, key: b"rewritten"}


def test_a_removed_object_and_a_removed_manifest_are_noticed(s3: Store, tmp_path: Path) -> None:
    """verify names what is gone, and passes again when the shipper has put it back."""
    place, data = Place(s3), data_of(tmp_path)
    ok(place.run("ship", "--data", data, "--once", "--json"))
    keys = sorted(place.objects())
    gone = next(key for key in keys if "2026-11-26" in key and key.startswith("records"))
    manifest = next(key for key in keys if key.startswith("manifests"))

    def problems_without(key: str) -> Sequence[str]:
        place.client.delete_object(Bucket=place.bucket, Key=f"prod/{key}")
        done = place.run("verify", "--json")
        assert done.returncode == 1
        return [one["key"] for one in json.loads(done.stdout.splitlines()[0])["problems"]]

    object_problems = problems_without(gone)
    again = ok(place.run("ship", "--data", data, "--once", "--json"))
    whole = place.run("verify")
    manifest_problems = problems_without(manifest)

    assert gone in object_problems
    assert (again["shipped"], whole.returncode) == ([gone], 0)
    assert any("2026-11-26" in key and key.startswith("manifests") for key in manifest_problems)


def test_the_buckets_rules_are_shown_then_set_and_set_once(s3: Store) -> None:
    """Without --apply nothing changes; with it our rule stands beside the others; again there is nothing to do."""
    place = Place(s3)
    theirs = {
        "ID": "theirs",
        "Status": "Enabled",
        "Filter": {"Prefix": "x/"},
        "Expiration": {"Days": 3},
    }
    place.client.put_bucket_lifecycle_configuration(
        Bucket=place.bucket, LifecycleConfiguration={"Rules": [theirs]}
    )
    flags = ("--json", "--move", "30:STANDARD_IA", "--move", "90:GLACIER_IR", "--expire", "400")

    def rules() -> list[str]:
        found = place.client.get_bucket_lifecycle_configuration(Bucket=place.bucket)["Rules"]
        return sorted(rule["ID"] for rule in found)

    shown = (ok(place.run("init-bucket", *flags)), rules())
    done = (ok(place.run("init-bucket", *flags, "--apply")), rules())
    again = ok(place.run("init-bucket", *flags, "--apply"))

    assert (shown[0]["changes"], shown[0]["applied"], shown[1]) == (True, False, ["theirs"])
    assert (done[0]["applied"], done[1]) == (True, ["raftlock-audit prod/records/", "theirs"])
    assert (again["changes"], again["applied"]) == (False, False)


async def test_a_clusters_records_are_found_in_the_store(cluster: Cluster, s3: Store) -> None:
    """What clients did on a real cluster is found by resource, owner and token, whichever nodes shipped it."""
    place = Place(s3)
    leader = await cluster.leader()
    async with (
        AsyncClient(cluster.endpoints, owner="me") as client,
        client.lock("order:7", ttl=10) as lock,
    ):
        token = lock.token
    fill(cluster.endpoint(leader), 85)
    for node_id in cluster.ids:
        wait_for(lambda i=node_id: segments(cluster, i), f"node {node_id} has finished no segment")
    folders = [cluster.folder / f"node-{node_id}" for node_id in cluster.ids]

    shipped = [ok(place.run("ship", "--once", "--json", "--data", folder)) for folder in folders]

    assert [len(one["shipped"]) for one in shipped][1:] == [0, 0]
    assert [one["there"] for one in shipped[1:]] == [len(shipped[0]["shipped"])] * 2
    for folder in folders:
        assert ok(place.run("verify", "--json", "--compare", "--data", folder))["ok"]
    for asked in (("--resource", "order:7"), ("--token", str(token)), ("--prefix", "order:")):
        rows = ok(place.run("query", *asked, "--format", "json"))
        told = [(row["operation"], row["status"], row["token"]) for row in rows]
        assert told == [("acquire", "OK", token), ("release", "OK", token)]


def test_questions_have_the_same_answers_from_the_store_and_from_the_node(
    s3: Store, tmp_path: Path
) -> None:
    """Records, counts by SQL and the report: read through S3, and from the segments that were shipped."""
    place, data = Place(s3), data_of(tmp_path)
    ok(place.run("ship", "--once", "--json", "--data", data))
    count = "select operation, count(*) as n from records group by 1 order by 1"
    asked: Sequence[tuple[str, ...]] = (
        ("query", "--resource", "a", "--format", "json"),
        ("sql", count, "--json"),
        ("report", "--json"),
    )

    from_store = [ok(place.run(*one)) for one in asked]
    from_node = [ok(cli("audit", *one, "--data", data)) for one in asked]

    assert all(from_store)
    assert from_store == from_node
