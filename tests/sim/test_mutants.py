"""Planted bugs: each still fits the production code, goes in and out without a trace, and some are caught right here."""

import pytest

from raftlock.raft import quorum
from raftlock.testing.mutants import (
    client_bugs,
    disk_bugs,
    lease_bugs,
    member_bugs,
    raft_bugs,
    table_bugs,
    version_bugs,
)
from raftlock.testing.mutants.__main__ import main
from raftlock.testing.mutants.bugs import BUGS, share
from raftlock.testing.mutants.directed import play
from raftlock.testing.mutants.hunt import hunt
from raftlock.testing.mutants.planting import DoesNotApply, Edit, Mutant, codes, planted

QUORUM = "raftlock.raft.quorum:majority"
GENEROUS = Mutant(
    name="half is enough",
    breaks="two majorities need not meet",
    edits=(Edit(QUORUM, "len(voters) // 2 + 1", "len(voters) // 2"),),
)


def test_every_bug_fits_and_has_a_name_of_its_own() -> None:
    """No patch is left behind by a change of the code that it patches, and the table has a line for each bug."""
    modules = (
        lease_bugs,
        table_bugs,
        client_bugs,
        raft_bugs,
        member_bugs,
        disk_bugs,
        version_bugs,
    )
    names = [mutant.name for module in modules for mutant in module.BUGS]

    fitting = [name for name in names if codes(BUGS[name])]

    assert (fitting, sorted(set(names)), len(names) >= 45) == (names, sorted(names), True)


def test_a_bug_is_in_every_module_that_imported_the_function_and_then_in_none() -> None:
    """The function keeps its identity, so who holds it has the bug too, for as long as it is planted."""
    held_elsewhere = quorum.majority
    four = frozenset({1, 2, 3, 4})
    with planted(GENEROUS):
        during = held_elsewhere(four)

    assert (during, held_elsewhere(four), quorum.majority is held_elsewhere) == (2, 3, True)


def test_a_bug_comes_out_again_when_the_run_fails() -> None:
    """What is raised with a bug planted does not leave it there."""
    with pytest.raises(RuntimeError), planted(GENEROUS):
        raise RuntimeError

    assert quorum.majority(frozenset({1, 2, 3, 4})) == 3


@pytest.mark.parametrize(
    ("where", "old", "why"),
    [
        (QUORUM, "len(voters) // 3", "0 times, not once"),
        (QUORUM, "voters", "3 times, not once"),
        ("raftlock.raft.quorum:minority", "x", "is not there"),
        ("raftlock.raft.quorums:majority", "x", "is not there"),
        ("raftlock.raft.quorum:VoteResult", "x", "is no function"),
        (QUORUM, "len(voters) // 2 + 1", "is no Python"),
    ],
)
def test_a_patch_that_does_not_fit_says_so(where: str, old: str, why: str) -> None:
    """A bug that would be planted nowhere is an error, not a bug that nobody noticed."""
    with pytest.raises(DoesNotApply, match=why):
        codes(Mutant(name="n", breaks="b", edits=(Edit(where, old, "return return"),)))


def test_a_directed_test_that_is_not_there_is_an_error() -> None:
    """A renamed test is not a bug that nobody noticed."""
    with pytest.raises(DoesNotApply, match="cannot be played"):
        play("sim/test_directed.py::test_that_is_not_there")


def test_a_share_is_spread_over_the_table() -> None:
    """A few bugs are of all kinds; more than there are is all of them."""
    names = list(BUGS)

    few = [names.index(name) for name in share(4)]

    assert (few, share(10_000)) == ([i * len(names) // 4 for i in range(4)], names)


def test_a_bug_that_nobody_notices_fails_the_hunt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table can say NOT CAUGHT, and the exit code with it."""
    same = Edit(QUORUM, "len(voters) // 2 + 1", "1 + len(voters) // 2")
    harmless = Mutant(
        name="none at all",
        breaks="nothing",
        edits=(same,),
        directed="sim/test_directed.py::test_a_bucket_is_that_of_the_bytes",
    )
    monkeypatch.setitem(BUGS, harmless.name, harmless)

    code = main(["--only", harmless.name])

    assert (code, "NOT CAUGHT" in capsys.readouterr().out) == (1, True)


@pytest.mark.parametrize(
    "name",
    [
        "a renewal that re-arms nothing",
        "receipt taken from the start of a turn's wait",
        "a first renewal of an offer that is not logged",
        "a renewal answered by a round already in flight",
        "a renewal while an Expire of its lease is in flight",
        "a client without a margin",
        "a client that counts from the answer",
        "an offer entered without a renewal",
        "a vote sent before it is durable",
        "entries acknowledged before they are durable",
        "a record that is not synced",
        "a smaller n executed",
        "an unknown version skipped",
    ],
)
def test_a_planted_bug_is_caught(name: str) -> None:
    """Neither the simulator nor the directed tests are blind. (The command hunts all of them.)"""
    hunted = hunt(name, range(4), budget_s=60)

    assert (hunted.error, hunted.by != "") == ("", True), hunted
