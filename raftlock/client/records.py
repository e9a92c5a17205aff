"""What a client asks of the audit, and a page of the answer.

It owns the shape of the request and of the answer. It must not know connections.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from raftlock.client.errors import RaftlockError
from raftlock_wire import limits
from raftlock_wire.messages import Op, check_request

Record = dict[str, Any]


class RecordsMissing(RaftlockError):
    """The node that answered lacks records in between. `from_index=last + 1` goes on behind them.

    Another node may have them, or what was shipped.
    """

    def __init__(self, first: int, last: int) -> None:
        super().__init__(f"the records {first} to {last} are not on the node that was asked")
        self.first, self.last = first, last


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuestion:
    """What a record must be. None: anything."""

    resource: str | None = None
    prefix: str | None = None
    """Of the resource's name."""
    owner: str | None = None
    token: int | None = None
    operation: str | None = None
    """`acquire`, `release`, `expire`, …"""
    since: datetime | None = None
    """Records of this moment and later."""
    until: datetime | None = None
    """Records before this moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """A part of a node's records."""

    applied_index: int
    """The last index that the node had applied when it began to read; records follow within a second."""
    spans: tuple[tuple[int, int], ...]
    """First and last index of what the node has and looked at."""
    next_index: int
    next_position: int
    """Where the next page begins."""
    complete: bool
    """Whether there is no more yet."""
    records: tuple[Record, ...]
    """Those that fit, in the log's order. A page may have none and go on."""


def audit_request(
    question: AuditQuestion, *, from_index: int = 1, from_position: int = 0, limit: int
) -> Callable[[int], tuple[Any, ...]]:
    """Return what makes the request with a request id. Raise BadField for what is not allowed."""
    rest = (
        from_index, from_position, question.resource, question.prefix, question.owner, question.token,
        question.operation, _microseconds(question.since), _microseconds(question.until), limit,
    )  # fmt: skip
    check_request((int(Op.AUDIT_READ), 1, *rest))
    return lambda request_id: (int(Op.AUDIT_READ), request_id, *rest)


def audit_page(answer: tuple[Any, ...]) -> AuditPage:
    """Return what an OK says."""
    applied_index, spans, next_index, next_position, complete, records = answer[3:9]
    return AuditPage(
        applied_index=applied_index,
        spans=tuple((first, last) for first, last in spans),
        next_index=next_index,
        next_position=next_position,
        complete=complete,
        records=tuple(records),
    )


def check_whole(page: AuditPage, from_index: int) -> None:
    """Raise RecordsMissing for a hole before or in a page. What lies before the first record of all is none."""
    behind = from_index - 1
    for first, last in page.spans:
        if 0 < behind < first - 1:
            raise RecordsMissing(behind + 1, first - 1)
        behind = last


def _microseconds(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    return max(0, min(round(moment.timestamp() * 1_000_000), limits.NUMBER_MAX))
