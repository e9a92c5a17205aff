"""What readers are told: who got what, who ended it, and why."""

from typing import Any

from raftlock.audit import encode_results
from raftlock.audit.format import Record
from raftlock.audit.names import rows_of
from raftlock_wire.codec import pack
from raftlock_wire.entry import Entry, EntryKind
from raftlock_wire.ids import Index, Term
from raftlock_wire.messages import Op
from tests.unit.audit.kit import records
from tests.unit.locks.kit import ADDRESS, Log


def did(log: Log, op: Op, *fields: Any, everything: bool = False) -> list[dict[str, Any]]:
    """Apply a command and return the rows of its entry, through the bytes of a record."""
    request = (int(op), 7 if op < Op.EXPIRE_LOCK else 0, *fields)
    groups = (("", ADDRESS, request),)
    log.entry(*groups)
    entry = Entry(
        Index(log.index), Term(1), EntryKind.BATCH, 0, 1_700_000_000_000_001, pack(groups)
    )
    results = encode_results([*map(pack, log.last.answers)], log.last.effects)
    rows = list(rows_of(Record(entry, results), everything=everything))
    assert all(row.pop("index") == log.index for row in rows)
    assert all(row.pop("time") == "2023-11-14T22:13:20.000001Z" for row in rows)
    return rows


def acquire(log: Log, session: int, n: int, *, wait_ms: int = 0) -> list[dict[str, Any]]:
    """Acquire "r" for an owner named by the session."""
    return did(log, Op.ACQUIRE, session, 0, n, "r", f"o{session}", 5_000, wait_ms, None)


def test_a_grant_says_to_whom() -> None:
    """An acquire is one record with owner, token, session, principal and address; a retry is marked as one."""
    log = Log()
    session = log.open()

    [row] = acquire(log, session, 1)
    [again] = acquire(log, session, 1)

    assert row == {
        "operation": "acquire", "status": "OK", "resource": "r", "owner": "o1", "session": 1, "slot": 0, "n": 1,
        "ttl_ms": 5_000, "wait_ms": 0, "token": 1_001, "principal": "", "address": ADDRESS,
    }  # fmt: skip
    assert again == {**row, "repeated": True}


def test_a_refusal_says_who_holds() -> None:
    """HELD names the holder."""
    log = Log()
    first, second = log.open(), log.open()
    acquire(log, first, 1)

    [row] = acquire(log, second, 1)

    assert (row["status"], row["held_by"], row["held_by_token"]) == ("HELD", "o1", 1_001)


def test_an_expiry_says_whose_lock_ended_and_who_is_next() -> None:
    """A lease that ran out is an expire with its owner, and the offer that it led to a record of its own."""
    log = Log()
    first, second = log.open(), log.open()
    acquire(log, first, 1)
    acquire(log, second, 1, wait_ms=9_000)
    rev = log.table.lookup("r").rev  # type: ignore[union-attr]

    rows = did(log, Op.EXPIRE_LOCK, "r", 1_001, rev)

    assert rows == [
        {
            "operation": "expire", "status": "OK", "resource": "r", "token": 1_001, "owner": "o1", "session": 1,
            "reason": "its time passed without a renewal",
        },
        {
            "operation": "offer", "status": "OK", "resource": "r", "token": 1_002, "owner": "o2", "session": 2,
            "slot": 0, "n": 1,
        },
    ]  # fmt: skip


def test_a_timer_that_found_nothing_is_no_record() -> None:
    """An Expire of a lease that was renewed meanwhile ended nothing: only `everything` shows it."""
    log = Log()
    acquire(log, log.open(), 1)

    assert did(log, Op.EXPIRE_LOCK, "r", 1_001, 1) == []
    assert did(log, Op.EXPIRE_LOCK, "r", 1_001, 1, everything=True) == [
        {"operation": "expire_lock", "status": "OK", "resource": "r", "token": 1_001}
    ]


def test_a_wait_that_ended_says_why() -> None:
    """A timeout and a cancelled wait name resource and owner, which their commands do not."""
    log = Log()
    first, second = log.open(), log.open()
    acquire(log, first, 1)
    acquire(log, second, 1, wait_ms=9_000)
    [timeout] = did(log, Op.WAIT_TIMEOUT, second, 0, 1)
    acquire(log, second, 2, wait_ms=9_000)
    cancel, ended = did(log, Op.CANCEL, second, 0, 2)

    base = {"status": "OK", "resource": "r", "owner": "o2", "session": 2, "slot": 0}
    assert timeout == {**base, "operation": "timeout", "n": 1, "reason": "its wait was over"}
    assert (cancel["operation"], cancel["status"]) == ("cancel", "CANCELLED")
    assert ended == {**base, "operation": "wait_end", "n": 2, "reason": "it was cancelled"}


def test_a_forced_end_carries_the_administrators_reason() -> None:
    """force-release is a record with its reason, and so is the end that it brought."""
    log = Log()
    acquire(log, log.open(), 1)

    forced, ended = did(log, Op.FORCE_RELEASE, "r", 1_001, "node is gone", True)

    assert (forced["operation"], forced["reason"], forced["when"], forced["address"]) == (
        "force_release", "node is gone", "now", ADDRESS,
    )  # fmt: skip
    assert (ended["operation"], ended["owner"], ended["reason"]) == (
        "end", "o1", "forced: node is gone",
    )  # fmt: skip


def test_a_session_takes_its_locks_along() -> None:
    """A session that ran out, and then each lock of it that is swept, say so."""
    log = Log()
    session = log.open()
    did(log, Op.ACQUIRE, session, 0, 1, "r", "o", 0, 0, None)
    rev = log.table.session(session).rev  # type: ignore[union-attr]

    rows = [*did(log, Op.EXPIRE_SESSION, session, rev), *did(log, Op.SWEEP_SESSION, session)]

    assert [(row["operation"], row["session"], row["reason"]) for row in rows] == [
        ("session_end", 1, "its session was not kept alive"),
        ("end", 1, "its session ended"),
    ]


def test_every_command_has_its_names() -> None:
    """A random log of every kind of command reads without an exception, each end after its beginning."""
    held: set[int] = set()
    for seed in range(12):
        held.clear()
        for recorded in records(seed):
            for row in rows_of(Record(recorded.entry, recorded.results)):
                operation, token = row["operation"], row.get("token")
                if operation == "offer" or (
                    operation == "acquire" and row["status"] == "OK" and "repeated" not in row
                ):
                    assert token not in held
                    held.add(token)
                elif operation in ("expire", "end") or (operation, row["status"]) == (
                    "release",
                    "OK",
                ):
                    held.remove(token)


def test_a_wait_that_its_client_gave_up_is_not_its_sessions_end() -> None:
    """A later acquire in the slot of one that waits ends the wait, and its session is not to blame."""
    log = Log()
    first, second = log.open(), log.open()
    acquire(log, first, 1)
    acquire(log, second, 1, wait_ms=9_000)

    rows = did(log, Op.ACQUIRE, second, 0, 2, "other", "o2", 5_000, 0, None)

    assert [(row["operation"], row.get("reason")) for row in rows] == [
        ("wait_end", "a later acquire took its place"),
        ("acquire", None),
    ]


def test_a_release_that_passes_over_a_dead_waiter_says_why_it_is_gone() -> None:
    """A waiter whose session ended, met by a release before its sweep, ended with its session."""
    log = Log()
    first, second = log.open(), log.open()
    acquire(log, first, 1)
    acquire(log, second, 1, wait_ms=9_000)
    did(log, Op.CLOSE_SESSION, second)

    rows = did(log, Op.RELEASE, "r", 1_001)

    assert [(row["operation"], row.get("reason")) for row in rows] == [
        ("release", None),
        ("wait_end", "its session ended"),
    ]
