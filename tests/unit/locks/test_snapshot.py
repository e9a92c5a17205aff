"""Snapshots: the state at one index whatever goes on meanwhile, and a loader that takes nothing else (decision 14)."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlock.locks import LockTable
from raftlock.locks.snapshot import END, HEAD, LOCKS, ORDER, QUEUE, SESSION
from raftlock_wire.codec import pack, unpack
from raftlock_wire.errors import BadFrame
from raftlock_wire.invariant import InvariantViolation
from raftlock_wire.messages import Op
from tests.model.logs import apply, fresh, random_log
from tests.unit.locks.kit import Log


def load(chunks: list[bytes]) -> LockTable:
    """Return the table of a snapshot's chunks."""
    loader = LockTable.loader()
    for chunk in chunks:
        loader.feed(chunk)
    return loader.finish()


def chunks_of(table: LockTable) -> list[bytes]:
    """Return a whole snapshot."""
    stream = table.begin_snapshot()
    chunks = []
    while (chunk := stream.next_chunk()) is not None:
        chunks.append(chunk)
    return chunks


def full_table() -> LockTable:
    """Return a table that holds at least one of everything a snapshot can hold."""
    log = Log(logged_renewal_ttl_ms=5_000)
    first, second, third, dead = (log.open() for _ in range(4))
    log.acquire(first, "own", metadata={"k": "v"})
    log.acquire(first, "logged", slot=1, ttl_ms=9_000)
    log.acquire(first, "tied", slot=2, ttl_ms=0)
    log.acquire(first, "cut", slot=3, ttl_ms=0)
    log.force("cut", log.token("cut"), now=False)
    log.queue(second, "own")
    log.queue(second, "offered", slot=1)
    log.acquire(second, "tied", slot=2)
    log.cancel(second, slot=3)
    log.acquire(third, "offered")
    log.queue(second, "offered", slot=4)
    log.release("offered", log.token("offered"))
    log.queue(third, "offered", slot=5)
    log.do(Op.WAIT_TIMEOUT, third, 5, 1)
    log.acquire(dead, "left", ttl_ms=0)
    log.queue(dead, "tied", slot=1)
    log.close(dead)
    log.do(Op.SET_SETTINGS, {"sessions_max": 77})
    log.table.handing_on["tied"] = None
    return log.table


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    begun=st.integers(1, 80),
    slices=st.lists(st.integers(0, 6), min_size=1, max_size=40),
)
def test_a_snapshot_is_the_state_that_it_claims_however_commands_and_slices_interleave(
    seed: int, begun: int, slices: list[int]
) -> None:
    """Between two entries any number of chunks is taken: all of them together are the state where it was begun."""
    log = random_log(seed, begun + len(slices))
    table = fresh(log[:begun])
    expected = table.digest()
    stream = table.begin_snapshot()
    chunks: list[bytes] = []
    for entry, count in zip(log[begun:], slices, strict=False):
        for _ in range(count):
            if (chunk := stream.next_chunk()) is not None:
                chunks.append(chunk)
        apply(table, entry)
    while (chunk := stream.next_chunk()) is not None:
        chunks.append(chunk)
    loaded = load(chunks)

    assert (loaded.applied_index, loaded.digest()) == (begun, expected)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), length=st.integers(2, 120))
def test_a_loaded_table_counts_and_goes_on_as_the_one_it_was_made_of(
    seed: int, length: int
) -> None:
    """Counters and indexes are rebuilt: the rest of the log gives the same answers, effects and lists."""
    log = random_log(seed, length + 60)
    table = fresh(log[:length])
    loaded = load(chunks_of(table))
    differ: list[Any] = []
    for entry in log[length:]:
        one, other = apply(table, entry), apply(loaded, entry)
        differ += [n for n in type(one).__slots__ if getattr(one, n) != getattr(other, n)]
    counts = [
        (t.lock_count, t.waiter_count, t.session_count, t.logged_count, t.open_sweeps())
        for t in (table, loaded)
    ]

    assert (differ, counts[0], table.list_page(0, "", "", 99)) == (
        [],
        counts[1],
        loaded.list_page(0, "", "", 99),
    )


def test_a_snapshot_holds_one_of_everything() -> None:
    """Locks of each kind, queues, sessions with all outcomes, order and settings survive it (decision 14)."""
    table = full_table()
    chunks = chunks_of(table)

    loaded = load(chunks)

    kinds = {unpack(chunk, array_count_max=1 << 24)[0] for chunk in chunks}
    assert (loaded.digest(), kinds, loaded.settings, loaded.needs_clock) == (
        table.digest(),
        {HEAD, LOCKS, QUEUE, SESSION, ORDER, END},
        table.settings,
        True,
    )


def test_a_loaded_outcome_shares_its_grant_with_the_table() -> None:
    """A repeated acquire costs no second copy of the grant after a restart either (R2)."""
    log = Log()
    log.acquire(log.open(), "r")

    loaded = load(chunks_of(log.table))

    session = loaded.session(1)
    assert session is not None
    assert session.slots[0].of is loaded.lookup("r")


def test_one_snapshot_at_a_time() -> None:
    """A second one would not be told what changes."""
    table = fresh(random_log(1, 20))
    table.begin_snapshot()

    with pytest.raises(InvariantViolation, match="one snapshot at a time"):
        table.begin_snapshot()


def test_the_next_snapshot_may_begin_when_one_is_complete() -> None:
    """The end of the stream frees the table for it, and turns the short way of apply on again."""
    table = fresh(random_log(1, 20))

    assert chunks_of(table) == chunks_of(table)


def test_a_clone_has_no_snapshot_under_way() -> None:
    """A copy is of the state, not of what is being made of it; the original goes on with it."""
    table = fresh(random_log(1, 20))
    stream = table.begin_snapshot()

    copy = table.clone()

    assert (copy.stream, table.stream) == (None, stream)


@pytest.mark.parametrize(
    "chunk",
    [
        b"",
        b"\xc1",
        pack(5),
        pack(()),
        pack({"a": 1}),
        pack((9,)),
        pack(("x", 1)),
        pack((HEAD,)),
        pack((HEAD, 1, 2)),
        pack((LOCKS,)),
        pack((LOCKS, [(1, 2)])),
        pack((LOCKS, 7)),
        pack((QUEUE, "r")),
        pack((QUEUE, "r", [()])),
        pack((SESSION, 1)),
        pack((ORDER, [])),
        pack((END, 1)),
        pack((LOCKS, [])) + b"\x00",
    ],
)
def test_a_chunk_that_is_none_is_refused(chunk: bytes) -> None:
    """Whatever is wrong with it, the error is one that says so: bad bytes, or a chunk of no known shape."""
    loader = LockTable.loader()
    loader.feed(chunks_of(full_table())[0])

    with pytest.raises((BadFrame, InvariantViolation)):
        loader.feed(chunk)


def test_a_snapshot_of_another_format_is_refused() -> None:
    """A node that does not know the format does not start on it."""
    head = unpack(chunks_of(full_table())[0])

    with pytest.raises(InvariantViolation, match="known format"):
        LockTable.loader().feed(pack((HEAD, 2, *head[2:])))


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda chunks: chunks[:-1], "is complete"),
        (lambda chunks: chunks[1:], "begins with its head"),
        (lambda chunks: [*chunks, chunks[-1]], "follows the end"),
        (lambda chunks: [*chunks, chunks[0]], "follows the end"),
        (lambda chunks: [chunks[0], *chunks], "begins with its head"),
        (lambda chunks: [], "is complete"),
    ],
)
def test_a_snapshot_is_taken_whole_or_not_at_all(damage: Any, what: str) -> None:
    """Parts that are missing, doubled or behind the end are refused."""
    chunks = chunks_of(full_table())

    with pytest.raises(InvariantViolation, match=what):
        load(damage(chunks))
