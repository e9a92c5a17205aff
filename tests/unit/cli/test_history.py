"""`raftlock history` and the forms of `raftlock audit query`, on a directory of a node."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from raftlock.audit.parquet import SCHEMA, rows_from_table
from raftlock.audit.story import Force, Holding, Waiting
from raftlock.cli import audit_sources, audit_tail
from raftlock.cli.audit_nodes import open_nodes
from raftlock.cli.history import as_values, duration, in_words
from raftlock.cli.main import main
from tests.e2e.conftest import free_ports
from tests.unit.audit.ship_kit import node

AT = "2026-11-25T10:00:{:06.3f}000Z"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with three days of segments."""
    node(tmp_path / "data" / "audit")
    return tmp_path / "data"


def run(*arguments: object) -> Result:
    """Run the command line."""
    return CliRunner().invoke(main, [*map(str, arguments)])


def query(data: Path, *more: object) -> Result:
    """Run a query on the node."""
    return run("audit", "query", "--data", data, "--operation", "acquire", *more)


def lines(data: Path) -> list[dict[str, Any]]:
    """Return what the form with the least to it says."""
    return [json.loads(line) for line in query(data, "--format", "jsonl").stdout.splitlines()]


def test_every_form_has_the_same_records(data: Path, tmp_path: Path) -> None:
    """An array, lines, CSV and Parquet of the same question say the same; so does the table, in columns."""
    expected = lines(data)
    array = json.loads(query(data, "--format", "json").stdout)
    cells = list(csv.DictReader(io.StringIO(query(data, "--format", "csv").stdout)))
    query(data, "--format", "parquet", "--out", tmp_path / "x.parquet")
    parquet = pq.read_table(tmp_path / "x.parquet")
    table = query(data).stdout.splitlines()

    assert array == expected
    assert {row["operation"] for row in array} == {"acquire"}
    assert [(int(c["index"]), int(c["position"]), c["owner"]) for c in cells] == [
        (row["index"], row["position"], row["owner"]) for row in expected
    ]
    assert parquet.schema.equals(SCHEMA)
    assert [(r["index"], r["status"], r.get("token")) for r in rows_from_table(parquet)] == [
        (row["index"], row["status"], row.get("token")) for row in expected
    ]
    assert [line.split()[:3] for line in table[1:]] == [
        [row["time"], "acquire", row["status"]] for row in expected
    ]


def test_nothing_is_an_empty_array(data: Path) -> None:
    """A question that nothing fits is whole JSON, and no error."""
    result = query(data, "--format", "json", "--resource", "nobody")

    assert (result.exit_code, json.loads(result.stdout)) == (0, [])


def test_a_limit_closes_the_array(data: Path) -> None:
    """What is cut off by --limit is whole JSON."""
    assert json.loads(query(data, "--format", "json", "--limit", 3).stdout) == lines(data)[:3]


def test_polars_reads_the_parquet(data: Path, tmp_path: Path) -> None:
    """Another reader sees the same rows."""
    polars = pytest.importorskip("polars", reason="polars is not installed")
    query(data, "--format", "parquet", "--out", tmp_path / "x.parquet")

    frame = polars.read_parquet(tmp_path / "x.parquet")

    assert frame["owner"].to_list() == [row["owner"] for row in lines(data)]


def test_a_failed_query_leaves_no_file(data: Path, tmp_path: Path) -> None:
    """A damaged segment in the middle: exit code 1, its name, and no half of a file."""
    name = sorted((data / "audit").iterdir())[3]
    name.write_bytes(name.read_bytes()[:-1] + b"?")

    result = query(data, "--format", "csv", "--out", tmp_path / "x.csv")

    assert (result.exit_code, name.name in result.stderr) == (1, True)
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_records_that_are_nowhere_are_named(data: Path) -> None:
    """A segment that somebody removed makes no answer look whole."""
    name = sorted((data / "audit").iterdir())[3]
    name.unlink()

    result = query(data)

    gone = f"the records {int(name.name[6:26])} to {int(name.name[27:47])} were found nowhere"
    assert (result.exit_code, gone in result.stderr) == (0, True)


def test_a_story_in_both_forms(data: Path) -> None:
    """Text has a line for each chapter of JSON; an unknown lock ends with 3."""
    text = run("history", "a", "--data", data)
    told = json.loads(run("history", "a", "--data", data, "--format", "json").stdout)
    nobody = run("history", "nobody", "--data", data, "--json")

    assert (text.exit_code, len(text.stdout.splitlines())) == (0, len(told))
    assert {one["what"] for one in told} == {"held", "waited", "offered"}
    assert (nobody.exit_code, nobody.stdout) == (3, "[]\n")


def test_without_a_node_it_says_where_records_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens: the address, and the three places that can be named."""
    monkeypatch.setenv("RAFTLOCK_ENDPOINTS", f"127.0.0.1:{free_ports(1)[0]}")

    told = [
        run("history", "x"),
        run("audit", "query"),
        run("audit", "report"),
        run("audit", "tail"),
    ]

    assert [result.exit_code for result in told] == [69] * 4
    assert all("127.0.0.1:" in result.stderr for result in told)
    assert all(flag in told[0].stderr for flag in ("--endpoints", "--data", "--from"))


@pytest.mark.parametrize(
    ("flags", "variables", "asks_nodes"),
    [
        ((), {}, True),
        (("--data", "D"), {}, False),
        ((), {"RAFTLOCK_DATA_DIR": "D"}, False),
        (("--endpoints", "N"), {"RAFTLOCK_DATA_DIR": "D"}, True),
        (("--data", "D"), {"RAFTLOCK_ENDPOINTS": "N"}, False),
        ((), {"RAFTLOCK_DATA_DIR": "D", "RAFTLOCK_ENDPOINTS": "N"}, False),
    ],
)
def test_disks_or_nodes(
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    variables: dict[str, str],
    asks_nodes: bool,
) -> None:
    """Nodes are asked unless a directory is named; the command line counts before variables."""
    nobody = f"127.0.0.1:{free_ports(1)[0]}"
    means = {"D": str(data), "N": nobody}
    for name in ("RAFTLOCK_ENDPOINTS", "RAFTLOCK_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    if asks_nodes and "N" not in flags:
        # The default addresses may be those of somebody's cluster.
        monkeypatch.setattr(audit_sources, "open_nodes", lambda *_: open_nodes(nobody, 1.0))
        monkeypatch.setattr(audit_tail, "open_nodes", lambda *_: open_nodes(nobody, 1.0))
    for name, value in variables.items():
        monkeypatch.setenv(name, means[value])
    named = [means.get(flag, flag) for flag in flags]

    story, last = run("history", "a", *named), run("audit", "tail", *named)

    assert [story.exit_code, last.exit_code] == ([69, 69] if asks_nodes else [0, 0])


def test_all_timers_are_on_the_disk_only(data: Path) -> None:
    """Nodes do not tell what had no effect: the flag says what it needs."""
    on_disk = run("audit", "tail", "--all", "--data", data)
    asked = run("audit", "tail", "--all", "--endpoints", "127.0.0.1:9")

    assert (on_disk.exit_code, asked.exit_code, "add --data" in asked.stderr) == (0, 2, True)


def test_words() -> None:
    """Who, how long, why, who forced it and what for, how long it had waited, and how many were refused."""
    forced = Holding(
        token=9, owner="w", since=AT.format(1), until=AT.format(3.5), end="forced", waited_ms=40.0, refused=2,
        forced=Force(time=AT.format(3.5), by="root", address="a:1", reason="drain", when="now"),
    )  # fmt: skip
    offered = Holding(
        token=10, owner="v", offered=AT.format(4), taken_up=False, until=AT.format(6), end="not_taken_up",
    )  # fmt: skip
    waited = Waiting(
        owner="u", session=1, slot=0, n=1, since=AT.format(2), until=AT.format(3), end="timed_out"
    )

    assert [in_words(chapter) for chapter in (forced, offered, waited)] == [
        "2026-11-25 10:00:01.000  w held it for 2.5 s, until 2026-11-25 10:00:03.500; forced by root at a:1 (now): "
        "'drain'; it had waited 40 ms for it; 2 acquires refused meanwhile; token 9",
        "2026-11-25 10:00:04.000  v was offered it for 2 s, until 2026-11-25 10:00:06.000; it was not taken up in "
        "time; token 10",
        "2026-11-25 10:00:02.000  u waited for it for 1 s, until 2026-11-25 10:00:03.000; its wait was over",
    ]
    assert as_values(offered)["what"] == "offered"
    assert [duration(ms) for ms in (0.5, 90_000, 600_000, 7_200_000, 864_000_000)] == [
        "0.5 ms", "90 s", "10 min", "2 h", "10 days",
    ]  # fmt: skip
