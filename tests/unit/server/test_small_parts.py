"""The server's small parts: rounds that answers wait for, the outbox, connections, and when a snapshot is saved."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftlock.locks import LockTable
from raftlock.server.auditing import Auditing
from raftlock.server.clients import Clients
from raftlock.server.effects import Effects
from raftlock.server.jobs import SaveSnapshotJob
from raftlock.server.origin import Origin
from raftlock.server.outbox import Outbox
from raftlock.server.peer_codec import FORWARD_RESULT, decode
from raftlock.server.reads import Read, Reads, Renewal, RenewItem
from raftlock.server.snapshots import ENTRY_OVERHEAD_SIZE, PART_SIZE, Snapshots
from raftlock_wire.codec import pack, unpack
from raftlock_wire.entry import Entry, EntryKind, SnapshotMeta
from raftlock_wire.ids import NO_NODE, Index, NodeId, Term
from raftlock_wire.limits import FRAME_MESSAGES_MAX
from raftlock_wire.messages import Event, Op
from raftlock_wire.status import Status
from tests.unit.locks.kit import Log
from tests.unit.server.kit import members_of


def origin(conn_id: int = 1, *, node: int = 0) -> Origin:
    """Return a connection, of this node or behind another."""
    return Origin(node=NodeId(node), conn_id=conn_id, principal="", address="host:1")


def read(number: int) -> Read:
    """Return a request that waits."""
    return Read(origin(), (int(Op.CHECK), number, "r", 1), 0)


# reads (L4)


def test_what_comes_after_a_round_began_waits_for_the_next() -> None:
    """Its confirmation says nothing of who led when this came: the answer needs a round sent after it (L4)."""
    reads = Reads()
    reads.add(read(1))
    reads.round_begins(7)
    reads.add(read(2))

    confirmed = [[r.request[1] for r in reads.confirmed(7) if isinstance(r, Read)]]
    reads.round_begins(8)
    confirmed += [[r.request[1] for r in reads.confirmed(n) if isinstance(r, Read)] for n in (7, 9)]

    assert confirmed == [[1], [], [2]]


def test_one_round_is_under_way_at_a_time() -> None:
    """The next begins when it is confirmed, for all that came meanwhile."""
    reads = Reads()
    wants = [reads.wants_round]
    reads.add(read(1))
    wants.append(reads.wants_round)
    reads.round_begins(1)
    reads.add(read(2))
    wants.append(reads.wants_round)
    reads.confirmed(1)
    wants.append(reads.wants_round)

    assert wants == [False, True, False, True]


def test_a_round_confirms_those_before_it_too() -> None:
    """Rounds are numbered: a majority that answered the third answered for the second (thesis 6.4)."""
    reads = Reads()
    for number in (1, 2, 3):
        reads.add(read(number))
        reads.round_begins(number)

    assert [r.request[1] for r in reads.confirmed(2) if isinstance(r, Read)] == [1, 2]


def test_drain_gives_back_what_was_asked_and_what_was_not() -> None:
    """When leadership is lost each gets an answer (R4)."""
    reads = Reads()
    reads.add(read(1))
    reads.round_begins(1)
    reads.add(read(2))

    drained = reads.drain()

    assert ([r.request[1] for r in drained if isinstance(r, Read)], reads.drain()) == ([1, 2], [])


@pytest.mark.parametrize(
    ("second", "final"),
    [
        ((Status.OK, None, 1, 1, 1), True),
        ((Status.NOT_HELD, 0), True),
        ((Status.UNKNOWN,), False),
        ((Status.NO_QUORUM,), False),
    ],
)
def test_a_renewal_of_several_leases_is_final_when_each_is(
    second: tuple[Any, ...], final: bool
) -> None:
    """It is answered when the last is, in the order of the request (guarantee 9)."""
    renewal = Renewal(origin(), (int(Op.RENEW), 5, (("r", 1), ("s", 2))))
    first = (Status.OK, None, 1, 1, 1)

    last = [renewal.answer(1, second), renewal.answer(0, first)]

    assert (last, renewal.result()) == (
        [False, True],
        (5, Status.OK, final, [first, second]),
    )


def test_an_item_remembers_the_rev_at_its_receipt() -> None:
    """So that a change between receipt and answer is seen (L3)."""
    item = RenewItem(Renewal(origin(), (8, 5, (("r", 1),))), 0, "r", 1, 99, 0)

    assert item._replace(rev=7).rev == 7


# the outbox (decision 1)


def test_a_connection_gets_one_frame_a_turn() -> None:
    """Answers and events in their order, behind the id of who leads."""
    outbox, effects, of = Outbox(), Effects(), origin(3)
    outbox.answers(of, [(1, 0, True)])
    outbox.event(of, (0, int(Event.ROUTES_LOST)))
    outbox.answers(of, [(2, 0, True)])
    outbox.flush(NodeId(9), effects)
    outbox.flush(NodeId(9), effects)

    assert [(f.conn_id, unpack(f.payload)) for f in effects.client_frames] == [
        (3, (9, (1, 0, True), (0, Event.ROUTES_LOST), (2, 0, True)))
    ]


def test_connections_behind_a_follower_share_one_frame() -> None:
    """It goes to the follower, which hands each its own."""
    outbox, effects = Outbox(), Effects()
    for conn_id in (4, 5):
        outbox.answers(origin(conn_id, node=2), [(1, 0, True)])
    outbox.answers(origin(4, node=3), [(1, 0, True)])
    outbox.flush(NodeId(1), effects)

    payload = pack([1, (1, 0, True)])
    assert [(f.peer, decode(f.payload)) for f in effects.peer_frames] == [
        (2, (FORWARD_RESULT, ((4, payload), (5, payload)))),
        (3, (FORWARD_RESULT, ((4, payload),))),
    ]


@pytest.mark.parametrize("count", [FRAME_MESSAGES_MAX, FRAME_MESSAGES_MAX + 1])
def test_frames_to_a_client_are_bounded(count: int) -> None:
    """More messages than a frame may hold go in several, in order (decision 16)."""
    outbox, effects = Outbox(), Effects()
    outbox.answers(origin(), [(i, 0, True) for i in range(count)])
    outbox.flush(NO_NODE, effects)

    frames = [unpack(f.payload, array_count_max=1 << 20)[1:] for f in effects.client_frames]
    assert [m[0] for frame in frames for m in frame] == list(range(count))
    assert max(map(len, frames)) <= FRAME_MESSAGES_MAX


@given(lengths=st.lists(st.integers(0, FRAME_MESSAGES_MAX + 1), max_size=5))
def test_what_is_gathered_is_cut_into_frames_in_its_order(lengths: list[int]) -> None:
    """However the answers came together, encoded already or not: all of them, in order, in bounded frames."""
    outbox, effects, of = Outbox(), Effects(), origin()
    first = 0
    for number, length in enumerate(lengths):
        answers = [(i, 0, True) for i in range(first, first + length)]
        known = number % 2 and length <= FRAME_MESSAGES_MAX
        outbox.answers(of, answers, pack(answers) if known else None)
        first += length
    outbox.flush(NodeId(3), effects)

    frames = [unpack(f.payload, array_count_max=1 << 20) for f in effects.client_frames]
    assert [leader for leader, *_ in frames] == [3] * len(frames)
    assert [m[0] for _, *messages in frames for m in messages] == list(range(first))
    assert all(1 <= len(frame) - 1 <= FRAME_MESSAGES_MAX for frame in frames)


# connections


def test_a_result_for_a_connection_that_is_gone_is_dropped() -> None:
    """The client went away while the leader answered."""
    outbox, effects = Outbox(), Effects()
    clients = Clients(node_id=NodeId(1), cluster_id="c", outbox=outbox)

    clients.result(7, pack([2, (1, 0, True)]))
    outbox.flush(NO_NODE, effects)

    assert effects.client_frames == []


def test_an_id_is_answered_once_however_often_the_leader_does() -> None:
    """What is not outstanding any more was answered: UNKNOWN, or by the first result (R7)."""
    outbox, effects = Outbox(), Effects()
    clients = Clients(node_id=NodeId(1), cluster_id="c", outbox=outbox)
    clients.opened(7, "host:1")
    clients.local[7].outstanding[5] = None

    for _ in range(2):
        clients.result(7, pack([2, (5, 0, True), (6, 0, True)]))
    outbox.flush(NO_NODE, effects)

    assert [unpack(f.payload) for f in effects.client_frames] == [(0, (5, 0, True))]


# snapshots (decision 14)


def entry(index: int, *, size: int = 100, kind: EntryKind = EntryKind.BATCH) -> Entry:
    """Return an entry of this size."""
    return Entry(Index(index), Term(3), kind, index * 10, index * 20, b"x" * size)


def saved(snapshots: Snapshots, table: LockTable, index: int) -> list[SaveSnapshotJob]:
    """Take all parts of a snapshot, the changes between them included."""
    jobs = []
    while (job := snapshots.next_part(table, Index(index))) is not None:
        jobs.append(job)
        snapshots.part_saved()
    return jobs


def test_a_snapshot_is_begun_when_the_log_has_grown_enough() -> None:
    """By bytes since the last one, an overhead for each entry counted; then anew."""
    table = Log().table
    snapshots = Snapshots(
        log_size_max=2 * (100 + ENTRY_OVERHEAD_SIZE),
        membership=members_of(1),
        auditing=Auditing(on=False),
    )
    seen = []
    for index in range(1, 6):
        snapshots.applied(entry(index))
        seen.append(len(saved(snapshots, table, index)))

    assert seen == [0, 1, 0, 1, 0]


def test_a_snapshot_is_named_by_the_entry_before_it() -> None:
    """Index, term, stamps and the membership in force there."""
    table = Log().table
    snapshots = Snapshots(log_size_max=1, membership=members_of(1), auditing=Auditing(on=False))
    change = entry(1, kind=EntryKind.MEMBERSHIP)._replace(data=members_of(3).encode())
    snapshots.applied(change)
    snapshots.applied(entry(2))

    (job,) = saved(snapshots, table, 2)

    assert (job.first, job.last) == (
        SnapshotMeta(Index(2), Term(3), 20, 40, members_of(3).encode(), 0, b""),
        True,
    )


def test_a_large_snapshot_goes_in_parts_one_at_a_time() -> None:
    """Each is what a turn may spend; the next is made when the one before is on the disk; together they load."""
    log = Log()
    session = log.open()
    for slot in range(1_500):
        log.acquire(session, f"r{slot}", slot=slot, metadata={"k": "v" * 300})
    snapshots = Snapshots(log_size_max=1, membership=members_of(1), auditing=Auditing(on=False))
    snapshots.applied(entry(log.index))
    first = snapshots.next_part(log.table, Index(log.index))
    meanwhile = (snapshots.next_part(log.table, Index(log.index)), snapshots.wants_turn)
    snapshots.part_saved()
    wants = snapshots.wants_turn
    expected = log.table.digest()
    jobs = [first, *saved(snapshots, log.table, log.index)]
    loader = LockTable.loader()
    for job in jobs:
        assert job is not None
        assert sum(map(len, job.chunks[:-1])) < PART_SIZE
        for chunk in job.chunks:
            loader.feed(chunk)

    assert (meanwhile, wants, len(jobs) > 2) == ((None, False), True, True)
    assert [job.last for job in jobs if job] == [False] * (len(jobs) - 1) + [True]
    assert loader.finish().digest() == expected


def test_an_installed_snapshot_ends_the_one_under_way() -> None:
    """Its table is gone; the log counts from the installed one on."""
    log = Log()
    session = log.open()
    for slot in range(1_500):
        log.acquire(session, f"r{slot}", slot=slot, metadata={"k": "v" * 300})
    snapshots = Snapshots(log_size_max=1, membership=members_of(1), auditing=Auditing(on=False))
    snapshots.applied(entry(1))
    first = snapshots.next_part(log.table, Index(1))
    assert first is not None
    snapshots.installed(SnapshotMeta(Index(9), Term(4), 5, 6, members_of(2).encode(), 1, b"h"))
    snapshots.part_saved()
    other = Log().table

    nothing = saved(snapshots, other, 9)
    snapshots.applied(entry(10))
    (job,) = saved(snapshots, other, 10)

    assert (first.last, nothing, job.first and job.first.membership, job.last) == (
        False,
        [],
        members_of(2).encode(),
        True,
    )
