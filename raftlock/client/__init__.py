"""The Python client: `AsyncClient`, its handles and errors, and `FencingGuard` for the side that keeps a resource."""

from raftlock.client.async_client import AsyncClient, Lock
from raftlock.client.errors import (
    BadRequest,
    Forbidden,
    LockLost,
    NotAcquired,
    OutcomeUnknown,
    Overloaded,
    QuotaExceeded,
    RaftlockError,
    Refused,
    TooManyRequests,
    Unavailable,
)
from raftlock.client.guard import FencingGuard, StaleToken
from raftlock.client.values import LockInfo, NodeStatus

__all__ = [
    "AsyncClient",
    "BadRequest",
    "FencingGuard",
    "Forbidden",
    "Lock",
    "LockInfo",
    "LockLost",
    "NodeStatus",
    "NotAcquired",
    "OutcomeUnknown",
    "Overloaded",
    "QuotaExceeded",
    "RaftlockError",
    "Refused",
    "StaleToken",
    "TooManyRequests",
    "Unavailable",
]
