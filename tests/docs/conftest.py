"""The examples and the documents run against a cluster: one for all of them."""

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Cluster


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes that serve all tests of this folder."""
    running = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        running.start_all()
        yield running
    finally:
        running.stop_all()
