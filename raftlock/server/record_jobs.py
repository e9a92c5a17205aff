"""A page of the audit that a client asked for, as data, and the one function that reads it.

Production runs it on a thread of its own. The loop and that thread share the interpreter, so it works in slices, and
hands on what is encoded already: the loop only sends it.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from raftlock.audit import AuditDamaged
from raftlock.audit.pages import Bounds, Files, PageReader, Place
from raftlock.audit.question import Question
from raftlock_wire.codec import array_header, pack
from raftlock_wire.errors import BadFrame
from raftlock_wire.status import Status

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_US = 253_402_300_799_999_999
"""The end of the year 9999: a later moment is as good as none."""


class RecordsJob(NamedTuple):
    """Read a page. Result: a RecordsRead."""

    request: tuple[Any, ...]
    """AUDIT_READ, checked."""
    applied_index: int


class RecordsRead(NamedTuple):
    """A page that was read, or why it was not."""

    status: Status
    encoded: bytes
    """An array of the one answer."""
    records: int = 0
    scanned: int = 0
    """Bytes of entries and results that were looked at."""


class RecordsRunner:
    """Reads pages of one directory. `files` None: this node keeps no audit."""

    def __init__(
        self, files: Files | None, *, pace: Callable[[], Callable[[], bool]] = lambda: lambda: True
    ) -> None:
        """`pace` gives each page what is asked after each record: see Bounds."""
        self._reader = PageReader(files) if files is not None else None
        self._pace = pace

    def run(self, job: RecordsJob) -> RecordsRead:
        """Read a page. What cannot be read is an answer: it must not end a node that serves locks."""
        _, request_id, index, position, *_, limit = job.request
        if self._reader is None:
            return refused(request_id, "no_audit", "this node keeps no audit")
        bounds = Bounds(records=limit, goes_on=self._pace())
        try:
            page = self._reader.read(question_of(job.request), Place(index, position), bounds)
        except (AuditDamaged, BadFrame, OSError) as error:
            return refused(request_id, "unreadable", str(error))
        head = (
            request_id, int(Status.OK), True, job.applied_index, page.spans, *page.next, page.complete,
        )  # fmt: skip
        encoded = b"".join(
            (
                array_header(1),
                array_header(len(head) + 1),
                *map(pack, head),
                array_header(len(page.rows)),
                *page.rows,
            )
        )
        return RecordsRead(Status.OK, encoded, len(page.rows), page.scanned)


def refused(request_id: int, cause: str, why: str) -> RecordsRead:
    """Return the answer to what cannot be read here."""
    answer = (request_id, int(Status.REFUSED), True, cause, why)
    return RecordsRead(Status.REFUSED, pack([answer]))


def question_of(request: tuple[Any, ...]) -> Question:
    """Return what a request asks for."""
    _, _, _, _, resource, prefix, owner, token, operation, since_us, until_us, _ = request
    return Question(
        resource=resource,
        prefix=prefix,
        owner=owner,
        token=token,
        operation=operation,
        since=_moment(since_us),
        until=_moment(until_us),
    )


def _moment(wall_us: int | None) -> datetime | None:
    return None if wall_us is None else _EPOCH + timedelta(microseconds=min(wall_us, _LATEST_US))
