"""The order of jobs that one turn leads to."""

from raftlock.server.jobs import InstallJob, StoreChunkJob, WriteDone, WriteJob
from raftlock_wire.entry import HardState, SnapshotMeta, Write
from raftlock_wire.ids import Index, NodeId, Term
from tests.unit.server.kit import make_driver, members_of


def test_a_term_is_written_before_a_snapshot_of_it_is_installed() -> None:
    """When a write and the last chunk are done in one turn, the waiting write with the term goes first (decision 13)."""
    driver = make_driver(1, 3, logged_renewal_ttl_ms=60_000)
    under_way = Write(1, HardState(Term(1), NodeId(2)), ())
    waiting = Write(2, HardState(Term(7), NodeId(0)), ())
    driver.raft.state.write_number = 2
    driver.writing.write(under_way, 0)
    driver.turn(1_000, 1)
    driver.writing.write(waiting, 1_000)
    meta = SnapshotMeta(Index(5), Term(7), 0, 0, members_of(3).encode(), 10, b"h" * 32)
    driver.job_done(WriteJob((under_way,)), WriteDone(1, spare_is_ready=True))
    driver.job_done(StoreChunkJob(1, meta, 0, b"0123456789", True), None)

    jobs = driver.turn(2_000, 2).jobs

    assert [job for job in jobs if isinstance(job, WriteJob | InstallJob)] == [
        WriteJob((waiting,)),
        InstallJob(meta),
    ]
