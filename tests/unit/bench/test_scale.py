"""What scale and soak say of what they measured, without a cluster."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from bench import plot, scale, soak
from bench.arithmetic import slope


def sample(number: int, *, run: int = 1, **changes: Any) -> dict[str, Any]:
    """Return a minute of a soak in which nothing changes."""
    flat = {"rss_bytes": 100 << 20, "descriptors": 30, "p50_ms": 2.0, "p99_ms": 9.0}
    return {"minute": number, "run": run, "minute_of_run": number, "seconds": 60.0, **flat, **changes}  # fmt: skip


def size(number: int, **changes: Any) -> dict[str, Any]:
    """Return what a size measured."""
    counted = {"locks": number, "waiters": 0, "sessions": 0}
    return {"size": number, "rss_bytes": number * 500, "rss_bytes_per_item": 500, "restart_s": 2.0, "counted": counted, "errors": {}, **changes}  # fmt: skip


def test_slope_of_a_line() -> None:
    """Of points on a line it is the line's; of one place there is none."""
    assert (slope([0, 1, 2], [5, 8, 11]), slope([1, 1], [2, 3])) == (3.0, 0.0)


def test_a_soak_in_which_nothing_changes_is_flat() -> None:
    """And one that is too short says so, instead of calling itself flat."""
    said = [soak.verdict(soak.judge([sample(n) for n in range(count)])) for count in (30, 5)]

    assert said == ["flat", "too short to judge: a run needs more than 5 minutes"]


@pytest.mark.parametrize("key", ["rss_bytes", "descriptors", "p50_ms", "p99_ms"])
def test_a_soak_that_grows_is_not_flat(key: str) -> None:
    """By a third in half an hour, whichever it is, and it is named."""
    grown = [sample(n, **{key: sample(0)[key] * (1 + n / 90)}) for n in range(30)]

    assert soak.verdict(soak.judge(grown)) == f"grows: {key}"


def test_a_new_run_begins_with_empty_nodes() -> None:
    """A first minute's growth, and the step between two runs, are no leak."""
    first = [sample(n, rss_bytes=(50 if n < 3 else 200) << 20) for n in range(20)]
    second = [{**sample(n + 20, run=2), "minute_of_run": n} for n in range(20)]

    assert soak.verdict(soak.judge(first + second)) == "flat"


def test_a_line_that_was_cut_off_is_no_minute(tmp_path: Path) -> None:
    """A soak that was killed while it wrote goes on behind the last whole line."""
    file = tmp_path / "soak.jsonl"
    file.write_text(json.dumps(sample(0)) + "\n" + json.dumps(sample(1))[:20])

    assert soak.recorded(file) == [sample(0)]


def test_what_a_file_has_is_not_measured_again(
    tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    """A size that is known costs nothing; what it says decides the exit code all the same."""
    file = tmp_path / "scale.json"
    file.write_text(json.dumps({"results": {"locks": {"10": size(10)}}}))
    monkeypatch.setattr(scale, "show", lambda what, rows: f"{what} {len(rows)}")
    options = argparse.Namespace(json=str(file), hold=["locks"], sizes=[10], snapshot_log_size=1, full=False, seconds=1.0, memory_left=0)  # fmt: skip

    code = scale.run(options)

    assert (code, capsys.readouterr().out.split("\n")[0]) == (0, "locks 1")


@pytest.mark.parametrize(
    ("what", "counted", "lost"),
    [
        ("locks", {"locks": 9, "waiters": 0, "sessions": 99}, 1),
        ("waiters-of-one", {"locks": 1, "waiters": 10, "sessions": 1}, 0),
        ("connections", {"locks": 0, "waiters": 0, "sessions": 7}, 3),
    ],
)
def test_what_the_nodes_do_not_count_was_not_held(
    what: str, counted: dict[str, int], lost: int
) -> None:
    """A figure for ten of something is one only when there were ten."""
    assert scale.missing(size(10, counted=counted), what) == lost


def test_both_have_a_picture(tmp_path: Path) -> None:
    """From what they write, with a size whose follower did not come back in time."""
    about = {"cpu": "c", "cores": 2, "kernel": "k", "python": "3", "load_average": 0.1}
    locks = {"locks": {"10": size(10), "100": size(100, restart_s=None)}}
    minutes = {"rate": 10.0, "verdict": "flat", "samples": [sample(n) for n in range(4)]}

    files = [
        file.name
        for command, results in (("scale", locks), ("soak", minutes))
        for file in plot.draw(
            {"command": command, "results": results, "options": {}, "machine": about}, tmp_path
        )
    ]

    assert files == ["scale.svg", "scale.png", "soak.svg", "soak.png"]
