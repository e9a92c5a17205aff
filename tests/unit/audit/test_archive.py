"""verify on what was shipped names each thing that somebody changed, removed, added or exchanged."""

import io
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftlock.audit.archive import ArchiveReport, compare_with_node, verify_archive
from raftlock.audit.manifest import (
    CLUSTER_KEY,
    MANIFESTS,
    RECORDS,
    decode_manifest,
    encode_manifest,
    shipped,
)
from raftlock.audit.parquet import SCHEMA
from raftlock.audit.shipper import Shipper
from raftlock.audit.tiers import sha256_of
from tests.unit.audit.ship_kit import MemoryTier, files_of_days, node


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What was shipped of three days: two have manifests."""
    tier = MemoryTier()
    Shipper(node(tmp_path_factory.mktemp("node")), tier).run_once()
    return {key: versions[-1] for key, versions in tier.objects.items()}


def store(objects: dict[str, bytes]) -> MemoryTier:
    """Return a store of these objects."""
    tier = MemoryTier()
    for key, data in objects.items():
        tier.put_new(key, data)
    return tier


def wrong(objects: dict[str, bytes]) -> list[str]:
    """Return the keys that verify names."""
    return sorted({key for key, _ in verify_archive(store(objects)).problems})


def records_of(objects: dict[str, bytes], day: str = "") -> list[str]:
    """Return the keys of records, of a day if it is named."""
    return [one.key for one in shipped(store(objects).list(RECORDS)) if one.day.endswith(day)]


def rewritten(data: bytes) -> bytes:
    """Return a file whose records somebody changed, with the metadata as it was: each owner is another."""
    table = pq.read_table(io.BytesIO(data))
    owners = pa.array(["somebody"] * table.num_rows, pa.string())
    at = SCHEMA.names.index("owner")
    sink = pa.BufferOutputStream()
    pq.write_table(table.set_column(at, "owner", owners), sink)
    return sink.getvalue().to_pybytes()


def test_what_is_whole_has_no_problem(objects: dict[str, bytes]) -> None:
    """It counts objects and manifests, and says the digest of the newest manifest."""
    last = max(key for key in objects if key.startswith(MANIFESTS))

    report = verify_archive(store(objects))

    assert report == ArchiveReport(
        objects=len(files_of_days()),
        size=sum(len(data) for key, data in objects.items() if key.startswith(RECORDS)),
        first=1,
        last=report.last,
        manifests=2,
        digest=sha256_of(objects[last]),
        closed_until="2026-11-26",
        open_objects=len(records_of(objects, "27")),
    )


@given(which=st.integers(0, 10_000), at=st.integers(0, 1_000_000), bit=st.integers(0, 7))
def test_any_flipped_bit_is_named(objects: dict[str, bytes], which: int, at: int, bit: int) -> None:
    """In a record's object of a closed day, a manifest, or the note whose place it is."""
    open_day = set(records_of(objects, "27"))
    keys = sorted(set(objects) - open_day)
    key = keys[which % len(keys)]
    broken = bytearray(objects[key])
    broken[at % len(broken)] ^= 1 << bit

    assert wrong({**objects, key: bytes(broken)}) != []


def test_any_removed_object_is_named(objects: dict[str, bytes]) -> None:
    """All but the newest object of the open day, and the newest manifest: nothing follows them."""
    newest = max(key for key in objects if key.startswith(MANIFESTS))

    unnoticed = {
        key for key in objects if not wrong({k: d for k, d in objects.items() if k != key})
    }

    assert unnoticed == {records_of(objects, "27")[-1], newest}


def exchange_two(objects: dict[str, bytes]) -> tuple[dict[str, bytes], str]:
    """Two objects have each other's content."""
    one, two = records_of(objects, "25")[:2]
    return {**objects, one: objects[two], two: objects[one]}, one


def rewrite_one(objects: dict[str, bytes]) -> tuple[dict[str, bytes], str]:
    """Somebody changed records, with a fresh hash of the object: a store's own note would fit."""
    key = records_of(objects, "26")[3]
    return {**objects, key: rewritten(objects[key])}, key


def rewrite_a_day(objects: dict[str, bytes]) -> tuple[dict[str, bytes], str]:
    """Somebody changed records, and the day's manifest so that it fits: the next day's does not follow it."""
    key = records_of(objects, "25")[3]
    first, second = sorted(key for key in objects if key.startswith(MANIFESTS))
    data = rewritten(objects[key])
    manifest = decode_manifest(objects[first], file=first)
    items = tuple(
        item._replace(sha256=sha256_of(data), size=len(data)) if item.key == key else item
        for item in manifest.objects
    )
    fits = encode_manifest(manifest._replace(objects=items))
    return {**objects, key: data, first: fits}, second


def add_to_a_closed_day(objects: dict[str, bytes]) -> tuple[dict[str, bytes], str]:
    """An object is there that the manifest does not name."""
    key = records_of(objects, "25")[3]
    added = key.replace(key[-72:-8], "0" * 64)
    return {**objects, added: objects[key]}, added


def exchange_an_object_of_the_open_day(
    objects: dict[str, bytes],
) -> tuple[dict[str, bytes], str]:
    """Another history's object in the place of one, under its own name and whole: the next does not follow it."""
    key, following = records_of(objects, "27")[1:3]
    table = pq.read_table(io.BytesIO(objects[key]))
    said = {**table.schema.metadata, b"raftlock.segment": b"0" * 64}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(said), sink)
    others = {k: d for k, d in objects.items() if k != key}
    return {**others, key.replace(key[-72:-8], "0" * 64): sink.getvalue().to_pybytes()}, following


def change_a_size(objects: dict[str, bytes]) -> tuple[dict[str, bytes], str]:
    """The newest manifest, which nothing follows, says another size."""
    key = max(key for key in objects if key.startswith(MANIFESTS))
    manifest = decode_manifest(objects[key], file=key)
    item = manifest.objects[0]
    items = (item._replace(size=item.size + 1), *manifest.objects[1:])
    return {**objects, key: encode_manifest(manifest._replace(objects=items))}, item.key


def mix_clusters(objects: dict[str, bytes]) -> tuple[dict[str, bytes], str]:
    """The note says that the place is another cluster's."""
    return {**objects, CLUSTER_KEY: b"{}"}, CLUSTER_KEY


@pytest.mark.parametrize(
    "change",
    [
        exchange_two,
        rewrite_one,
        rewrite_a_day,
        add_to_a_closed_day,
        exchange_an_object_of_the_open_day,
        change_a_size,
        mix_clusters,
    ],
)
def test_what_somebody_did_is_named(
    objects: dict[str, bytes],
    change: Callable[[dict[str, bytes]], tuple[dict[str, bytes], str]],
) -> None:
    """The key that is wrong is among those that verify names."""
    changed, key = change(objects)

    assert key in wrong(changed)


def test_an_anchor_notices_that_all_was_rewritten(objects: dict[str, bytes]) -> None:
    """A digest that was noted is one of the chain's, or somebody wrote the whole chain anew."""
    first = min(key for key in objects if key.startswith(MANIFESTS))
    noted = sha256_of(objects[first])

    kept = verify_archive(store(objects), anchor=noted).problems
    lost = verify_archive(store(objects), anchor="0" * 64).problems

    assert (kept, [key for key, _ in lost]) == ([], [MANIFESTS])


def test_days_that_expired_are_left_out_when_it_is_said(objects: dict[str, bytes]) -> None:
    """Without the day their absence is damage; with it the manifests are still a chain."""
    kept = {k: d for k, d in objects.items() if "day=2026-11-25/" not in k}

    assert wrong(kept) != []
    assert verify_archive(store(kept), since="2026-11-26").problems == []


def test_a_node_notices_what_was_rewritten_in_the_open_day(
    tmp_path: Path, objects: dict[str, bytes]
) -> None:
    """Its segments give the same bytes, or the object is not what the cluster recorded."""
    directory = node(tmp_path)
    key = records_of(objects, "27")[1]
    tier = store({**objects, key: rewritten(objects[key])})
    report, clean = verify_archive(tier), ArchiveReport()

    compare_with_node(tier, directory, report)
    compare_with_node(store(objects), directory, clean)

    assert [key for key, _ in report.problems] == [key]
    assert (clean.problems, clean.compared) == ([], len(files_of_days()))
