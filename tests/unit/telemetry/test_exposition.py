"""The table of metrics, its document, and the text that a scrape gets."""

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from raftlock.telemetry.exposition import Exposition
from raftlock.telemetry.histogram import DURATION_US, Histogram
from raftlock.telemetry.metrics import (
    BY_NAME,
    CLIENT_REASONS,
    HTTP_REASONS,
    METRICS,
    PEER_REASONS,
    Kind,
)

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"


def test_the_document_is_the_table() -> None:
    """docs/metrics.md lists every metric with its kind, labels and meaning, and no other."""
    rows = re.findall(
        r"^\| `(raftlock_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", DOCUMENT.read_text(), re.M
    )

    assert sorted(rows) == sorted(
        (m.name, m.kind.value, ", ".join(f"`{label}`" for label in m.labels), m.help)
        for m in METRICS
    )


def test_the_document_has_every_reason() -> None:
    """The reasons of refused connections and their meanings are the code's, in its order."""
    rows = re.findall(
        r"^\| `raftlock_(\w+)_connections_refused_total` \| `(\w+)` \| (.*) \|$",
        DOCUMENT.read_text(),
        re.M,
    )
    tables = (("client", CLIENT_REASONS), ("peer", PEER_REASONS), ("http", HTTP_REASONS))

    assert rows == [(whose, *reason) for whose, table in tables for reason in table.items()]


def test_the_examples_of_the_document_name_metrics_that_are_there() -> None:
    """What to watch, and the labels: nothing in the text is a name that no scrape has."""
    named = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for name in re.findall(r"raftlock_\w+", DOCUMENT.read_text())
    }

    assert named - set(BY_NAME) == set()


def test_names_follow_the_conventions() -> None:
    """The project's prefix, base units, `_total` for counters and for nothing else; each name once; 25 at least."""
    names = [metric.name for metric in METRICS]
    odd = [
        m.name
        for m in METRICS
        if not re.fullmatch(r"raftlock_[a-z_]+", m.name)
        or (m.kind is Kind.COUNTER) != m.name.endswith("_total")
        or re.search(r"_(ms|us|milliseconds|kb|mb)(_|$)", m.name)
    ]

    assert odd == []
    assert len(set(names)) == len(names) >= 25


def test_a_scrape_parses_and_holds_what_was_counted() -> None:
    """Counters, gauges and histograms come out with their labels, units and values."""
    histogram = Histogram(DURATION_US)
    for value_us in (90, 700, 700, 20_000_000):
        histogram.observe(value_us)
    exposition = Exposition(
        lambda: {
            "raftlock_term": {(): 4},
            "raftlock_operations_total": {("acquire", "ok"): 5, ("release", "not_held"): 1},
            "raftlock_wal_sync_duration_seconds": {(): (histogram, 1e-6)},
        }
    )

    text, content_type = exposition.render("")
    families = {f.name: f for f in text_string_to_metric_families(text.decode())}
    samples = {
        (s.name, *sorted(s.labels.items())): s.value for f in families.values() for s in f.samples
    }

    assert content_type.startswith("text/plain")
    assert samples[("raftlock_term",)] == 4
    assert samples["raftlock_operations_total", ("operation", "acquire"), ("status", "ok")] == 5
    assert samples["raftlock_wal_sync_duration_seconds_bucket", ("le", "0.001")] == 3
    assert samples["raftlock_wal_sync_duration_seconds_bucket", ("le", "+Inf")] == 4
    assert samples[("raftlock_wal_sync_duration_seconds_sum",)] == 20.00149
    assert "process_resident_memory_bytes" in families


def test_openmetrics_is_there_for_who_asks() -> None:
    """A scraper that accepts OpenMetrics gets it, with its end mark."""
    text, content_type = Exposition(lambda: {"raftlock_term": {(): 1}}).render(
        "application/openmetrics-text; version=1.0.0"
    )

    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")
