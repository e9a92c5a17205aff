"""The frames of released vectors stay in wire/vectors, byte for byte: the tests of the vectors go on reading them."""

import json
from pathlib import Path

import pytest

from tests.unit.wire import vectors
from tests.unit.wire.golden import GOLDEN, frames, lost, note

RELEASES = sorted(path.stem for path in GOLDEN.iterdir())


def test_each_release_has_its_list() -> None:
    """From the first one on."""
    assert RELEASES[:1] == ["v0.1"]


@pytest.mark.parametrize("release", RELEASES)
def test_a_released_frame_is_still_there(release: str) -> None:
    """Under its name, with its bytes. New ones may come."""
    assert lost(json.loads((GOLDEN / f"{release}.json").read_text()), frames()) == []


@pytest.mark.parametrize("name", sorted(vectors.FILES))
def test_a_dropped_or_changed_frame_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each file: without its first vector, and with another byte at the end of its last one."""
    released = frames()
    names = [full for full in released if full.startswith(f"{name}: ")]
    kept = vectors.load(name)
    hex_ = kept[-1]["hex"]
    other = {**kept[-1], "hex": hex_[:-2] + ("00" if hex_[-2:] != "00" else "01")}
    load = vectors.load
    monkeypatch.setattr(vectors, "load", lambda n: [*kept[1:-1], other] if n == name else load(n))

    assert lost(released, frames()) == [names[0], names[-1]]


def test_a_list_is_not_made_again(tmp_path: Path) -> None:
    """Noted once; the second time is refused, and nothing changes."""
    first = note("v9.9", tmp_path)
    kept = (tmp_path / "v9.9.json").read_text()
    (tmp_path / "v9.9.json").write_text(kept + "\n")

    assert (first, note("v9.9", tmp_path), (tmp_path / "v9.9.json").read_text()) == (
        0,
        1,
        kept + "\n",
    )
