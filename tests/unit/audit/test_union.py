"""What was shipped and what nodes have, as one: in order, each record once, with holes filled where anybody can."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlock.audit import AuditLog
from raftlock.audit.manifest import Shipped
from raftlock.audit.query import Cost, Question, ShippedRecords
from raftlock.audit.reader import Directory
from raftlock.audit.shipper import Shipper
from raftlock.audit.union import Disk, rows
from raftlock.storage.disk_os import OsDisk
from tests.unit.audit.kit import CLUSTER, records
from tests.unit.audit.ship_kit import RULE, START_US, STEP_US, MemoryTier, files_of_days, node
from tests.unit.audit.test_query import fits

START = datetime.fromtimestamp(START_US / 1e6, UTC)
FILES = sorted(files_of_days().items())


def running(folder: Path) -> Directory:
    """Return the directory of a node as it is while it runs: with a segment under way, and a block not full yet."""
    folder.mkdir(parents=True)
    log = AuditLog(OsDisk(folder), cluster_id=CLUSTER, rule=RULE, keep=None)
    log.recover(snapshot_index=0, state=None)
    entries = [
        recorded._replace(
            entry=recorded.entry._replace(wall_us=START_US + i * STEP_US + i % 1_000_000)
        )
        for i, recorded in enumerate(records())
    ]
    log.append(entries)
    log.show()
    return Directory(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Directory:
    """A node that has everything."""
    return running(tmp_path_factory.mktemp("whole") / "audit")


@pytest.fixture(scope="module")
def everything(whole: Directory) -> list[dict[str, Any]]:
    """All rows, from that node alone."""
    return list(rows(Question(), Cost(), archive=None, nodes=[Disk(whole)]))


def shipped(files: Sequence[tuple[str, bytes]], folder: Path) -> MemoryTier:
    """Return a store with some segments only."""
    tier = MemoryTier()
    Shipper(node(folder, dict(files)), tier).run_once()
    return tier


def asked(
    question: Question, tier: MemoryTier | None, nodes: Sequence[Directory]
) -> tuple[list[dict[str, Any]], Cost]:
    """Return the answer and its cost."""
    cost = Cost()
    archive = None if tier is None else ShippedRecords(tier, question, cost)
    return list(rows(question, cost, archive=archive, nodes=[*map(Disk, nodes)])), cost


def test_a_node_tells_of_the_segment_under_way(everything: list[dict[str, Any]]) -> None:
    """The last row is of the last entry that anything is told of, far behind the last finished segment."""
    told = [row["index"] for row in everything]

    assert told == sorted(told)
    assert told[-1] > int(FILES[-1][0][27:47])


def test_what_was_shipped_and_a_node_are_one(
    whole: Directory, everything: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The store ends in the middle, and the node goes on: each row once, in order, whoever told it."""
    tier = shipped(FILES[: len(FILES) // 2], tmp_path)

    found, cost = asked(Question(), tier, [whole])

    assert (found, cost.missing) == (everything, [])
    assert (cost.objects_opened, cost.records > 0) == (len(FILES) // 2, True)


@settings(max_examples=30)
@given(seed=st.integers(0, 1 << 20), question=st.data())
def test_holes_are_filled_by_whoever_can(
    whole: Directory,
    everything: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    question: st.DataObject,
) -> None:
    """Two nodes lack segments that the other, or nobody, has: what nobody has is named, all the rest is told once."""
    rng = random.Random(seed)
    where = tmp_path_factory.mktemp("holes")
    parts = [[file for file in FILES if rng.random() < 0.7] for _ in range(2)]
    nodes = [node(where / str(i), dict(files)) for i, files in enumerate(parts)]
    have = {name for files in parts for name, _ in files}
    since = question.draw(
        st.none() | st.integers(0, 3_000).map(lambda m: START + timedelta(minutes=m))
    )
    asks = Question(resource=question.draw(st.sampled_from((None, "a", "b"))), since=since)

    found, cost = asked(asks, None, nodes)

    ranges = [(int(name[6:26]), int(name[27:47])) for name in have]
    expected = [
        row
        for row in everything
        if fits(row, asks) and any(first <= row["index"] <= last for first, last in ranges)
    ]
    gone = {i for first, last in cost.missing for i in range(first, last + 1)}
    known = {i for first, last in ranges for i in range(first, last + 1)}
    assert found == expected
    assert gone == set(range(min(known, default=1), max(known, default=0) + 1)) - known


def test_times_leave_segments_unread(whole: Directory, everything: list[dict[str, Any]]) -> None:
    """Segments of other hours are passed over by their headers, and are not called missing."""
    since, until = START + timedelta(hours=20), START + timedelta(hours=21)

    found, cost = asked(Question(since=since, until=until), None, [whole])

    assert found == [row for row in everything if fits(row, Question(since=since, until=until))]
    assert (cost.missing, cost.records < 60) == ([], True)


def test_objects_that_overlap_in_part_tell_each_index_once() -> None:
    """Where a second object begins inside the first, its rows count from behind the first one's end."""
    objects = [
        Shipped(first, last, "0" * 64, "2026-11-25", 9, f"{first}", 1)
        for first, last in ((1, 5), (4, 8), (6, 7))
    ]

    class Overlapping:
        def objects(self) -> Iterator[Shipped]:
            yield from objects

        def rows(self, one: Shipped) -> Iterator[dict[str, Any]]:
            yield from ({"index": index} for index in range(one.first, one.last + 1))

    found = rows(Question(), Cost(), archive=Overlapping(), nodes=())

    assert [row["index"] for row in found] == list(range(1, 9))
