"""The commands on a directory as a store: what they print, what they end with, and what they say of bad input."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raftlock.cli.main import main
from tests.unit.audit.ship_kit import files_of_days, node


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with three days of segments."""
    node(tmp_path / "data" / "audit")
    return tmp_path / "data"


def audit(*arguments: object) -> Result:
    """Run `raftlock audit …`."""
    return CliRunner().invoke(main, ["audit", *map(str, arguments)])


def test_from_the_node_to_the_answer(data: Path, tmp_path: Path) -> None:
    """Status, ship, status, verify and query agree on what there is."""
    url = (tmp_path / "store").as_uri()
    segments = len(files_of_days())

    before = audit("ship", "--data", data, "--to", url, "--status", "--json", "--nice", 0)
    done = audit("ship", "--data", data, "--to", url, "--once", "--json", "--nice", 0)
    after = audit("ship", "--data", data, "--to", url, "--status", "--nice", 0)
    verified = audit("verify", "--from", url, "--compare", "--data", data, "--json")
    asked = audit(
        "query",
        "--from",
        url,
        "--resource",
        "a",
        "--operation",
        "offer",
        "--limit",
        2,
        "--format",
        "jsonl",
    )

    assert json.loads(before.output)["segments"] == segments
    assert len(json.loads(done.output)["shipped"]) == segments
    assert after.output == "the store has every finished segment of this node\n"
    report = json.loads(verified.output)
    assert (report["ok"], report["objects"], report["compared"]) == (True, segments, segments)
    rows = [json.loads(line) for line in asked.output.splitlines()]
    assert [(row["resource"], row["operation"]) for row in rows] == [("a", "offer")] * 2


def test_damage_is_named_and_ends_with_1(data: Path, tmp_path: Path) -> None:
    """A segment that is not whole is on stderr with its file, and an object that is not by its key."""
    url = (tmp_path / "store").as_uri()
    name = sorted(files_of_days())[2]
    file = data / "audit" / name
    file.write_bytes(file.read_bytes()[:-1] + b"?")

    shipped = audit("ship", "--data", data, "--to", url, "--once", "--nice", 0)
    verified = audit("verify", "--from", url)

    assert (shipped.exit_code, name in shipped.stderr) == (1, True)
    assert (verified.exit_code, "are missing before it" in verified.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("ship", "--to", "bucket/x"), 2, "use s3://BUCKET/PREFIX or file:///"),
        (("query", "--from", "file:///nowhere/at/all"), 1, "holds no shipped audit"),
        (("verify", "--from", "file:///nowhere/at/all"), 1, "holds no shipped audit"),
        (("query", "--from", "file:///x", "--since", "soon"), 2, "'soon' is no moment: use 2h"),
        (("verify", "--anchor", "00"), 2, "add --from"),
        (("init-bucket", "--to", "file:///x"), 2, "only a bucket has such rules"),
        (("init-bucket", "--to", "s3://b", "--move", "9:COLD"), 2, "is not DAYS:CLASS"),
        (("init-bucket", "--to", "s3://b", "--expire", "9"), 2, "cannot move at 90 days and go"),
    ],
)
def test_bad_input_says_what_is_allowed(
    data: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    """The exit code and the words."""
    where = ("--data", data, "--nice", 0) if arguments[0] == "ship" else ()

    result = audit(*arguments, *where)

    assert (result.exit_code, says in result.stderr) == (code, True)


@pytest.mark.parametrize(
    ("lacks", "arguments", "says"),
    [
        (["lz4", "crc32c"], ["audit", "verify", "--data", "x"], "pip install 'raftlock[server]'"),
        (["lz4", "crc32c"], ["release", "x", "--token", "0"], "--token"),
        (["pyarrow"], ["audit", "query", "--from", "file:///x"], "pip install 'raftlock[audit]'"),
        (["boto3"], ["dev", "--audit-s3", "file:///x"], "pip install 'raftlock[audit]'"),
        (
            ["pyarrow"],
            ["server", "--node-id", "1", "--data-dir", "x", "--audit-tier", "file:///x"],
            "pip install 'raftlock[audit]'",
        ),
        (["boto3"], ["audit", "init-bucket", "--to", "s3://b"], "pip install 'raftlock[audit]'"),
    ],
)
def test_what_is_not_installed_is_said(lacks: list[str], arguments: list[str], says: str) -> None:
    """Where only the client or the server is installed, the other commands work, and these say what they need."""
    program = (
        "import sys\n"
        "class Without:\n"
        "    def __init__(self, finder):\n"
        "        self.finder = finder\n"
        "    def __getattr__(self, name):\n"
        "        return getattr(self.finder, name)\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        lacks = name.partition('.')[0] in {lacks}\n"
        "        return None if lacks else self.finder.find_spec(name, path, target)\n"
        "sys.meta_path[:] = map(Without, sys.meta_path)\n"
        "from raftlock.cli.main import main\n"
        f"main({arguments})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.returncode != 0, says in done.stderr, "Traceback" in done.stderr) == (
        True,
        True,
        False,
    )
