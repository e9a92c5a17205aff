"""Every test of the table runs twice: through the short way for the common commands, and without it."""

import pytest

from tests.unit.locks.kit import Log


@pytest.fixture(params=["short way", "snapshot open"])
def log(request: pytest.FixtureRequest) -> Log:
    """Return a log with its genesis. A snapshot under way turns the short way of apply off, and nothing else."""
    return Log(snapshot_open=request.param == "snapshot open")
