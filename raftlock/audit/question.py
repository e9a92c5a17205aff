"""What is asked of the records, and what an answer took. It must not know where records are."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

from raftlock.audit.format import Header, Record
from raftlock.audit.names import Row


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a record must be. None: anything."""

    resource: str | None = None
    prefix: str | None = None
    owner: str | None = None
    token: int | None = None
    operation: str | None = None
    since: datetime | None = None
    """Records of this time and later."""
    until: datetime | None = None
    """Records before this time."""

    def fits(self, row: Row) -> bool:
        """Return whether a record is asked about."""
        for name, wanted in self._equal:
            if row.get(name) != wanted:
                return False
        if self.prefix is not None and not row.get("resource", "\0").startswith(self.prefix):
            return False
        since, until = self._times
        return (not since or row["time"] >= since) and (not until or row["time"] < until)

    def may_fit(self, record: Record) -> bool:
        """Return whether any row of a record may fit, without decoding it: names stand in it as they are."""
        data, results = record.entry.data, record.results
        return all(needle in data or needle in results for needle in self._needles)

    def may_fit_segment(self, header: Header) -> bool:
        """Return whether a segment's times leave room for a row that fits."""
        since, until = self.since, self.until
        if since is not None and header.last_wall_us < since.timestamp() * 1e6 - 1:
            return False
        return until is None or header.first_wall_us <= until.timestamp() * 1e6 + 1

    @cached_property
    def _equal(self) -> list[tuple[str, str | int]]:
        names = ("resource", "owner", "token", "operation")
        return [(name, value) for name in names if (value := getattr(self, name)) is not None]

    @cached_property
    def _needles(self) -> list[bytes]:
        texts = (self.resource, self.prefix, self.owner)
        return [text.encode() for text in texts if text]

    @cached_property
    def _times(self) -> tuple[str, str]:
        return _text(self.since), _text(self.until)


def _text(moment: datetime | None) -> str:
    """Return a time in the form of a row's: such texts sort as their times do."""
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"


@dataclass(slots=True)
class Cost:
    """What an answer took, and what it lacks."""

    objects: int = 0
    objects_opened: int = 0
    groups: int = 0
    """Groups of rows in the objects that were opened."""
    groups_read: int = 0
    size: int = 0
    """Bytes of the objects whose names fit the times."""
    read_size: int = 0
    """Bytes that were asked of the store."""
    requests: int = 0
    records: int = 0
    """Entries of the log that were read from nodes."""
    index: int = 0
    """Up to which entry of the log was looked, so far."""
    missing: list[tuple[int, int]] = field(default_factory=list)
    """First and last index of what was found nowhere."""
