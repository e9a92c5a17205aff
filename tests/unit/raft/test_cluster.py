"""Raft's figure 3 on small clusters with lost, doubled and reordered messages, slow disks and crashes."""

import pytest

from tests.unit.raft.kit import Cluster


@pytest.mark.parametrize("count", [3, 5])
@pytest.mark.parametrize("seed", range(8))
def test_safety_holds_whatever_happens(seed: int, count: int) -> None:
    """One leader a term, equal logs, one entry an index, and commits only of what a majority has on disk."""
    cluster = Cluster(seed, count)
    for _ in range(25_000):
        cluster.step()
    cluster.check_log_matching()

    assert (len(cluster.leaders) > 0, len(cluster.committed) > 3) == (True, True)
