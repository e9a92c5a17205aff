"""The table as it was is the table as it was: the digest at each index is that of the live table then."""

import random
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftlock.audit import AuditLog
from raftlock.locks import LockTable
from raftlock.server.jobs import AUDIT_CHUNK
from raftlock.server.past import CannotRestore, Moment, Past, changes, locks_of
from raftlock.storage.disk_os import OsDisk
from raftlock.storage.snapshots import SnapshotWriter
from raftlock_wire.codec import pack
from raftlock_wire.entry import SnapshotMeta
from raftlock_wire.ids import Index, Term
from tests.model.logs import random_log
from tests.unit.audit.kit import CLUSTER, RULE, records

LENGTH = 300
SNAPSHOT = 170


@cache
def digests() -> list[bytes]:
    """Return the digest of the live table behind each entry; that of index 0 first."""
    table = LockTable()
    found = [table.digest()]
    for entry in random_log(1, LENGTH):
        table.apply(*entry)
        found.append(table.digest())
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a node that is at work: finished segments, one under way, a block not full yet."""
    folder = tmp_path_factory.mktemp("node")
    (folder / "audit").mkdir()
    log = AuditLog(OsDisk(folder / "audit"), cluster_id=CLUSTER, rule=RULE, keep=None)
    log.recover(snapshot_index=0, state=None)
    log.append(records(1, LENGTH))
    log.show()
    return folder


@pytest.fixture(scope="module")
def cut(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same node, whose older segments were deleted, with the snapshot that it saved."""
    folder = tmp_path_factory.mktemp("cut")
    (folder / "audit").mkdir()
    for file in (data / "audit").iterdir():
        if not file.name.endswith(".seg") or int(file.name[27:47]) > SNAPSHOT:
            (folder / "audit" / file.name).write_bytes(file.read_bytes())
    table = LockTable()
    for entry in random_log(1, LENGTH)[:SNAPSHOT]:
        table.apply(*entry)
    meta = SnapshotMeta(Index(SNAPSHOT), Term(1), table.stamp_us, table.wall_us, b"", 0, b"")
    writer = SnapshotWriter(OsDisk(folder), meta)
    stream = table.begin_snapshot()
    while (chunk := stream.next_chunk()) is not None:
        writer.append(chunk)
    writer.append(pack((AUDIT_CHUNK, b"not looked at")))
    writer.finish()
    return folder


def restored(data: Path, moment: Moment) -> LockTable:
    """Return the table of a moment."""
    past = Past(data)
    past.begin(moment)
    past.go_to(moment)
    return past.table


@given(index=st.integers(1, LENGTH))
def test_the_digest_at_an_index_is_the_live_tables(data: Path, index: int) -> None:
    """From nothing, by the records alone, at every index."""
    assert restored(data, Moment(index=index)).digest() == digests()[index]


@given(index=st.integers(SNAPSHOT, LENGTH))
def test_a_snapshot_and_the_records_behind_it_give_the_same(cut: Path, index: int) -> None:
    """Where older records are gone, the snapshot stands for them."""
    assert restored(cut, Moment(index=index)).digest() == digests()[index]


@given(wall_us=st.integers(0, 2_000 * LENGTH))
def test_a_time_is_the_last_entry_that_is_not_later(data: Path, wall_us: int) -> None:
    """Entries are 2,000 µs apart, the first but one at 2,000."""
    last = max(e[0] for e in random_log(1, LENGTH) if e[2] <= wall_us)

    assert restored(data, Moment(wall_us=wall_us)).digest() == digests()[last]


@given(indexes=st.lists(st.integers(1, LENGTH), min_size=2, max_size=4).map(sorted))
def test_a_table_goes_on_through_time(data: Path, indexes: list[int]) -> None:
    """One table taken from moment to moment is at each the live one."""
    past = Past(data)
    past.begin(Moment(index=indexes[0]))
    found = []
    for index in indexes:
        past.go_to(Moment(index=index))
        found.append(past.table.digest())

    assert found == [digests()[index] for index in indexes]


def test_what_is_saved_is_a_snapshot(data: Path, tmp_path: Path) -> None:
    """What --out gets loads again, to the same digest."""
    past = Past(data)
    past.begin(Moment(index=200))
    past.go_to(Moment(index=200))
    past.save(OsDisk(tmp_path))
    (tmp_path / "audit").mkdir()

    assert restored(tmp_path, Moment(index=200)).digest() == digests()[200]


@pytest.mark.parametrize(
    ("index", "says"),
    [
        (SNAPSHOT - 1, f"snapshots are at: {SNAPSHOT}"),
        (LENGTH + 1, f"the records end at index {LENGTH}"),
    ],
)
def test_what_cannot_be_had_is_said(cut: Path, index: int, says: str) -> None:
    """Before the oldest state, and behind the last record."""
    with pytest.raises(CannotRestore, match=says):
        restored(cut, Moment(index=index))


def test_a_hole_on_the_way_is_named(data: Path, tmp_path: Path) -> None:
    """A missing segment ends it: a state over a hole would be made up."""
    (tmp_path / "audit").mkdir()
    files = sorted((data / "audit").iterdir())
    gone = random.Random(1).choice([f for f in files if f.name.endswith(".seg")][2:-2])
    for file in files:
        if file != gone:
            (tmp_path / "audit" / file.name).write_bytes(file.read_bytes())
    first, last = int(gone.name[6:26]), int(gone.name[27:47])

    with pytest.raises(CannotRestore, match=f"the records {first} to {last} are not"):
        restored(tmp_path, Moment(index=LENGTH))


def test_changes_are_those_of_the_two_tables(data: Path) -> None:
    """Between any two moments: a lock is named exactly if its token, state, lease or waiters differ."""
    for first, last in ((1, 60), (60, 61), (100, 299), (200, 200)):
        tables = [restored(data, Moment(index=i)) for i in (first, last)]
        before, after = ({g.resource: (g, n) for g, n in locks_of(table)} for table in tables)

        found = {change.resource for change in changes(before, after)}

        views = [
            {
                name: (info[2], info[1], info[8], info[13])
                for name in ("a", "b", "c")
                if (info := table.get_info(name)) is not None
            }
            for table in tables
        ]
        assert found == {n for n in "abc" if views[0].get(n) != views[1].get(n)}
