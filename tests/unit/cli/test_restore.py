"""`raftlock audit restore` and `diff`: what they print, what they leave, and what they say of a wrong moment."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raftlock.cli.main import main
from tests.unit.server.test_past import data, digests

__all__ = ["data"]


def audit(*arguments: object) -> Result:
    """Run `raftlock audit …`."""
    return CliRunner().invoke(main, ["audit", *map(str, arguments)])


def test_restore_shows_and_saves_the_table(data: Path, tmp_path: Path) -> None:
    """The digest is the live table's; the list, and the file with it, are the locks of then."""
    out = tmp_path / "then"

    shown = json.loads(
        audit("restore", "--at", 200, "--data", data, "--list", "--json", "--out", out).stdout
    )
    saved = json.loads((out / "table.json").read_text())
    again = audit("restore", "--at", 200, "--data", data, "--out", out)

    assert (shown["index"], shown["digest"]) == (200, digests()[200].hex())
    assert saved == shown
    assert sorted(p.name for p in out.iterdir()) == [
        f"snapshot-{200:020d}-{1:016d}.snap",
        "table.json",
    ]
    assert (again.exit_code, "is not empty" in again.stderr) == (2, True)


def test_restore_changes_nothing_in_the_data_directory(data: Path) -> None:
    """It reads, also while a node is at work."""
    before = {p: p.stat().st_mtime_ns for p in data.rglob("*")}

    audit("restore", "--at", 100, "--data", data)

    assert {p: p.stat().st_mtime_ns for p in data.rglob("*")} == before


def test_diff_names_both_sides(data: Path) -> None:
    """Each change has who was there before and who after; nothing changed between a moment and itself."""
    found = json.loads(audit("diff", 40, 60, "--data", data, "--json").stdout)
    text = audit("diff", 40, 60, "--data", data).stdout.splitlines()
    none = audit("diff", 40, 40, "--data", data)

    assert (found["from"], found["to"], len(found["changes"]) > 0) == (40, 60, True)
    assert len(text) == 1 + len(found["changes"])
    assert none.stdout == "index 40 to 40: 0 locks changed\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("restore", "--at", "999"), 1, "the records end at index 300, before index 999"),
        (("restore", "--at", "soon"), 2, "'soon' is no moment"),
        (("diff", "60", "40"), 2, "B is before A"),
        (("diff", "then", "40"), 2, "'then' is no moment"),
    ],
)
def test_a_wrong_moment_says_what_is_allowed(
    data: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    """The exit code and the words."""
    result = audit(*arguments, "--data", data)

    assert (result.exit_code, says in result.stderr) == (code, True)
