"""What a run says: the table, the JSON, the ratios, the bounds of the options."""

import argparse
import json
from pathlib import Path

import pytest

from bench import cost
from bench.__main__ import COMMANDS, main
from bench.ratios import ratios
from bench.report import count, positive, table, write
from bench.throughput import summary


def test_table_aligns_numbers_to_the_right() -> None:
    """Text is to the left, numbers to the right, with thousands apart; no value is a dash, no errors are none."""
    lines = table(
        ("name", "op/s", "x", "errors"),
        [("a", 1_234_567, None, {}), ("bcdef", 9, 1.5, {"HELD": 2})],
    )

    assert lines.splitlines() == [
        "name        op/s    x  errors",
        "a      1,234,567    -  none",
        "bcdef          9  1.5  HELD 2",
    ]  # fmt: skip


def test_json_holds_command_options_machine_and_results(tmp_path: Path) -> None:
    """A run's JSON says what was run, on what, and what came out; the options of the program itself are left out."""
    file = tmp_path / "out.json"
    write(argparse.Namespace(command="mix", json=str(file), seconds=2.0), {"x": [1]})

    read = json.loads(file.read_text())

    machine = read.pop("machine")
    assert read == {"command": "mix", "options": {"seconds": 2.0}, "results": {"x": [1]}}
    assert {"cpu", "cores", "python", "uvloop", "msgpack", "load_average"} <= set(machine)


def test_ratio_is_above_one_where_raftlock_is_better() -> None:
    """More operations, or fewer milliseconds; a peer without a figure has no ratio."""
    rates = ratios({"raftlock": 300.0, "etcd": 100.0, "redis": 600.0, "broken": 0.0})
    gaps = ratios({"raftlock": 50.0, "etcd": 1_500.0}, higher_is_better=False)

    assert (rates, gaps) == ({"etcd": 3.0, "redis": 0.5}, {"etcd": 30.0})


def test_summary_takes_medians_and_keeps_every_error() -> None:
    """A round that went badly does not move the median, but its errors stay."""
    rounds = [
        {"operations_per_second": rate, "p50_ms": 1.0, "p99_ms": p99, "max_ms": 9.0, "errors": errors, "token_errors": wrong}
        for rate, p99, errors, wrong in ((100, 2.0, {}, 0), (1, 900.0, {"UNKNOWN": 3}, 1), (120, 3.0, {"UNKNOWN": 1}, 0))
    ]  # fmt: skip

    assert summary(rounds) == {
        "operations_per_second": 100,
        "p50_ms": 1.0,
        "p99_ms": 3.0,
        "max_ms": 9.0,
        "errors": {"UNKNOWN": 4},
        "token_errors": 1,
    }


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e9"])
def test_positive_refuses_what_would_never_end(text: str) -> None:
    """A time or rate of nothing, or without an end, is refused by name."""
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number above 0"):
        positive(text)


@pytest.mark.parametrize("text", ["0", "-3", "1.5", "x", "1e999"])
def test_count_refuses_what_is_no_count(text: str) -> None:
    """A count of less than one, or that is no whole number, is refused by name."""
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number"):
        count(text)


def test_count_reads_powers_of_ten() -> None:
    """Sizes may be written as 1e6 and 1_000."""
    assert [count("1e6"), count("1_000"), count("7")] == [1_000_000, 1_000, 7]


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--help says what the command measures, and that it can write JSON (or draws it)."""
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])

    said = capsys.readouterr().out
    assert (ended.value.code, ("--json FILE" in said or command == "plot")) == (0, True)


@pytest.mark.parametrize("command", ["throughput", "ceiling", "compare"])
def test_unknown_workload_names_what_is_allowed(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A workload that does not exist ends the run before anything is started."""
    code = main([command, "--workloads", "pipelined,fast"])

    said = capsys.readouterr().err
    assert (code, "'fast' is none of pipelined, closed_1000" in said) == (2, True)


def test_a_variant_is_compared_with_the_base_of_its_own_round() -> None:
    """The median of the rounds' ratios, not a ratio of medians: noise that hits a whole round cancels out."""

    def one(rate: int, spent_us: float) -> dict[str, object]:
        return {
            "operations_per_second": rate,
            "p50_ms": 1.0,
            "p99_ms": 2.0,
            "nodes_us_per_operation": spent_us,
        }

    rounds = [
        {"all on": {"w": one(base, 10.0)}, "audit off": {"w": one(off, 9.0)}}
        for base, off in [(100, 110), (50, 60), (200, 210)]
    ]

    found = cost.compare(rounds, "w")["audit off"]

    assert found == {
        "operations_per_second": 110,
        "least": 60,
        "most": 210,
        "operations_per_second_ratio": 1.1,
        "nodes_us_per_operation_ratio": 0.9,
        "p50_ms": 1.0,
        "p99_ms": 2.0,
        "nodes_us_per_operation": 9.0,
    }
