"""The table of what verify catches: every change is caught, and what is whole is not."""

from pathlib import Path

import pytest

from bench.tamper import CASES, Case, caught, make, measure, say


def test_every_change_is_caught_by_the_command() -> None:
    """All but the two rows in which nothing was done."""
    found = measure()

    assert [said for said in found if not caught(said)] == []
    assert len(found) == len(CASES)
    assert [said.case for said in found if said.exit_code == 0] == ["nothing", "nothing"]


def test_the_words_name_the_file_and_not_where_it_lay(tmp_path: Path) -> None:
    """The table is the same on every machine."""
    anchor = make(tmp_path)
    flip = next(case for case in CASES if case.name == "flipped bit")

    words = say(flip, tmp_path, anchor).words

    assert words.startswith("audit-24-29.seg at offset")


@pytest.mark.parametrize("where", ["store", "node"])
def test_what_is_not_caught_is_told(tmp_path: Path, where: str) -> None:
    """A change that verify cannot see would make the command fail: here one that changes nothing."""
    anchor = make(tmp_path)

    assert not caught(say(Case("flipped bit", where, lambda _: None), tmp_path, anchor))
