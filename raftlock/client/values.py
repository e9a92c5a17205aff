"""What a client's reads return."""

from dataclasses import dataclass
from typing import Any

from raftlock_wire.messages import GrantState


@dataclass(frozen=True, slots=True, kw_only=True)
class LockInfo:
    """A lock, an offer or a waiting acquire, as the cluster shows it."""

    resource: str
    state: GrantState
    token: int
    rev: int
    owner: str
    session: int
    ttl: float | None
    """Seconds; None: it lives in its session."""
    since: float
    """Wall clock of the grant, in seconds since 1970. For people."""
    address: str
    metadata: dict[str, str]
    waiters: int
    expires_in: float | None
    """Seconds, an estimate; None: not known, or in a session."""


def lock_info(info: tuple[Any, ...]) -> LockInfo:
    """Return what an info of the protocol says."""
    (
        resource,
        state,
        token,
        rev,
        owner,
        session,
        _,
        _,
        ttl_ms,
        since_us,
        _,
        address,
        metadata,
        waiters,
        expires,
    ) = info
    return LockInfo(
        resource=resource,
        state=GrantState(state),
        token=token,
        rev=rev,
        owner=owner,
        session=session,
        ttl=ttl_ms / 1_000 if ttl_ms else None,
        since=since_us / 1e6,
        address=address,
        metadata=metadata or {},
        waiters=waiters,
        expires_in=None if expires is None else expires / 1_000,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberInfo:
    """A member of the cluster, as its leader sees it."""

    node_id: int
    incarnation: str
    """Of the node's data directory: an emptied one has another."""
    peer_address: str
    client_address: str
    voter: bool
    """Whether it counts in majorities; a learner only gets the log."""
    behind: int
    """Entries of the log that it is not known to have."""
    heard: float | None
    """Seconds since it answered the leader; None: it has not, since that one leads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """The members of the cluster."""

    cluster_id: str
    settled: bool
    """Whether they are committed; while not, the last change may be undone."""
    members: tuple[MemberInfo, ...]

    def get(self, node_id: int) -> MemberInfo | None:
        """Return the member with this id, or None."""
        return next((m for m in self.members if m.node_id == node_id), None)


def members_info(cluster_id: str, settled: bool, rows: tuple[Any, ...]) -> Members:
    """Return what the answer to MEMBERS says."""
    return Members(
        cluster_id=cluster_id,
        settled=settled,
        members=tuple(
            MemberInfo(
                node_id=node_id,
                incarnation=incarnation,
                peer_address=peer,
                client_address=client,
                voter=voter,
                behind=behind,
                heard=None if heard_ms is None else heard_ms / 1_000,
            )
            for node_id, incarnation, peer, client, voter, behind, heard_ms, *_ in rows
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """What one node says of itself."""

    id: int
    pid: int
    role: str
    term: int
    leader: int
    """The node that leads, as far as this one knows; 0: none."""
    commit_index: int
    applied_index: int
    address: str
    healthy: bool
    cluster_id: str
    locks: int
    waiters: int
    sessions: int


def node_status(values: dict[str, Any]) -> NodeStatus:
    """Return what the answer to NODE_STATUS says; fields that this version does not know are left out."""
    names = NodeStatus.__dataclass_fields__
    return NodeStatus(**{name: values[name] for name in names})
