"""A query gives what a reader of all records would keep, in order, and reads little."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftlock.audit import AuditDamaged
from raftlock.audit.manifest import RECORDS, shipped
from raftlock.audit.query import Cost, Question, answer
from raftlock.audit.shipper import Shipper
from tests.unit.audit.ship_kit import START_US, MemoryTier, node

START = datetime.fromtimestamp(START_US / 1e6, UTC)


@pytest.fixture(scope="module")
def tier(tmp_path_factory: pytest.TempPathFactory) -> MemoryTier:
    """Three days, shipped."""
    found = MemoryTier()
    Shipper(node(tmp_path_factory.mktemp("node")), found).run_once()
    return found


@pytest.fixture(scope="module")
def everything(tier: MemoryTier) -> list[dict[str, Any]]:
    """All records."""
    return list(answer(tier, Question(), Cost()))


def fits(row: dict[str, Any], question: Question) -> bool:
    """Say in the plainest way what a question asks."""
    when = datetime.fromisoformat(row["time"])
    return (
        all(
            row.get(name) == wanted
            for name in ("resource", "owner", "token", "operation")
            if (wanted := getattr(question, name)) is not None
        )
        and (question.prefix is None or row.get("resource", "").startswith(question.prefix))
        and (question.prefix is None or "resource" in row)
        and (question.since is None or when >= question.since)
        and (question.until is None or when < question.until)
    )


moments = st.none() | st.integers(-100, 3_200).map(lambda m: START + timedelta(minutes=m))
questions = st.builds(
    Question,
    resource=st.none() | st.sampled_from(("a", "b", "c", "d", "")),
    prefix=st.none() | st.sampled_from(("a", "", "b", "ab")),
    owner=st.none() | st.sampled_from(("o1", "o2", "o7", "nobody")),
    token=st.none() | st.integers(1_000, 1_080),
    operation=st.none() | st.sampled_from(("acquire", "release", "expire", "offer")),
    since=moments,
    until=moments,
)


@given(question=questions)
def test_it_gives_what_fits_and_nothing_else(
    tier: MemoryTier, everything: list[dict[str, Any]], question: Question
) -> None:
    """Whatever is asked: the same rows, in the log's order, as one who reads all and keeps what fits."""
    found = list(answer(tier, question, Cost()))

    assert found == [row for row in everything if fits(row, question)]


def test_times_leave_objects_unopened(tier: MemoryTier) -> None:
    """Objects of other hours are not opened, and nothing of them is read."""
    cost = Cost()
    since = START + timedelta(hours=24)

    rows = list(answer(tier, Question(since=since, until=since + timedelta(minutes=5)), cost))

    assert (len({row["index"] for row in rows}), cost.objects_opened <= 2) == (1, True)
    assert cost.read_size < sum(one.size for one in shipped(tier.list(RECORDS))) / 10


def test_statistics_leave_groups_unread(tier: MemoryTier) -> None:
    """A name that lies outside every group's is answered from the footers: two requests an object at most."""
    cost = Cost()

    rows = list(answer(tier, Question(resource="zzz"), cost))

    assert (rows, cost.groups_read, cost.requests <= 2 * cost.objects_opened) == ([], 0, True)


def test_a_seam_is_told_once(tmp_path: Path, everything: list[dict[str, Any]]) -> None:
    """Where an object is there twice, under two names, no record comes twice."""
    tier = MemoryTier()
    Shipper(node(tmp_path), tier).run_once()
    key = sorted(tier.objects)[5]
    tier.put_new(key.replace(key[-72:-8], "0" * 64), tier.objects[key][0])

    assert list(answer(tier, Question(), Cost())) == everything


def test_an_object_that_is_none_is_named(tmp_path: Path) -> None:
    """A damaged object ends the answer with its name: a result that looks whole and is not would be worse."""
    tier = MemoryTier()
    Shipper(node(tmp_path), tier).run_once()
    key = next(one.key for one in shipped(tier.list(RECORDS)))
    tier.objects[key] = [b"PAR1 and nothing else"]

    with pytest.raises(AuditDamaged, match=key.rpartition("/")[2]):
        list(answer(tier, Question(), Cost()))
