"""Apply is a function of (state, entry): hash seeds, grouping, snapshots and copies change nothing (decision 6, 14)."""

import os
import subprocess
import sys

import pytest

from raftlock.locks import LockTable
from raftlock_wire.messages import Op
from tests.model.logs import apply, fresh, random_log

DIGEST = """
from tests.model.logs import fresh, random_log
print(fresh(random_log(5, 400)).digest().hex())
"""


def load(chunks: list[bytes]) -> LockTable:
    """Return the table of a snapshot's chunks."""
    loader = LockTable.loader()
    for chunk in chunks:
        loader.feed(chunk)
    return loader.finish()


def test_the_hash_seed_changes_nothing() -> None:
    """One log gives one digest, whatever PYTHONHASHSEED is."""
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            env={
                **os.environ,
                "PYTHONHASHSEED": hash_seed,
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "31337")
    }

    assert len(digests) == 1


@pytest.mark.parametrize("seed", range(8))
def test_a_random_log_reaches_every_command(seed: int) -> None:
    """The logs of these tests are not empty talk: over a few hundred entries every kind of command takes effect."""
    table = LockTable()
    statuses: set[tuple[int, int]] = set()
    events: set[int] = set()
    for entry in random_log(seed, 600):
        applied = apply(table, entry)
        for group, answers in zip(entry[3], applied.answers, strict=True):
            statuses |= {(r[0], a[1]) for r, a in zip(group[2:], answers, strict=True) if r[0] < 32}
        events |= {event[1] for event in applied.events}

    assert (len(statuses) > 18, events) == (True, {1, 2, 3, 4})


@pytest.mark.parametrize("seed", range(4))
def test_a_snapshot_at_every_index_is_the_state_there(seed: int) -> None:
    """A snapshot begun at any index, streamed while the log goes on, holds the state at that index and no later one."""
    log = random_log(seed, 120)
    table = LockTable()
    digests: list[bytes] = []
    for entry in log:
        apply(table, entry)
        digests.append(table.digest())
    found: list[tuple[bytes, bytes]] = []
    for begun in range(1, len(log)):
        table = fresh(log[:begun])
        stream = table.begin_snapshot()
        chunks: list[bytes] = []
        # A chunk between two entries, so that most of the snapshot is made after the state has changed.
        for entry in log[begun:]:
            apply(table, entry)
            if (chunk := stream.next_chunk()) is not None:
                chunks.append(chunk)
        while (chunk := stream.next_chunk()) is not None:
            chunks.append(chunk)
        loaded = load(chunks)
        at = loaded.digest()
        for entry in log[begun:]:
            apply(loaded, entry)
        found.append((at, loaded.digest()))

    assert found == [(digests[begun - 1], digests[-1]) for begun in range(1, len(log))]


@pytest.mark.parametrize("seed", range(8))
def test_the_hot_path_and_the_long_way_are_one(seed: int) -> None:
    """The in-line acquire and release give the answers, effects and state of the functions that they stand for."""
    log = random_log(seed, 400)
    fast, slow = LockTable(), LockTable()
    seen = []
    for entry in log:
        # A snapshot under way turns the hot path off.
        slow.begin_snapshot()
        one, other = apply(fast, entry), apply(slow, entry)
        slow.stream = None
        seen.append(
            [getattr(one, name) == getattr(other, name) for name in type(one).__slots__]
            + [fast.digest() == slow.digest()]
        )

    assert [row for row in seen if not all(row)] == []


@pytest.mark.parametrize("seed", range(4))
def test_a_clone_is_independent(seed: int) -> None:
    """A copy goes its own way, and leaves the original as it is."""
    log = random_log(seed, 300)
    table = fresh(log[:150])
    before = table.digest()
    copy = table.clone()
    for entry in log[150:]:
        apply(copy, entry)

    assert (table.digest(), copy.digest()) == (before, fresh(log).digest())


def test_counts_are_those_of_the_content() -> None:
    """The counters that are kept are what counting gives, at every index."""
    table = LockTable()
    wrong = []
    for entry in random_log(3, 800):
        apply(table, entry)
        counted = (
            sum(map(len, table.buckets)),
            sum(map(len, table.queues.values())),
            sum(not s.ended for bucket in table.sessions for s in bucket.values()),
            sum(
                table.is_logged_class(g)
                for n in range(table.bucket_count)
                for g in table.iter_grants(n)
            ),
        )
        kept = (table.lock_count, table.waiter_count, table.session_count, table.logged_count)
        if counted != kept:
            wrong.append((entry[0], counted, kept))

    assert wrong == []


def test_sweeps_end_what_ended_sessions_left() -> None:
    """When all sessions are closed and every open Sweep is applied, no lock in a session and no waiter is left."""
    log = random_log(11, 500)
    table = fresh(log)
    index = len(log)
    for session, _ in list(table.iter_sessions()):
        index += 1
        request = (int(Op.CLOSE_SESSION), 1, session)
        apply(table, (index, index * 1_000, index * 2_000, (("", "", request),)))
    while sweeps := table.open_sweeps():
        index += 1
        apply(table, (index, index * 1_000, index * 2_000, (("", "", *sweeps),)))
    in_session = [
        g for n in range(table.bucket_count) for g in table.iter_grants(n) if not g.ttl_ms
    ]
    left = [s for bucket in table.sessions for s in bucket.values()]

    assert (in_session, table.waiter_count, left, table.ending) == ([], 0, [], {})
