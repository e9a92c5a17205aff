"""A directory on each kind of disk."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.disks import KINDS, Opened


@pytest.fixture(params=KINDS)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """Give an empty directory."""
    directory = KINDS[request.param](tmp_path)
    yield directory
    directory.close()
