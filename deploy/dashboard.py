"""Writes deploy/grafana-dashboard.json: `python -m deploy.dashboard`.

It owns which metrics stand on the dashboard, in which order. Import the file in Grafana, and choose the data source.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).parent / "grafana-dashboard.json"
COLUMNS = 24
HEIGHT = 7
OF = '{job="$job", instance=~"$instance"}'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


class Panel(NamedTuple):
    """One graph: its title, unit, what it says, and (expression, legend) of each line."""

    title: str
    unit: str
    text: str
    lines: tuple[tuple[str, str], ...]
    width: int = 8


def now(metric: str, by: str = "", *, labels: str = "") -> str:
    """Return the sum of a gauge by labels; without labels: each series as it is."""
    of = OF if not labels else OF[:-1] + f", {labels}}}"
    return f"sum by ({by}) ({metric}{of})" if by else f"{metric}{of}"


def rate(metric: str, by: str) -> str:
    """Return a counter's growth a second, by labels."""
    return f"sum by ({by}) (rate({metric}{OF}[$__rate_interval]))"


def quantile(metric: str, q: float, by: str = "instance") -> str:
    """Return a quantile of a histogram."""
    return f"histogram_quantile({q}, {rate(metric + '_bucket', f'{by}, le')})"


def latency(title: str, metric: str, text: str, by: str = "instance", legend: str = "") -> Panel:
    """Return a panel of two quantiles of a duration."""
    legend = legend or f"{{{{{by}}}}}"
    lines = tuple(
        (quantile(metric, q, by), f"{legend} {name}") for q, name in ((0.5, "p50"), (0.99, "p99"))
    )
    return Panel(title, "s", text, lines)


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "The cluster",
        (
            Panel("Nodes that serve", "short", "1 is right. 0: nobody answers.", ((f"sum({now('raftlock_serving')})", "serving"),)),
            Panel("Role", "short", "Which node leads.", ((now("raftlock_role", labels='role="leader"'), "{{instance}} leads"),)),
            Panel("Links up", "short", "Links of each node to the other members.", ((now("raftlock_peer_connected", "instance"), "{{instance}}"),)),
            Panel("Term", "short", "It grows with each election.", ((now("raftlock_term"), "{{instance}}"),)),
            Panel("Elections and ends of leadership", "short", "In five minutes.", (
                (f"sum by (instance) (increase(raftlock_elections_total{OF}[5m]))", "{{instance}} elected"),
                (f"sum by (instance) (increase(raftlock_step_downs_total{OF}[5m]))", "{{instance}} stepped down"),
            )),
            Panel("Entries behind the leader", "short", "Of each member, as the leader sees it.", ((now("raftlock_replication_lag_entries", "peer"), "node {{peer}}"),)),
        ),
    ),
    (
        "Operations",
        (
            Panel("Answers by operation and status", "ops", "Counted where they are given: on the leader.", ((rate("raftlock_operations_total", "operation, status"), "{{operation}} {{status}}"),), 12),
            Panel("Refusals by reason", "ops", "Attempts that were not taken; clients ask again.", ((rate("raftlock_refusals_total", "reason"), "{{reason}}"),), 6),
            Panel("Sent on to the leader", "ops", "By followers.", ((rate("raftlock_forwarded_requests_total", "instance"), "{{instance}}"),), 6),
            latency("Requests through the log", "raftlock_log_request_duration_seconds", "From the first request of a batch to its answers."),
            latency("Quorum rounds", "raftlock_quorum_round_duration_seconds", "Reads, renewals and keep-alives wait for one."),
            Panel("Requests in a batch", "short", "One batch is one write and one sync.", (
                (quantile("raftlock_batch_requests", 0.5), "{{instance}} p50"),
                (quantile("raftlock_batch_requests", 0.99), "{{instance}} p99"),
            )),
        ),
    ),
    (
        "Locks",
        (
            Panel("Locks", "short", "Held or offered.", ((f"max({now('raftlock_locks')})", "locks"), (f"max({now('raftlock_logged_leases')})", "with a logged lease"))),
            Panel("Waiters", "short", "Acquires in queues.", ((f"max({now('raftlock_waiters')})", "waiters"),)),
            Panel("Sessions", "short", "", ((f"max({now('raftlock_sessions')})", "sessions"),)),
            Panel("What came due", "ops", "Ends that the leader proposed.", ((rate("raftlock_expiries_total", "kind"), "{{kind}}"),)),
            Panel("Overdue", "s", "How late the oldest deadline is. Leases end late, never early.", ((now("raftlock_deadline_overdue_seconds"), "{{instance}}"),)),
            Panel("Events pushed", "ops", "", ((rate("raftlock_events_total", "event"), "{{event}}"),)),
        ),
    ),
    (
        "Log and disk",
        (
            latency("Write and sync", "raftlock_wal_sync_duration_seconds", "Every acquire waits for it on a majority."),
            Panel("Written", "Bps", "Entries written to the log.", ((rate("raftlock_wal_written_bytes_total", "instance"), "{{instance}}"),)),
            Panel("Room", "bytes", "Free on the data directory's file system, and what the log takes.", (
                (now("raftlock_disk_free_bytes"), "{{instance}} free"),
                (now("raftlock_wal_size_bytes"), "{{instance}} log"),
            )),
            Panel("Indexes", "short", "Entries committed and applied a second.", (
                (f"rate(raftlock_commit_index{OF}[$__rate_interval])", "{{instance}} committed"),
                (f"rate(raftlock_applied_index{OF}[$__rate_interval])", "{{instance}} applied"),
            )),
            latency("Snapshots", "raftlock_snapshot_duration_seconds", "From the first part to the rename."),
            Panel("Size of the last snapshot", "bytes", "", ((now("raftlock_snapshot_size_bytes"), "{{instance}}"),)),
        ),
    ),
    (
        "The audit",
        (
            Panel("Not recorded yet", "short", "Entries applied and not recorded.", ((now("raftlock_audit_lag_entries"), "{{instance}}"),)),
            Panel("On the way", "bytes", "At 64 MiB apply waits.", ((now("raftlock_audit_under_way_bytes"), "{{instance}}"),)),
            Panel("Kept on the node", "bytes", "Finished segments.", ((now("raftlock_audit_size_bytes"), "{{instance}}"),)),
            Panel("Recorded", "ops", "Commands.", ((rate("raftlock_audit_commands_total", "instance"), "{{instance}}"),)),
            Panel("Segments and gaps", "short", "A gap is not on this node; others have it.", ((now("raftlock_audit_segments", "instance, kind"), "{{instance}} {{kind}}"),)),
        ),
    ),
    (
        "The audit's store",
        (
            Panel("Lag", "s", "Since the oldest finished segment that waits ended.", ((f"max({now('raftlock_audit_ship_lag_seconds')})", "lag"),)),
            Panel("Waiting", "bytes", "Finished segments that the store lacks.", ((f"max({now('raftlock_audit_ship_lag_bytes')})", "waiting"),)),
            Panel("Segments by tier", "short", "Of the leader: only there, or in the store too.", ((f"max by (tier) ({now('raftlock_audit_ship_segments')})", "{{tier}}"),)),
            Panel("Shipped", "ops", "Segments.", ((rate("raftlock_audit_ship_shipped_total", "instance"), "{{instance}}"),)),
            Panel("Failed passes", "short", "In five minutes, by kind.", ((f"sum by (instance, kind) (increase(raftlock_audit_ship_failures_total{OF}[5m]))", "{{instance}} {{kind}}"),)),
            Panel("Shippers started again", "short", "In five minutes.", ((f"sum by (instance) (increase(raftlock_audit_ship_restarts_total{OF}[5m]))", "{{instance}}"),)),
        ),
    ),
    (
        "The process",
        (
            latency("Turns", "raftlock_turn_duration_seconds", "One turn of the core, what it sends included."),
            latency("Lateness of the loop", "raftlock_loop_stall_seconds", "Over 50 ms the lease clock stands still."),
            Panel("Longest stall", "s", "Since the start.", ((now("raftlock_loop_longest_stall_seconds"), "{{instance}}"),)),
            Panel("Queues", "short", "What waits, by queue.", ((now("raftlock_queue_length", "instance, queue"), "{{instance}} {{queue}}"),)),
            Panel("Processor", "percentunit", "Of one core.", ((f"rate(process_cpu_seconds_total{OF}[$__rate_interval])", "{{instance}}"),)),
            Panel("Memory", "bytes", "Resident.", ((f"process_resident_memory_bytes{OF}", "{{instance}}"),)),
        ),
    ),
    (
        "Connections",
        (
            Panel("Clients", "short", "Connections, and HTTP requests under way.", ((now("raftlock_client_connections"), "{{instance}}"),)),
            Panel("Clients turned away", "ops", "By reason.", ((rate("raftlock_client_connections_refused_total", "reason"), "{{reason}}"),)),
            Panel("Peer port: turned away", "ops", "By reason; and calls that members did not take.", (
                (rate("raftlock_peer_connections_refused_total", "reason"), "{{reason}}"),
                (rate("raftlock_refused_by_peer_total", "peer"), "refused by node {{peer}}"),
            )),
            Panel("HTTP", "reqps", "Answers by code. 499: the caller hung up.", ((rate("raftlock_http_requests_total", "code"), "{{code}}"),)),
            latency("HTTP requests", "raftlock_http_request_duration_seconds", "Waiting included.", "route"),
            Panel("Bytes", "Bps", "Of frames, of all nodes.", (
                (rate("raftlock_received_bytes_total", "from"), "from {{from}}"),
                (rate("raftlock_sent_bytes_total", "to"), "to {{to}}"),
            )),
        ),
    ),
)  # fmt: skip


def panels() -> list[dict[str, Any]]:
    """Return the panels, each with its place."""
    found: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
        found.append(
            {"id": len(found) + 1, "type": "row", "title": title, "collapsed": False, "panels": [],
             "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}}
        )  # fmt: skip
        y += 1
        x = 0
        for panel in row:
            if x + panel.width > COLUMNS:
                x, y = 0, y + HEIGHT
            place = {"x": x, "y": y, "w": panel.width, "h": HEIGHT}
            found.append(_graph(len(found) + 1, panel, place))
            x += panel.width
        y += HEIGHT
    return found


def _graph(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
            for i, (expr, legend) in enumerate(panel.lines)
        ],
    }


def _values(name: str, label: str, of: str, *, many: bool) -> dict[str, Any]:
    query = f"label_values(raftlock_build_info{of}, {label})"
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "multi": many,
        "includeAll": many,
        **({"current": {"text": "All", "value": "$__all"}} if many else {}),
    }


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana imports it."""
    return {
        "title": "raftlock",
        "uid": "raftlock",
        "tags": ["raftlock"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                _values("job", "job", "", many=False),
                _values("instance", "instance", '{job="$job"}', many=True),
            ]
        },
        "panels": panels(),
    }


def text() -> str:
    """Return the file's content."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
