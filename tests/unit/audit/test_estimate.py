"""The estimate is its arithmetic, the study's figures come out of its assumptions, and prices are checked."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.audit_bytes import measure
from raftlock.audit.estimate import (
    MEASURED,
    PRICES,
    STUDY,
    Measured,
    Prices,
    Retention,
    batch_at,
    estimate,
    read_measured,
)
from raftlock.cli.audit_estimate import Kept
from raftlock.cli.main import main

HUNDRED = Measured(batch=100, raw_bytes=80, node_bytes=50, parquet_bytes=10)
ROUND = Prices(
    node_gb_month=0.1, warm_gb_month=0.02, cold_gb_month=0.004, put_1000=0.0, move_1000=0.0
)


def run(*arguments: object) -> Result:
    """Run `raftlock audit estimate …`."""
    return CliRunner().invoke(main, ["audit", "estimate", *map(str, arguments)])


def test_the_studys_figures_come_out_of_its_assumptions() -> None:
    """66,667 a second of 300 bytes: 1.73 TB a day; 12 TB, 156 TB and 624 TB in its tiers; about 6,816 dollars."""
    found = STUDY.at(STUDY.rate)

    assert found.size_a_day == pytest.approx(1.728e12, rel=0.001)
    assert [tier.size for tier in found.tiers] == pytest.approx([12e12, 156e12, 624e12], rel=0.01)
    assert [tier.dollars for tier in found.tiers] == pytest.approx([1_200, 3_120, 2_496], rel=0.01)
    assert found.dollars == pytest.approx(6_816, rel=0.01)


def test_ours_is_bytes_times_rate_times_days_times_price() -> None:
    """1,000 a second: 86.4 million a day, on three nodes for 2 days, then 30 days warm and 100 days cold."""
    retention = Retention(node_days=2, warm_days=30, cold_days=100)

    found = estimate(rate=1_000, measured=HUNDRED, prices=ROUND, retention=retention, nodes=3)

    assert [tier.size for tier in found.tiers] == pytest.approx([25.92e9, 25.92e9, 86.4e9])
    assert [tier.dollars for tier in found.tiers] == pytest.approx([2.592, 0.5184, 0.3456])
    assert found.dollars == pytest.approx(3.456)


def test_requests_are_counted_by_the_segments() -> None:
    """At least a segment an hour; under load one each 64 MiB of content. Without a cold tier nothing is moved."""
    prices = replace(ROUND, put_1000=1.0, move_1000=2.0)
    both, warm = Retention(), Retention(cold_days=0)

    slow = estimate(rate=1, measured=HUNDRED, prices=prices, retention=both, nodes=3)
    fast = estimate(rate=100_000, measured=HUNDRED, prices=prices, retention=warm, nodes=3)

    assert slow.requests_dollars == pytest.approx(24 * 30 / 1_000 * 3)
    assert fast.requests_dollars == pytest.approx(100_000 * 86_400 * 80 / (64 << 20) * 30 / 1_000)


def test_what_was_measured_is_what_the_bench_measures(tmp_path: Path) -> None:
    """The file's figures are those that its command gives, within what a short run differs by."""
    [single] = [one for one in read_measured() if one.batch == 1]

    found = measure(tmp_path, batch=1, operations=4_000, seed=1)

    assert "python -m bench audit-bytes" in MEASURED.read_text().splitlines()[0]
    assert found.raw_bytes == pytest.approx(single.raw_bytes, rel=0.15)
    assert found.node_bytes == pytest.approx(single.node_bytes, rel=0.25)
    assert [batch_at(rate, read_measured()).batch for rate in (1, 8_000, 66_667)] == [1, 10, 100]


def test_the_command_prints_both() -> None:
    """JSON has ours, the study's and the prices; the text says where they differ."""
    values = json.loads(run("--ops-per-second", 66_667, "--json").stdout)
    text = run("--ops-per-second", 66_667)

    assert values["study"]["size_a_day"] == pytest.approx(1.728e12, rel=0.001)
    assert values["ours"]["size_a_day"] < values["study"]["size_a_day"] / 5
    assert (text.exit_code, "Where they differ" in text.stdout) == (0, True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("put_1000 = 0.005", "put_1000 must be dollars"),
        ("put_1000 = -1", "put_1000 must be dollars, 0 or more, and is -1"),
        ("put_1000 = 'much'", "and is 'much'"),
        ("putt_1000 = 1", "'putt_1000' is none of node_gb_month"),
        ("put_1000", "Expected '='"),
    ],
)
def test_wrong_prices_say_what_is_wrong(tmp_path: Path, change: str, says: str) -> None:
    """A missing one, a negative one, a text, a name that is none, and no TOML."""
    lines = [line for line in PRICES.read_text().splitlines() if not line.startswith("put_1000")]
    file = tmp_path / "mine.toml"
    file.write_text("\n".join([*lines, change if change != "put_1000 = 0.005" else ""]))

    result = run("--ops-per-second", 5, "--prices", file)

    assert (result.exit_code, says in result.stderr) == (2, True)


def test_a_retention_is_read() -> None:
    """What is not named keeps its default; a wrong part says what is allowed."""
    wrong = run("--ops-per-second", 5, "--retention", "nodes=7w")

    assert Kept().convert("nodes=48h,cold=7y", None, None) == Retention(
        node_days=2, warm_days=90, cold_days=2_555
    )
    assert (wrong.exit_code, "use nodes=7d,warm=90d,cold=275d" in wrong.stderr) == (2, True)
