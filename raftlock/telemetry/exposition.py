"""The metrics as text: what the wiring hands over when somebody asks, in Prometheus' format or OpenMetrics.

It owns prometheus_client, whose objects exist only while an answer is made: nothing else in the node pays for them.
"""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from raftlock.telemetry.histogram import Histogram
from raftlock.telemetry.metrics import BY_NAME, Kind, Metric

Value = float | tuple[Histogram, float]
"""A number; of a histogram: itself, and its unit in base units (1e-6 for microseconds)."""
Samples = Mapping[str, Mapping[tuple[str, ...], Value]]
"""Metric name to label values to value; () where there are no labels."""


class Exposition(Collector):
    """Makes the text of all metrics. The process' own (CPU, memory, files, garbage collection) are among them."""

    def __init__(self, samples: Callable[[], Samples]) -> None:
        self._samples = samples
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def describe(self) -> Iterator[Family]:
        """Return nothing: the names are this project's table, and no second collector claims them."""
        yield from ()

    def collect(self) -> Iterator[Family]:
        """Make the families of one answer (prometheus_client.registry.Collector)."""
        for name, samples in self._samples().items():
            yield _family(BY_NAME[name], samples)

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the text that the Accept header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


def _family(metric: Metric, samples: Mapping[tuple[str, ...], Value]) -> Family:
    if metric.kind is Kind.HISTOGRAM:
        histograms = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, value in samples.items():
            assert isinstance(value, tuple)
            histogram, unit = value
            histograms.add_metric(labels, histogram.cumulative(unit), histogram.total * unit)
        return histograms
    assert metric.kind in (Kind.COUNTER, Kind.GAUGE)
    maker = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = maker(metric.name, metric.help, labels=metric.labels)
    for labels, value in samples.items():
        assert not isinstance(value, tuple)
        family.add_metric(labels, value)
    return family
