"""The values of all metrics at one moment, gathered when somebody asks.

It owns which value belongs to which name. It must not know how they are shown.
"""

import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from raftlock.audit import AuditLog
from raftlock.server.driver import ROLES, Driver
from raftlock.server.leases import Leases
from raftlock.server.meter import Meter, TimedRunner
from raftlock.server.shipping import Shipping
from raftlock.server.timers import Timers
from raftlock.telemetry.counters import EVENTS, Counters
from raftlock.telemetry.exposition import Samples, Value
from raftlock_wire.ids import NO_NODE

if TYPE_CHECKING:
    from raftlock.server.node import Node

_US = 1e-6
_ONE: tuple[str, ...] = ()

Found = dict[str, dict[tuple[str, ...], Value]]


def node_samples(node: "Node") -> Samples:
    """Return every metric of a node. Before it has a cluster most of them have no value."""
    found: Found = {
        "raftlock_build_info": {(package_version(),): 1},
        "raftlock_has_cluster": {_ONE: int(node.driver is not None)},
    }
    _wiring(found, node.meter)
    found["raftlock_client_connections"] = {_ONE: node.connection_count}
    if node.driver is not None:
        _consensus(found, node, node.driver)
        _table(found, node.driver)
        _leases(found, node.driver)
        if node.driver.counters is not None:
            _core(found, node.driver.counters)
        _audit(found, node.driver, node.store.audit)
    if node.shipping is not None:
        _shipping(found, node.shipping)
    if node.runner is not None:
        _disk(found, node, node.runner)
    return found


def package_version() -> str:
    """Return this package's version."""
    try:
        return version("raftlock")
    except PackageNotFoundError:
        return "unknown"


def _wiring(found: Found, meter: Meter) -> None:
    found["raftlock_turns_total"] = {_ONE: meter.turns.count}
    found["raftlock_turn_duration_seconds"] = {_ONE: (meter.turns, _US)}
    found["raftlock_loop_stall_seconds"] = {_ONE: (meter.stalls, _US)}
    found["raftlock_loop_longest_stall_seconds"] = {_ONE: meter.longest_stall_us * _US}
    found["raftlock_client_connections_total"] = {
        ("accepted",): meter.connections_accepted,
        ("refused",): meter.connections_refused,
    }
    refusals = (
        ("client", meter.clients_refused),
        ("peer", meter.peers_refused),
        ("http", meter.http_refused),
    )
    for whose, by_reason in refusals:
        found[f"raftlock_{whose}_connections_refused_total"] = {
            (reason,): count for reason, count in by_reason.items()
        }
    incoming = {("clients",): meter.from_clients, ("peers",): meter.from_peers}
    outgoing = {("clients",): meter.to_clients, ("peers",): meter.to_peers}
    for name, ways in (("received", incoming), ("sent", outgoing)):
        found[f"raftlock_{name}_frames_total"] = {k: way.frames for k, way in ways.items()}
        found[f"raftlock_{name}_bytes_total"] = {k: way.bytes for k, way in ways.items()}
    notices = meter.notices
    found["raftlock_elections_total"] = {_ONE: notices.get("elected", 0)}
    found["raftlock_step_downs_total"] = {_ONE: notices.get("stepped_down", 0)}
    found["raftlock_leader_changes_total"] = {_ONE: notices.get("leader", 0)}
    found["raftlock_snapshots_total"] = {
        (outcome,): notices.get(f"snapshot_{outcome}", 0)
        for outcome in ("saved", "installed", "refused")
    }
    found["raftlock_snapshot_size_bytes"] = {_ONE: meter.snapshot_size}


def _consensus(found: Found, node: "Node", driver: Driver) -> None:
    raft = driver.raft
    found["raftlock_role"] = {(role,): int(driver.role == role) for role in ROLES}
    found["raftlock_members"] = {
        ("voter",): len(raft.membership.voters),
        ("learner",): len(raft.membership.learners),
    }
    found["raftlock_serving"] = {_ONE: int(driver.serving)}
    found["raftlock_term"] = {_ONE: raft.term}
    found["raftlock_leader_id"] = {_ONE: raft.leader_id if raft.leader_id != NO_NODE else 0}
    found["raftlock_commit_index"] = {_ONE: raft.commit_index}
    found["raftlock_applied_index"] = {_ONE: driver.applied_index}
    found["raftlock_durable_index"] = {_ONE: raft.state.durable_index}
    found["raftlock_last_index"] = {_ONE: raft.last_index}
    behind_us = raft.last_wall_us - time.time_ns() // 1_000
    found["raftlock_wall_clock_behind_seconds"] = {_ONE: max(0, behind_us) * _US}
    others = [m.node_id for m in raft.membership.members if m.node_id != driver.config.node_id]
    found["raftlock_peer_connected"] = {
        (str(peer),): int(node.peer_is_connected(peer)) for peer in others
    }
    found["raftlock_refused_by_peer_total"] = {
        (str(peer),): node.meter.refused_by.get(peer, 0) for peer in others
    }
    if driver.is_leader:
        found["raftlock_replication_lag_entries"] = {
            (str(peer),): max(0, raft.last_index - progress.match_index)
            for peer, progress in raft.state.progress.items()
        }
    found["raftlock_queue_length"] = {
        (name,): length for name, length in driver.queue_lengths().items()
    }
    found["raftlock_wal_room"] = {_ONE: int(driver.writing.room)}


def _table(found: Found, driver: Driver) -> None:
    table = driver.table
    found["raftlock_locks"] = {_ONE: table.lock_count}
    found["raftlock_waiters"] = {_ONE: table.waiter_count}
    found["raftlock_sessions"] = {_ONE: table.session_count}
    found["raftlock_logged_leases"] = {_ONE: table.logged_count}


def _leases(found: Found, driver: Driver) -> None:
    leases = driver.leading.leases
    timers: dict[str, Timers[Any]] = {
        "lock": leases.locks,
        "session": leases.sessions,
        "wait": leases.waits,
    }
    found["raftlock_deadlines_armed"] = {(kind,): len(t) for kind, t in timers.items()}
    found["raftlock_timer_entries_dead"] = {(kind,): t.dead for kind, t in timers.items()}
    found["raftlock_lease_commands_in_flight"] = {_ONE: leases.commands_in_flight}
    found["raftlock_deadline_overdue_seconds"] = {_ONE: _overdue_us(driver, leases) * _US}


def _overdue_us(driver: Driver, leases: Leases) -> int:
    next_us = leases.next_us()
    return 0 if next_us is None else max(0, driver.clock.stamp_us - next_us)


def _core(found: Found, counters: Counters) -> None:
    found["raftlock_operations_total"] = {**counters.by_operation()}
    found["raftlock_refusals_total"] = {(r,): n for r, n in counters.refusals.items()}
    found["raftlock_forwarded_requests_total"] = {_ONE: counters.forwarded}
    found["raftlock_events_total"] = {
        (name,): counters.events[code] for code, name in EVENTS.items()
    }
    found["raftlock_expiries_total"] = {(kind,): n for kind, n in counters.expiries.items()}
    found["raftlock_sweeps_total"] = {_ONE: counters.sweeps}
    found["raftlock_log_request_duration_seconds"] = {_ONE: (counters.log_requests, _US)}
    found["raftlock_quorum_round_duration_seconds"] = {_ONE: (counters.rounds, _US)}
    found["raftlock_batch_requests"] = {_ONE: (counters.batch_requests, 1)}
    found["raftlock_batch_bytes"] = {_ONE: (counters.batch_bytes, 1)}
    found["raftlock_entries_applied_total"] = {_ONE: counters.entries_applied}


def _disk(found: Found, node: "Node", runner: TimedRunner) -> None:
    found["raftlock_wal_sync_duration_seconds"] = {_ONE: (runner.syncs, _US)}
    found["raftlock_wal_written_bytes_total"] = {_ONE: runner.written_bytes}
    found["raftlock_wal_size_bytes"] = {_ONE: node.store.store.log_bytes}
    found["raftlock_disk_free_bytes"] = {_ONE: node.store.store.free_bytes()}
    found["raftlock_disk_job_duration_seconds"] = {
        (name,): (histogram, _US) for name, histogram in runner.others.items()
    }
    found["raftlock_snapshot_duration_seconds"] = {_ONE: (runner.snapshots, _US)}


def _audit(found: Found, driver: Driver, audit: AuditLog | None) -> None:
    found["raftlock_audit_on"] = {_ONE: int(audit is not None)}
    if audit is None:
        return
    auditing = driver.auditing
    # The log's own, which also knows what was recorded before this process began.
    recorded = audit.last_index
    found["raftlock_audit_recorded_index"] = {_ONE: recorded}
    found["raftlock_audit_lag_entries"] = {_ONE: max(0, driver.applied_index - recorded)}
    found["raftlock_audit_under_way_bytes"] = {_ONE: auditing.under_way_size}
    found["raftlock_audit_entries_total"] = {_ONE: auditing.entries_recorded}
    found["raftlock_audit_commands_total"] = {_ONE: auditing.commands_recorded}
    found["raftlock_audit_read_records_total"] = {_ONE: driver.front.records.records}
    found["raftlock_audit_read_bytes_total"] = {_ONE: driver.front.records.scanned}
    kept = audit.kept
    found["raftlock_audit_segments"] = {("segment",): kept.segments, ("gap",): kept.gaps}
    found["raftlock_audit_size_bytes"] = {_ONE: kept.size}
    found["raftlock_audit_segments_finished_total"] = {
        (kind,): count for kind, count in auditing.finished.items()
    }


def _shipping(found: Found, shipping: Shipping) -> None:
    found["raftlock_audit_ship_running"] = {_ONE: int(shipping.pid != 0)}
    found["raftlock_audit_ship_active"] = {_ONE: int(shipping.leads)}
    found["raftlock_audit_ship_restarts_total"] = {_ONE: shipping.restarts}
    found["raftlock_audit_ship_shipped_total"] = {_ONE: shipping.shipped}
    found["raftlock_audit_ship_failures_total"] = {
        (kind,): count for kind, count in shipping.failures.items()
    }
    found["raftlock_audit_ship_last_pass_timestamp_seconds"] = {_ONE: shipping.passed_s}
    stands = shipping.stands
    # A node that stands by learns only now and then what the other one has shipped: its lag would be none.
    if not shipping.leads or stands is None:
        return
    behind_s = max(0.0, time.time() - stands["since_us"] / 1e6) if stands["segments"] else 0.0
    found["raftlock_audit_ship_lag_seconds"] = {_ONE: behind_s}
    found["raftlock_audit_ship_lag_bytes"] = {_ONE: stands["size"]}
    found["raftlock_audit_ship_segments"] = {
        ("local",): stands["segments"],
        ("shipped",): stands["there"],
    }
    found["raftlock_audit_ship_missing_entries"] = {_ONE: shipping.missing}
