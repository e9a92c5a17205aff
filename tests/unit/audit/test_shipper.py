"""Each segment is shipped once, whatever fails on the way, and what differs is never overwritten."""

import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlock.audit.archive import verify_archive
from raftlock.audit.backoff import Backoff
from raftlock.audit.manifest import MANIFESTS, RECORDS, shipped
from raftlock.audit.shipper import (
    AuditConflict,
    Found,
    Lag,
    Shipper,
    run_with_patience,
)
from raftlock.audit.tiers import Listed, Tier, TierUnavailable
from tests.unit.audit.ship_kit import MemoryTier, ShakyTier, contents, files_of_days, node


@pytest.fixture
def tier() -> MemoryTier:
    """An empty store."""
    return MemoryTier()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a store holds that nothing happened to."""
    folder = tmp_path_factory.mktemp("expected")
    store = MemoryTier()
    Shipper(node(folder / "node"), store).run_once()
    return contents(store)


def test_it_ships_each_segment_and_closes_each_day_that_is_over(
    tmp_path: Path, tier: MemoryTier
) -> None:
    """Three days of segments are one object each, and the two days that are over have manifests."""
    files = files_of_days()

    found = Shipper(node(tmp_path / "node"), tier).run_once()

    assert (len(found.shipped), found.closed) == (len(files), ["2026-11-25", "2026-11-26"])
    assert len(shipped(tier.list(RECORDS))) == len(files) > 20
    report = verify_archive(tier)
    assert (report.problems, report.objects, report.manifests) == ([], len(files), 2)
    assert report.open_objects == len([k for k in found.shipped if "day=2026-11-27" in k]) > 0


def test_a_second_pass_finds_nothing_to_do(tmp_path: Path, tier: MemoryTier) -> None:
    """What is there is seen by listing, by the same process and by a new one."""
    directory = node(tmp_path / "node")
    shipper = Shipper(directory, tier)
    before = (shipper.lag().segments, shipper.run_once(), contents(tier))

    again = [shipper.run_once(), Shipper(directory, tier).run_once()]

    assert before[0] == len(files_of_days())
    assert again == [Found(there=len(files_of_days()))] * 2
    assert contents(tier) == before[2]
    assert shipper.lag() == Lag()


@settings(max_examples=12)
@given(st.randoms(use_true_random=False), st.integers(1, 3))
def test_whatever_fails_the_store_ends_the_same(
    expected: dict[str, bytes], rng: random.Random, nodes: int
) -> None:
    """Calls that fail before and behind their effect, shippers that die and others that begin: the same objects."""
    with TemporaryDirectory() as folder:
        store = MemoryTier()
        directories = [node(Path(folder) / f"node-{i}") for i in range(nodes)]
        trouble = iter(rng.choices(["", "before", "behind"], [90, 5, 5], k=400))
        shaky = ShakyTier(store, lambda: next(trouble, ""))
        shippers = [Shipper(directory, shaky) for directory in directories]
        for _ in count():
            which = rng.randrange(nodes)
            try:
                shippers[which].run_once()
            except TierUnavailable:
                if rng.random() < 0.3:
                    shippers[which] = Shipper(directories[which], shaky)
            else:
                break

        assert contents(store) == expected


@settings(max_examples=8)
@given(st.data())
def test_nodes_that_lack_some_ship_the_whole_together(
    expected: dict[str, bytes], data: st.DataObject
) -> None:
    """Where each segment is on one node at least, the store ends complete, in whatever order they come."""
    files = files_of_days()
    names = sorted(files)
    # The first is on both: the store would begin where the first to close a day begins.
    where = data.draw(
        st.lists(st.sampled_from((1, 2, 3)), min_size=len(names), max_size=len(names))
    )
    where[0] = 3
    with TemporaryDirectory() as folder:
        store = MemoryTier()
        for bit in (1, 2, 1, 2):
            has = {n: files[n] for n, w in zip(names, where, strict=True) if w & bit}
            Shipper(node(Path(folder) / f"node-{bit}", has), store).run_once()

        assert contents(store) == expected


def test_a_day_with_a_hole_stays_open_until_another_node_fills_it(
    tmp_path: Path, tier: MemoryTier, expected: dict[str, bytes]
) -> None:
    """No manifest says that a day is whole when it is not, and it says which indexes are missing."""
    files = files_of_days()
    hole = sorted(files)[3]
    found = Shipper(
        node(tmp_path / "a", {n: d for n, d in files.items() if n != hole}), tier
    ).run_once()
    held_up = ([(m.first, m.last) for m in found.missing], list(tier.list(MANIFESTS)))

    filled = Shipper(node(tmp_path / "b"), tier).run_once()

    first, last = (int(part) for part in hole.removesuffix(".seg").split("-")[1:])
    assert held_up == ([(first, last)], [])
    assert filled.closed == ["2026-11-25", "2026-11-26"]
    assert contents(tier) == expected


def test_a_day_that_does_not_follow_the_last_manifest_stays_open(
    tmp_path: Path, tier: MemoryTier
) -> None:
    """What was removed since from the beginning of the next day is missing, and no manifest hides it."""
    files = dict(sorted(files_of_days().items()))
    closed = Shipper(node(tmp_path / "a", dict(list(files.items())[:20])), tier).run_once().closed
    behind = [one for one in shipped(tier.list(RECORDS)) if one.day > closed[-1]]
    del tier.objects[behind[0].key]

    found = Shipper(node(tmp_path / "b", dict(list(files.items())[20:])), tier).run_once()

    assert closed == ["2026-11-25"]
    assert [(m.first, m.last) for m in found.missing] == [(behind[0].first, behind[0].last)]
    assert found.closed == []


def test_other_content_under_our_name_is_an_alarm_and_stays(
    tmp_path: Path, tier: MemoryTier, expected: dict[str, bytes]
) -> None:
    """An object that somebody changed is never overwritten."""
    key = next(key for key in sorted(expected) if key.startswith(RECORDS))
    tier.put_new(key, b"something else")
    directory = node(tmp_path / "node")
    # It did not see it in its listing: as if it came in between.
    shipper = Shipper(directory, BlindTier(tier))

    with pytest.raises(AuditConflict, match="other content"):
        shipper.run_once()
    assert tier.read(key) == b"something else"


def test_a_bucket_with_versions_is_not_overwritten_unseen(
    tmp_path: Path, expected: dict[str, bytes]
) -> None:
    """Where a second put of a name works, what differs is noticed after it; the same once more is no alarm."""
    key = next(key for key in sorted(expected) if key.startswith(RECORDS))
    for there, alarm in ((b"something else", True), (expected[key], False)):
        tier = MemoryTier(versions=True)
        tier.put_new(key, there)
        shipper = Shipper(node(tmp_path / f"node-{alarm}"), BlindTier(tier))

        if alarm:
            with pytest.raises(AuditConflict, match="other content"):
                shipper.run_once()
        else:
            shipper.run_once()
        assert tier.objects[key] == [there, expected[key]]


class BlindTier(ShakyTier):
    """A store whose listing is behind."""

    def __init__(self, inner: Tier) -> None:
        super().__init__(inner, lambda: "")

    def list(self, prefix: str, *, after: str = "") -> Iterator[Listed]:
        """Return nothing."""
        return iter(())


@pytest.mark.parametrize("seed", range(2, 8))
def test_other_records_of_the_same_indexes_are_an_alarm(
    tmp_path: Path, tier: MemoryTier, seed: int
) -> None:
    """A node whose segments have other digests ships nothing over the others', before a day is closed and after."""
    files = files_of_days()
    first_day = dict(sorted(files.items())[:8])
    theirs = node(tmp_path / "b", dict(sorted(files_of_days(seed=seed).items())[:8]))
    ours = {"open": first_day, "closed": files}
    for when, has in ours.items():
        Shipper(node(tmp_path / when, has), tier).run_once()
        before = contents(tier)

        with pytest.raises(AuditConflict, match="is there, and" if when == "open" else "."):
            Shipper(theirs, tier).run_once()
        assert contents(tier) == before


def test_another_cluster_is_refused(tmp_path: Path, tier: MemoryTier) -> None:
    """A place holds the records of one cluster."""
    Shipper(node(tmp_path / "a"), tier).run_once()
    other = node(tmp_path / "b", files_of_days(cluster="f" * 32))

    with pytest.raises(AuditConflict, match="another cluster"):
        Shipper(other, tier).run_once()


def test_a_damaged_segment_is_named_and_the_rest_is_shipped(
    tmp_path: Path, tier: MemoryTier
) -> None:
    """One bad block holds up its own day only; another node can ship that segment."""
    directory = node(tmp_path / "node")
    name = sorted(files_of_days())[2]
    broken = bytearray(directory.read(name))
    broken[300] ^= 1
    (directory.path / name).write_bytes(broken)

    found = Shipper(directory, tier).run_once()

    assert [damage.file for damage in found.damages] == [name]
    assert (len(found.shipped), found.closed) == (len(files_of_days()) - 1, [])


def test_segments_from_before_the_stores_first_closed_day_are_not_shipped(
    tmp_path: Path, tier: MemoryTier
) -> None:
    """A closed day stays as it is: what is older than the first manifest is counted, and left out."""
    files = files_of_days()
    late = dict(sorted(files.items())[2:])
    Shipper(node(tmp_path / "late", late), tier).run_once()

    found = Shipper(whole := node(tmp_path / "whole"), tier).run_once()

    assert (found.shipped, found.older, found.there) == ([], 2, len(late))
    assert Shipper(whole, tier).lag() == Lag()
    assert verify_archive(tier).problems == []


def test_patience_waits_longer_each_time_and_gives_up_when_told(tmp_path: Path) -> None:
    """The waits lie below a limit that doubles up to a minute; after the last attempt the failure comes out."""
    shipper = Shipper(node(tmp_path / "node"), ShakyTier(MemoryTier(), lambda: "before"))
    waits: list[float] = []

    with pytest.raises(TierUnavailable):
        run_with_patience(
            shipper,
            backoff=Backoff(random.Random(1)),
            attempts_max=12,
            complain=lambda error, wait_s: None,
            sleep=waits.append,
        )

    limits = [min(60.0, 0.5 * 2**i) for i in range(11)]
    assert all(wait <= limit for wait, limit in zip(waits, limits, strict=True))
    assert max(waits) > 20
