"""The dashboard and the alerts: every metric in them is one of the table, with labels that it has, and Prometheus parses all."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import dashboard
from raftlock.audit.worker import FAILURES
from raftlock.telemetry.counters import EVENTS, OPERATIONS, REFUSALS, STATUSES
from raftlock.telemetry.metrics import (
    BY_NAME,
    CLIENT_REASONS,
    HTTP_REASONS,
    PEER_REASONS,
    Kind,
)

ALERTS = Path(dashboard.FILE).with_name("alerts.yml")
OTHERS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "up"}
TARGET = {"job", "instance"}
VALUES = {
    "operation": {*OPERATIONS.values()},
    "status": {*STATUSES},
    "event": {*EVENTS.values()},
    "reason": {*REFUSALS, *CLIENT_REASONS, *PEER_REASONS, *HTTP_REASONS},
    "role": {"leader"},
    "kind": {"segment", "gap", *FAILURES},
    "code": {"500"},
}


def rules() -> list[dict[str, Any]]:
    """Return all alert rules."""
    return [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]


def expressions() -> list[str]:
    """Return every expression of both files."""
    shown = [t["expr"] for p in dashboard.panels() for t in p.get("targets", ())]
    return shown + [rule["expr"] for rule in rules()]


def wrong_in(expression: str) -> list[str]:
    """Return what an expression says of metrics that is not so."""
    found = []
    for series, selector in re.findall(
        r"\b((?:raftlock|process)_\w+|up)\b(\{[^}]*\})?", expression
    ):
        name = re.sub(r"_(bucket|sum|count)$", "", series)
        metric = BY_NAME.get(series) or BY_NAME.get(name)
        if metric is None:
            found += [] if series in OTHERS else [series]
            continue
        if (metric.kind is Kind.HISTOGRAM) == (metric.name == series):
            found.append(f"{series} is a {metric.kind.value}")
        for label, values in re.findall(r'(\w+)=~?"([^"]*)"', selector):
            known = label in TARGET or label in metric.labels
            odd = set() if label in TARGET else set(values.split("|")) - VALUES[label]
            found += [] if known and not odd else [f"{series}: {label} {sorted(odd)}"]
    return found


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_names_metrics_that_are_there(expression: str) -> None:
    """Names, labels, and the values of labels; a histogram by its buckets, and nothing else by buckets."""
    assert re.search(r"raftlock_|process_|up", expression)
    assert wrong_in(expression) == []


def test_what_is_wrong_is_found() -> None:
    """The check itself: an unknown metric, label and value, and a histogram taken for a number."""
    assert [
        wrong_in(e)
        for e in (
            "raftlock_lock",
            'raftlock_locks{kind="gap"}',
            'raftlock_refusals_total{reason="mood"}',
            "raftlock_batch_bytes",
            "raftlock_term_bucket",
        )
    ] == [
        ["raftlock_lock"],
        ["raftlock_locks: kind []"],
        ["raftlock_refusals_total: reason ['mood']"],
        ["raftlock_batch_bytes is a histogram"],
        ["raftlock_term_bucket is a gauge"],
    ]


def test_the_file_is_what_the_module_makes() -> None:
    """`python -m deploy.dashboard` has been run since the last change."""
    assert dashboard.FILE.read_text() == dashboard.text()


def test_no_panel_lies_on_another() -> None:
    """Each panel has its own number and its own cells, within the 24 columns."""
    panels = json.loads(dashboard.FILE.read_text())["panels"]
    cells = [
        (x, y)
        for p in panels
        for x in range(p["gridPos"]["x"], p["gridPos"]["x"] + p["gridPos"]["w"])
        for y in range(p["gridPos"]["y"], p["gridPos"]["y"] + p["gridPos"]["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < dashboard.COLUMNS
    assert len({p["id"] for p in panels}) == len(panels)


def test_every_alert_says_what_it_means_and_how_bad_it_is() -> None:
    """A name of this project's, once; a severity; a summary."""
    names = [rule["alert"] for rule in rules()]

    assert len(set(names)) == len(names)
    assert [name for name in names if not name.startswith("Raftlock")] == []
    assert {rule["labels"]["severity"] for rule in rules()} == {"critical", "warning"}
    assert [rule["alert"] for rule in rules() if not rule["annotations"].get("summary")] == []


def promtool(path: Path, verb: str = "check") -> str:
    """Let Prometheus' own tool check or test rules. Return what it says when it refuses."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    done = subprocess.run(
        [program, verb, "rules", str(path)], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_promtool_accepts_the_alerts() -> None:
    """`promtool check rules deploy/alerts.yml`."""
    assert promtool(ALERTS) == ""


def test_promtool_accepts_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    """As recording rules, with Grafana's variables filled in."""
    found = [
        {"record": f"raftlock:panel_{number}", "expr": e.replace("$__rate_interval", "1m")}
        for number, e in enumerate(expressions())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": found}]}))

    assert promtool(path) == ""


def test_alerts_fire_when_they_should_and_not_before() -> None:
    """`promtool test rules`: made series, and which alerts they raise at which time."""
    assert promtool(Path(__file__).with_name("alerts_test.yml"), "test") == ""
