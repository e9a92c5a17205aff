"""The statuses of an answer (semantics.md, "Statuses"). The numbers are the protocol's."""

from enum import IntEnum


class Status(IntEnum):
    """How an operation ended, or that it has not ended yet."""

    OK = 0
    OFFERED = 1
    """A waiting acquire came to its turn: renew the token within min(ttl, 2 s) to hold it (L10)."""
    QUEUED = 2
    """The acquire waits; an event, or the same key sent again, tells how it ends."""
    HELD = 3
    """Another grant is in the way; for change_ttl: the lease has another rev."""
    NOT_HELD = 4
    """The token is not the current grant of the resource."""
    ENDING = 5
    """An administrator lets this lease run out: it cannot be renewed."""
    SESSION_EXPIRED = 6
    TIMEOUT = 7
    CANCELLED = 8
    NO_QUORUM = 9
    """This attempt was not appended: no leader is known, or it cannot reach a majority."""
    UNKNOWN = 10
    """This attempt may or may not take effect: ask again."""
    OVERLOADED = 11
    QUOTA_EXCEEDED = 12
    UNAUTHENTICATED = 13
    FORBIDDEN = 14
    BAD_REQUEST = 15
    TOO_LARGE = 16
    UNSUPPORTED_VERSION = 17
    REFUSED = 18
    """What the cluster is in now does not allow it; the answer says why."""
