"""The lock table: a deterministic state machine. Apply is a function of (state, entry) and of nothing else (decision 6)."""

from raftlock.locks.reads import RenewalClass
from raftlock.locks.records import Grant, Session, Settings, Waiter
from raftlock.locks.snapshot import SnapshotLoader, SnapshotStream
from raftlock.locks.table import Applied, LockTable
from raftlock.locks.versions import VERSIONS, UnknownCommand, UnknownVersion, Versions

__all__ = [
    "VERSIONS",
    "Applied",
    "Grant",
    "LockTable",
    "RenewalClass",
    "Session",
    "Settings",
    "SnapshotLoader",
    "SnapshotStream",
    "UnknownCommand",
    "UnknownVersion",
    "Versions",
    "Waiter",
]
