"""A node alone on a real directory: the production driver, storage and audit, in steps of a clock that the caller moves.

It makes the golden data directories, and opens them again:

    python -m tests.storage.golden_run v0.2

writes tests/storage/golden/v0.2, and refuses where one is. A golden directory is made once, when a release is tagged,
and is never made again: what it is for is to have been written by that release.
"""

import argparse
import hashlib
import json
import random
import shutil
import sys
import tempfile
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

from raftlock.audit import AUDIT_DIRECTORY, CutRule
from raftlock.audit.verify import verify
from raftlock.locks import LockTable
from raftlock.server.audit_jobs import AuditJob, AuditRunner
from raftlock.server.config import ServerConfig
from raftlock.server.driver import Driver
from raftlock.server.handshake import BootstrapSet
from raftlock.server.jobs import Job, JobRunner
from raftlock.server.membership_store import NodeStore, open_store
from raftlock.storage import OsDisk
from raftlock.storage.disk_os import LOCK_NAME
from raftlock_wire.codec import pack, unpack
from raftlock_wire.entry import EntryKind
from raftlock_wire.ids import NodeId
from raftlock_wire.membership import Member, cluster_id_of, membership
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

GOLDEN = Path(__file__).with_name("golden")
WALL_US = 1_800_000_000_000_000
STEP_US = 10_000
SEGMENT_SIZE = 1 << 14
SNAPSHOT_LOG_SIZE = 24 << 10
AUDIT_RULE = CutRule(block_size=1 << 11, segment_size=1 << 13, span_us=3_600_000_000)
LOGGED_RENEWAL_TTL_MS = 60_000
CONN = 1


class Opened(NamedTuple):
    """What a data directory holds, read by the way that a start takes."""

    cluster_id: str
    incarnation: str
    term: int
    snapshot_index: int
    last_index: int
    members: list[list[Any]]
    """Of the newest membership in snapshot or log."""
    counts: list[int]
    """Locks, waiters and sessions after the last entry."""
    version: int
    digest: str
    """Of the table after the last entry."""
    audit_last: int
    """The last index of the finished audit segments, and their digest there."""
    audit_digest: str


class LoneNode:
    """A node that is a majority by itself."""

    def __init__(self, path: Path, *, now_us: int = 1_000_000) -> None:
        self.now_us = now_us
        self.path = path
        self.config = ServerConfig(
            node_id=1,
            data_dir=path,
            client_address="192.0.2.1:7401",
            peer_address="192.0.2.1:7411",
            snapshot_log_size=SNAPSHOT_LOG_SIZE,
        )
        self.store: NodeStore = open_store(
            OsDisk(path),
            node_id=NodeId(1),
            segment_size=SEGMENT_SIZE,
            incarnation="1" * 32,
            open_audit=self._open_audit,
            audit_rule=AUDIT_RULE,
        )
        if self.store.cluster_id is None:
            first = membership([Member(NodeId(1), "1" * 32, "192.0.2.1:7411", "192.0.2.1:7401")])
            command = BootstrapSet(cluster_id_of(first), first.encode(), LOGGED_RENEWAL_TTL_MS)
            self.store.set_cluster(command)
        self._runner = JobRunner(self.store.store)
        self.driver: Driver = self.store.make_driver(
            self.config, now_us=self.now_us, rng=random.Random(1)
        )
        assert self.store.audit is not None
        self._audit_runner = AuditRunner(self.store.audit)
        self._jobs: deque[Job] = deque()
        self._audit_jobs: deque[AuditJob] = deque()
        self._frames: list[bytes] = []
        self._request_id = 1

    def _open_audit(self) -> OsDisk:
        path = self.path / AUDIT_DIRECTORY
        path.mkdir(exist_ok=True)
        return OsDisk(path)

    # time

    def turn(self) -> None:
        """Take one turn, and do all that it wants done."""
        self.now_us += STEP_US
        effects = self.driver.turn(self.now_us, WALL_US + self.now_us)
        self._frames += [payload for _, payload in effects.client_frames]
        for job in effects.jobs:
            self.driver.job_done(job, self._runner.run(job))
        for audit_job in effects.audit_jobs:
            self.driver.audit_job_done(audit_job, self._audit_runner.run(audit_job))

    def run(self, turns: int) -> None:
        """Take some turns."""
        for _ in range(turns):
            self.turn()

    def lead(self) -> None:
        """Let the node be elected, and a client come in."""
        for _ in range(1_000):
            self.turn()
            if self.driver.serving:
                break
        self.driver.client_opened(CONN, "192.0.2.7:50000")
        self.ask(Op.HELLO, 1, 1, None, None, "golden")

    def ask(self, op: Op, *fields: Any) -> tuple[Any, ...]:
        """Send one request and return its answer."""
        self._request_id += 1
        self.driver.client_frame(CONN, pack([(int(op), self._request_id, *fields)]))
        for _ in range(100):
            self.turn()
            frames, self._frames = self._frames, []
            for message in (m for frame in frames for m in unpack(frame)[1:]):
                if message[0] == self._request_id:
                    return message  # type: ignore[no-any-return]
        raise AssertionError(f"{op.name} is not answered")

    def close(self) -> None:
        """Stop in good order: nothing that was applied is missing from the audit."""
        self.driver.stop()
        self.run(20)
        self.store.close()


def read(path: Path) -> Opened:
    """Open a data directory as a start does, and apply what its log holds."""
    node = LoneNode(path)
    driver = node.driver
    table: LockTable = driver.table
    members = driver.raft.membership
    snapshot_index, last_index = driver.applied_index, driver.raft.last_index
    for index in range(snapshot_index + 1, last_index + 1):
        entry = driver.raft.entry(index)  # type: ignore[arg-type]
        is_batch = entry.kind is EntryKind.BATCH
        groups = unpack(entry.data, array_count_max=1 << 24) if is_batch else ()
        table.apply(index, entry.stamp_us, entry.wall_us, groups)
    report = verify(Directory(path / AUDIT_DIRECTORY))
    assert not report.damages, report.damages
    opened = Opened(
        node.store.cluster_id or "",
        node.store.incarnation,
        driver.raft.term,
        snapshot_index,
        last_index,
        [list(member) for member in members.members],
        [table.lock_count, table.waiter_count, table.session_count],
        table.version,
        table.digest().hex(),
        report.last,
        report.digest.hex(),
    )
    node.store.close()
    return opened


class Directory:
    """A directory as the audit's `verify` reads it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def list(self) -> list[str]:
        """See Source."""
        return sorted(file.name for file in self._path.iterdir())

    def read(self, name: str) -> bytes:
        """See Source."""
        return (self._path / name).read_bytes()


def files(path: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a directory, in hex."""
    found = sorted(file for file in path.rglob("*") if file.is_file())
    return {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in found
    }


def copy_of(data: Path, to: Path) -> Path:
    """Copy a data directory, for a start to open."""
    return Path(shutil.copytree(data, to / "data"))


def write(path: Path) -> None:
    """Write a data directory by a run of everything that a log and a snapshot can hold."""
    node = LoneNode(path)
    node.lead()
    sessions = [node.ask(Op.OPEN_SESSION, bytes([i]) * 16, 300_000)[3] for i in range(4)]
    for i in range(200):
        resource = f"order:{i % 40}"
        answer = node.ask(
            Op.ACQUIRE, sessions[i % 4], i % 16, i + 1, resource, f"owner-{i % 7}", (0, 5_000, 3_600_000)[i % 3],
            60_000 if i % 5 == 0 else 0, {"job": str(i)} if i % 2 else None,
        )  # fmt: skip
        if answer[1] == Status.OK and i % 4 == 1:
            node.ask(Op.RELEASE, resource, answer[4])
        if answer[1] == Status.OK and i % 6 == 2:
            node.ask(Op.RENEW, [(resource, answer[4])])
            node.ask(Op.CHANGE_TTL, resource, answer[4], 90_000, answer[5])
        if answer[1] == Status.OK and i % 9 == 3:
            node.ask(Op.FORCE_RELEASE, resource, answer[4], "it is stuck", i % 2 == 0)
    node.driver.leading.batcher.command((int(Op.SET_SETTINGS), 0, {"waiters_per_resource_max": 7}))
    node.ask(Op.CLOSE_SESSION, sessions[0])
    learner = Member(NodeId(2), "2" * 32, "192.0.2.2:7411", "192.0.2.2:7401", learner=True)
    driver = node.driver
    driver.raft.change_membership(
        membership([*driver.raft.membership.members, learner]),
        stamp_us=driver.clock.stamp_us,
        wall_us=max(WALL_US + node.now_us, driver.raft.last_wall_us),
    )
    node.run(700)
    node.close()
    # A second life: another term, a vote of its own, entries behind the snapshot.
    node = LoneNode(path, now_us=node.now_us)
    node.lead()
    node.driver.clients.local[CONN].attached.update(sessions)
    for i in range(60):
        node.ask(Op.ACQUIRE, sessions[1], 20 + i, 1, f"late:{i}", "owner", 86_400_000, 0, None)
    node.close()
    (path / LOCK_NAME).unlink(missing_ok=True)


def main() -> int:
    """Write a golden directory and what it must open to. Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tag", help="the release's tag: v0.2")
    parser.add_argument("--below", type=Path, default=GOLDEN, help="where (default: %(default)s)")
    options = parser.parse_args()
    folder = options.below / options.tag
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        print(f"{folder} is there: a golden directory is never made again", file=sys.stderr)  # noqa: T201
        return 1
    data = folder / "data"
    data.mkdir()
    write(data)
    with tempfile.TemporaryDirectory() as temporary:
        # A start changes what it opens: the golden directory stays as the run left it.
        expected = read(copy_of(data, Path(temporary)))._asdict()
    text = json.dumps({"opens_to": expected, "files": files(data)}, indent=1)
    (folder / "expected.json").write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
