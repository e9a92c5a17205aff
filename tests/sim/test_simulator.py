"""The simulator: whole runs of each profile, the same run twice, shrinking, and the ledger."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from raftlock.testing.invariants import Violation
from raftlock.testing.ledger import Ledger
from raftlock.testing.nemesis import Nemesis
from raftlock.testing.profiles import PROFILES, draw
from raftlock.testing.run import run_seed
from raftlock.testing.shrink import shrink
from raftlock.testing.situations import SITUATIONS, missing, total
from raftlock.testing.world import World

SEEDS = (
    "import sys; from raftlock.testing.run import run_seed\n"
    "for profile in sys.argv[1:]: print(run_seed(7, profile).trace_hash)"
)
BY_HASH = (
    "import sys; from raftlock.testing.mutants.planting import Edit, Mutant, planted\n"
    "edit = Edit('raftlock.testing.cluster:SimCluster.carry_out', 'in effects.peer_frames', 'in {*effects.peer_frames}')\n"
    "with planted(Mutant(name='order by hash', breaks='decision 6', edits=(edit,))):\n"
    "    from raftlock.testing.run import run_seed\n"
    "    for profile in sys.argv[1:]: print(run_seed(7, profile).trace_hash)"
)
"""The same, with the frames of a turn sent in the order of a set of bytes."""


def traces(script: str, hash_seed: str, *profiles: str) -> list[str]:
    """Return the trace hash of one seed in each profile, from a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", script, *profiles],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_a_seed_breaks_no_promise(profile: str) -> None:
    """A run of each profile ends without a violation, and drains."""
    result = run_seed(1, profile)

    assert (result.failure, result.granted > 0) == ("", True), result


def test_a_seed_decides_a_run() -> None:
    """One seed gives one trace, also the second time in a process, whatever the hash seed of the process."""
    once = ("everything", "versions")
    first = traces(SEEDS, "0", *once, once[0])

    others = [traces(SEEDS, hash_seed, *once) for hash_seed in ("1", "4242")]

    assert (others, first[2], len(set(first))) == ([first[:2]] * 2, first[0], 2)


def test_an_order_that_depends_on_hashes_changes_the_trace() -> None:
    """The comparison can fail: one loop over a set is enough."""
    assert traces(BY_HASH, "1", "default") != traces(BY_HASH, "4242", "default")


def test_a_part_of_the_world_draws_for_itself() -> None:
    """What one stream of a seed draws does not depend on what another one drew."""
    one, other = World(3), World(3)
    other.stream("network").random()

    assert one.stream("disk").random() == other.stream("disk").random()


def test_every_kind_of_fault_can_be_carried_out() -> None:
    """Each fault of each profile has its function, and all are drawn by some seed."""

    kinds = {kind for profile in PROFILES.values() for kind in profile.weights}
    drawn = {f.kind for s in range(60) for f in draw("everything", World(s).stream("setup")).faults}

    assert (kinds - drawn, [k for k in kinds if not hasattr(Nemesis, f"_{k}")]) == (set(), [])


def test_shrinking_keeps_what_is_needed_and_nothing_else() -> None:
    """Of 40 faults of which two together fail, these two are found, in far fewer than 2^40 runs."""
    asked: list[int] = []

    def fails(items: Sequence[int]) -> bool:
        asked.append(len(items))
        return 7 in items and 31 in items

    kept, runs = shrink(range(40), fails, runs_max=200)

    assert (kept, runs == len(asked), runs <= 100) == ([7, 31], True, True)


def test_shrinking_stops_at_its_bound() -> None:
    """However much could be left out still, no more runs than allowed are made."""
    _, runs = shrink(range(1_000), lambda items: 3 in items, runs_max=4)

    assert runs == 4


def test_a_ledger_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    """Lines of this source and profile are known again; half a line at the end is not, and spoils no later one."""
    path = tmp_path / "ledger"
    line = {"failure": "", "situations": {}}
    ledger = Ledger(path, source="s", profile="disk")
    ledger.add({"seed": 1, **line})
    ledger.add({"seed": 2, **line})
    path.write_text(path.read_text() + '{"source":"s","profi')
    again = Ledger(path, source="s", profile="disk")
    again.add({"seed": 3, **line})

    last = path.read_text().splitlines()[-1]
    found = [
        sorted(Ledger(path, source=s, profile=p).done)
        for s, p in (("other", "disk"), ("s", "clock"))
    ]
    assert (sorted(again.done), json.loads(last)["seed"], found) == ([1, 2, 3], 3, [[], []])


def test_a_situation_that_was_not_met_is_named() -> None:
    """The totals of several runs say how often, in how many runs, and what is missing."""
    one, two = SITUATIONS[0], SITUATIONS[1]
    counts, seeds = total([{one: 2}, {one: 1, two: 4}])

    assert (counts[one], seeds[one], missing(counts)) == (3, 2, list(SITUATIONS[2:]))


def test_a_violation_names_an_invariant_that_exists() -> None:
    """A check cannot invent a name that no list explains."""
    with pytest.raises(AssertionError):
        Violation("no such promise", "text")
