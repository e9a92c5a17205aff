"""Segments are the same bytes whichever node makes them, whatever happens to it on the way."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from raftlock.audit import Keep
from raftlock.testing.disk import CrashPoint, SimDisk
from tests.unit.audit.kit import (
    audit_on,
    finished_files,
    problems,
    records,
    report_of,
    sim_disk,
    twin_files,
)


def test_a_chain_goes_from_the_first_operation_on() -> None:
    """Each segment follows the one before, the first begins at index 1, and nothing is missing or there twice."""
    disk = sim_disk()
    log = audit_on(disk)

    finished = log.append(records())

    report = report_of(disk)
    assert problems(report) == []
    assert (report.segments, report.first, report.gaps) == (len(finished), 1, [])
    assert (report.last, report.digest) == (finished[-1].last, finished[-1].digest)
    assert report.entries == report.last
    assert report.commands == sum(r.commands for r in records()[: report.last])
    assert report.segments > 10


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 300), max_size=12), shows=st.booleans())
def test_how_a_node_gets_its_log_changes_nothing(cuts: list[int], shows: bool) -> None:
    """However the entries come in turns, and whoever reads meanwhile, the finished bytes are the same."""
    disk = sim_disk()
    log = audit_on(disk)
    edges = [0, *sorted(cuts), 300]
    for first, last in pairwise(edges):
        log.append(records()[first:last])
        if shows:
            log.show()

    assert finished_files(disk) == twin_files()


def test_the_way_through_the_table_changes_nothing() -> None:
    """A node that saves a snapshot, whose commands take no hot path, records the same answers and effects."""
    for seed in range(8):
        plain, slow = records(seed), records(seed, snapshot_open=True)

        assert slow == plain


def test_a_snapshot_carries_the_same_state_on_every_node() -> None:
    """The state at an index is a function of the log: it does not depend on where the node came from."""
    whole, resumed = audit_on(sim_disk()), audit_on(sim_disk())
    whole.append(records()[:100])
    state = whole.checkpoint()
    resumed.install(snapshot_index=100, state=state)
    for log in (whole, resumed):
        log.append(records()[100:130])

    assert resumed.checkpoint() == whole.checkpoint()


def _run(disk: SimDisk, log_length: int, steps: list[tuple[int, bool]], crashes: list[int]) -> None:
    """Feed a node in steps with checkpoints, and let it die at the given calls of the disk, each time to come back."""
    snapshot_index, state = 0, None
    waiting = list(crashes)
    todo = list(steps)
    log = None
    while True:
        if waiting:
            disk.crash_after(waiting.pop())
        try:
            log = audit_on(disk, snapshot_index=snapshot_index, state=state)
            # What follows the snapshot is applied again.
            position = snapshot_index
            while position < log_length:
                size, checkpoint = todo.pop() if todo else (log_length, False)
                position = min(log_length, max(position, log.last_index) + size)
                log.append(records()[snapshot_index:position])
                log.show()
                if checkpoint and log.last_index == position:
                    # The snapshot is durable only when the state is there.
                    state = log.checkpoint()
                    snapshot_index = position
        except CrashPoint:
            disk.crash()
            continue
        return


@settings(max_examples=250, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    steps=st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=20),
    crashes=st.lists(st.integers(0, 120), min_size=1, max_size=6),
)
def test_a_crash_between_any_two_calls_leaves_no_trace(
    seed: int, steps: list[tuple[int, bool]], crashes: list[int]
) -> None:
    """Killed anywhere, with unsynced writes lost or torn, a node comes back to the very same segments, without a gap."""
    disk = sim_disk(seed)

    _run(disk, 300, steps, crashes)

    assert finished_files(disk) == twin_files()
    assert (problems(report_of(disk)), report_of(disk).gaps) == ([], [])


def test_a_torn_end_of_the_segment_under_way_is_made_again() -> None:
    """The segment under way is cut at each byte in turn: the node rebuilds it from its snapshot's state and the log."""
    disk = sim_disk()
    log = audit_on(disk)
    log.append(records()[:31])
    state = log.checkpoint()
    open_file = next(name for name in disk.list() if name.endswith(".open"))
    synced = disk.size(open_file)
    log.append(records()[31:36])

    for size in range(synced - 20, disk.size(open_file)):
        torn = disk.clone()
        torn.shorten(open_file, size)
        audit_on(torn, snapshot_index=31, state=state).append(records()[31:])
        gaps = [reason for _, _, reason in report_of(torn).gaps]
        whole = finished_files(torn) == twin_files()
        # Cut before what the snapshot rests on (a disk that takes back what it synced), the loss is noted.
        assert (whole, gaps) == ((True, []) if size >= synced else (False, ["damage"]))


def test_blocks_of_another_log_are_not_gone_on_with() -> None:
    """Whole blocks that are not those that the snapshot counts are no beginning of its segment."""
    mine, other = audit_on(sim_disk()), sim_disk()
    mine.append(records()[:14])
    state = mine.checkpoint()
    audit_on(other).append(records(2)[:14])

    audit_on(other, snapshot_index=14, state=state).append(records()[14:])

    assert [reason for _, _, reason in report_of(other).gaps] == ["damage"]


def test_a_node_that_gets_a_snapshot_notes_a_gap_and_goes_on_alike() -> None:
    """What a snapshot stands for is not on the node: that is noted, and later segments are those of the others."""
    other, disk = audit_on(sim_disk()), sim_disk()
    other.append(records()[:150])
    state = other.checkpoint()
    log = audit_on(disk)
    log.append(records()[:40])

    log.install(snapshot_index=150, state=state)
    log.append(records()[150:])

    report = report_of(disk)
    assert problems(report) == []
    [(first, last, reason)] = report.gaps
    mine, theirs = finished_files(disk), twin_files()
    segments = {name: data for name, data in mine.items() if name.endswith(".seg")}
    assert (first <= 41, last >= 150, reason) == (True, True, "snapshot")
    assert segments.items() <= theirs.items()
    # All but what lies in the gap.
    lost = {name for name in theirs if first <= int(name[6:26]) <= last}
    assert set(segments) == set(theirs) - lost
    assert report.digest == report_of(_twin_disk()).digest


def _twin_disk() -> SimDisk:
    disk = sim_disk()
    audit_on(disk).append(records())
    return disk


def test_a_gap_is_noted_also_if_the_node_dies_before_it_is() -> None:
    """A crash right after the snapshot was installed changes nothing: the gap is seen at the start."""
    other, disk = audit_on(sim_disk()), sim_disk()
    other.append(records()[:150])
    state = other.checkpoint()
    audit_on(disk).append(records()[:40])
    disk.crash()

    audit_on(disk, snapshot_index=150, state=state).append(records()[150:])

    report = report_of(disk)
    assert (problems(report), [reason for _, _, reason in report.gaps]) == ([], ["snapshot"])
    assert report.digest == report_of(_twin_disk()).digest


def test_what_was_not_audited_is_a_gap() -> None:
    """Switched on again after a snapshot was saved without it, the audit begins another chain and says so."""
    disk = sim_disk()
    audit_on(disk).append(records()[:40])
    end = report_of(disk).last

    audit_on(disk, snapshot_index=100, state=None).append(records()[100:])

    report = report_of(disk)
    assert (problems(report), report.gaps) == ([], [(end + 1, 100, "the audit was off")])


def test_the_oldest_go_first() -> None:
    """Beyond the size limit the oldest segments are deleted, never the newest; the rest verifies."""
    disk = sim_disk()

    audit_on(disk, keep=Keep(size=8_000)).append(records())

    report, kept = report_of(disk), finished_files(disk)
    assert problems(report) == []
    assert list(kept) == list(twin_files())[-len(kept) :]
    assert sum(map(len, kept.values())) <= 8_000
    assert 1 < len(kept) < len(twin_files())


def test_the_age_is_the_logs() -> None:
    """A segment goes when it is older than the newest by more than the limit, in the log's own time."""
    disk = sim_disk()

    audit_on(disk, keep=Keep(age_us=200_000)).append(records())

    kept = finished_files(disk)
    assert list(kept) == list(twin_files())[-len(kept) :]
    assert 1 < len(kept) < len(twin_files())


def test_a_full_disk_costs_audit_and_no_lock() -> None:
    """Without room the oldest segments go; what cannot be written at all is a gap, and the chain goes on behind it."""
    disk = sim_disk(capacity=6_000)
    log = audit_on(disk)
    log.append(records()[:100])
    full = report_of(disk)
    # Room for less than one segment: even with all the older ones gone, none can be written.
    newest = list(finished_files(disk))[-1]
    disk.capacity = disk.size(newest) + 300
    log.append(records()[100:180])
    disk.capacity = None
    log.append(records()[180:])

    report = report_of(disk)
    assert (problems(full), full.first > 1) == ([], True)
    assert problems(report) == []
    assert {reason for _, _, reason in report.gaps} == {"the disk was full"}
    assert report.digest == report_of(_twin_disk()).digest


def test_the_age_of_gaps_in_a_row_is_that_of_the_segment_behind_them() -> None:
    """A node that got two snapshots before it had finished a segment has two gaps in a row, and goes on (seed 24)."""
    disk = sim_disk()
    log = audit_on(disk)
    for index in (100, 190):
        other = audit_on(sim_disk())
        other.append(records()[:index])
        log.install(snapshot_index=index, state=other.checkpoint())
        log.append(records()[index : index + 15])

    log.append(records()[205:])

    report = report_of(disk)
    assert (problems(report), [(first, reason) for first, _, reason in report.gaps]) == (
        [],
        [(1, "snapshot"), (111, "snapshot")],
    )
