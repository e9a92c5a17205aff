"""Refusals as problem details (RFC 9457): what was wrong, where, and whether the request may yet take effect.

It owns the kinds of problems. `outcome` is the contract's guarantee 9 in one word: `refused` is final, `not_taken`
says only that this request changed nothing, `unknown` that it may yet take effect.
"""

import json
from typing import Any, NamedTuple

CONTENT_TYPE = "application/problem+json"
URN = "urn:raftlock:problem:"


def line(body: dict[str, Any]) -> bytes:
    """Return a JSON object as a line: the prompt of who asks with curl begins the next one."""
    return json.dumps(body).encode() + b"\n"


class Kind(NamedTuple):
    """One kind of problem."""

    status: int
    title: str
    outcome: str


REFUSED, NOT_TAKEN, UNKNOWN = "refused", "not_taken", "unknown"

KINDS = {
    "bad-request": Kind(400, "A field is missing or not allowed", REFUSED),
    "unauthenticated": Kind(401, "The credentials are missing or wrong", REFUSED),
    "forbidden": Kind(403, "This caller may not do that", REFUSED),
    "not-found": Kind(404, "There is no such thing here", REFUSED),
    "method-not-allowed": Kind(405, "This method is not known here", REFUSED),
    "held": Kind(409, "Another grant holds the resource", REFUSED),
    "not-held": Kind(409, "The token is not the current grant of the resource", REFUSED),
    "ending": Kind(409, "An administrator lets this lease run out", REFUSED),
    "timeout": Kind(409, "The wait ended before the resource was free", REFUSED),
    "cancelled": Kind(409, "The acquire was withdrawn", REFUSED),
    "too-large": Kind(413, "The body is too large", REFUSED),
    "unsupported-media-type": Kind(415, "The body must be JSON", REFUSED),
    "key-reused": Kind(422, "The Idempotency-Key stands for another request", REFUSED),
    "quota": Kind(429, "A limit of the cluster is reached", REFUSED),
    "internal": Kind(500, "A bug in this node", UNKNOWN),
    "unavailable": Kind(503, "No node could take the request in time", NOT_TAKEN),
    "overloaded": Kind(503, "Too many requests are under way", NOT_TAKEN),
    "unknown": Kind(503, "The request may yet take effect", UNKNOWN),
}


class Problem(Exception):
    """An HTTP request is answered with this."""

    def __init__(self, kind: str, detail: str, *, retry_after_ms: int = 0, **extra: Any) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail
        self.retry_after_ms = retry_after_ms
        self.extra = extra

    @property
    def status(self) -> int:
        """Return the HTTP status."""
        return KINDS[self.kind].status

    def body(self) -> bytes:
        """Return the problem as JSON."""
        kind = KINDS[self.kind]
        members: dict[str, Any] = {
            "type": URN + self.kind,
            "title": kind.title,
            "status": kind.status,
            "detail": self.detail,
            "success": False,
            "outcome": kind.outcome,
        }
        if self.retry_after_ms:
            members["retryAfterMs"] = self.retry_after_ms
        return line({**members, **self.extra})

    def headers(self) -> dict[str, str]:
        """Return the headers that go with it."""
        if self.status in (429, 503):
            return {"Retry-After": str(max(1, -(-self.retry_after_ms // 1_000)))}
        if self.status == 405:
            return {"Allow": self.extra["allowed"]}
        return {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}


def bad_field(field: str, problem: str, allowed: str) -> Problem:
    """Return the refusal of one field: which, what it is, and what is allowed."""
    return Problem("bad-request", f"{field}: {problem}", field=field, allowed=allowed)
