"""What a node's /metrics says, by series, and tests that a series grows by what they do."""

import contextlib
import re
import time
import urllib.request
from collections.abc import Iterator, Sequence

from prometheus_client.parser import text_string_to_metric_families

PATIENCE_S = 60.0


def series_name(name: str, labels: dict[str, str]) -> str:
    """Return a series as PromQL writes it, its labels in order of their names."""
    shown = ", ".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{shown}}}" if shown else name


def scrape(root: str) -> dict[str, float]:
    """Scrape a node: series to value."""
    with urllib.request.urlopen(f"{root}/metrics", timeout=20) as response:
        text = response.read().decode()
    return {
        series_name(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@contextlib.contextmanager
def grows(roots: str | Sequence[str], *series: str, by: float = 1) -> Iterator[None]:
    """Assert that each series is larger by `by` at least when the block has ended, or soon after.

    Of several nodes: in sum, for what any leader may count. A series that is not there counts as 0: those with a status
    begin with its first answer.
    """
    nodes = [roots] if isinstance(roots, str) else list(roots)

    def counted() -> dict[str, float]:
        scrapes = [scrape(root) for root in nodes]
        return {name: sum(found.get(name, 0) for found in scrapes) for name in series}

    before = counted()
    yield
    until = time.monotonic() + PATIENCE_S
    while True:
        grown: dict[str, float] = {}
        with contextlib.suppress(OSError):
            grown = {name: value - before[name] for name, value in counted().items()}
        if grown and all(growth >= by for growth in grown.values()):
            return
        assert time.monotonic() < until, grown
        time.sleep(0.05)


def becomes(root: str, series: str, value: float) -> None:
    """Assert that a series of a node has a value, now or soon."""
    until = time.monotonic() + PATIENCE_S
    while (now := scrape(root).get(series)) != value:
        assert time.monotonic() < until, f"{series} is {now}"
        time.sleep(0.05)


def names_in(text: str) -> list[str]:
    """Return the series that a text names: a metric, with or without labels in braces."""
    return re.findall(r"raftlock_\w+(?:\{[^}]*\})?", text)
