"""Bugs of the lock table: ends, queues, retries, sessions, snapshots (L2, L9, L10, R2, R3; decisions 6, 7, 9, 14)."""

from raftlock.testing.mutants.planting import Edit, Mutant

_COMMANDS = "raftlock.locks.commands"
_HANDOVER = "raftlock.locks.handover"
_TABLE = "raftlock.locks.table:LockTable"

BUGS: tuple[Mutant, ...] = (
    Mutant(
        name="an Expire that ignores the rev",
        breaks="it ends a lease that was changed or renewed in the log since it was proposed (L2)",
        edits=(
            Edit(
                f"{_COMMANDS}:expire_lock",
                "grant is not None and grant.rev == rev",
                "grant is not None",
            ),
        ),
        directed="unit/locks/test_table_leases.py::test_an_expire_that_met_a_change_does_nothing",
    ),
    Mutant(
        name="an Expire that ignores the token",
        breaks="it ends the next holder's grant (L2)",
        edits=(
            Edit(
                f"{_COMMANDS}:expire_lock",
                "grant = _current(table, resource, token)",
                "grant = table.lookup(resource)",
            ),
            Edit(f"{_COMMANDS}:expire_lock", "grant.rev == rev", "grant.rev >= rev"),
        ),
        directed="unit/locks/test_table_leases.py::test_an_expire_of_anything_else_does_nothing",
    ),
    Mutant(
        name="a release that ignores the token",
        breaks="a late release ends the next holder's grant (guarantee 6)",
        edits=(
            Edit(
                f"{_COMMANDS}:release",
                "_current(table, request[2], request[3])",
                "table.lookup(request[2])",
            ),
        ),
    ),
    Mutant(
        name="a forced release that hits the next holder",
        breaks="it goes by the resource's name and not by the token",
        edits=(
            Edit(
                f"{_COMMANDS}:force_release",
                "_current(table, resource, token)",
                "table.lookup(resource)",
            ),
        ),
        directed="unit/locks/test_table_force.py::test_a_token_that_is_over_is_not_held",
    ),
    Mutant(
        name="a change of ttl without rev",
        breaks="a late duplicate undoes a later change (the compare-and-set of change_ttl)",
        edits=(Edit(f"{_COMMANDS}:change_ttl", "if grant.rev != rev:", "if grant.rev < 0:"),),
        profiles=("default", "everything"),
    ),
    Mutant(
        name="OK answered where OFFERED was",
        breaks="the recorded outcome of an acquire that waited is OFFERED for ever (L10)",
        edits=(
            Edit(
                f"{_COMMANDS}:_repeated",
                "return (request_id, int(status), True, count, of.token, current.rev)",
                "return (request_id, int(Status.OK), True, count, of.token, current.rev)",
            ),
        ),
        profiles=("default", "network", "everything"),
    ),
    Mutant(
        name="a cut that is not counted",
        breaks="the session does not learn that a lock was cut out of it, and goes on extending it (L9)",
        edits=(
            Edit(
                f"{_COMMANDS}:force_release",
                "push(applied, session, Event.CUT, resource, token)",
                "pass",
            ),
        ),
        profiles=("network", "everything"),
    ),
    Mutant(
        name="a list that shows a cut lock as held",
        breaks="its handle is extended with its session (L9)",
        edits=(
            Edit(
                "raftlock.locks.reads:info",
                "int(grant.state),",
                "int(GrantState.HELD if grant.cut else grant.state),",
            ),
        ),
        directed="unit/locks/test_reads.py::test_a_list_by_session_shows_locks_offers_what_was_cut_out_and_waiters",
    ),
    Mutant(
        name="a cut lock without an end",
        breaks="what an administrator lets run out never runs out (guarantee 7)",
        edits=(
            Edit(
                "raftlock.server.leases:Leases._ending",
                "if grant.cut:",
                "if grant.cut:\n        pass\n    elif grant.cut:",
            ),
        ),
    ),
    Mutant(
        name="a smaller n executed",
        breaks="a late duplicate of an acquire that was over long ago gets the lock for nobody (R2)",
        edits=(Edit(f"{_COMMANDS}:acquire", "if n < outcome.n:", "if n < 0:"),),
        directed="unit/locks/test_table_acquire.py::test_a_smaller_n_has_no_effect",
    ),
    Mutant(
        name="the same n executed again",
        breaks="a retry gets a second grant (R2, guarantee 6)",
        edits=(Edit(f"{_COMMANDS}:acquire", "if n == outcome.n:", "if n < 0:"),),
        profiles=("network", "everything"),
    ),
    Mutant(
        name="a cancel that forgets an acquire on its way",
        breaks="the acquire that it overtook is granted to nobody (R3)",
        edits=(
            Edit(
                f"{_COMMANDS}:cancel",
                "    session.slots[slot] = Outcome(n, Status.CANCELLED, None)",
                "    pass",
            ),
        ),
        directed="unit/locks/test_table_cancel.py::test_a_cancel_that_overtakes_its_acquire_is_what_the_acquire_gets",
    ),
    Mutant(
        name="a cancel that leaves the grant",
        breaks="it says that it withdrew the acquire, and the lock is held (R3)",
        edits=(Edit(f"{_COMMANDS}:cancel", "end_grant(table, grant, applied)", "pass"),),
    ),
    Mutant(
        name="a WaitTimeout with effect after the grant",
        breaks="an acquire is told TIMEOUT, and was offered the lock (R5)",
        edits=(
            Edit(
                f"{_COMMANDS}:wait_timeout",
                "outcome.n == n and drop_waiter(table, session, slot, n, applied)",
                "outcome.n == n and (drop_waiter(table, session, slot, n, applied) or True)",
            ),
        ),
        directed="unit/locks/test_table_cancel.py::test_a_wait_timeout_that_comes_late_has_no_effect",
    ),
    Mutant(
        name="an acquire blind to an ended session",
        breaks="a lock that nobody holds any more is called HELD until a Sweep comes (decision 9)",
        edits=(
            Edit(
                f"{_COMMANDS}:acquire",
                "if grant is not None and table.lookup(resource) is None:",
                "if grant is not None and n < 0:",
            ),
        ),
        directed="unit/locks/test_table_acquire.py::test_an_acquire_takes_over_what_an_ended_session_held",
    ),
    Mutant(
        name="the newest waiter served first",
        breaks="a queue that is not in the order of the log (guarantee 5)",
        edits=(
            Edit(f"{_HANDOVER}:hand_on", "queue.popitem(last=False)", "queue.popitem(last=True)"),
        ),
    ),
    Mutant(
        name="an offer to a dead session",
        breaks="a waiter whose session is over is served (guarantee 5)",
        edits=(
            Edit(
                f"{_HANDOVER}:hand_on",
                "if session is None or session.ended:",
                "if session is None:",
            ),
        ),
        profiles=("default", "overload", "everything"),
    ),
    Mutant(
        name="a release that offers to two",
        breaks="two clients are offered the same lock (guarantee 2)",
        edits=(
            Edit(
                f"{_HANDOVER}:hand_on", "        break", "        if steps % 2:\n            break"
            ),
        ),
    ),
    Mutant(
        name="a token given twice",
        breaks="the guarded side cannot tell two holders apart (guarantee 2)",
        edits=(Edit(f"{_HANDOVER}:_offer", "table.token += 1", "pass"),),
    ),
    Mutant(
        name="an acquire that overtakes the queue",
        breaks="while dead waiters are passed over a new acquire takes the lock (decision 9, guarantee 5)",
        edits=(
            Edit(
                f"{_COMMANDS}:acquire",
                "if grant is None and resource not in table.handing_on:",
                "if grant is None:",
            ),
        ),
        directed="unit/locks/test_table_sweeps.py::test_a_resource_that_is_handing_on_is_held_to_who_does_not_wait",
    ),
    Mutant(
        name="a Sweep that skips a lock",
        breaks="a lock of an ended session is never handed on (decision 9)",
        edits=(
            Edit(
                f"{_HANDOVER}:sweep_session",
                "        if grant is None or grant.token != token:",
                "        if grant is None or grant.token != token or not token % 3:",
            ),
        ),
    ),
    Mutant(
        name="a snapshot with a bucket of a later index",
        breaks="a bucket is not copied before it changes (decision 14)",
        edits=(
            Edit(
                f"{_TABLE}.bucket_to_change",
                "if self.stream is not None:",
                "if self.stream is None:\n        pass\n    elif number < 0:",
            ),
        ),
        directed="unit/locks/test_snapshot.py::test_a_snapshot_is_the_state_that_it_claims_however_commands_and_slices_interleave",
    ),
    Mutant(
        name="a session of a later index in the snapshot",
        breaks="a session is not copied before it changes (decision 14)",
        edits=(
            Edit(
                f"{_TABLE}.session_to_change",
                "session is not None and self.stream is not None",
                "session is None and self.stream is not None",
            ),
        ),
        directed="unit/locks/test_snapshot.py::test_a_snapshot_is_the_state_that_it_claims_however_commands_and_slices_interleave",
    ),
    Mutant(
        name="a slot's outcome forgotten in the snapshot",
        breaks="a retry after a snapshot was loaded is executed again (R2)",
        edits=(
            Edit(
                "raftlock.locks.snapshot:SnapshotLoader._take_session",
                "session.slots[slot] = self._outcome(outcome)",
                "outcome[1] in (0, 12) or session.slots.__setitem__(slot, self._outcome(outcome))",
            ),
        ),
        directed="unit/locks/test_snapshot.py::test_a_loaded_outcome_shares_its_grant_with_the_table",
    ),
    Mutant(
        name="buckets by hash()",
        breaks="two processes put a resource into two buckets, and their states differ (decision 6)",
        edits=(
            Edit(f"{_TABLE}.bucket", "crc32(resource.encode())", "hash(resource)"),
            Edit(f"{_TABLE}.bucket_to_change", "crc32(resource.encode())", "hash(resource)"),
            Edit(
                f"{_TABLE}._apply_group",
                "bucket = buckets[crc32(resource.encode()) & _MASK]\n                if",
                "bucket = buckets[hash(resource) & _MASK]\n                if",
            ),
            Edit(
                f"{_TABLE}._apply_group",
                "bucket = buckets[crc32(resource.encode()) & _MASK]\n            held",
                "bucket = buckets[hash(resource) & _MASK]\n            held",
            ),
        ),
        directed="sim/test_directed.py::test_a_bucket_is_that_of_the_bytes",
    ),
    Mutant(
        name="a command of an unknown version skipped",
        breaks="a node that does not know a command goes on with another state than those that do (decision 7)",
        edits=(
            Edit(
                f"{_TABLE}._command",
                "    if handler is None:",
                "    if handler is None:\n        return (request[1], int(Status.OK), True)\n    if handler is None:",
            ),
        ),
        directed="unit/locks/test_table_life.py::test_an_unknown_command_stops_the_node",
    ),
)
