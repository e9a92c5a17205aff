"""Directed scenarios for planted bugs that random seeds do not reach: each fails when one rule is broken."""

import random
from zlib import crc32

import pytest

from raftlock.locks import LockTable
from raftlock.raft import Raft, RaftConfig
from raftlock.server.driver import Driver, DriverConfig
from raftlock.server.jobs import WriteDone
from raftlock.storage.small_files import VoteFile
from raftlock.testing.disk import Kept, SimDisk
from raftlock_wire.entry import Entry, EntryKind, HardState
from raftlock_wire.ids import Index, NodeId, Term
from raftlock_wire.messages import Op
from raftlock_wire.status import Status
from tests.unit.client.scripted import SECOND, SESSION, SESSION_TTL_US, Scripted, info
from tests.unit.raft.kit import append, entry, node, settle
from tests.unit.server.kit import Nodes, keep_alive, members_of, renew

NAMES = [f"r{i}" for i in range(8)]


def granted(*names: str) -> LockTable:
    """Return a table in which one session holds these names."""
    table = LockTable()
    opening = (
        "",
        "",
        (int(Op.GENESIS), 0, 1_000, 60_000),
        (int(Op.OPEN_SESSION), 1, bytes(16), 10_000),
    )
    table.apply(1, 1, 1, [opening])
    acquires = [
        (int(Op.ACQUIRE), 2, 1, slot, 1, name, "o", 1_000, 0, None)
        for slot, name in enumerate(names)
    ]
    table.apply(2, 2, 2, [("", "", *acquires)])
    return table


def test_a_bucket_is_that_of_the_bytes() -> None:
    """A resource lies in the bucket of its bytes' CRC-32 on every node, whatever the process's hash seed (decision 6)."""
    table = granted(*NAMES)

    found = {name: number for number, bucket in enumerate(table.buckets) for name in bucket}

    assert found == {name: crc32(name.encode()) % 4_096 for name in NAMES}


def test_a_follower_takes_over_the_term_of_who_leads_it() -> None:
    """Entries of a newer term raise the follower's own, on its disk too, and its answer says so (Raft 5.1)."""
    follower = node(2, term=1)
    follower.step(NodeId(1), append(entry(1, 3), term=3), 0)

    ready = settle(follower)

    assert ready.write is not None
    assert (follower.term, ready.write.hard_state, [m.message.term for m in ready.messages]) == (
        3,
        HardState(Term(3), NodeId(0)),
        [3],
    )


def test_a_new_leader_counts_leases_from_the_highest_stamp_of_its_log() -> None:
    """Also from one that is not applied yet: the lease clock had come that far when the entry was made (L7)."""
    stamp_us = 5_000_000
    of = members_of(1)
    entries = [Entry(Index(1), Term(1), EntryKind.NOOP, stamp_us, stamp_us, b"")]
    raft = Raft(
        config=RaftConfig(node_id=NodeId(1)),
        hard_state=HardState(Term(1), NodeId(1)),
        membership=of,
        snapshot=None,
        entries=entries,
        rng=random.Random(0),
        now_us=0,
    )
    config = DriverConfig(
        node_id=NodeId(1), cluster_id="c", logged_renewal_ttl_ms=60_000, stall_us=150_000
    )
    driver = Driver(config=config, raft=raft, table=LockTable(), applied=None, membership=of)
    job = driver.turn(400_000, 0).jobs[0]
    driver.job_done(job, WriteDone(job.writes[-1].number, spare_is_ready=True))
    driver.turn(401_000, 0)

    driver.leading.leases.keep_alive(7, 1_000, 0)

    assert driver.leading.leases.sessions.deadlines == {7: stamp_us + 1_000_000}


def test_a_leader_that_hears_nobody_refuses_nobody() -> None:
    """What it has not heard of another one may have granted or opened: it says neither NOT_HELD nor SESSION_EXPIRED (L4)."""
    nodes = Nodes()
    leader = nodes.lead()
    conn = nodes.connect(leader)
    session = nodes.open(conn)
    nodes.run(5)
    nodes.isolate(leader)
    nodes.send(conn, renew(5, ("r", 99)))
    nodes.drivers[leader].clients.local[conn].attached.add(session + 1)
    nodes.send(conn, keep_alive(6, session + 1))
    nodes.run(60)
    silent = nodes.took(conn)
    nodes.until(lambda: not nodes.drivers[leader].is_leader)

    answers = {answer[0]: answer[1:3] for answer in nodes.took(conn)}

    assert (silent, answers[5][1], answers[6]) == ([], False, (Status.NO_QUORUM, False))


def test_an_answer_after_the_sessions_deadline_makes_no_handle() -> None:
    """A client that was stopped reads it before it looks at any timer: the lock is nobody's, and is withdrawn (L9)."""
    client = Scripted()
    wanted = client.want()
    client.open()
    request = client.take(Op.ACQUIRE)
    client.freeze(SESSION_TTL_US)
    client.answer(request, Status.OK, 0, 100, 1)

    assert (wanted.result, client.core.handles, Op.CANCEL in client.ops()) == (None, [], True)


def test_what_is_not_final_is_not_reported() -> None:
    """After UNKNOWN the acquire may be granted, also when its second attempt is refused at the door (R4)."""
    client = Scripted()
    wanted = client.want()
    client.open()
    client.answer(client.take(Op.ACQUIRE), Status.UNKNOWN)
    client.wait(SECOND)
    client.answer(client.take(Op.ACQUIRE), Status.OVERLOADED, 50, "queue")
    client.wait(SECOND)

    assert (wanted.result, client.ops()) == (None, [Op.ACQUIRE])


def test_a_look_releases_no_grant_of_another_key() -> None:
    """When a session has expired, a grant under another key is somebody else's (R9)."""
    client = Scripted()
    wanted = client.want(ttl_ms=5_000)
    client.open()
    client.answer(client.take(Op.ACQUIRE), Status.SESSION_EXPIRED)
    client.answer(client.take(Op.GET), Status.OK, 0, info(key=(SESSION, 0, 2)))

    assert (wanted.status, Op.RELEASE in client.ops()) == (Status.SESSION_EXPIRED, False)


@pytest.mark.parametrize("seed", range(10))
def test_a_vote_that_a_start_has_read_is_never_forgotten(seed: int) -> None:
    """Its sync had failed, and the page cache had it all the same: what was read is made durable first (decision 12)."""
    disk = SimDisk(rng=random.Random(seed))
    VoteFile.create(disk)
    votes, _ = VoteFile.recover(disk)
    disk.fail_once("fdatasync")
    with pytest.raises(OSError, match="fdatasync"):
        votes.write(HardState(Term(5), NodeId(3)))
    disk.end_process()
    _, seen = VoteFile.recover(disk)
    disk.crash(Kept.NOTHING)

    assert VoteFile.recover(disk)[1] == seen
