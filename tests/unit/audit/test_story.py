"""The story of a lock agrees with a twin that only looks at the table after each command."""

import random
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from raftlock.audit import Recorded
from raftlock.audit.format import decode_records, encode_record, encode_results
from raftlock.audit.names import iso, rows_of
from raftlock.audit.story import Chapter, Holding, Story, Waiting
from raftlock.locks import Grant, LockTable
from raftlock_wire.codec import pack
from raftlock_wire.entry import Entry, EntryKind
from raftlock_wire.ids import Index, Term
from raftlock_wire.messages import Op
from tests.model.logs import NAMES, _command, genesis

WHY = {
    Op.RELEASE: "released", Op.EXPIRE_LOCK: "expired", Op.FORCE_RELEASE: "forced", Op.CANCEL: "cancelled",
    Op.WAIT_TIMEOUT: "timed_out",
}  # fmt: skip


@dataclass
class Twin:
    """Knows no records: it compares the table before a command with the table after it."""

    name: str
    told: list[tuple[Any, ...]] = field(default_factory=list)
    grant: Grant | None = None
    offered: str | None = None
    since: str | None = None
    waiting: dict[tuple[int, int, int], str] = field(default_factory=dict)

    def look(self, table: LockTable, request: tuple[Any, ...], time: str) -> None:
        """See what a command changed."""
        grant = table.grant(self.name)
        waiting = {(w.session, w.slot, w.n) for w in table.queues.get(self.name, {}).values()}
        # An offer is to a waiter of before: whoever left the queue for it did not just stop waiting.
        to = (grant.session, grant.slot, grant.n) if grant is not None else None
        for key in [key for key in self.waiting if key not in waiting and key != to]:
            self.told.append((key, self.waiting.pop(key), time, self._why_waiter(request, key)))
        if self.grant is not None and (grant is None or grant.token != self.grant.token):
            self.told.append((*self._holding(), time, self._why(request)))
            self.grant = None
        if grant is not None and self.grant is None:
            self.offered = time if grant.offer else None
            self.since = None if grant.offer else time
            if to is not None:
                self.waiting.pop(to, None)
        if grant is not None and self.since is None and not grant.offer:
            self.since = time
        self.grant = grant
        for key in waiting - self.waiting.keys():
            self.waiting[key] = time

    def _holding(self) -> tuple[Any, ...]:
        assert self.grant is not None
        return self.grant.token, self.grant.owner, self.offered, self.since

    def _why(self, request: tuple[Any, ...]) -> str:
        if self.since is None and request[0] == Op.EXPIRE_LOCK:
            return "not_taken_up"
        return WHY.get(request[0], "session_ended")

    def _why_waiter(self, request: tuple[Any, ...], key: tuple[int, int, int]) -> str:
        if request[0] in (Op.ACQUIRE, Op.CANCEL, Op.WAIT_TIMEOUT) and request[2:4] == key[:2]:
            return WHY.get(request[0], "given_up")
        return "session_ended"

    def end(self) -> list[tuple[Any, ...]]:
        """Return everything, with what is not over."""
        if self.grant is not None:
            self.told.append((*self._holding(), None, ""))
        return self.told + [(key, since, None, "") for key, since in self.waiting.items()]


def told(chapter: Chapter) -> tuple[Any, ...]:
    """Return a chapter in the twin's words."""
    if isinstance(chapter, Holding):
        c = chapter
        assert c.taken_up == (c.since is not None)
        return (c.token, c.owner, c.offered, c.since, c.until, c.end)
    w: Waiting = chapter
    return ((w.session, w.slot, w.n), w.since, w.until, w.end)


def rows_through_the_recorder(entry: Entry, table: LockTable, groups: Any) -> list[dict[str, Any]]:
    """Apply, record, and read the record back."""
    applied = table.apply(entry.index, entry.stamp_us, entry.wall_us, groups)
    results = encode_results([*map(pack, applied.answers)], applied.effects)
    recorded = Recorded(entry, results, 1, table.version)
    [record] = decode_records(encode_record(recorded), file="x", offset=0)
    return list(rows_of(record))


@given(seed=st.integers(0, 1 << 32), length=st.integers(1, 150))
def test_the_story_is_what_a_twin_saw(seed: int, length: int) -> None:
    """Whatever happens to three locks: who held each from when to when, who waited, why each ended, and what is open."""
    rng, table = random.Random(seed), LockTable()
    twins = [Twin(name) for name in NAMES]
    rows: list[dict[str, Any]] = []
    sessions: list[int] = []
    numbers: dict[tuple[int, int], int] = {}
    for index in range(1, length + 1):
        if index == 1:
            groups = genesis(logged_renewal_ttl_ms=5_000)[3]
        else:
            groups = (("", "host", _command(rng, table, sessions, numbers)),)
        wall_us = 1_795_600_000_000_000 + index * 1_000
        entry = Entry(Index(index), Term(1), EntryKind.BATCH, index * 1_000, wall_us, pack(groups))
        new = rows_through_the_recorder(entry, table, groups)
        sessions += [
            row["session"] for row in new if row["operation"] == "open_session" and row["session"]
        ]
        rows += new
        for twin in twins:
            twin.look(table, groups[0][2], iso(wall_us))

    for twin in twins:
        story = Story().tell(row for row in rows if row.get("resource") == twin.name)
        assert sorted(map(told, story), key=repr) == sorted(twin.end(), key=repr)


def _row(operation: str, second: int, **fields: Any) -> dict[str, Any]:
    time = f"2026-11-25T10:00:{second:02d}.000000Z"
    return {"operation": operation, "status": "OK", "time": time, "resource": "r", **fields}


def test_a_story_that_begins_in_the_middle_says_so() -> None:
    """The end of a grant whose beginning is not there has no beginning, and keeps its owner."""
    expire = _row("expire", 1, token=7, owner="o", session=1, reason="its time passed")

    [chapter] = Story().tell([expire])

    assert isinstance(chapter, Holding)
    assert (chapter.owner, chapter.since, chapter.until, chapter.end) == (
        "o", None, expire["time"], "expired",
    )  # fmt: skip


def test_a_forced_end_says_who_when_and_why() -> None:
    """An administrator's `at_expiry`, and the expiry that follows it, are one chapter."""
    grant = {"token": 7, "owner": "o", "session": 1}
    rows = [
        _row("acquire", 1, **grant, slot=0, n=1, ttl_ms=9_000, address="a:1"),
        _row("force_release", 2, token=7, reason="drain", when="at_expiry", principal="root", address="b:2"),
        _row("expire", 3, **grant, reason="its time passed without a renewal"),
    ]  # fmt: skip

    [chapter] = Story().tell(rows)

    assert isinstance(chapter, Holding)
    assert chapter.forced is not None
    assert (chapter.end, chapter.forced.by, chapter.forced.reason, chapter.forced.when) == (
        "expired", "root", "drain", "at_expiry",
    )  # fmt: skip


def test_a_grant_over_another_tells_of_missing_records() -> None:
    """A grant that begins while another is held: the end of that one is unknown, and it is not made up."""
    rows = [_row("acquire", s, token=s, owner="o", session=1, slot=0, n=s) for s in (1, 2)]

    assert [chapter.end for chapter in Story().tell(rows)] == ["unknown", ""]
