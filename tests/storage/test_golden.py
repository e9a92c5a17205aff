"""Data directories that releases wrote go on opening, to the state that they held.

When one fails, the code is wrong and not the directory: a cluster that was stopped before an upgrade has this on its
disks. `python -m tests.storage.golden_run` makes the next one, when a release is tagged.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raftlock.audit.verify import verify
from raftlock.client import Client
from raftlock_wire.messages import Op
from raftlock_wire.status import Status
from tests.e2e.conftest import free_ports
from tests.e2e.node import server_command
from tests.storage.golden_run import GOLDEN, Directory, LoneNode, Opened, copy_of, files, main, read

RELEASES = sorted(path.name for path in GOLDEN.iterdir())


def expected(release: str) -> dict[str, Any]:
    """Return what a golden directory must hold and open to."""
    found: dict[str, Any] = json.loads((GOLDEN / release / "expected.json").read_text())
    return found


def test_each_release_has_one() -> None:
    """From the first one on; what follows would pass for want of directories."""
    assert RELEASES[:1] == ["v0.1"]


@pytest.mark.parametrize("release", RELEASES)
def test_nobody_has_touched_it(release: str) -> None:
    """Each file is the one that the release wrote; none is missing, none was added."""
    assert files(GOLDEN / release / "data") == expected(release)["files"]


@pytest.mark.parametrize("release", RELEASES)
def test_it_opens_to_the_state_that_it_held(release: str, tmp_path: Path) -> None:
    """Identity, vote, snapshot, log, membership, the table's digest and the audit's, by the way that a start takes."""
    opened = read(copy_of(GOLDEN / release / "data", tmp_path))

    assert opened == Opened(**expected(release)["opens_to"])


@pytest.mark.parametrize("release", RELEASES)
def test_it_goes_on(release: str, tmp_path: Path) -> None:
    """The node leads in the next term, still has its locks, takes requests, and its audit stays one chain."""
    before = expected(release)["opens_to"]
    node = LoneNode(copy_of(GOLDEN / release / "data", tmp_path))
    node.lead()
    session = node.ask(Op.OPEN_SESSION, b"new" + bytes(13), 10_000)[3]
    held = node.ask(Op.ACQUIRE, session, 0, 1, "late:0", "me", 1_000, 0, None)
    free = node.ask(Op.ACQUIRE, session, 1, 1, "new", "me", 1_000, 0, None)
    locks, term = node.driver.table.lock_count, node.driver.raft.term
    node.close()

    report = verify(Directory(tmp_path / "data" / "audit"))
    assert (held[1], free[1], locks, term, report.damages, report.gaps) == (
        Status.HELD,
        Status.OK,
        before["counts"][0] + 1,
        before["term"] + 1,
        [],
        [],
    )


@pytest.mark.e2e
@pytest.mark.parametrize("release", RELEASES)
def test_a_server_starts_on_it(release: str, tmp_path: Path) -> None:
    """The real process, by its command, shows a client a lock that was taken before."""
    data = copy_of(GOLDEN / release / "data", tmp_path)
    ports = free_ports(3)
    server = subprocess.Popen(server_command(data, ports=ports), stderr=subprocess.PIPE, text=True)
    try:
        with Client([f"127.0.0.1:{ports[0]}"]) as client:
            shown = client.get("late:0")
    finally:
        server.send_signal(signal.SIGTERM)
        _, said = server.communicate(timeout=30)

    assert (shown is not None and shown.owner, server.returncode) == ("owner", 0), said


def test_a_golden_directory_is_not_made_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The script writes a new one, and refuses where one is: nothing of it changes."""
    monkeypatch.setattr(sys, "argv", ["golden_run", "v9.9", "--below", str(tmp_path)])
    first = main()
    kept = files(tmp_path)
    again = main()

    assert (first, again, files(tmp_path) == kept) == (0, 1, True)
    assert "is never made again" in capsys.readouterr().err


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    """The comparison can fail: by a bit, by a file that is gone, by one too many."""
    data = copy_of(GOLDEN / RELEASES[0] / "data", tmp_path)
    known = files(data)
    vote = data / "vote-a"
    vote.write_bytes(bytes([vote.read_bytes()[0] ^ 1]) + vote.read_bytes()[1:])
    changed = files(data)
    (data / "vote-b").unlink()
    (data / "more").touch()

    assert ([changed == known, files(data).keys() ^ known.keys()]) == [False, {"vote-b", "more"}]
