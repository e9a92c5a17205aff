"""Snapshots and compaction (Raft 7, figure 13)."""

from raftlock.raft import (
    AppendEntries,
    AppendEntriesResult,
    InstallSnapshot,
    InstallSnapshotResult,
    Raft,
    RaftConfig,
)
from raftlock_wire.entry import EntryKind, SnapshotMeta
from raftlock_wire.ids import Index, NodeId, Term
from tests.unit.raft.kit import (
    ELECTION_US,
    answer,
    append,
    elect,
    entry,
    log_of,
    members,
    node,
    sent,
    settle,
    terms,
)

T = ELECTION_US


def meta(index: int, term: int, *, size: int = 10, sha: bytes = b"h" * 32) -> SnapshotMeta:
    """Name a snapshot of ten bytes."""
    return SnapshotMeta(Index(index), Term(term), 0, 0, members(1, 2, 3).encode(), size, sha)


def lagging_leader() -> Raft:
    """Return a leader of five entries whose log begins after a snapshot at 4, and peer 2 that has nothing."""
    raft = node(
        term=1,
        log=[entry(5, 1)],
        snapshot=meta(4, 1),
        config=RaftConfig(node_id=NodeId(1), snapshot_chunk_size=4, compact_keep_bytes=0),
    )
    elect(raft)
    raft.ready()
    raft.begin_term(stamp_us=0, wall_us=0)
    settle(raft)
    refusal = AppendEntriesResult(
        term=raft.term, success=False, match_index=Index(0), conflict_index=Index(1)
    )
    raft.step(NodeId(2), refusal, T)
    return raft


def test_a_laggard_is_sent_a_snapshot_in_chunks_and_then_the_log() -> None:
    """Each chunk names the whole; the next one is what the follower asks for; then the log goes on behind it."""
    raft = lagging_leader()
    wanted = []
    for offset in (0, 4, 8):
        ready = settle(raft)
        wanted += [(w.offset, w.size_max) for w in ready.snapshot_wanted]
        raft.send_snapshot_chunk(NodeId(2), meta(4, 1), offset, b"abcd"[: 10 - offset], offset == 8)
        chunk = sent(raft, 2)[0]
        assert isinstance(chunk, InstallSnapshot)
        stored = InstallSnapshotResult(
            term=raft.term,
            meta_index=Index(4),
            meta_sha256=b"h" * 32,
            next_offset=offset + len(chunk.data),
            round=0,
        )
        raft.step(NodeId(2), stored, T)
    after = sent(raft, 2)[0]

    assert isinstance(after, AppendEntries)
    assert (wanted, after.prev_log_index, [e.index for e in after.entries]) == (
        [(0, 4), (4, 4), (8, 4)],
        4,
        [5, 6],
    )


def test_a_chunk_that_got_lost_is_asked_for_again() -> None:
    """Without an answer for an election timeout the same part is read and sent again."""
    raft = lagging_leader()
    first = settle(raft).snapshot_wanted
    none = settle(raft).snapshot_wanted
    for peer in (2, 3):
        answer(raft, peer, 0, now_us=T + 290_000)
    raft.tick(T + 300_000)

    assert (len(first), none, settle(raft).snapshot_wanted) == (1, [], first)


def test_a_snapshot_whose_file_is_gone_begins_anew() -> None:
    """When the driver cannot read it any more, the current one is sent from its beginning."""
    raft = lagging_leader()
    settle(raft)
    raft.snapshot_unavailable(NodeId(2))

    assert [w.offset for w in settle(raft).snapshot_wanted] == [0]


def install(offset: int, data: bytes, *, of: SnapshotMeta, done: bool) -> InstallSnapshot:
    """Return a chunk from leader 2."""
    return InstallSnapshot(
        term=Term(1), leader_id=NodeId(2), meta=of, offset=offset, data=data, done=done, round=3
    )


def test_chunks_are_stored_in_order_and_never_mixed() -> None:
    """A chunk that is not the next one is answered with what is; another snapshot begins anew."""
    raft = node(term=1)
    seen = []
    for message in (
        install(0, b"aaaa", of=meta(4, 1), done=False),
        install(8, b"cc", of=meta(4, 1), done=True),
        install(0, b"zz", of=meta(5, 1, sha=b"z" * 32), done=False),
    ):
        raft.step(NodeId(2), message, 0)
        ready = settle(raft)
        seen.append([(c.meta.index, c.offset, c.data) for c in ready.snapshot_chunks])
        for chunk in ready.snapshot_chunks:
            raft.chunk_stored(chunk.number)
    answers = [m for m in sent(raft) if isinstance(m, InstallSnapshotResult)]

    assert seen == [[(4, 0, b"aaaa")], [], [(5, 0, b"zz")]]
    assert answers == [
        InstallSnapshotResult(
            term=Term(1), meta_index=Index(5), meta_sha256=b"z" * 32, next_offset=2, round=3
        )
    ]


def test_an_installed_snapshot_replaces_a_log_that_does_not_hold_it() -> None:
    """The log is dropped whole; the next entries follow the snapshot (decision 12)."""
    raft = node(term=1, log=log_of(1, 1))
    raft.step(NodeId(2), install(0, b"0123456789", of=meta(4, 1), done=True), 0)
    settle(raft)
    raft.step(NodeId(2), append(entry(3, 1), prev=(2, 1), round_=9), 0)
    (answer,) = sent(raft)
    raft.snapshot_installed(meta(4, 1))
    settle(raft)
    raft.step(NodeId(2), append(entry(5, 1), prev=(4, 1), commit=5), 0)
    ready = settle(raft)

    assert isinstance(answer, AppendEntriesResult)
    # Nothing is added meanwhile, but the leader hears that this node is there and follows it.
    assert (answer.success, answer.round) == (False, 9)
    assert ([e.index for e in ready.committed], raft.state.log.base_index) == ([5], 4)


def test_an_installed_snapshot_keeps_a_log_that_holds_it() -> None:
    """Entries behind it that agree stay: they may be acknowledged."""
    raft = node(term=1, log=log_of(1, 1, 1))
    raft.step(NodeId(2), install(0, b"0123456789", of=meta(2, 1), done=True), 0)
    raft.snapshot_installed(meta(2, 1))

    assert (terms(raft)[-1], raft.last_index, raft.commit_index) == (1, 3, 2)


def test_a_rejected_snapshot_is_asked_for_from_its_beginning() -> None:
    """What does not have the hash of its name is not used."""
    raft = node(term=1)
    raft.step(NodeId(2), install(0, b"0123456789", of=meta(4, 1), done=True), 0)
    settle(raft)
    raft.snapshot_rejected(meta(4, 1))
    answers = [m for m in sent(raft) if isinstance(m, InstallSnapshotResult)]

    assert [a.next_offset for a in answers] == [0]


def test_a_snapshot_that_is_known_is_answered_at_once() -> None:
    """What is committed here need not be sent."""
    raft = node(term=1, log=log_of(1, 1))
    raft.step(NodeId(2), append(prev=(2, 1), commit=2), 0)
    settle(raft)
    raft.step(NodeId(2), install(0, b"0123", of=meta(2, 1), done=False), 0)
    answers = [m for m in sent(raft) if isinstance(m, InstallSnapshotResult)]

    assert [a.next_offset for a in answers] == [10]


def test_compaction_keeps_a_tail_and_the_membership() -> None:
    """The log is cut behind a durable snapshot, less a tail for peers that are a little late."""
    change_data = members(1, 2, 3, 4).encode()
    log = [*log_of(1, 1), entry(3, 1, change_data, EntryKind.MEMBERSHIP), entry(4, 1), entry(5, 1)]
    kept = {}
    for keep in (0, 1):
        raft = node(term=1, log=log, config=RaftConfig(node_id=NodeId(1), compact_keep_bytes=keep))
        raft.step(NodeId(2), append(prev=(5, 1), commit=5), 0)
        settle(raft)
        raft.compact(meta(4, 1))
        raft.compact(meta(3, 1))
        kept[keep] = (raft.state.log.base_index, raft.last_index, raft.membership.voters)

    assert kept == {0: (4, 5, {1, 2, 3, 4}), 1: (3, 5, {1, 2, 3, 4})}
