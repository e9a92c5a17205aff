"""The parts of the chaos rig that can be wrong without a cluster: schedule, register, verdicts, report."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "jepsen-style"))

from chaos.checks import all_checks, longest_gap, no_two_believe
from chaos.drill import around
from chaos.history import Recorder, merged
from chaos.nemesis import schedule
from chaos.register import Register, StaleToken, lost_updates
from chaos.report import Fault, Run, write_report
from raftlock.testing.linearizability import operations

NAMES = ["a", "b", "c", "d"]


def event(
    process: str, kind: str, f: str, ms: int, resource: str = "r", **value: Any
) -> dict[str, Any]:
    """Return one event of a history."""
    value = {"resource": resource, **value} if kind == "invoke" else value
    return {
        "process": process, "type": kind, "f": f, "value": value,
        "time_ns": ms * 1_000_000, "node": None,
    }  # fmt: skip


def held(process: str, token: int, start_ms: int, until_ms: int) -> list[dict[str, Any]]:
    """Return an acquire, and a release that says until when it was believed."""
    return [
        event(process, "invoke", "acquire", start_ms),
        event(process, "ok", "acquire", start_ms + 1, status="OK", token=token),
        event(
            process, "invoke", "release", until_ms + 1, token=token, held_until_ns=until_ms * 1_000_000
        ),
        event(process, "ok", "release", until_ms + 2, status="OK"),
    ]  # fmt: skip


# the schedule


def test_a_seed_gives_the_same_schedule_again() -> None:
    """What strikes when is a function of the seed."""
    assert schedule(7, 120, NAMES) == schedule(7, 120, NAMES) != schedule(8, 120, NAMES)


def test_every_fault_comes_once_before_any_comes_twice() -> None:
    """A short run tries as many faults as it can, and all are over in time."""
    strikes = schedule(3, 120, NAMES)

    assert sorted(strike.name for strike in strikes[:4]) == NAMES
    assert all(strike.at_s + strike.lasts_s <= 120 for strike in strikes)


# the guarded register


def test_the_register_refuses_a_token_below_the_largest(tmp_path: Path) -> None:
    """A reader's token counts as seen: a holder that is late can do nothing any more."""
    register = Register(tmp_path / "register")
    register.write(5, register.read(5) + 1)
    register.read(7)

    with pytest.raises(StaleToken):
        register.write(5, 2)
    assert (register.read(7), lost_updates(tmp_path / "register")) == (1, [])


def test_a_lost_update_is_seen_in_the_journal(tmp_path: Path) -> None:
    """Two holders that read the same value write the same one: the journal shows it."""
    register = Register(tmp_path / "register")
    for token in (5, 6):
        register.write(token, 1)

    assert lost_updates(tmp_path / "register") == ["register line 2: 1 written over 1"]


# verdicts


def test_two_holders_that_both_believe_are_found() -> None:
    """The first counts on its lock until after the second was told that it has it."""
    events = held("a", 5, 0, 50) + held("b", 6, 30, 90)
    ops = operations(sorted(events, key=lambda e: e["time_ns"]))

    assert [p.split(":")[0] for p in no_two_believe(ops)] == ["for 19.0 ms both of these held it"]


def test_one_after_the_other_is_no_violation() -> None:
    """Nor is a holder who was deprived by force, and counted on the lock until he heard of it."""
    one_by_one = held("a", 5, 0, 29) + held("b", 6, 30, 90)
    forced = [
        *held("a", 5, 0, 50),
        event("c", "invoke", "force_release", 20, token=5, now=True),
        event("c", "ok", "force_release", 22, status="OK"),
        *held("b", 6, 30, 90),
    ]

    found = [
        no_two_believe(operations(sorted(events, key=lambda e: e["time_ns"])))
        for events in (one_by_one, forced)
    ]

    assert found == [[], []]


def test_the_longest_gap_is_between_two_answers() -> None:
    """In seconds, with the time at which it began."""
    ops = operations(held("a", 5, 0, 1_500))

    assert longest_gap(ops) == (1.501, 1_000_000)


def test_a_run_that_tried_too_little_has_not_passed(tmp_path: Path) -> None:
    """Nothing violated by nothing done is no proof."""
    checks, _ = all_checks(held("a", 5, 0, 10), tmp_path, node_problems=[], afterwards=[])

    assert {check.name: check.passed for check in checks} == {
        "linearizable": True,
        "no two holders": True,
        "no lost update": True,
        "nodes": True,
        "service afterwards": True,
        "enough was tried": False,
    }


# files


def test_histories_are_merged_in_the_order_of_time(tmp_path: Path) -> None:
    """A line that a kill cut off is left out."""
    for number in (1, 2):
        recorder = Recorder(tmp_path / f"{number}.jsonl")
        recorder.event("p", "invoke", "get", {"resource": "r"}, None)
        recorder.close()
    with (tmp_path / "1.jsonl").open("a") as file:
        file.write('{"process": "p", "ty')

    events = merged(sorted(tmp_path.glob("*.jsonl")))

    assert (len(events), events == sorted(events, key=lambda e: e["time_ns"])) == (2, True)


def test_the_report_shows_what_was_found(tmp_path: Path) -> None:
    """One file without anything from elsewhere; what histories say is text in it and nothing else."""
    events = held("<script>", 5, 0, 50) + held("b", 6, 30, 90)
    events.sort(key=lambda e: e["time_ns"])
    checks, ops = all_checks(events, tmp_path, node_problems=["node 2 ended"], afterwards=[])
    look = {"id": 1, "role": "leader", "term": 3, "commit_index": 1, "healthy": True}
    run = Run(
        seed=17,
        seconds=90.0,
        node_ids=(1, 2),
        faults=(Fault("pause one", "node 1", 10_000_000, 40_000_000),),
        operations=tuple(ops),
        looks=tuple({"time_ns": t * 1_000_000, "nodes": [look, None]} for t in (0, 50, 100)),
        checks=tuple(checks),
    )

    write_report(run, tmp_path / "report.html")

    text = (tmp_path / "report.html").read_text()
    found = [
        part in text for part in ("seed 17", "pause one", "node 2 ended", "both of these held")
    ]
    assert found == [True] * 4
    assert [part in text for part in ("<script>", "http://", "https://")] == [False] * 3


def test_the_calls_around_a_violation_are_drawn() -> None:
    """Those on its lock, a lane a process; a text that names no lock and no time gets no drawing."""
    events = held("a", 5, 100, 150) + held("b", 6, 130, 190)
    ops = operations(sorted(events, key=lambda e: e["time_ns"]))
    problem = no_two_believe(ops)[0]

    drawn = around(problem, ops)

    assert (drawn.count("<rect"), ">a</text>" in drawn, ">b</text>" in drawn) == (4, True, True)
    assert around("node 2 ended", ops) == ""
