"""FORMAT.md and the code say the same: its tables of offsets, its examples, its names."""

import re
import struct
from pathlib import Path

import pytest

from raftlock.storage import records, small_files, snapshots, wal
from raftlock.storage.disk_os import NOT_OURS
from tests.storage.format_examples import examples

TEXT = Path(records.__file__).with_name("FORMAT.md").read_text()
TYPES = {"8 B": "8s", "4 B": "4s", "u8": "B", "u32": "I", "u64": "Q"}
SECTIONS = {
    "### Segment header": records._SEGMENT.format + "I",
    "### Record": records._RECORD.format + "II",
    "### Entry": records._ENTRY.format,
    "## Votes": small_files._VOTE.format + "I",
}


def section(title: str) -> str:
    """Return the text under a heading, up to the next one."""
    return re.split(r"^#{2,3} ", TEXT.split(f"{title}\n", 1)[1], flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of a section's table, its head left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("title", SECTIONS)
def test_the_offsets_are_those_of_the_code(title: str) -> None:
    """A table's types, in order, are the struct that the code packs, and each offset is the sum of the sizes before it."""
    table = rows(section(title))
    kinds = [TYPES[row[2]] for row in table]

    assert (
        ">" + "".join(kinds),
        [int(row[1]) for row in table],
        int(re.findall(r"Size(?: of the head)?: (\d+) bytes", section(title))[0]),
    ) == (
        SECTIONS[title],
        [struct.calcsize(">" + "".join(kinds[:i])) for i in range(len(kinds))],
        struct.calcsize(SECTIONS[title]),
    )


def test_the_examples_are_what_the_code_writes() -> None:
    """Each example's bytes are those of the production Store, and none is left out."""
    documented = {row[0]: bytes.fromhex(row[1].strip("`")) for row in rows(section("## Examples"))}

    assert documented == examples()


def test_the_magics_are_those_of_the_code() -> None:
    """Each magic stands in its table."""
    found = {
        title: rows(section(title))[0][3]
        for title in ("### Segment header", "### Record", "## Votes", "## Identity", "## Snapshots")
    }

    assert found == {
        "### Segment header": f"`{records.SEGMENT_MAGIC.decode()}`",
        "### Record": f"`{records.RECORD_MAGIC.hex(' ')}`; no UTF-8 text holds it",
        "## Votes": f"`{small_files._VOTE_MAGIC.decode()}`",
        "## Identity": f"`{small_files._IDENTITY_MAGIC.decode()}`",
        "## Snapshots": f"`{snapshots.MAGIC.decode()}`",
    }


def test_the_file_names_are_those_of_the_code() -> None:
    """The table of files names every file that the code makes, and no other."""
    named = {name for row in rows(section("## Files")) for name in re.findall(r"`([^`]+)`", row[0])}

    assert named == {
        small_files.IDENTITY,
        small_files.IDENTITY + ".tmp",
        *small_files.VOTES,
        *(f"{name}.tmp" for name in small_files.VOTES),
        f"{wal.PREFIX}%016d{wal.SUFFIX}",
        f"{snapshots.PREFIX}%020d-%016d{snapshots.SUFFIX}",
        wal.SPARE,
        wal.REWRITE,
        snapshots.SAVING,
        snapshots.RECEIVING,
        *(NOT_OURS - {"lost+found"}),
    }


def test_the_kinds_are_those_of_the_code() -> None:
    """The record's and the entry's kinds are documented with their numbers."""
    record_kind = next(row[3] for row in rows(section("### Record")) if row[0] == "kind")
    entry_kind = next(row[3] for row in rows(section("### Entry")) if row[0] == "kind")

    assert (re.findall(r"(\d): (\w+)", record_kind), re.findall(r"(\d):", entry_kind)) == (
        [(str(records.ENTRIES), "entries"), (str(records.SEAL), "seal")],
        [str(kind) for kind in records._KINDS],
    )
