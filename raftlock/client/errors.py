"""What a client's caller may be told. Each refusal is a type with its fields; a lock that is merely held is none."""

from typing import Any

from raftlock_wire.status import Status


class RaftlockError(Exception):
    """Base of all errors of the client."""


class LockLost(RaftlockError):
    """The lock is over, or can no longer be known to be held. Stop what it protected."""

    def __init__(self, resource: str, token: int, why: str) -> None:
        super().__init__(f"lock {resource!r} (token {token}) is lost: {why}")
        self.resource, self.token, self.why = resource, token, why


class NotAcquired(RaftlockError):
    """The lock was not acquired in time. `holder` says who has it, if that is known."""

    def __init__(self, resource: str, status: Status, holder: str, token: int) -> None:
        who = f": held by {holder!r} (token {token})" if token else ""
        super().__init__(f"lock {resource!r} was not acquired ({status.name}){who}")
        self.resource, self.status, self.holder, self.token = resource, status, holder, token


class Refused(RaftlockError):
    """The cluster refused a request; `status` and `details` say why."""

    def __init__(self, status: Status, details: tuple[Any, ...]) -> None:
        super().__init__(
            f"{status.name}: {', '.join(map(str, details))}" if details else status.name
        )
        self.status, self.details = status, details


class BadRequest(Refused):
    """A field is not what is allowed: `field` and `problem` say which and why."""

    def __init__(self, status: Status, details: tuple[Any, ...]) -> None:
        super().__init__(status, details)
        self.field = str(details[0]) if details else ""
        self.problem = str(details[1]) if len(details) > 1 else ""


class Forbidden(Refused):
    """The principal may not do this."""


class QuotaExceeded(Refused):
    """A limit of the cluster is reached."""


class Overloaded(Refused):
    """The cluster takes no more for now; it was tried again until the time was up."""


class ChangeRefused(Refused):
    """The cluster is in no state for that change of its members: `cause` says why for programs, `why` for people."""

    def __init__(self, status: Status, details: tuple[Any, ...]) -> None:
        super().__init__(status, details)
        self.cause = str(details[0]) if details else ""
        self.why = str(details[1]) if len(details) > 1 else ""

    def __str__(self) -> str:
        """Return why."""
        return self.why or super().__str__()


class Unavailable(RaftlockError):
    """No node could take the request in time: nothing was done."""


class OutcomeUnknown(RaftlockError):
    """The time was up before the outcome was known. An acquire goes on being cancelled in the background."""


class ClientClosed(RaftlockError):
    """The client was closed, before or while it was asked. Its locks are released, or run out by themselves."""


class TooManyRequests(RaftlockError):
    """This client has as many requests under way as it may."""


_TYPES = {
    Status.BAD_REQUEST: BadRequest,
    Status.TOO_LARGE: BadRequest,
    Status.FORBIDDEN: Forbidden,
    Status.UNAUTHENTICATED: Forbidden,
    Status.QUOTA_EXCEEDED: QuotaExceeded,
    Status.OVERLOADED: Overloaded,
    Status.REFUSED: ChangeRefused,
}


def refusal(status: Status, details: tuple[Any, ...]) -> Refused:
    """Return the exception for a refusal."""
    return _TYPES.get(status, Refused)(status, details)
