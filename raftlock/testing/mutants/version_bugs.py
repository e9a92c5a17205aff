"""Planted bugs of the state machine's version: who may raise it, when it is in force, and who must stop (decision 7)."""

from raftlock.testing.mutants.planting import Edit, Mutant

_SAID = "raftlock.server.versions:MemberVersions"
_TABLE = "raftlock.locks.table:LockTable"
_VERSIONS = "raftlock.locks.versions"

BUGS = (
    Mutant(
        name="a switch of versions before all support it",
        breaks="a member that was not upgraded yet ends at the switch, a majority of them perhaps",
        edits=(Edit(f"{_SAID}.to_raise", "min(supported", "max(supported"),),
        profiles=("versions",),
    ),
    Mutant(
        name="a switch of versions without asking the silent ones",
        breaks="a member that is down is taken for one that knows the version",
        edits=(Edit(f"{_SAID}.to_raise", "self._said.get(member, 0)", "self._said.get(member, supported)"),),
        profiles=("versions",),
    ),
    Mutant(
        name="what a member said outlives its link",
        breaks="a node that went back to an older build is taken for the one that it was",
        edits=(Edit(f"{_SAID}.lost", "self._said.pop(peer, None)", "self._said.get(peer, None)"),),
        directed="unit/server/test_member_versions.py::test_what_a_member_said_is_over_with_its_link",
    ),
    Mutant(
        name="an unknown version skipped",
        breaks="a node of the older build goes on by rules that are not in force any more",
        edits=(
            Edit(
                f"{_VERSIONS}:set_version",
                "    if version > table.next_version:",
                "    if version > table.next_version and version in table.versions:",
            ),
        ),
        profiles=("versions",),
    ),
    Mutant(
        name="a snapshot of an unknown version loaded",
        breaks="a node of the older build takes over a state whose rules it does not know",
        edits=(
            Edit(
                f"{_TABLE}.set_version",
                "    self._commands = known(self.versions, version, index=self.applied_index)",
                "    self._commands = self.versions.get(version, self._commands)",
            ),
        ),
        directed="unit/locks/test_table_versions.py::test_a_snapshot_of_an_unknown_version_is_not_loaded",
    ),
    Mutant(
        name="a new rule applied before the switch on an upgraded node",
        breaks="the nodes that are upgraded hold another state than those that are not yet",
        edits=(
            Edit(
                f"{_TABLE}.__init__",
                "    self._commands = versions[1]",
                "    self._commands = versions[max(versions)]",
            ),
        ),
        profiles=("versions",),
    ),
    Mutant(
        name="the old rules after a snapshot of the new version",
        breaks="a node that was restarted goes on by the first version's rules",
        edits=(
            Edit(
                "raftlock.locks.snapshot:SnapshotLoader._take_head",
                "    table.set_version(version)",
                "    table.version = table.next_version = version",
            ),
        ),
        profiles=("versions",),
    ),
    Mutant(
        name="a version in force in the middle of an entry",
        breaks="the audit says of an entry which one version interpreted it, and it was two",
        edits=(
            Edit(
                f"{_VERSIONS}:set_version",
                "        table.next_version = version",
                "        table.set_version(version)",
            ),
        ),
        directed="unit/locks/test_table_versions.py::test_a_version_is_in_force_from_the_next_entry_on",
    ),
    Mutant(
        name="a version raised again and again",
        breaks="a leader logs the same command in every turn until it is applied",
        edits=(Edit(f"{_SAID}.to_raise", "    self.proposed = supported\n", ""),),
        directed="unit/server/test_member_versions.py::test_the_highest_version_that_all_know_is_raised_once",
    ),
)  # fmt: skip
