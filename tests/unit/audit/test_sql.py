"""SQL over what was shipped and what a node has says what a reader of all rows would count."""

import json
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from raftlock.audit.dataset import Readers, dataset_of
from raftlock.audit.manifest import RECORDS, shipped
from raftlock.audit.query import Cost, Question, ShippedRecords
from raftlock.audit.tiers import FileTier, TierUnavailable
from raftlock.cli.main import main
from tests.unit.audit.ship_kit import files_of_days, node

FILES = sorted(files_of_days().items())
HALF = len(FILES) // 2


@pytest.fixture
def places(tmp_path: Path) -> tuple[str, Path]:
    """A store that has the first half, and a node that has the last two thirds."""
    node(tmp_path / "early" / "audit", dict(FILES[:HALF]))
    node(tmp_path / "late" / "audit", dict(FILES[HALF - 4 :]))
    url = (tmp_path / "store").as_uri()
    done = run("ship", "--data", tmp_path / "early", "--to", url, "--once", "--nice", 0)
    assert done.exit_code == 0
    return url, tmp_path / "late"


def run(*arguments: object) -> Result:
    """Run `raftlock audit …`."""
    return CliRunner().invoke(main, ["audit", *map(str, arguments)])


def everything(places: tuple[str, Path]) -> list[dict[str, Any]]:
    """Return all rows, by the way that other tests hold."""
    url, data = places
    return list(json.loads(run("query", "--from", url, "--data", data, "--format", "json").stdout))


def test_counts_are_those_of_all_rows(places: tuple[str, Path]) -> None:
    """Rows at the seam, which the store and the node both have, count once."""
    pytest.importorskip("duckdb", reason="duckdb is not installed")
    url, data = places
    statement = "select resource, operation, count(*) as n from records group by 1, 2"

    found = json.loads(run("sql", statement, "--from", url, "--data", data, "--json").stdout)

    expected = Counter((row.get("resource"), row["operation"]) for row in everything(places))
    assert {(row["resource"], row["operation"]): row["n"] for row in found} == expected


def test_each_source_alone(places: tuple[str, Path]) -> None:
    """Only the store, and only the node."""
    pytest.importorskip("duckdb", reason="duckdb is not installed")
    url, data = places

    counts = [
        json.loads(run("sql", "select count(*) c from records", *where, "--json").stdout)[0]["c"]
        for where in (("--from", url), ("--data", data))
    ]

    alone = [
        len(json.loads(run("query", *where, "--format", "json").stdout))
        for where in (("--from", url), ("--data", data))
    ]
    assert counts == alone


@pytest.mark.parametrize(
    ("form", "says"), [("csv", "a,b\n1,\n"), ("table", "a  b\n1\n"), ("jsonl", '{"a": 1, "b": null}\n')]
)  # fmt: skip
def test_forms(places: tuple[str, Path], form: str, says: str) -> None:
    """What a row looks like."""
    pytest.importorskip("duckdb", reason="duckdb is not installed")

    result = run("sql", "select 1 as a, null as b", "--data", places[1], "--format", form)

    assert (result.exit_code, result.stdout) == (0, says)


def test_a_wrong_statement_is_said(places: tuple[str, Path]) -> None:
    """DuckDB's own words, and exit code 1."""
    pytest.importorskip("duckdb", reason="duckdb is not installed")

    result = run("sql", "select nope from records", "--data", places[1])

    assert (result.exit_code, '"nope" not found' in result.stderr) == (1, True)


def test_an_object_that_is_none_is_named(places: tuple[str, Path], tmp_path: Path) -> None:
    """A damaged object ends the statement with its name."""
    pytest.importorskip("duckdb", reason="duckdb is not installed")
    broken = sorted((tmp_path / "store" / "records").rglob("*.parquet"))[2]
    broken.write_bytes(b"PAR1 and nothing else")

    result = run("sql", "select sum(token) from records", "--from", places[0])

    assert (result.exit_code, broken.name in result.stderr) == (1, True)


def test_without_duckdb_it_says_what_to_install(
    places: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra is optional."""
    monkeypatch.setattr("raftlock.cli.audit_sql.find_spec", lambda _: None)
    monkeypatch.setitem(sys.modules, "duckdb", None)

    result = run("sql", "select 1", "--data", places[1])

    assert (result.exit_code, "pip install 'raftlock[sql]'" in result.stderr) == (2, True)


def test_a_dataset_reads_columns_and_not_objects(places: tuple[str, Path], tmp_path: Path) -> None:
    """One column of one operation: less is read than the objects hold, and every row that fits is there."""
    tier, cost = FileTier(tmp_path / "store"), Cost()
    dataset = dataset_of(tier, ShippedRecords(tier, Question(), cost), cost, Readers())

    rows = dataset.to_table(columns=["owner", "operation"]).to_pylist()

    assert len(rows) == len(
        json.loads(run("query", "--from", places[0], "--format", "json").stdout)
    )
    assert cost.objects_opened == len(shipped(tier.list(RECORDS))) == HALF
    assert cost.read_size > 0


def test_an_object_that_is_there_twice_counts_once(
    places: tuple[str, Path], tmp_path: Path
) -> None:
    """Two names of one range, which `verify` reports, do not double what is counted."""
    tier, question = FileTier(tmp_path / "store"), Question()
    archive = ShippedRecords(tier, question, Cost())
    before = dataset_of(tier, archive, Cost(), Readers()).count_rows()
    key = shipped(tier.list(RECORDS))[3].key
    tier.put_new(key.replace(key[-72:-8], "0" * 64), tier.read(key))

    assert dataset_of(tier, archive, Cost(), Readers()).count_rows() == before > 0


SLOW = """
import sys, time
from raftlock.audit.tiers import FileTier, TierUnavailable
from raftlock.cli.main import main
read = FileTier.read
def slowly(self, key, *, start=0, size=None):
    if key.endswith(".parquet"):
        # As a store far away does: other reads are under way when the answer is complete.
        time.sleep(0.05)
    return read(self, key, start=start, size=size)
FileTier.read = slowly
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("statement", "code"),
    [("select * from records limit 1", 0), ("select nothing from records", 1)],
)
def test_the_process_ends_well_with_reads_under_way(
    places: tuple[str, Path], statement: str, code: int
) -> None:
    """An engine with enough rows leaves reads behind, in threads that must not meet the end of the interpreter."""
    pytest.importorskip("duckdb", reason="duckdb is not installed")
    command = [sys.executable, "-c", SLOW, "audit", "sql", statement, "--from", places[0]]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    assert (done.returncode, "terminate" in done.stderr) == (code, False), done.stderr


def test_nobody_leaves_while_a_read_is_under_way(places: tuple[str, Path], tmp_path: Path) -> None:
    """`leave` comes back when the last read has; what begins after it fails at once."""
    began, goes_on = threading.Event(), threading.Event()

    class Waiting(FileTier):
        def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
            began.set()
            goes_on.wait(30)
            return super().read(key, start=start, size=size)

    tier, readers = Waiting(tmp_path / "store"), Readers()
    archive = ShippedRecords(tier, Question(), Cost())
    batches = dataset_of(tier, archive, Cost(), readers).scanner(use_threads=True).to_reader()
    assert began.wait(30)
    del batches

    early = readers.leave(limit_s=0)
    goes_on.set()

    assert (early, readers.leave()) == (False, True)


def test_a_store_that_fails_is_not_waited_for(places: tuple[str, Path], tmp_path: Path) -> None:
    """The failed read is in the traceback of the error that is told, and is over all the same."""

    class Failing(FileTier):
        def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
            raise TierUnavailable("it is away")

    tier, readers = Failing(tmp_path / "store"), Readers()
    archive = ShippedRecords(tier, Question(), Cost())

    with pytest.raises(Exception, match="it is away") as raised:
        dataset_of(tier, archive, Cost(), readers).to_table()

    assert readers.leave(raised.value, limit_s=30)


def test_other_readers_take_the_objects(places: tuple[str, Path], tmp_path: Path) -> None:
    """polars and DuckDB read the shipped files themselves, with day and hour as columns, and agree."""
    polars = pytest.importorskip("polars", reason="polars is not installed")
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    glob = f"{tmp_path}/store/records/*/*/*.parquet"

    frame = (
        polars.scan_parquet(glob, hive_partitioning=True)
        .group_by("day", "operation")
        .len()
        .collect()
    )
    found = duckdb.sql(
        f"select day, operation, count(*) from read_parquet('{glob}', hive_partitioning = true) group by all"
    ).fetchall()

    assert {(str(d), o): n for d, o, n in frame.rows()} == {(str(d), o): n for d, o, n in found}
