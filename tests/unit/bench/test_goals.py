"""The goals: each reads its figure from results as the commands write them, and says honestly how it stands."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench import goals
from bench.__main__ import main
from bench.ratios import figure

COMPARE: dict[str, Any] = {
    "pipelined": figure("pipelined", {"raftlock": 210_000.0, "etcd": 5_000.0, "redis": 400_000.0}),
    "contended": figure("contended", {"raftlock": 900.0, "etcd": 100.0}),
    "latency": {"pipelined": {"raftlock": {"p50_ms": 11.0}}},
    "native": {"redis": {"operations_per_second": 420_000}},
    "failover": {"systems": {"raftlock": {"kill": {"gap_median_ms": 90.0, "gap_max_ms": 600.0}}}},
}
FAILOVER: dict[str, Any] = {
    "systems": {
        "raftlock": {"kill": {"gap_median_ms": 120.0, "gap_max_ms": 200.0}},
        "etcd": {"kill": {"gap_median_ms": 1_500.0, "gap_max_ms": 1_800.0}},
    }
}


def verdicts(*documents: dict[str, Any]) -> dict[tuple[str, str], tuple[float | None, str]]:
    """Return figure and verdict of each goal."""
    return {(g.workload, g.text): (value, said) for g, value, said in goals.judged(documents)}


def test_nothing_is_met_without_a_measurement() -> None:
    """A goal that nobody measured is said to be that."""
    assert set(verdicts().values()) == {(None, "not measured")}


def test_each_goal_is_held_against_what_was_measured() -> None:
    """Rates and ratios are to be reached, times not to be exceeded."""
    found = verdicts({"command": "compare", "results": COMPARE})

    assert {key: one for key, one in found.items() if one[1] != "not measured"} == {
        ("pipelined", "op/s, 8 x 256"): (210_000.0, "met"),
        ("pipelined", "p50 ms"): (11.0, "not met"),
        ("pipelined", "x Redis AOF-always, redis-benchmark -P 32"): (0.5, "not met"),
        ("pipelined", "x Redis AOF-always, 8 x 256"): (0.525, "not met"),
        ("pipelined", "x etcd"): (42.0, "met"),
        ("failover, kill -9", "median ms"): (90.0, "met"),
        ("failover, kill -9", "max ms"): (600.0, "not met"),
        ("one contended lock", "handovers, x etcd's"): (9.0, "met"),
    }


def test_failover_of_its_own_stands_over_that_of_a_comparison() -> None:
    """Twenty kills say more than a few."""
    documents = [
        {"command": "compare", "results": COMPARE},
        {"command": "failover", "results": FAILOVER},
    ]

    found = verdicts(*documents)

    assert [one for key, one in found.items() if key[0] == "failover, kill -9"] == [
        (120.0, "not met"),
        (200.0, "met"),
        (0.08, "met"),
    ]


@pytest.mark.parametrize(
    ("one", "share"),
    [
        ({"rate": 67_000.0, "errors": {}, "overflowed": False}, 0.0),
        ({"rate": 67_000.0, "errors": {"not sent": 670, "UNKNOWN": 9}, "overflowed": False}, 0.01),
        ({"rate": 67_000.0, "errors": {}, "overflowed": True}, 1.0),
        ({"rate": 1_000.0, "errors": {}, "overflowed": False}, None),
    ],
)
def test_backlog_is_seen(one: dict[str, Any], share: float | None) -> None:
    """What was not sent, or a run that ended early, is one; another rate says nothing of this one."""
    assert goals.backlog({"latency": [one]}) == share


def test_scale_and_expiry_are_read_as_their_commands_write_them() -> None:
    """The row of ten million locks counts, and no other."""
    rows = [
        {"locks": 1_000_000, "rss_bytes": 3e8, "longest_stall_ms": 20.0, "restart_s": 5.0},
        {"locks": 10_000_000, "rss_bytes": 2.4e9, "longest_stall_ms": 80.0, "restart_s": None},
    ]
    late = {
        "leases": 1_000_000,
        "terms_passed": 0,
        "last_late_ms": 4_000.0,
        "others_meanwhile": {"p99_ms": 51.0},
    }

    found = verdicts({"command": "scale", "results": rows}, {"command": "expiry", "results": late})

    assert {key: one for key, one in found.items() if key[0].startswith(("10 M", "1 M"))} == {
        ("10 M locks", "memory of a node, GB"): (2.4, "met"),
        ("10 M locks", "longest stall ms"): (80.0, "not met"),
        ("10 M locks", "restart s"): (None, "not measured"),
        ("1 M leases expire together", "the last late by ms"): (4_000.0, "met"),
        ("1 M leases expire together", "others p99 ms"): (51.0, "not met"),
    }


@pytest.mark.parametrize("odd", [{"leases": 100_000}, {"terms_passed": 1}])
def test_expiry_of_fewer_leases_or_with_an_election_is_no_measurement(odd: dict[str, Any]) -> None:
    """It is neither met nor missed by it."""
    one = {"leases": 1_000_000, "terms_passed": 0, "last_late_ms": 1.0, **odd}

    found = verdicts({"command": "expiry", "results": one})

    assert found["1 M leases expire together", "the last late by ms"] == (None, "not measured")


def test_command_prints_the_goals_of_files_and_of_what_is_in_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A comparison holds the results of single commands; --strict makes an exit code of a goal that is not met."""
    inner = {"command": "latency", "results": [{"rate": 67_000.0, "errors": {}, "overflowed": False, "p50_ms": 2.5, "p99_ms": 40.0}]}  # fmt: skip
    file = tmp_path / "compare.json"
    file.write_text(json.dumps({"command": "compare", "results": {"open_67000": inner}}))

    codes = (main(["goals", str(file)]), main(["goals", "--strict", str(file)]))

    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert codes == (0, 1)
    assert ["open", "loop", "67,000/s", "p99", "ms", "40", "<=", "15", "not", "met"] in lines


def test_command_refuses_what_is_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that another program wrote is named."""
    file = tmp_path / "x.json"
    file.write_text("[]")

    assert (main(["goals", str(file)]), "not a result" in capsys.readouterr().err) == (1, True)
