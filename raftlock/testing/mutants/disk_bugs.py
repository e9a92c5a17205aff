"""Bugs of storage, recovery and the audit (decisions 10 to 15)."""

from raftlock.testing.mutants.planting import Edit, Mutant

_WAL = "raftlock.storage.wal:Wal"
_VOTES = "raftlock.storage.small_files:VoteFile"

BUGS: tuple[Mutant, ...] = (
    Mutant(
        name="a record that is not synced",
        breaks="written is called durable (decision 10)",
        edits=(Edit(f"{_WAL}._record", "self._disk.fdatasync(segment.name)", "pass"),),
    ),
    Mutant(
        name="a vote that is not synced",
        breaks="written is called durable (decision 13)",
        edits=(Edit(f"{_VOTES}.write", "self._disk.fdatasync(name)", "pass"),),
    ),
    Mutant(
        name="one copy of the vote only",
        breaks="a torn write of it leaves none (decision 13)",
        edits=(
            Edit(
                f"{_VOTES}.write",
                "for name in VOTES:",
                "for name in VOTES[: 1 if self._sequence > 3 else 2]:",
            ),
        ),
        profiles=("disk",),
    ),
    Mutant(
        name="the page cache trusted for the log",
        breaks="what a start has read is not made durable again, and is counted as durable (decision 12)",
        edits=(Edit(f"{_WAL}._rewrite_last", "    disk.fdatasync(REWRITE)", "    pass"),),
        profiles=("disk", "everything"),
    ),
    Mutant(
        name="the page cache trusted for the vote",
        breaks="a vote that a start has read is not made durable again (decision 12)",
        edits=(
            Edit(
                f"{_VOTES}.recover",
                "    votes._replace(hard_state, [*(name for name in VOTES if name != newest), newest])",
                "    pass",
            ),
        ),
        directed="sim/test_directed.py::test_a_vote_that_a_start_has_read_is_never_forgotten",
    ),
    Mutant(
        name="a torn tail kept",
        breaks="later records do not cover it, and the next start takes it for damage (decision 10)",
        edits=(
            Edit(
                f"{_WAL}._rewrite_last",
                "data = disk.pread(segment.name, 0, self._offset)",
                "data = disk.pread(segment.name, 0, segment.size)",
            ),
        ),
        directed="unit/storage/test_wal.py::test_a_cut_tail_does_not_come_back",
    ),
    Mutant(
        name="damage in the middle cut",
        breaks="a bit that flipped at rest costs the log everything behind it (decision 10)",
        edits=(
            Edit(
                f"{_WAL}._check_tail",
                "if later is not None:",
                "if later is not None and later < 0:",
            ),
        ),
        directed="unit/storage/test_wal.py::test_damage_before_a_later_record_is_refused",
    ),
    Mutant(
        name="a segment whose name is not synced",
        breaks="after a crash the file is not there (decision 12)",
        edits=(Edit(f"{_WAL}._next_segment", "    disk.fsync_dir()", "    pass"),),
        directed="unit/storage/test_wal_segments.py::test_a_roll_syncs_the_directory_before_the_record",
    ),
    Mutant(
        name="a failed sync tried again",
        breaks="a second fsync says yes without having written (decision 12)",
        edits=(
            Edit(
                f"{_WAL}._record",
                "    self._disk.fdatasync(segment.name)",
                "    try:\n        self._disk.fdatasync(segment.name)\n    except OSError:\n        self._disk.fdatasync(segment.name)",
            ),
        ),
        directed="unit/storage/test_store.py::test_a_failed_sync_is_lost_with_the_power",
    ),
    Mutant(
        name="an installed snapshot that is not synced",
        breaks="the log that it replaces is dropped, and after a crash neither is there (decision 14)",
        edits=(
            Edit(
                "raftlock.storage.snapshots:SnapshotFiles.install",
                "    disk.fdatasync(RECEIVING)",
                "    pass",
            ),
        ),
        directed="unit/storage/test_snapshots.py::test_a_received_snapshot_is_durable_before_it_has_its_name",
    ),
    Mutant(
        name="an emptied directory let in",
        breaks="a node that forgot its votes and its log counts in quorums (decision 13)",
        edits=(
            Edit(
                "raftlock_wire.membership:Membership.lists",
                "member.incarnation == incarnation",
                "incarnation != ''",
            ),
        ),
        directed="unit/server/test_handshake.py::test_who_is_let_in",
    ),
    Mutant(
        name="a snapshot that does not wait for the audit",
        breaks="the log is cut and its audit is not on the disk (decision 15)",
        edits=(
            Edit(
                "raftlock.server.auditing:Auditing.awaits_checkpoint",
                "return self._checkpoint is not None",
                "return False",
            ),
        ),
    ),
    Mutant(
        name="an audit that is never synced",
        breaks="after a crash a part of it is missing (decision 15)",
        edits=(
            Edit(
                "raftlock.audit.log:AuditLog._sync", "if not self._offset:", "if self._offset >= 0:"
            ),
        ),
    ),
)
