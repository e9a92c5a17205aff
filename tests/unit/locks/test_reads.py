"""What the table answers without changing: checks, infos, and lists against a twin that sorts everything."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftlock.locks import LockTable, reads
from raftlock_wire.messages import GrantState, ListBy, Op
from raftlock_wire.status import Status
from tests.unit.locks.kit import ADDRESS, ID, Log, wall

Info = tuple[Any, ...]
RESOURCE, STATE, TOKEN, SLOT = 0, 1, 2, 6
"""Positions in an info."""


def pages(table: LockTable, by: ListBy, what: Any, limit: int) -> list[Info]:
    """Return all pages of a list, one after the other."""
    found, cursor = [], ""
    for _ in range(1_000):
        page, cursor = table.list_page(int(by), what, cursor, limit)
        assert len(page) <= limit
        found += page
        if not cursor:
            return found
    raise AssertionError("a list does not end")


# one lock


def test_a_check_says_whether_a_token_is_the_current_grant(log: Log) -> None:
    """OK or OFFERED with the lease's rev; NOT_HELD with the token that is current, 0 if none."""
    holder, waiter = log.open(), log.open()
    free = log.table.check(ID, "r", 1_001)
    log.acquire(holder, "r")
    log.queue(waiter, "r")
    held, other = log.table.check(ID, "r", 1_001), log.table.check(ID, "r", 1_000)
    log.release("r", 1_001)

    assert (free, held, other, log.table.check(ID, "r", 1_002)) == (
        (ID, Status.NOT_HELD, True, 0),
        (ID, Status.OK, True, 4),
        (ID, Status.NOT_HELD, True, 1_001),
        (ID, Status.OFFERED, True, 6),
    )


def test_a_get_shows_everything_of_a_grant(log: Log) -> None:
    """Who has it, under which key and token, since when and from where, and how many wait (R9 needs the key)."""
    session, waiter = log.open(), log.open()
    log.acquire(session, "r", slot=5, n=8, metadata={"job": "7"}, principal="ops")
    log.queue(waiter, "r")

    assert (log.table.get_info("r"), log.table.get_info("q")) == (
        (
            "r",
            GrantState.HELD,
            1_001,
            4,
            "ann",
            session,
            5,
            8,
            1_000,
            wall(4),
            "ops",
            ADDRESS,
            {"job": "7"},
            1,
            None,
        ),
        None,
    )


def test_a_renewals_answer_names_the_session_count_of_an_in_session_lock_only(log: Log) -> None:
    """A lock in a session carries the session's count of now (L9); one of its own carries none."""
    session = log.open()
    log.acquire(session, "r", ttl_ms=0)
    log.acquire(session, "s", slot=1)
    log.acquire(session, "t", slot=2)
    log.force("t", 1_003, now=True)

    answers = [
        log.table.renewal_answer(name, token) for name, token in (("r", 1_001), ("s", 1_002))
    ]
    over = [log.table.renewal_answer("t", 1_003), log.table.renewal_answer("r", 1_000)]

    assert (answers, over) == (
        [(Status.OK, 1, 3, 0, -1), (Status.OK, None, 4, 1_000, -1)],
        [(Status.NOT_HELD, 0), (Status.NOT_HELD, 1_001)],
    )


def test_a_lock_of_an_ended_session_is_shown_to_nobody(log: Log) -> None:
    """From the end of its session on it is nobody's, swept or not (decision 9)."""
    session = log.open()
    log.acquire(session, "r", ttl_ms=0)
    log.close(session)

    assert (
        log.table.get_info("r"),
        log.table.list_page(ListBy.PREFIX, "", "", 9),
        log.table.list_page(ListBy.SESSION, session, "", 9),
        log.table.check(ID, "r", 1_001),
    ) == (None, ([], ""), ([], ""), (ID, Status.NOT_HELD, True, 0))


# lists by name

names = st.sampled_from(["a", "aa", "ab", "a:", "a:1", "a:10", "a:2", "b", "é", "𝄞", "z"])
owners = st.sampled_from(["ann", "bob"])
prefixes = st.sampled_from(["", "a", "a:", "a:1", "b", "é", "q"])
commands = st.lists(
    st.tuples(names, owners, st.sampled_from(["acquire", "release", "list"])), max_size=40
)


@settings(max_examples=150, deadline=None)
@given(commands=commands, prefix=prefixes, owner=owners, limit=st.integers(1, 4))
def test_lists_are_those_of_a_twin_that_sorts_everything(
    commands: list[tuple[str, str, str]], prefix: str, owner: str, limit: int
) -> None:
    """All pages together are every lock with the prefix, or of the owner, in the order of names, each once."""
    log = Log()
    session = log.open()
    held: dict[str, tuple[int, str]] = {}
    for slot, (name, by, what) in enumerate(commands):
        if what == "acquire" and name not in held:
            log.acquire(session, name, slot=slot, owner=by)
            held[name] = (log.token(name), by)
        elif what == "release" and name in held:
            log.release(name, held.pop(name)[0])
        elif what == "list":
            # In between, so that the index is merged at other moments than at the end.
            log.table.list_page(ListBy.PREFIX, name, "", limit)

    by_prefix = [info[RESOURCE] for info in pages(log.table, ListBy.PREFIX, prefix, limit)]
    by_owner = [info[RESOURCE] for info in pages(log.table, ListBy.OWNER, owner, limit)]

    assert (by_prefix, by_owner) == (
        sorted(name for name in held if name.startswith(prefix)),
        sorted(name for name, (_, of) in held.items() if of == owner),
    )


def test_a_lock_that_is_there_all_the_time_is_listed_whatever_else_changes(log: Log) -> None:
    """A cursor names a place in the order, not a count: what goes and comes between two pages moves nothing."""
    session = log.open()
    for slot, name in enumerate("bdf"):
        log.acquire(session, name, slot=slot)
    first, cursor = log.table.list_page(ListBy.PREFIX, "", "", 2)
    log.release("b", 1_001)
    log.release("d", 1_002)
    for slot, name in enumerate("ace", 3):
        log.acquire(session, name, slot=slot)

    second, end = log.table.list_page(ListBy.PREFIX, "", cursor, 2)

    assert ([i[RESOURCE] for i in first], [i[RESOURCE] for i in second], end) == (
        ["b", "d"],
        ["e", "f"],
        "f",
    )


def test_a_page_of_a_list_by_owner_looks_at_a_bounded_number_of_names(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page may be short, even empty: its cursor goes on, and all pages together are complete (decision 17)."""
    monkeypatch.setattr(reads, "OWNER_STEPS_MAX", 3)
    session = log.open()
    for slot in range(8):
        log.acquire(session, f"r{slot}", slot=slot, owner="bob" if slot == 7 else "ann")

    page = log.table.list_page(ListBy.OWNER, "bob", "", 5)

    assert (page, [i[RESOURCE] for i in pages(log.table, ListBy.OWNER, "bob", 5)]) == (
        ([], "r2"),
        ["r7"],
    )


# the lazy index


def fill(log: Log, count: int) -> None:
    """Let a session hold `count` locks, then release those with an odd number."""
    session = log.open()
    requests = [
        (int(Op.ACQUIRE), ID, session, slot, 1, f"r{slot:02}", "ann", 1_000, 0, None)
        for slot in range(count)
    ]
    log.entry(("", "", *requests))
    log.entry(
        (
            "",
            "",
            *[(int(Op.RELEASE), ID, f"r{i:02}", log.token(f"r{i:02}")) for i in range(1, count, 2)],
        )
    )


@pytest.mark.parametrize("delta_max", [4, 12, 100])
def test_a_dropped_index_changes_no_list(
    log: Log, delta_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond delta_max touched names it is dropped: lists scan while the table is large, and index it anew if not."""
    monkeypatch.setattr(reads, "DELTA_MAX", delta_max)
    monkeypatch.setattr(reads, "OWNER_STEPS_MAX", 3)
    fill(log, 20)

    listed = [i[RESOURCE] for i in pages(log.table, ListBy.PREFIX, "r", 2)]
    log.acquire(2 if log.table.session(2) else 1, "r01", slot=99)
    again = [i[RESOURCE] for i in pages(log.table, ListBy.PREFIX, "r", 2)]

    even = [f"r{i:02}" for i in range(0, 20, 2)]
    assert (listed, again) == (even, sorted([*even, "r01"]))


def test_an_index_that_was_dropped_is_merged_by_nobody(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle turn has nothing to do for it: the next list makes it anew."""
    monkeypatch.setattr(reads, "DELTA_MAX", 4)
    fill(log, 20)

    assert (log.table.merge_index(500), len(log.table.index.delta)) == (False, 0)


def test_an_idle_turn_merges_a_slice(log: Log) -> None:
    """It does as many names as it is told and says whether there are more (decision 9)."""
    fill(log, 10)

    more = [log.table.merge_index(6), log.table.merge_index(6)]

    assert (more, [i[RESOURCE] for i in pages(log.table, ListBy.PREFIX, "", 100)]) == (
        [True, False],
        [f"r{i:02}" for i in range(0, 10, 2)],
    )


# lists by session


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_a_list_by_session_shows_locks_offers_what_was_cut_out_and_waiters(
    log: Log, limit: int
) -> None:
    """Everything that lives with the session, locks by token and then waiters by slot, each once (L9)."""
    other, session = log.open(), log.open()
    for slot, name in enumerate(("o", "w", "v")):
        log.acquire(other, name, slot=slot)
    for slot, name in enumerate("abc"):
        log.acquire(session, name, slot=slot, ttl_ms=0)
    log.acquire(session, "own", slot=3)
    log.queue(session, "w", slot=9)
    log.queue(session, "v", slot=7)
    log.queue(session, "o", slot=8, ttl_ms=0)
    log.release("o", 1_001)
    # The later token is cut first: the order of a list is that of tokens all the same.
    log.force("c", 1_006, now=False)
    log.force("a", 1_004, now=False)

    found = [
        (i[RESOURCE], i[STATE], i[TOKEN], i[SLOT])
        for i in pages(log.table, ListBy.SESSION, session, limit)
    ]

    assert found == [
        ("a", GrantState.ENDING, 1_004, 0),
        ("b", GrantState.HELD, 1_005, 1),
        ("c", GrantState.ENDING, 1_006, 2),
        ("o", GrantState.OFFERED, 1_008, 8),
        ("v", GrantState.WAITING, 0, 7),
        ("w", GrantState.WAITING, 0, 9),
    ]


def test_a_waiting_acquire_is_shown_with_its_key(log: Log) -> None:
    """The info of a waiter has no token and no rev, and the time when it was queued."""
    holder, waiter = log.open(), log.open()
    log.acquire(holder, "r")
    log.queue(waiter, "r", slot=4)

    assert log.table.list_page(ListBy.SESSION, waiter, "", 9) == (
        [
            (
                "r",
                GrantState.WAITING,
                0,
                0,
                "ann",
                waiter,
                4,
                1,
                1_000,
                wall(5),
                "",
                ADDRESS,
                None,
                0,
                None,
            )
        ],
        "",
    )


@pytest.mark.parametrize("cursor", ["t", "s", "x", "tx", "s-1", "t99999999999999999999"])
def test_a_cursor_that_is_none_is_harmless(log: Log, cursor: str) -> None:
    """A client may send any text: the list begins somewhere, and ends."""
    session = log.open()
    log.acquire(session, "r", ttl_ms=0)

    page, following = log.table.list_page(ListBy.SESSION, session, cursor, 9)

    assert (len(page) <= 1, following) == (True, "")
