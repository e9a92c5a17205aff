"""Whether the audit says exactly what the clients were told: nothing missing, nothing twice, nothing invented.

An operation that was answered has a record; one that was never answered has one or none. An operation that was sent
several times may be recorded as often (a retry is a command of the log like any other), but takes effect once. Both
sides go into files by their lock first, so memory is that of one file's share. It must not know where records are kept.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import msgpack

from chaos.audit.ledger import UNKNOWN, Said
from raftlock.audit.names import Row

SHARES = 16
PROBLEMS_MAX = 200
"""Problems that are kept as text; all are counted."""
ASKED = frozenset(
    {
        "acquire", "release", "renew", "change_ttl", "force_release", "cancel",
        "open_session", "close_session",
    }
)  # fmt: skip
"""Operations that only clients ask for: one that no client sent is invented."""
HEARD = frozenset({"offer", "timeout"})
ENDS = frozenset({"expire", "end"})
FIRST = {"OK": {"OK"}, "HELD": {"HELD"}, "OFFERED": {"QUEUED"}, "TIMEOUT": {"QUEUED"}}
"""What the first record of an acquire says, by how it ended for its client; of other ends nothing is known."""
UNSURE = frozenset({UNKNOWN, "SESSION_EXPIRED"})
"""How an operation may end for its client without a record: a session that is over is said from the table, too."""

Key = tuple[Any, ...]


class Seen(NamedTuple):
    """What of a record is compared."""

    operation: str
    resource: str
    token: int
    session: int
    slot: int
    n: int
    owner: str
    detail: str
    status: str
    repeated: bool
    at: int


@dataclass(slots=True)
class Verdict:
    """What was compared and found."""

    operations: int = 0
    acknowledged: int = 0
    unknown: int = 0
    records: int = 0
    retried: int = 0
    by_operation: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    problem_count: int = 0

    def add(self, problem: str) -> None:
        """Note a problem."""
        self.problem_count += 1
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)


@dataclass(slots=True)
class Account:
    """One operation: what clients say of it, and what the audit has."""

    said: Said | None = None
    least: int = 0
    most: int = 0
    records: int = 0
    effects: int = 0
    first: Seen | None = None


def seen_of(row: Row) -> Seen:
    """Return what of a record is compared."""
    operation = row["operation"]
    detail = ""
    if operation == "change_ttl":
        detail = str(row["ttl_ms"])
    elif operation == "force_release":
        detail = row["reason"]
    return Seen(
        operation,
        row.get("resource", ""),
        row.get("token") or 0,
        row.get("session") or 0,
        row.get("slot") or 0,
        row.get("n") or 0,
        row.get("owner", ""),
        detail,
        row["status"],
        bool(row.get("repeated")),
        row["index"],
    )


def key_of(one: Said | Seen) -> Key:
    """Return what one operation has and no other."""
    match one.operation:
        case "acquire" | "cancel" | "timeout":
            return (one.operation, one.session, one.slot, one.n)
        case "open_session" | "close_session" | "session_end":
            return (one.operation, one.session)
        case _:
            return (one.operation, one.resource, one.token, one.detail)


def compare(said: Iterable[Said], rows: Iterable[Row], folder: Path) -> Verdict:
    """Compare the clients' record with the audit's, which comes in the order of the log. `folder` takes the shares."""
    verdict = Verdict()
    with ExitStack() as stack:
        files = {
            (side, share): stack.enter_context((folder / f"{side}-{share}").open("wb"))
            for side in ("said", "seen")
            for share in range(SHARES + 1)
        }
        pack = msgpack.Packer().pack
        for one in said:
            verdict.operations += one.operation in ASKED
            files["said", _share(one.operation, one.resource)].write(pack(one))
        for seen in in_order(rows, verdict):
            files["seen", _share(seen.operation, seen.resource)].write(pack(seen))
    for share in range(SHARES + 1):
        _share_agrees(
            (Said(*fields) for fields in _fields(folder / f"said-{share}")),
            (Seen(*fields) for fields in _fields(folder / f"seen-{share}")),
            verdict,
        )
    return verdict


def in_order(rows: Iterable[Row], verdict: Verdict) -> Iterator[Seen]:
    """Return the records, each in its place: the log's order has none twice, and a grant's token only grows."""
    place, token = (0, -1), 0
    for row in rows:
        verdict.records += 1
        here = (row["index"], row["position"])
        if here <= place:
            verdict.add(f"record {here} comes behind {place}")
        place = here
        seen = seen_of(row)
        if _grants(seen):
            if seen.token <= token:
                verdict.add(f"token {seen.token} of {seen} is not above {token}")
            token = seen.token
        yield seen


def _share(operation: str, resource: str) -> int:
    """Return which file an operation goes to. A cancel's record has no lock's name; nor has a session's."""
    if operation in ("cancel", "open_session", "close_session", "session_end"):
        return SHARES
    return crc32(resource.encode()) % SHARES


def _fields(path: Path) -> Iterator[Sequence[Any]]:
    with path.open("rb") as file:
        yield from msgpack.Unpacker(file, use_list=False)


def _grants(seen: Seen) -> bool:
    if seen.operation == "offer":
        return True
    return seen.operation == "acquire" and seen.status == "OK" and not seen.repeated


def _share_agrees(said: Iterable[Said], seen: Iterable[Seen], verdict: Verdict) -> None:
    accounts: dict[Key, Account] = {}
    opens = 0
    for one in said:
        verdict.acknowledged += one.status != UNKNOWN and one.operation in ASKED
        verdict.unknown += one.status == UNKNOWN
        verdict.retried += one.attempts > 1
        if one.operation == "open_session":
            # A late duplicate may open a second, empty session, and nobody learns its id.
            opens += one.attempts - 1 if one.session else one.attempts
            if not one.session:
                continue
        _say(accounts.setdefault(key_of(one), Account()), one)
    granted: Counter[tuple[str, int]] = Counter()
    ended: Counter[tuple[str, int]] = Counter()
    for record in seen:
        verdict.by_operation[record.operation] += 1
        grant = (record.resource, record.token)
        granted[grant] += _grants(record)
        ended[grant] += _ends(record)
        if (
            record.operation in ASKED
            or record.operation in HEARD
            or record.operation == "session_end"
        ):
            account = accounts.setdefault(key_of(record), Account())
            account.records += 1
            account.effects += record.status == "OK" and not record.repeated
            account.first = account.first or record
    unheard = 0
    for account in accounts.values():
        if (
            account.said is None
            and account.first is not None
            and account.first.operation == "open_session"
        ):
            unheard += 1
        else:
            _settle(account, verdict)
    if unheard > opens:
        verdict.add(
            f"{unheard} sessions were opened that no client knows, and only {opens} may have been"
        )
    for grant, times in ended.items():
        if times > 1:
            verdict.add(f"the grant {grant} ended {times} times")
        if times and granted[grant] != 1:
            verdict.add(f"the grant {grant} ended, and was granted {granted[grant]} times")


def _say(account: Account, one: Said) -> None:
    account.least += one.status not in UNSURE
    account.most += one.attempts
    if account.said is None or account.said.status == UNKNOWN:
        account.said = one


def _ends(seen: Seen) -> bool:
    return seen.operation in ENDS or (seen.operation == "release" and seen.status == "OK")


def _settle(account: Account, verdict: Verdict) -> None:
    """Compare one operation's two sides."""
    said, first = account.said, account.first
    if said is None:
        assert first is not None
        if first.operation in ASKED:
            verdict.add(f"invented: no client asked for {first}")
        elif account.records > 1:
            verdict.add(f"twice: {account.records} records of {first}")
        return
    if account.records < account.least:
        verdict.add(f"missing: {account.records} records of {account.least} answered: {said}")
    if account.records > account.most:
        verdict.add(f"twice: {account.records} records, sent {account.most} times: {said}; {first}")
    if first is None:
        return
    if said.operation != "renew" and account.effects > 1 and said.operation != "open_session":
        verdict.add(f"took effect {account.effects} times: {said}")
    if not _same(said, first, account):
        verdict.add(f"told otherwise: {said}; the audit has {first}")


def _same(said: Said, first: Seen, account: Account) -> bool:
    """Return whether the record says what the client was told."""
    if said.operation in ("offer", "timeout"):
        return (said.session, said.slot, said.n) == (first.session, first.slot, first.n)
    if said.operation != "acquire":
        # After several attempts the client may have been told what the last one found.
        return said.status == UNKNOWN or account.most > 1 or said.status == first.status
    if (said.resource, said.owner) != (first.resource, first.owner):
        return False
    if first.status not in FIRST.get(said.status, {first.status}):
        return False
    return said.status != "OK" or said.token == first.token
