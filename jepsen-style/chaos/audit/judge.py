"""What is looked at when a run is over: what was shipped, what nodes have, and both against the clients' ledger."""

import hashlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from chaos.audit import ledger
from chaos.audit.agree import ASKED, Verdict, compare
from chaos.audit.store import Store
from chaos.checks import Check
from chaos.nodes import Nodes
from raftlock.audit import AUDIT_DIRECTORY
from raftlock.audit.format import parse_name
from raftlock.audit.manifest import RECORDS, Shipped, shipped
from raftlock.audit.names import Row
from raftlock.audit.query import ShippedRecords
from raftlock.audit.question import Cost, Question
from raftlock.audit.reader import Directory
from raftlock.audit.shipper import Shipper
from raftlock.audit.tier_s3 import open_tier
from raftlock.audit.tiers import Tier, TierUnavailable
from raftlock.audit.union import Disk, rows

AGREE = "ledger and audit agree"
"""The name of the comparison among the checks."""
LOOK_S = 1.0
VERIFY_S = 1_800.0
PLANTED = {
    "drop": "a record that is left out",
    "double": "a record that is there twice",
    "change": "a grant's token that is another",
}


class Judge:
    """Looks at one run's audit."""

    def __init__(self, nodes: Nodes, store: Store, folder: Path) -> None:
        self._nodes, self._store, self._folder = nodes, store, folder
        # The store's keys are found by boto3 in the environment.
        os.environ.update(store.settings())
        self._tier: Tier = open_tier(store.url, endpoint=store.endpoint or None, region="us-east-1")
        self.results: dict[str, Any] = {}

    def _directory(self, node_id: int) -> Directory:
        return Directory(self._nodes.data(node_id) / AUDIT_DIRECTORY)

    def shipped(self, limit_s: float) -> Check:
        """Wait until the store has each finished segment of each node: its shippers do that by themselves."""
        until = time.monotonic() + limit_s
        began = time.monotonic()
        while True:
            waiting = [self._waiting(node_id) for node_id in self._nodes.ids]
            if not any(waiting) or time.monotonic() > until:
                break
            time.sleep(LOOK_S)
        self.results["caught_up_seconds"] = round(time.monotonic() - began, 1)
        problems = [f"node {n} has {w} segments that the store lacks" for n, w in zip(self._nodes.ids, waiting, strict=True) if w]  # fmt: skip
        return Check("shipped", "the store has every finished segment", problems)

    def _waiting(self, node_id: int) -> int:
        try:
            return Shipper(self._directory(node_id), self._tier).lag().segments
        except TierUnavailable:
            return 1

    def all_checks(self, *, plant: str) -> list[Check]:
        """Look at everything. The nodes have ended."""
        return [
            *(self._verifies(node_id) for node_id in self._nodes.ids),
            *(self._verifies_shipped(node_id) for node_id in self._nodes.ids),
            self._same_bytes(),
            self._agree(plant),
        ]

    # verify

    def _raftlock(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RAFTLOCK_AUDIT_")}
        return subprocess.run(
            [sys.executable, "-m", "raftlock.cli.main", "audit", *arguments],
            capture_output=True, text=True, check=False, timeout=VERIFY_S, env=environment,
        )  # fmt: skip

    def _verifies(self, node_id: int) -> Check:
        done = self._raftlock("verify", "--data", str(self._nodes.data(node_id)))
        return Check(f"verify, node {node_id}", _line(done.stdout), _problems(done))

    def _verifies_shipped(self, node_id: int) -> Check:
        where = ["--from", self._store.url, "--region", "us-east-1"]
        where += ["--endpoint", self._store.endpoint] if self._store.endpoint else []
        data = str(self._nodes.data(node_id))
        done = self._raftlock("verify", *where, "--compare", "--data", data)
        name = f"verify, the store against node {node_id}"
        return Check(name, _line(done.stdout), _problems(done))

    # the same bytes

    def _same_bytes(self) -> Check:
        """Compare each segment's file on all nodes that have it. Where one lacks it, a gap must say so."""
        problems: list[str] = []
        hashes: dict[str, dict[int, str]] = {}
        gaps: dict[int, list[tuple[int, int]]] = {}
        for node_id in self._nodes.ids:
            directory = self._directory(node_id)
            for name in directory.list():
                parsed = parse_name(name)
                if parsed is not None and parsed[2] == "gap":
                    gaps.setdefault(node_id, []).append(parsed[:2])
                elif parsed is not None:
                    digest = hashlib.sha256(directory.read(name)).hexdigest()
                    hashes.setdefault(name, {})[node_id] = digest
        for name, by_node in sorted(hashes.items()):
            if len(set(by_node.values())) > 1:
                problems.append(f"{name} is not the same on all nodes: {by_node}")
            problems += [
                f"node {n} has neither {name} nor a gap there"
                for n in self._nodes.ids
                if n not in by_node and not _within(name, gaps.get(n, []))
            ]
        compared = sum(len(by_node) > 1 for by_node in hashes.values())
        self.results["segments"] = len(hashes)
        self.results["gaps"] = {n: len(found) for n, found in gaps.items()}
        if not compared:
            problems.append("no segment is on two nodes")
        says = f"{compared} of {len(hashes)} segments are on two nodes or more, {sum(map(len, gaps.values()))} gaps"
        return Check("the same bytes", says, problems)

    # the ledger

    def _agree(self, plant: str) -> Check:
        objects = list(shipped(self._tier.list(RECORDS)))
        disks = [Disk(self._directory(n)) for n in self._nodes.ids]
        cost, counted = Cost(), Counted(objects[-1].last if objects else 0)
        archive = ShippedRecords(self._tier, Question(), cost)
        found = rows(Question(), cost, archive=archive, nodes=disks)
        with TemporaryDirectory(dir=self._folder) as shares:
            verdict = compare(
                ledger.read(sorted(self._folder.glob("ledger-*"))),
                counted.through(planted(found, plant)),
                Path(shares),
            )
        for first, last in cost.missing:
            verdict.add(f"the records {first} to {last} are nowhere")
        self.results |= self._figures(verdict, counted, objects)
        says = (
            f"{verdict.acknowledged} operations answered, {verdict.unknown} of unknown outcome, "
            f"{verdict.retried} sent more than once; {verdict.records} records, "
            f"{counted.shipped_records} of them shipped"
        )
        return Check(AGREE, says, _shown(verdict))

    def _figures(
        self, verdict: Verdict, counted: "Counted", objects: list[Shipped]
    ) -> dict[str, Any]:
        """Return the numbers of the run, and bytes an operation: of what was shipped, in both tiers."""
        whole = {one.first for one in objects}
        hot = 0
        for node_id in self._nodes.ids:
            directory = self._directory(node_id)
            sizes = {f: directory.size(name) for f, _, name in directory.segments() if f in whole}
            if len(sizes) == len(whole):
                hot = sum(sizes.values())
        asked, warm = counted.shipped_asked, sum(one.size for one in objects)
        return {
            "operations": verdict.operations, "acknowledged": verdict.acknowledged,
            "unknown": verdict.unknown, "retried": verdict.retried, "records": verdict.records,
            "records_by_operation": dict(verdict.by_operation.most_common()),
            "objects": len(objects), "shipped_operations": asked,
            "hot_bytes_per_operation": round(hot / asked, 1) if asked and hot else None,
            "warm_bytes_per_operation": round(warm / asked, 1) if asked else None,
            "problems": verdict.problem_count,
        }  # fmt: skip


class Counted:
    """Counts records on their way: how many were shipped, and how many of those a client asked for."""

    def __init__(self, shipped_last: int) -> None:
        self._last = shipped_last
        self.shipped_records = 0
        self.shipped_asked = 0

    def through(self, found: Iterable[Row]) -> Iterator[Row]:
        """Return the same records."""
        for row in found:
            if row["index"] <= self._last:
                self.shipped_records += 1
                self.shipped_asked += row["operation"] in ASKED
            yield row


def planted(found: Iterable[Row], plant: str) -> Iterator[Row]:
    """Return the records with one thing wrong, if it is asked for: the comparison must then fail."""
    at = random.Random(plant).randrange(200, 1_000) if plant else -1
    releases = 0
    for row in found:
        releases += row["operation"] == "release" and row["status"] == "OK"
        if releases != at:
            yield row
            continue
        at = -1
        if plant == "double":
            yield row
            yield {**row, "position": row["position"] + 1_000_000}
        elif plant == "change":
            yield {**row, "token": row["token"] + 1}


def _within(name: str, gaps: list[tuple[int, int]]) -> bool:
    parsed = parse_name(name)
    assert parsed is not None
    return any(first <= parsed[0] and parsed[1] <= last for first, last in gaps)


def _line(text: str) -> str:
    return "; ".join(text.strip().splitlines())[:200]


def _problems(done: "subprocess.CompletedProcess[str]") -> list[str]:
    return [] if done.returncode == 0 else [f"exit code {done.returncode}: {(done.stdout + done.stderr)[-2_000:]}"]  # fmt: skip


def _shown(verdict: Verdict) -> list[str]:
    more = verdict.problem_count - len(verdict.problems)
    return [*verdict.problems, *([f"and {more} more"] if more else [])]
