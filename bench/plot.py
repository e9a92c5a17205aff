"""`python -m bench plot RESULT.json …`: the pictures of results that were written with --json, as SVG and PNG.

What is drawn depends on the command that wrote a result: compare --curve (latency over throughput, a curve a system),
latency (percentiles over the rate), failover (grants around each fault, a line a system), scale (memory and restart over
locks), soak (memory and latency over minutes).
The machine stands below each picture.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot

from bench.plot_scale import draw_scale, draw_soak, one_axes

HELP = "draw results that were written with --json"
SIZE_INCHES = (8.0, 4.8)
PNG_DPI = 150
WIDE_BIN_MS = 50
FAULTS = {
    "kill": "kill -9 of the leader",
    "stop": "SIGSTOP of the leader",
    "cut": "the leader's network cut",
}


def draw_compare(figure: Any, results: dict[str, Any], options: dict[str, Any]) -> str:
    """Draw the median latency over the throughput, a point a depth, a curve a system."""
    curve = results.get("curve")
    if not curve:
        raise ValueError("it has no curve: run compare with --curve")
    axes = one_axes(figure)
    for system, points in curve.items():
        axes.plot(
            [point["operations_per_second"] for point in points],
            [point["p50_ms"] for point in points],
            marker="o",
            label=system,
            linewidth=2.5 if system == "raftlock" else 1.5,
        )
        for point in points:
            at = (point["operations_per_second"], point["p50_ms"])
            axes.annotate(f" {point['depth']}", at, fontsize=7, color="0.4")
    axes.set(xscale="log", yscale="log", xlabel="operations a second", ylabel="median latency, ms")
    axes.legend()
    return f"Acquire and release, 8 connections, by requests in flight on each ({options['seconds']:g} s a point)"


def draw_latency(figure: Any, results: list[dict[str, Any]], options: dict[str, Any]) -> str:
    """Draw percentiles over the rate of an open loop."""
    axes = one_axes(figure)
    rates = [one["rate"] for one in results]
    for key, label in (("p50_ms", "median"), ("p99_ms", "99 %"), ("p99_9_ms", "99.9 %")):
        axes.plot(rates, [one[key] for one in results], marker="o", label=label)
    axes.set(yscale="log", xlabel="operations a second (open loop)", ylabel="latency, ms")
    axes.set_xlim(left=0)
    axes.legend()
    return f"Latency from the intended time of sending ({options['seconds']:g} s a rate)"


def draw_failover(figure: Any, results: dict[str, Any], options: dict[str, Any]) -> str:
    """Draw the grants in each 50 ms around a middling fault: a row a kind of fault, a line a system."""
    systems = results["systems"]
    faults = [name for name in FAULTS if any(name in one for one in systems.values())]
    rows = figure.subplots(len(faults), 1, sharex=True, squeeze=False)[:, 0]
    for axes, fault in zip(rows, faults, strict=True):
        for system, one in systems.items():
            if fault not in one:
                continue
            binned = coarser(one[fault]["timeline"], WIDE_BIN_MS)
            axes.step(
                [ms for ms, _ in binned],
                [grants for _, grants in binned],
                where="post",
                label=f"{system} {one[fault]['gap_median_ms']:,.0f} ms (max {one[fault]['gap_max_ms']:,.0f})",
                linewidth=2.0 if system == "raftlock" else 1.3,
            )
        axes.axvline(0.0, color="tab:red", linewidth=1.0)
        axes.set(ylabel=f"grants in {WIDE_BIN_MS} ms")
        axes.set_title(FAULTS[fault], fontsize=9, loc="left")
        axes.grid(alpha=0.3)
        # Above the picture: within it, it would lie on the lines.
        axes.legend(
            fontsize=7, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, frameon=False
        )
    rows[-1].set_xlabel("ms since the fault")
    return f"The leader struck, {options['clients']} clients: median (max) time that a client had no grant, over {options['kills']} faults"


def coarser(timeline: list[list[int]], bin_ms: int) -> list[tuple[int, int]]:
    """Return a time line in wider bins."""
    sums: dict[int, int] = {}
    for ms, grants in timeline:
        start = ms // bin_ms * bin_ms
        sums[start] = sums.get(start, 0) + grants
    return list(sums.items())


DRAW: dict[str, Callable[[Any, Any, dict[str, Any]], str]] = {
    "compare": draw_compare,
    "latency": draw_latency,
    "failover": draw_failover,
    "scale": draw_scale,
    "soak": draw_soak,
}


def draw(document: dict[str, Any], into: Path) -> list[Path]:
    """Draw one result. Return the files. Raise ValueError if there is nothing to draw."""
    command = document["command"]
    if command not in DRAW:
        raise ValueError(f"{command} has no picture; {', '.join(DRAW)} have")
    figure = pyplot.figure(figsize=SIZE_INCHES, layout="constrained")
    try:
        title = DRAW[command](figure, document["results"], document["options"])
        figure.suptitle(title, fontsize=10)
        about = document["machine"]
        figure.supxlabel(
            f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, Python {about['python']}\n"
            f"raftlock: three nodes, fsync on; load on the same machine (load average {about['load_average']} at the end)",
            fontsize=7,
            color="0.4",
        )
        into.mkdir(parents=True, exist_ok=True)
        files = [into / f"{command}.svg", into / f"{command}.png"]
        for file in files:
            figure.savefig(file, dpi=PNG_DPI)
        return files
    finally:
        pyplot.close(figure)


def run(options: argparse.Namespace) -> int:
    """Draw each result, and say where the pictures are."""
    code = 0
    for name in options.results:
        try:
            document = json.loads(Path(name).read_text())
            for file in draw(document, Path(options.into)):
                print(file)
        except (OSError, ValueError, KeyError, TypeError) as error:
            print(f"{name}: {error!r}: not a result of this bench to draw", file=sys.stderr)
            code = 1
    return code


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("results", nargs="+", metavar="RESULT.json", help="written by --json FILE")
    parser.add_argument("--into", default="bench/results", metavar="FOLDER", help="default: bench/results")  # fmt: skip
