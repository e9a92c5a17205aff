"""A directory as a store, addresses of stores, the rules of a bucket, and the metrics' text."""

from pathlib import Path
from threading import Barrier, Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftlock.audit.lifecycle import CLASSES, Step, merged, rule_for
from raftlock.audit.ship_metrics import ShipMetrics
from raftlock.audit.shipper import Lag
from raftlock.audit.tiers import BadTier, FileTier, Listed, Place, parse_place, sha256_of


def test_a_name_is_written_once(tmp_path: Path) -> None:
    """The second put of a name changes nothing and says so; no temporary file stays."""
    tier = FileTier(tmp_path)

    puts = [tier.put_new("a/b", b"one"), tier.put_new("a/b", b"two")]

    assert (puts, tier.read("a/b"), tier.hashes("a/b")) == (
        [True, False],
        b"one",
        {sha256_of(b"one")},
    )
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_of_many_at_once_one_writes(tmp_path: Path) -> None:
    """Whoever comes first has written it whole; the others are told."""
    tier, start = FileTier(tmp_path), Barrier(8)
    results: list[tuple[bool, bytes]] = []

    def put(data: bytes) -> None:
        start.wait()
        results.append((tier.put_new("a/b", data), data))

    threads = [Thread(target=put, args=(bytes([i]) * 10_000,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [data for created, data in results if created] == [tier.read("a/b")]


def test_a_listing_is_by_prefix_and_behind(tmp_path: Path) -> None:
    """Keys come in order, with their sizes; a prefix may end in the middle of a name."""
    tier = FileTier(tmp_path)
    for key in ("r/d=1/b", "r/d=1/a", "r/d=2/a", "x"):
        tier.put_new(key, key.encode())

    found = [
        list(tier.list("r/d")),
        list(tier.list("r/", after="r/d=1~")),
        list(tier.list("r/d=1/b")),
        list(tier.list("nothing/here")),
    ]

    one, two, three = Listed("r/d=1/a", 7), Listed("r/d=1/b", 7), Listed("r/d=2/a", 7)
    assert found == [[one, two, three], [three], [two], []]


def test_a_part_is_read(tmp_path: Path) -> None:
    """From an offset, so many bytes; what is not there is FileNotFoundError."""
    tier = FileTier(tmp_path)
    tier.put_new("a", b"0123456789")

    assert tier.read("a", start=3, size=4) == b"3456"
    with pytest.raises(FileNotFoundError):
        tier.read("b")
    assert tier.hashes("b") == frozenset()


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("s3://bucket", Place("s3", "bucket", "")),
        ("s3://bucket/a/b/", Place("s3", "bucket", "a/b/")),
        ("file:///var/a%20b", Place("file", "", "/var/a b")),
    ],
)
def test_addresses(url: str, place: Place) -> None:
    """A bucket with a prefix, or a directory."""
    assert parse_place(url) == place


@pytest.mark.parametrize(
    "url", ["", "bucket/a", "s3://", "file://host/a", "http://x/y", "s3://b/a?c"]
)
def test_what_is_no_address_is_refused_with_what_is_allowed(url: str) -> None:
    """The message says the two forms, or what must not be in one."""
    with pytest.raises(BadTier, match=r"s3://BUCKET/PREFIX or file:///|no \? and no #"):
        parse_place(url)


_others = st.lists(
    st.fixed_dictionaries({"ID": st.sampled_from(("x", "y", "z")), "Status": st.just("Enabled")}),
    max_size=3,
)


@given(
    others=_others,
    days=st.lists(st.integers(1, 999), unique=True, max_size=4).map(sorted),
    expire=st.none() | st.just(5_000),
)
def test_setting_rules_twice_is_setting_them_once(
    others: list[dict[str, str]], days: list[int], expire: int | None
) -> None:
    """Other rules stay as they are and in their places; ours is there once if it does anything."""
    steps = [Step(d, c) for d, c in zip(days, CLASSES, strict=False)]
    rule = rule_for("p/", steps, expire_days=expire)

    once = merged(others, rule)

    assert merged(once, rule) == once
    assert [one for one in once if one["ID"] != rule["ID"]] == others
    assert (rule["ID"] in [one["ID"] for one in once]) == bool(steps or expire)


@pytest.mark.parametrize(
    ("days", "expire"), [([90, 30], None), ([30, 30], None), ([30, 90], 90), ([30], 10)]
)
def test_steps_that_no_store_takes_are_refused(days: list[int], expire: int | None) -> None:
    """A class comes later than the one before, and the end after all of them."""
    with pytest.raises(ValueError, match="days"):
        rule_for("", [Step(d, "STANDARD_IA") for d in days], expire_days=expire)


def test_the_metrics_show_the_lag_and_keep_it_over_an_outage(tmp_path: Path) -> None:
    """A failure after a pass leaves the last lag in the file: it goes on growing with the time."""
    counts, path = ShipMetrics(), tmp_path / "ship.prom"
    counts.write(path, Lag(2, 300, 10_000_000), now_s=15.0)
    counts.failures += 1

    counts.write(path, None, now_s=25.0)

    values = dict(
        line.split() for line in path.read_text().splitlines() if not line.startswith("#")
    )
    assert values == {
        "raftlock_audit_ship_shipped_total": "0",
        "raftlock_audit_ship_failures_total": "1",
        "raftlock_audit_ship_conflicts_total": "0",
        "raftlock_audit_ship_last_pass_timestamp_seconds": "0.0",
        "raftlock_audit_ship_lag_segments": "2",
        "raftlock_audit_ship_lag_bytes": "300",
        "raftlock_audit_ship_lag_seconds": "15.0",
    }
