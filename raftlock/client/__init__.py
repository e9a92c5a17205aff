"""The Python client: `Client`, `AsyncClient`, their handles and errors, and `FencingGuard` for who keeps a resource."""

from raftlock.client.acquiring import AcquireResult
from raftlock.client.async_client import AsyncClient
from raftlock.client.errors import (
    BadRequest,
    ChangeRefused,
    ClientClosed,
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
from raftlock.client.lock import Lock
from raftlock.client.records import AuditPage, AuditQuestion, RecordsMissing
from raftlock.client.sync_client import Client
from raftlock.client.sync_lock import SyncLock
from raftlock.client.values import LockInfo, MemberInfo, Members, NodeStatus

__all__ = [
    "AcquireResult",
    "AsyncClient",
    "AuditPage",
    "AuditQuestion",
    "BadRequest",
    "ChangeRefused",
    "Client",
    "ClientClosed",
    "FencingGuard",
    "Forbidden",
    "Lock",
    "LockInfo",
    "LockLost",
    "MemberInfo",
    "Members",
    "NodeStatus",
    "NotAcquired",
    "OutcomeUnknown",
    "Overloaded",
    "QuotaExceeded",
    "RaftlockError",
    "RecordsMissing",
    "Refused",
    "StaleToken",
    "SyncLock",
    "TooManyRequests",
    "Unavailable",
]
