"""What a node keeps through a power cut: the log, the votes, snapshots and who it is. FORMAT.md has the bytes.

Everything here is synchronous, is run by one thread, and reaches the system only through the `Disk` port.
"""

from raftlock.storage.disk import Disk
from raftlock.storage.disk_os import OsDisk
from raftlock.storage.errors import (
    BadSnapshot,
    ClusterMismatch,
    Damaged,
    DirectoryInUse,
    DiskFailed,
    NoRoom,
    NotOurs,
    SnapshotGone,
    StorageError,
)
from raftlock.storage.snapshots import SnapshotWriter
from raftlock.storage.store import Prepared, Recovered, Store, StoreConfig

__all__ = [
    "BadSnapshot",
    "ClusterMismatch",
    "Damaged",
    "DirectoryInUse",
    "Disk",
    "DiskFailed",
    "NoRoom",
    "NotOurs",
    "OsDisk",
    "Prepared",
    "Recovered",
    "SnapshotGone",
    "SnapshotWriter",
    "StorageError",
    "Store",
    "StoreConfig",
]
