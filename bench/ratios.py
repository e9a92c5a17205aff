"""The form of a comparison: a figure a system and the ratios to each peer, by workload. Pure, so that it can be tested."""

from collections.abc import Mapping, Sequence
from typing import Any

OURS = "raftlock"
NAMED = ("etcd", "redis", "zookeeper", "pysyncobj")
"""Each figure of a comparison names these, also without a value."""
QUICK_KEYS = ("pipelined", "closed_1000", "closed_1", "failover_ms")
LOWER_IS_BETTER = ("failover_ms", "after_release_ms")


def ratios(
    medians: Mapping[str, float | None], *, higher_is_better: bool = True
) -> dict[str, float]:
    """Return raftlock against each peer; above 1 where raftlock is better. Peers without a figure are left out."""
    ours = medians.get(OURS)
    found = {}
    for name, theirs in medians.items():
        if name != OURS and ours and theirs:
            found[name] = round(ours / theirs if higher_is_better else theirs / ours, 3)
    return found


def figure(workload: str, medians: Mapping[str, float | None]) -> dict[str, Any]:
    """Return a workload's entry: raftlock, each peer (None where there is no figure), and the ratios."""
    systems = dict.fromkeys((OURS, *NAMED)) | dict(medians)
    higher = workload not in LOWER_IS_BETTER
    return {**systems, "ratio": ratios(medians, higher_is_better=higher)}


def keys_of(results: Mapping[str, Any], workloads: Sequence[str]) -> dict[str, Any]:
    """Return what stands at the top of a comparison's JSON: an entry a workload that was measured."""
    return {name: results[name] for name in workloads if name in results}
