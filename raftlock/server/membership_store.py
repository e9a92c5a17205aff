"""A node's data directory and what it says of the node: its identity, its cluster, and the state to start from.

It owns the way from recovered storage to a Driver. It must not know sockets.
"""

import os
import random
import secrets
from collections.abc import Callable

from raftlock.audit import AuditDisk, AuditLog, CutRule, Keep
from raftlock.locks import VERSIONS, LockTable, Versions
from raftlock.raft import Raft, RaftConfig
from raftlock.server.config import ServerConfig
from raftlock.server.driver import Driver, DriverConfig
from raftlock.server.handshake import BootstrapSet, Callee, PeerHello
from raftlock.server.jobs import Loaded, load_snapshot
from raftlock.storage import Disk, Prepared, Recovered, Store, StoreConfig
from raftlock.telemetry.counters import Counters
from raftlock_wire.ids import NodeId
from raftlock_wire.limits import LOGGED_RENEWAL_TTL_MS_DEFAULT, PROTOCOL_VERSION
from raftlock_wire.membership import Membership, decode_membership


def open_store(
    disk: Disk,
    *,
    node_id: NodeId,
    segment_size: int,
    incarnation: str | None = None,
    open_audit: Callable[[], AuditDisk] | None = None,
    audit_rule: CutRule | None = None,
) -> "NodeStore":
    """Open a data directory; format it first if it is empty, with a random incarnation if none is given.

    `open_audit` opens the directory of the audit, None: it is off. `audit_rule` is for tests: it must be every node's.
    """
    if not Store.is_formatted(disk):
        Store.format(disk, node_id=node_id, incarnation=incarnation or secrets.token_hex(16))
    store, recovered = Store.open(
        disk, node_id=node_id, config=StoreConfig(segment_size=segment_size)
    )
    return NodeStore(store, recovered, open_audit() if open_audit is not None else None, audit_rule)


class NodeStore:
    """Who this node is, as its disk says."""

    def __init__(
        self,
        store: Store,
        recovered: Recovered,
        audit_disk: AuditDisk | None,
        audit_rule: CutRule | None,
    ) -> None:
        self.store = store
        self.audit: AuditLog | None = None
        """From `make_driver` on, where the audit is on."""
        self._audit_disk = audit_disk
        self._audit_rule = audit_rule
        self._recovered = recovered
        self.node_id = recovered.node_id
        self.incarnation = recovered.incarnation
        self.cluster_id: str | None = recovered.cluster_id
        self.first_membership: Membership = recovered.first_membership or Membership()
        known_ms = recovered.logged_renewal_ttl_ms
        # 0 is a value: every renewal goes through the log.
        self.logged_renewal_ttl_ms = LOGGED_RENEWAL_TTL_MS_DEFAULT if known_ms is None else known_ms

    def set_cluster(self, message: BootstrapSet) -> None:
        """Make the first membership durable. The caller has checked that it lists this node."""
        first = decode_membership(message.first_membership)
        self.store.set_cluster(
            cluster_id=message.cluster_id,
            membership=first,
            logged_renewal_ttl_ms=message.logged_renewal_ttl_ms,
        )
        self.cluster_id = message.cluster_id
        self.first_membership = first
        self.logged_renewal_ttl_ms = message.logged_renewal_ttl_ms

    def hello(self, to_id: NodeId, membership: Membership, version_max: int) -> PeerHello:
        """Return the hello to a member, with the members that this node knows now."""
        assert self.cluster_id is not None
        return PeerHello(
            PROTOCOL_VERSION,
            self.node_id,
            self.incarnation,
            to_id,
            self.cluster_id,
            self.first_membership.encode(),
            self.logged_renewal_ttl_ms,
            version_max,
            membership.encode(),
        )

    def callee(self, membership: Membership, committed: Membership) -> Callee:
        """Return this node as one that is called: by the members in force, and the last that are committed."""
        return Callee(self.node_id, self.incarnation, self.cluster_id, membership, committed)

    def make_driver(
        self,
        config: ServerConfig,
        *,
        now_us: int,
        rng: random.Random,
        versions: Versions = VERSIONS,
    ) -> Driver:
        """Build the core from what the disk held. Raise UnknownVersion for a later build's state (decision 7)."""
        # The first write must not wait for a whole segment: a leader would be taken for lost meanwhile.
        while self.store.prepare() is Prepared.MORE:
            pass
        recovered = self._recovered
        snapshot = recovered.snapshot
        loaded = (
            Loaded(LockTable(versions), None)
            if snapshot is None
            else load_snapshot(self.store, snapshot, versions)
        )
        first = (
            self.first_membership if snapshot is None else decode_membership(snapshot.membership)
        )
        raft = Raft(
            config=RaftConfig(
                node_id=self.node_id,
                incarnation=self.incarnation,
                heartbeat_us=config.heartbeat_ms * 1_000,
                election_min_us=config.election_min_ms * 1_000,
                election_max_us=config.election_max_ms * 1_000,
            ),
            hard_state=recovered.hard_state,
            membership=first,
            snapshot=snapshot,
            entries=recovered.entries,
            rng=rng,
            now_us=now_us,
        )
        assert self.cluster_id is not None
        if self._audit_disk is not None:
            keep = Keep(size=config.audit_size, age_us=config.audit_hours * 3_600_000_000)
            self.audit = AuditLog(
                self._audit_disk, cluster_id=self.cluster_id, rule=self._audit_rule, keep=keep
            )
            self.audit.recover(
                snapshot_index=snapshot.index if snapshot is not None else 0,
                state=loaded.audit_state,
            )
        return Driver(
            config=DriverConfig(
                node_id=self.node_id,
                incarnation=self.incarnation,
                cluster_id=self.cluster_id,
                logged_renewal_ttl_ms=self.logged_renewal_ttl_ms,
                stall_us=config.election_min_ms * 1_000,
                snapshot_log_size=config.snapshot_log_size,
                audit=self.audit is not None,
                pid=os.getpid(),
                trace=config.log_level == "debug",
            ),
            raft=raft,
            table=loaded.table,
            applied=snapshot,
            membership=first,
            counters=Counters() if config.metrics == "on" else None,
        )

    def close(self) -> None:
        """Close the files and let go of the directory."""
        self.store.close()
        if self._audit_disk is not None:
            self._audit_disk.close()
