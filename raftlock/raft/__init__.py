"""Consensus without input or output: `step`, `tick`, `propose` in, one `Ready` out (Raft; Ongaro's thesis).

The ordering contract of a Ready is written at its fields. Nothing here reads a clock, a file or a socket.
"""

from raftlock.raft.core import MembershipBusy, NotLeader, Raft
from raftlock.raft.messages import (
    AppendEntries,
    AppendEntriesResult,
    InstallSnapshot,
    InstallSnapshotResult,
    Message,
    RequestVote,
    RequestVoteResult,
    TimeoutNow,
)
from raftlock.raft.peer_view import PeerView
from raftlock.raft.ready import Outgoing, Ready, SnapshotChunk, SnapshotWanted
from raftlock.raft.state import RaftConfig, Role

__all__ = [
    "AppendEntries",
    "AppendEntriesResult",
    "InstallSnapshot",
    "InstallSnapshotResult",
    "MembershipBusy",
    "Message",
    "NotLeader",
    "Outgoing",
    "PeerView",
    "Raft",
    "RaftConfig",
    "Ready",
    "RequestVote",
    "RequestVoteResult",
    "Role",
    "SnapshotChunk",
    "SnapshotWanted",
    "TimeoutNow",
]
