"""The identity file and the two copies of the vote (decision 13): small, checksummed, replaced as a whole."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crc32c import crc32c

from raftlock.storage.disk import Disk
from raftlock.storage.errors import Damaged
from raftlock_wire.codec import pack, unpack
from raftlock_wire.entry import HardState
from raftlock_wire.errors import BadFrame
from raftlock_wire.ids import NodeId, Term
from raftlock_wire.membership import Membership, decode_membership

IDENTITY = "identity"
VOTES = ("vote-a", "vote-b")
_IDENTITY_MAGIC = b"RLIDENT1"
_VOTE = struct.Struct(">8sQQQ")
_VOTE_MAGIC = b"RLVOTE01"
_SEQUENCE_END = 1 << 63
_CRC = struct.Struct(">I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who the directory belongs to."""

    node_id: NodeId
    incarnation: str
    cluster_id: str | None = None
    first_membership: Membership | None = None
    logged_renewal_ttl_ms: int | None = None


def write_identity(disk: Disk, identity: Identity) -> None:
    """Replace the identity file."""
    first = identity.first_membership
    body = pack(
        [
            identity.node_id,
            identity.incarnation,
            identity.cluster_id,
            first.encode() if first is not None else None,
            identity.logged_renewal_ttl_ms,
        ]
    )
    data = _IDENTITY_MAGIC + body
    data += _CRC.pack(crc32c(data))
    _replace(disk, IDENTITY, data)


def _replace(disk: Disk, name: str, data: bytes) -> None:
    """Put a file in another one's place: at any moment one of them is there as a whole."""
    temporary = name + ".tmp"
    disk.create(temporary)
    disk.pwrite(temporary, 0, data)
    disk.fdatasync(temporary)
    disk.rename(temporary, name)
    disk.fsync_dir()


def read_identity(disk: Disk) -> Identity:
    """Read the identity file. Raise Damaged if it is not one."""
    data = disk.pread(IDENTITY, 0, 1 << 20)
    if (
        len(data) < 12
        or data[:8] != _IDENTITY_MAGIC
        or _CRC.unpack(data[-4:])[0] != crc32c(data[:-4])
    ):
        raise Damaged(file=IDENTITY, offset=0, problem="the checksum does not fit")
    try:
        values: Any = unpack(data[8:-4])
        node_id, incarnation, cluster_id, first, ttl_ms = values
        membership = decode_membership(first) if first is not None else None
    except (BadFrame, TypeError, ValueError) as error:
        raise Damaged(file=IDENTITY, offset=8, problem=str(error)) from error
    for name, value, types in (
        ("node_id", node_id, (int,)),
        ("incarnation", incarnation, (str,)),
        ("cluster_id", cluster_id, (str, type(None))),
        ("logged_renewal_ttl_ms", ttl_ms, (int, type(None))),
    ):
        if not isinstance(value, types) or isinstance(value, bool):
            raise Damaged(file=IDENTITY, offset=8, problem=f"{name} is {value!r:.60}")
    return Identity(
        node_id=NodeId(node_id),
        incarnation=incarnation,
        cluster_id=cluster_id,
        first_membership=membership,
        logged_renewal_ttl_ms=ttl_ms,
    )


class VoteFile:
    """Term and vote in two copies, written and synced one after the other: one is always whole."""

    def __init__(self, disk: Disk, sequence: int) -> None:
        self._disk = disk
        self._sequence = sequence

    def write(self, hard_state: HardState) -> None:
        """Make a term and vote durable, both copies."""
        data = self._next(hard_state)
        for name in VOTES:
            self._disk.pwrite(name, 0, data)
            self._disk.fdatasync(name)

    def _replace(self, hard_state: HardState, names: Sequence[str]) -> None:
        data = self._next(hard_state)
        for name in names:
            _replace(self._disk, name, data)

    def _next(self, hard_state: HardState) -> bytes:
        self._sequence += 1
        data = _VOTE.pack(_VOTE_MAGIC, self._sequence, hard_state.term, hard_state.voted_for)
        return data + _CRC.pack(crc32c(data))

    @staticmethod
    def create(disk: Disk) -> None:
        """Make both copies, with no term and no vote."""
        for name in VOTES:
            disk.create(name)
        VoteFile(disk, 0).write(HardState(Term(0), NodeId(0)))
        disk.fsync_dir()

    @staticmethod
    def recover(disk: Disk) -> tuple["VoteFile", HardState]:
        """Read the newer whole copy, and write it to both: what was read may be in the page cache only (decision 12)."""
        copies = {name: copy for name in VOTES if (copy := _read_vote(disk, name)) is not None}
        if not copies:
            raise Damaged(
                file=" and ".join(VOTES), offset=0, problem="neither copy of the vote is whole"
            )
        newest = max(copies, key=copies.__getitem__)
        sequence, hard_state = copies[newest]
        # Neither copy may be written over: the newest may be the only whole one, when a crash tore the other, or be in
        # the page cache only, when a process was killed or its sync failed, and then the other is the only durable one.
        # So each is replaced as a whole, the newest last.
        votes = VoteFile(disk, sequence)
        votes._replace(hard_state, [*(name for name in VOTES if name != newest), newest])
        return votes, hard_state


def _read_vote(disk: Disk, name: str) -> tuple[int, HardState] | None:
    if name not in disk.list():
        return None
    data = disk.pread(name, 0, _VOTE.size + 4)
    if len(data) != _VOTE.size + 4 or _CRC.unpack(data[-4:])[0] != crc32c(data[:-4]):
        return None
    magic, sequence, term, voted_for = _VOTE.unpack(data[:-4])
    # No writer counts so far, and the number after the last one could not be written.
    if magic != _VOTE_MAGIC or sequence >= _SEQUENCE_END:
        return None
    return sequence, HardState(Term(term), NodeId(voted_for))
