"""The Store on every kind of disk: what is written comes back at the next start."""

from collections.abc import Iterator

import pytest

from raftlock.storage import (
    BadSnapshot,
    ClusterMismatch,
    DirectoryInUse,
    NotOurs,
    Prepared,
    SnapshotGone,
    Store,
)
from raftlock.testing.storage_run import CONFIG, MEMBERS, NODE, TTL_MS, Run
from raftlock_wire.entry import HardState
from raftlock_wire.ids import NodeId, Term
from tests.contract.disks import Opened


@pytest.fixture
def run(opened: Opened) -> Iterator[Run]:
    """Give a formatted directory of cluster and term 1, opened, and its twin."""
    run = Run(opened.disk)
    run.format()
    run.set_cluster()
    run.vote(1, 1)
    return run


def segments(run: Run) -> list[str]:
    """Return the numbers of the log's segments."""
    return [name[-7:-4] for name in run.disk.list() if name.startswith("wal-")]


def test_what_was_written_comes_back(run: Run) -> None:
    """Identity, term, vote and entries are the same after a start, and after one more."""
    run.append(10, 2_000, 0)
    run.append(7)

    assert [run.open(), run.open()] == [run.twin.recovered()] * 2


def test_a_new_directory_holds_nothing(opened: Opened) -> None:
    """After format there is no cluster, no term, no vote and no entry."""
    run = Run(opened.disk)
    run.format()

    assert run.open() == run.twin.recovered()


def test_the_log_goes_on_after_a_start(run: Run) -> None:
    """Records written after a start follow those from before it."""
    run.append(100)
    run.open()

    run.append(200)
    run.store.seal()
    run.open()
    run.append(300)

    assert run.open() == run.twin.recovered()


def test_entries_replace_what_the_log_held(run: Run) -> None:
    """A record that begins within the log cuts it there, also over segments, also from its first entry on."""
    for _ in range(30):
        run.append(500, 500)
    run.vote(2, 2)
    run.append(90, first=5)
    middle = run.open()
    expected = run.twin.recovered()

    run.append(80, 80, first=1)

    assert (middle, run.open()) == (expected, run.twin.recovered())


def test_an_entry_comes_back_after_it_was_replaced(run: Run) -> None:
    """The last write of an index counts, whatever stood there before (decision 11)."""
    run.append(10, 20)
    first = run.twin.entries[:]
    run.vote(2, 2)
    run.append(30, first=1)
    run.twin.entries = first

    run.write_again(first)

    assert run.open() == run.twin.recovered()


def test_segments_roll(run: Run) -> None:
    """A record that does not fit begins another segment, and all of them are read."""
    for _ in range(20):
        run.append(3_000)

    assert (run.open(), segments(run)) == (run.twin.recovered(), [f"{n:03}" for n in range(1, 11)])


def test_a_record_larger_than_a_segment_gets_a_larger_one(run: Run) -> None:
    """Such a segment is as large as header, record and seal need, and the next one is of the usual size."""
    run.append(CONFIG.segment_size * 3)
    run.append(100)

    names = [name for name in run.disk.list() if name.startswith("wal-")]
    sizes = [run.disk.size(name) for name in names]

    assert (run.open(), sizes) == (
        run.twin.recovered(),
        [32 + 33 + 37 + CONFIG.segment_size * 3 + 33, CONFIG.segment_size],
    )


def test_a_segment_is_prepared_before_it_is_needed(run: Run) -> None:
    """prepare fills the spare segment, and the next roll uses it without another preallocation."""
    steps = [
        run.store.spare_is_ready,
        run.store.prepare(),
        run.store.prepare(),
        run.store.spare_is_ready,
    ]
    run.append(1)

    assert (steps, run.store.spare_is_ready, segments(run)) == (
        [False, Prepared.READY, Prepared.READY, True],
        False,
        ["001"],
    )


def test_a_snapshot_replaces_the_log_before_it(run: Run) -> None:
    """After a snapshot and compaction the log begins behind it, in fewer segments."""
    for _ in range(10):
        run.append(3_000)
    run.save_snapshot(7, 10, 0, 5_000)

    run.compact()

    assert (run.open(), segments(run)) == (run.twin.recovered(), ["004", "005"])


def test_a_snapshot_without_compaction_is_enough(run: Run) -> None:
    """Entries that the snapshot covers are left out at a start, also while their segments are there."""
    run.append(10, 10, 10)
    run.save_snapshot(2, 10)

    assert run.open() == run.twin.recovered()


def test_a_snapshot_gives_back_its_chunks(run: Run) -> None:
    """Chunks come back as they were appended, empty ones too."""
    run.append(1)
    writer = run.store.begin_snapshot(
        index=run.twin.entries[0].index, term=Term(1), stamp_us=1, wall_us=2, membership=b"m"
    )
    chunks = [b"a", b"", b"b" * 3_000_000, b"c"]
    for chunk in chunks:
        writer.append(chunk)

    meta = writer.finish()

    assert list(run.store.snapshot_chunks(meta)) == chunks


def test_a_snapshot_given_up_leaves_nothing(run: Run) -> None:
    """abort removes the temporary file."""
    run.append(1)
    before = run.disk.list()
    writer = run.store.begin_snapshot(
        index=run.twin.entries[0].index, term=Term(1), stamp_us=1, wall_us=2, membership=b"m"
    )
    writer.append(b"x")

    writer.abort()

    assert run.disk.list() == before


def test_a_newer_snapshot_takes_the_older_one_s_place(run: Run) -> None:
    """Compaction removes the older file, and reading it says that it is gone."""
    run.append(1, 1, 1)
    run.save_snapshot(1, 10)
    older = run.twin.snapshot
    assert older is not None
    run.save_snapshot(2, 10)
    run.compact()

    with pytest.raises(SnapshotGone):
        run.store.read_snapshot(older, 0, 10)

    assert run.open() == run.twin.recovered()


def test_an_installed_snapshot_keeps_a_log_that_agrees(run: Run) -> None:
    """A log that holds the snapshot's index with its term goes on behind it."""
    run.append(10, 10, 10, 10)
    run.receive_snapshot(2, 500)

    run.install()
    run.append(5)

    assert run.open() == run.twin.recovered()


@pytest.mark.parametrize(("index", "term"), [(9, 9), (2, 7)], ids=["too short", "disagrees"])
def test_an_installed_snapshot_drops_a_log_that_does_not(run: Run, index: int, term: int) -> None:
    """A log without the snapshot's index, or with another term there, is dropped whole (decision 12)."""
    for _ in range(4):
        run.append(3_000)
    run.receive_snapshot(index, 500, term=term)

    run.install()
    after = segments(run)
    run.append(5)

    assert (after, run.open()) == ([], run.twin.recovered())


def test_a_snapshot_that_is_not_what_its_name_says_is_refused(run: Run) -> None:
    """A part that differs makes another hash: nothing is installed, and the next attempt begins anew."""
    run.append(10)
    run.receive_snapshot(9, 500)
    meta = run.received
    assert meta is not None
    run.store.store_chunk(meta, 0, b"x" * meta.size)

    with pytest.raises(BadSnapshot, match="SHA-256"):
        run.store.install_snapshot(meta)

    assert (run.open(), [n for n in run.disk.list() if "snap" in n]) == (run.twin.recovered(), [])


def test_parts_are_stored_in_their_order(run: Run) -> None:
    """A part out of place is not stored, one of another snapshot begins anew, and each answer says what comes next."""
    run.append(10)
    run.receive_snapshot(9, 5_000)
    one = run.received
    assert one is not None
    other = one._replace(sha256=b"o" * 32)

    assert [
        run.store.store_chunk(meta, offset, bytes(size))
        for meta, offset, size in (
            (one, 0, 1_000), (one, 2_000, 10), (one, 1_000, 10), (one, 1_010, one.size), (other, 1_010, 5), (other, 0, 7),
        )
    ] == [1_000, 1_000, 1_010, 1_010, 0, 7]  # fmt: skip


def test_an_unfinished_snapshot_is_refused(run: Run) -> None:
    """Installing what was not wholly received is refused, and says how much is missing."""
    run.append(10)
    run.receive_snapshot(9, 500)
    meta = run.received
    assert meta is not None
    run.store.store_chunk(meta, 0, b"x")

    with pytest.raises(BadSnapshot, match=f"1 of {meta.size} bytes"):
        run.store.install_snapshot(meta)


def test_a_cluster_is_taken_once(run: Run) -> None:
    """The same cluster again is fine, and another one is refused (decision 13)."""
    cluster_id = run.twin.cluster_id
    assert cluster_id is not None
    run.store.set_cluster(cluster_id=cluster_id, membership=MEMBERS, logged_renewal_ttl_ms=TTL_MS)

    with pytest.raises(ClusterMismatch, match=cluster_id):
        run.store.set_cluster(cluster_id="other", membership=MEMBERS, logged_renewal_ttl_ms=TTL_MS)

    assert run.open() == run.twin.recovered()


def test_the_directory_of_another_node_is_refused(run: Run) -> None:
    """A node opens only its own directory."""
    with pytest.raises(NotOurs, match="node 1's, not node 2's"):
        Store.open(run.disk, node_id=NodeId(2), config=CONFIG)


def test_a_directory_is_formatted_once(run: Run) -> None:
    """Formatting it again is refused, and changes nothing."""
    run.append(1)

    with pytest.raises(NotOurs, match="formatted already"):
        Store.format(run.disk, node_id=NODE, incarnation="2" * 32)

    assert run.open() == run.twin.recovered()


def test_a_directory_that_is_not_formatted_is_refused(opened: Opened) -> None:
    """Opening an empty directory says so."""
    with pytest.raises(NotOurs, match="not formatted"):
        Store.open(opened.disk, node_id=NODE, config=CONFIG)


def test_a_directory_of_other_things_is_refused(opened: Opened) -> None:
    """A file that is not a node's keeps it from being formatted, and is named."""
    opened.disk.create("thesis.tex")

    with pytest.raises(NotOurs, match=r"thesis\.tex"):
        Store.format(opened.disk, node_id=NODE, incarnation="1" * 32)

    assert opened.disk.list() == ["thesis.tex"]


def test_a_directory_in_use_is_neither_opened_nor_formatted(opened: Opened) -> None:
    """A second process is refused, before it has written anything, whether the first has formatted yet or not."""
    opened.disk.lock()
    other = opened.beside()
    refused = []

    with pytest.raises(DirectoryInUse):
        Store.format(other, node_id=NODE, incarnation="2" * 32)
    refused.append(other.list())
    Store.format(opened.disk, node_id=NODE, incarnation="1" * 32)
    with pytest.raises(DirectoryInUse):
        Store.open(other, node_id=NODE, config=CONFIG)

    assert refused == [[]]


def test_a_closed_directory_can_be_opened_by_another_process(opened: Opened) -> None:
    """close lets go of the directory, and all that was written is there."""
    run = Run(opened.disk)
    run.format()
    run.vote(4, 2)
    run.append(100)
    run.store.close()

    _, recovered = Store.open(opened.beside(), node_id=NODE, config=CONFIG)

    assert recovered == run.twin.recovered()


def test_the_newest_vote_of_several_writes_is_kept(run: Run) -> None:
    """Writes that are made durable together count as if one after the other (decision 11)."""
    number = run.write_together((3, (10, 10)), (4, (20,)), (None, (30, 30)))

    assert (number, run.open(), run.twin.hard_state) == (
        number,
        run.twin.recovered(),
        HardState(Term(4), NodeId(4)),
    )
