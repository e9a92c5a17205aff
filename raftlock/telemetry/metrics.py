"""Every metric of a node, in one table: its name, kind, labels and meaning.

It owns names. docs/metrics.md is this table in prose, and a test holds the two together. Base units (seconds, bytes),
`_total` for what only grows.
"""

from enum import Enum
from typing import NamedTuple


class Kind(Enum):
    """What a metric's values do."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(NamedTuple):
    """One metric."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

METRICS = (
    # the node
    Metric("raftlock_build_info", _G, "1; the version is a label.", ("version",)),
    Metric("raftlock_has_cluster", _G, "1 when the node belongs to a cluster, else 0."),
    Metric("raftlock_role", _G, "1 for the role that the node has, 0 for the others.", ("role",)),
    Metric("raftlock_serving", _G, "1 on a leader that has applied an entry of its own term."),
    Metric("raftlock_term", _G, "The term."),
    Metric("raftlock_leader_id", _G, "Who leads, as far as this node knows; 0 when nobody does."),
    Metric("raftlock_commit_index", _G, "The highest index known to be committed."),
    Metric("raftlock_applied_index", _G, "The highest index applied."),
    Metric("raftlock_durable_index", _G, "The highest index on this node's disk."),
    Metric("raftlock_last_index", _G, "The last index of this node's log."),
    Metric("raftlock_elections_total", _C, "Elections that this node won."),
    Metric("raftlock_step_downs_total", _C, "Leaderships of this node that ended."),
    Metric("raftlock_leader_changes_total", _C, "Leaders that this node learned of."),
    Metric("raftlock_members", _G, "Members of the cluster, as this node knows them.", ("role",)),
    Metric("raftlock_peer_connected", _G, "1 while the link to the member is up.", ("peer",)),
    Metric("raftlock_replication_lag_entries", _G, "On a leader: entries that the member is behind.", ("peer",)),
    # the table
    Metric("raftlock_locks", _G, "Locks held or offered."),
    Metric("raftlock_waiters", _G, "Acquires that wait in queues."),
    Metric("raftlock_sessions", _G, "Sessions."),
    Metric("raftlock_logged_leases", _G, "Leases that are renewed through the log."),
    # requests
    Metric("raftlock_operations_total", _C, "Answers given by the state, by operation and status; of a renew: leases.", ("operation", "status")),
    Metric("raftlock_refusals_total", _C, "Attempts that this node did not take.", ("reason",)),
    Metric("raftlock_forwarded_requests_total", _C, "Requests that this follower sent on to the leader."),
    Metric("raftlock_events_total", _C, "Events pushed to clients.", ("event",)),
    Metric("raftlock_expiries_total", _C, "Ends that this leader proposed for what was due.", ("kind",)),
    Metric("raftlock_sweeps_total", _C, "Sweeps of ended sessions and of dead waiters that this leader proposed."),
    Metric("raftlock_log_request_duration_seconds", _H, "From the first request of a batch to the sending of its answers; one sample a batch."),
    Metric("raftlock_quorum_round_duration_seconds", _H, "Quorum rounds for reads, renewals and keep-alives; one sample a round."),
    Metric("raftlock_batch_requests", _H, "Requests in one entry of the log."),
    Metric("raftlock_batch_bytes", _H, "Bytes of one entry of the log."),
    Metric("raftlock_entries_applied_total", _C, "Entries applied."),
    Metric("raftlock_queue_length", _G, "What waits, by queue.", ("queue",)),
    # leases
    Metric("raftlock_deadlines_armed", _G, "On a leader: deadlines of locks, sessions and waits.", ("kind",)),
    Metric("raftlock_timer_entries_dead", _G, "On a leader: entries of the timers whose key is gone.", ("kind",)),
    Metric("raftlock_lease_commands_in_flight", _G, "On a leader: leases with a logged command under way, expiries included."),
    Metric("raftlock_deadline_overdue_seconds", _G, "On a leader: how long ago the oldest deadline that is still armed passed."),
    # disk
    Metric("raftlock_wal_sync_duration_seconds", _H, "One write and sync of the log."),
    Metric("raftlock_wal_written_bytes_total", _C, "Bytes of entries written to the log."),
    Metric("raftlock_wal_size_bytes", _G, "Bytes of the log's segments."),
    Metric("raftlock_wal_room", _G, "0 when the next segment cannot be preallocated: new acquires are refused."),
    Metric("raftlock_disk_free_bytes", _G, "Room on the data directory's file system."),
    Metric("raftlock_disk_job_duration_seconds", _H, "One job of the disk thread other than a write of the log.", ("job",)),
    Metric("raftlock_snapshots_total", _C, "Snapshots saved, installed or refused.", ("outcome",)),
    Metric("raftlock_snapshot_duration_seconds", _H, "From a snapshot's first part to its rename."),
    Metric("raftlock_snapshot_size_bytes", _G, "Bytes of the last snapshot that this node saved."),
    Metric("raftlock_wall_clock_behind_seconds", _G, "How far this node's wall clock is behind the log's time: it was set back, or the leader's was wrong."),
    # the audit
    Metric("raftlock_audit_on", _G, "1 when this node records the audit."),
    Metric("raftlock_audit_recorded_index", _G, "The last index recorded, on the disk or about to be."),
    Metric("raftlock_audit_lag_entries", _G, "Entries applied and not recorded yet."),
    Metric("raftlock_audit_under_way_bytes", _G, "Bytes on their way to the audit: at 64 MiB apply waits."),
    Metric("raftlock_audit_entries_total", _C, "Entries recorded."),
    Metric("raftlock_audit_commands_total", _C, "Commands of the entries recorded."),
    Metric("raftlock_audit_segments", _G, "Finished segments on this node, and gaps: what is not.", ("kind",)),
    Metric("raftlock_audit_size_bytes", _G, "Bytes of the finished segments on this node."),
    Metric("raftlock_audit_read_records_total", _C, "Records that were sent to those who asked for them."),
    Metric("raftlock_audit_read_bytes_total", _C, "Bytes of entries and results that were looked at for them."),
    Metric("raftlock_audit_segments_finished_total", _C, "Segments finished, and gaps noted.", ("kind",)),
    # the shipper: only where audit_tier is set
    Metric("raftlock_audit_ship_running", _G, "1 while this node's shipper runs."),
    Metric("raftlock_audit_ship_active", _G, "1 on the node whose shipper ships: the leader."),
    Metric("raftlock_audit_ship_restarts_total", _C, "Shippers that were started because one had ended."),
    Metric("raftlock_audit_ship_shipped_total", _C, "Segments that this node's shipper wrote to the store."),
    Metric("raftlock_audit_ship_failures_total", _C, "Passes that did not end well, by kind.", ("kind",)),
    Metric("raftlock_audit_ship_last_pass_timestamp_seconds", _G, "When a whole pass of this node's shipper last ended; 0: none has."),
    Metric("raftlock_audit_ship_lag_seconds", _G, "On the leader: since the oldest finished segment that the store lacks ended; 0: it lacks none."),
    Metric("raftlock_audit_ship_lag_bytes", _G, "On the leader: bytes of the finished segments that the store lacks."),
    Metric("raftlock_audit_ship_segments", _G, "On the leader: its finished segments, only here (local) or in the store too (shipped).", ("tier",)),
    Metric("raftlock_audit_ship_missing_entries", _G, "On the leader: entries that neither the store nor this node has: they keep a day open."),
    # the loop
    Metric("raftlock_turns_total", _C, "Turns of the core."),
    Metric("raftlock_turn_duration_seconds", _H, "One turn of the core and the sending of what it decided."),
    Metric("raftlock_loop_stall_seconds", _H, "How late the event loop is with a timer of 50 ms."),
    Metric("raftlock_loop_longest_stall_seconds", _G, "The latest that the event loop was with it since the start."),
    # connections
    Metric("raftlock_client_connections", _G, "Clients: connections, and HTTP requests under way."),
    Metric("raftlock_client_connections_total", _C, "Client connections that came.", ("outcome",)),
    Metric("raftlock_client_connections_refused_total", _C, "Client connections that this node turned away or gave up.", ("reason",)),
    Metric("raftlock_peer_connections_refused_total", _C, "Connections with callers and members that this node turned away or gave up.", ("reason",)),
    Metric("raftlock_refused_by_peer_total", _C, "Calls of this node that a member did not take.", ("peer",)),
    Metric("raftlock_received_frames_total", _C, "Frames received.", ("from",)),
    Metric("raftlock_received_bytes_total", _C, "Bytes of frames received.", ("from",)),
    Metric("raftlock_sent_frames_total", _C, "Frames sent.", ("to",)),
    Metric("raftlock_sent_bytes_total", _C, "Bytes of frames sent.", ("to",)),
    # HTTP
    Metric("raftlock_http_requests_total", _C, "HTTP requests answered.", ("route", "code")),
    Metric("raftlock_http_request_duration_seconds", _H, "HTTP requests, waiting included.", ("route",)),
    Metric("raftlock_http_requests_in_progress", _G, "HTTP requests under way."),
    Metric("raftlock_http_withdrawals_in_progress", _G, "Acquires whose caller left, not yet known to be withdrawn."),
    Metric("raftlock_http_connections", _G, "HTTP connections."),
    Metric("raftlock_http_connections_refused_total", _C, "HTTP connections that this node turned away or gave up.", ("reason",)),
)  # fmt: skip

BY_NAME = {metric.name: metric for metric in METRICS}

CLIENT_REASONS = {
    "limit": "the node has as many connections as it may open files for",
    "no_cluster": "the node has no cluster yet",
    "stopping": "the node is being stopped",
    "no_hello": "no hello within 5 s",
    "hello": "its first frame is not one well-formed HELLO",
    "version": "it speaks no version that the node speaks",
    "cluster_id": "it wants another cluster",
    "frame_too_large": "it announced a frame over the limit",
    "bad_frame": "it sent what is no frame of requests",
    "unread": "it does not read what it is sent",
    "silent": "its host answers nothing, TCP's probes included, for 30 s: a half-open connection",
}
"""Why a client's connection is turned away or given up: label to meaning. They come from the code, never from a client."""
PEER_REASONS = {
    "limit": "256 callers have not said who they are yet",
    "no_hello": "no hello within 5 s",
    "version": "it speaks another version",
    "node": "it wants another node than this one",
    "cluster_id": "it is of another cluster",
    "removed": "it was a member, and was removed",
    "not_member": "the membership does not list it, or with another incarnation",
    "membership": "the first membership that it brought is not for this node",
    "frame_too_large": "it announced a frame over the limit",
    "bad_frame": "it sent what is no message of a member",
    "unread": "it does not read what it is sent",
    "silent": "its host answers nothing, TCP's probes included, for 3 s: a half-open connection",
}
"""The same for callers of the peer port, members, and this node's own calls to members."""
HTTP_REASONS = {
    "limit": "4,096 connections are open",
    "slow": "a request's headers did not come within 10 s",
    "bad_http": "it sent what is no HTTP",
    "silent": "its host answers nothing, TCP's probes included, for 30 s: a half-open connection",
}
"""The same for HTTP connections. One that is closed while it waits for another request is not among them."""
