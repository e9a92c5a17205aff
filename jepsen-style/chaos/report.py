"""The page that a person looks at after a run: one file, without anything from elsewhere.

A time line: faults, who led, throughput, latency, the longest gap; then the verdicts, and what lies around a violation.
"""

import html
import itertools
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.checks import Check, longest_gap
from chaos.drill import around
from raftlock.testing.linearizability import Operation, Outcome

WIDTH, LEFT, RIGHT = 1180, 160, 20
LANE, CHART = 22, 110
LATENCY_MS = (1.0, 10_000.0)
BUCKET_S = 0.5
TICKS_MAX = 14
PROBLEMS_SHOWN = 20
STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; color: #1c2430; background: #fff; margin: 2rem auto; max-width: 1220px; padding: 0 1rem }
h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem }
.verdict { display: inline-block; padding: .1rem .7rem; border-radius: 1rem; color: #fff; font-weight: 600 }
.passed { background: #1a7f4b } .failed { background: #c0322b }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .3rem .8rem .3rem 0; vertical-align: top; border-bottom: 1px solid #e3e7ee }
pre { background: #f5f7fa; padding: .8rem; overflow-x: auto; font-size: 12px; white-space: pre-wrap }
svg text { font: 11px system-ui, sans-serif; fill: #445 } svg .small { font-size: 10px; fill: #667 } svg { width: 100%; height: auto }
dl { display: grid; grid-template-columns: max-content auto; gap: .1rem 1rem } dt { color: #667 } dd { margin: 0 }
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault as it was carried out."""

    name: str
    words: str
    begin_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that a run left behind."""

    seed: int
    seconds: float
    node_ids: tuple[int, ...]
    faults: tuple[Fault, ...]
    operations: tuple[Operation, ...]
    looks: tuple[dict[str, Any], ...]
    checks: tuple[Check, ...]
    how: str = "network namespaces"
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Faults that this machine could not do, each with the reason."""

    @property
    def passed(self) -> bool:
        """Return whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def gap(self) -> str:
        """Return the longest gap without service, in words."""
        seconds, began_ns = longest_gap(self.operations)
        during = [f.name for f in self.faults if f.begin_ns - 1e9 <= began_ns <= f.end_ns]
        return f"longest gap without an answer {seconds:.2f} s" + (
            f" (during: {', '.join(during)})" if during else ""
        )


def write_report(run: Run, path: Path) -> None:
    """Write the page."""
    state = "passed" if run.passed else "failed"
    path.write_text(
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>raftlock chaos, seed {run.seed}: {state}</title><style>{STYLE}</style>"
        f"<h1>raftlock chaos <span class='verdict {state}'>{state}</span></h1>"
        f"{_summary(run)}<h2>Time line</h2>{TimeLine(run).svg()}"
        f"<h2>Verdicts</h2>{_verdicts(run)}<h2>Faults</h2>{_faults(run)}",
        encoding="utf-8",
    )


def _summary(run: Run) -> str:
    outcomes = Counter(op.outcome for op in run.operations)
    held = sum(op.f == "acquire" and op.outcome is Outcome.OK for op in run.operations)
    rows = {
        "seed": str(run.seed),
        "nodes": f"{len(run.node_ids)}: {run.how}",
        "faults": f"{len(run.faults)} in {run.seconds:.0f} s",
        "operations": f"{len(run.operations)}: {outcomes[Outcome.OK]} ok, {outcomes[Outcome.FAIL]} refused, "
        f"{outcomes[Outcome.INFO]} of unknown outcome; {held} locks held",
        "service": run.gap,
    }
    if run.left_out:
        rows["left out"] = "; ".join(
            f"{name} ({why})" for name, why in sorted(run.left_out.items())
        )
    return "<dl>" + "".join(f"<dt>{k}<dd>{html.escape(v)}" for k, v in rows.items()) + "</dl>"


def _verdicts(run: Run) -> str:
    rows = []
    for check in run.checks:
        state = "passed" if check.passed else "failed"
        problems = "".join(
            f"<pre>{html.escape(problem)}</pre>{around(problem, run.operations)}"
            for problem in check.problems[:PROBLEMS_SHOWN]
        )
        rows.append(
            f"<tr><td><span class='verdict {state}'>{state}</span><td>{html.escape(check.name)}"
            f"<td>{html.escape(check.says)}{problems}"
        )
    key = (
        "<p>Drawn below a violation: the calls on its lock around it, a lane a process; green answered OK, grey refused, "
        "yellow of unknown outcome. Point at one to read it.</p>"
        if any(check.problems for check in run.checks)
        else ""
    )
    return f"{key}<table>{''.join(rows)}</table>"


def _faults(run: Run) -> str:
    start = _start(run)
    rows = [
        f"<tr><td>{(f.begin_ns - start) / 1e9:.1f} s<td>{(f.end_ns - f.begin_ns) / 1e9:.1f} s"
        f"<td>{html.escape(f.name)}<td>{html.escape(f.words)}"
        for f in run.faults
    ]
    return f"<table><tr><th>at<th>for<th>fault<th>what it did{''.join(rows)}</table>"


def _start(run: Run) -> int:
    times = [op.call_ns for op in run.operations] + [look["time_ns"] for look in run.looks]
    return min(times, default=0)


class TimeLine:
    """Draws lanes and charts over the time of a run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._start = _start(run)
        ends = [op.return_ns for op in run.operations if op.outcome is not Outcome.INFO]
        self._end = max(
            [*ends, *(f.end_ns for f in run.faults), self._start + 1_000_000_000], default=0
        )
        self._parts: list[str] = []
        self._y = 14

    def svg(self) -> str:
        """Return the drawing."""
        self._faults()
        self._nodes()
        self._gap()
        self._throughput()
        self._latency()
        self._axis()
        body = "".join(self._parts)
        return (
            f"<svg viewBox='0 0 {WIDTH} {self._y}' role=img "
            f"aria-label='time line of the run'>{body}</svg>"
        )

    def _x(self, time_ns: float) -> float:
        share = (time_ns - self._start) / (self._end - self._start)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def _text(
        self, x: float, y: float, text: str, *, small: bool = False, end: bool = False
    ) -> None:
        anchor = " text-anchor=end" if end else ""
        kind = " class=small" if small else ""
        self._parts.append(
            f"<text x='{x:.1f}' y='{y:.1f}'{kind}{anchor}>{html.escape(text)}</text>"
        )

    def _box(
        self, x: float, y: float, width: float, height: float, fill: str, title: str = ""
    ) -> None:
        inside = f"<title>{html.escape(title)}</title>" if title else ""
        self._parts.append(
            f"<rect x='{x:.1f}' y='{y:.1f}' width='{max(width, 0.7):.1f}' height='{height:.1f}' "
            f"fill='{fill}'>{inside}</rect>"
        )

    def _faults(self) -> None:
        """Draw a lane a fault that came; the bars shade everything below."""
        names = list(dict.fromkeys(f.name for f in self._run.faults))
        height = (
            len(names) * 15 + 14 + len(self._run.node_ids) * LANE + 16 + LANE + 2 * (CHART + 26)
        )
        for fault in self._run.faults:
            x = self._x(fault.begin_ns)
            self._box(x, self._y - 10, self._x(fault.end_ns) - x, height, "#f2f4f8")
        for name in names:
            self._text(LEFT - 8, self._y, name, small=True, end=True)
            for fault in self._run.faults:
                if fault.name == name:
                    x = self._x(fault.begin_ns)
                    width = self._x(fault.end_ns) - x
                    self._box(x, self._y - 9, width, 11, "#d9822b", f"{name}: {fault.words}")
            self._y += 15
        self._y += 14

    def _nodes(self) -> None:
        """Draw a lane a node: leading, following, without a leader, silent."""
        fills = {"leader": "#2f6fde", "follower": "#bcd2f7", "none": "#f0d9a8", "silent": "#5b6472"}
        x = float(LEFT)
        for label, key in (
            ("leads", "leader"), ("follows", "follower"), ("sees no leader", "none"), ("silent", "silent"),
        ):  # fmt: skip
            self._box(x, self._y - 9, 10, 10, fills[key])
            self._text(x + 14, self._y, label, small=True)
            x += 110
        self._y += 16
        for position, node_id in enumerate(self._run.node_ids):
            self._text(LEFT - 8, self._y + 4, f"node {node_id}", end=True)
            for key, term, begin_ns, end_ns in self._stretches(position):
                left = self._x(begin_ns)
                width = self._x(end_ns) - left
                title = f"node {node_id}, term {term}: {(end_ns - begin_ns) / 1e9:.1f} s"
                self._box(left, self._y - 8, width, 16, fills[key], title)
                if key == "leader" and width > 8 * len(str(term)):
                    self._parts.append(
                        f"<text x='{left + 3:.1f}' y='{self._y + 4:.1f}' style='fill:#fff'>{term}</text>"
                    )
            self._y += LANE

    def _stretches(self, position: int) -> list[tuple[str, int, int, int]]:
        """Return how a node was seen, for as long as it was seen so: (what, term, from, to)."""
        found: list[tuple[str, int, int, int]] = []
        for look, after in itertools.pairwise(self._run.looks):
            node = look["nodes"][position]
            key, term = "silent", 0
            if node is not None:
                key, term = node["role"], node["term"]
                key = "leader" if key == "leader" else "follower"
                key = key if node["healthy"] else "none"
            begin_ns, end_ns = look["time_ns"], after["time_ns"]
            if found and found[-1][:2] == (key, term):
                begin_ns = found.pop()[2]
            found.append((key, term, begin_ns, end_ns))
        return found

    def _gap(self) -> None:
        seconds, began_ns = longest_gap(self._run.operations)
        if seconds:
            x = self._x(began_ns)
            self._box(x, self._y - 4, self._x(began_ns + seconds * 1e9) - x, 8, "#c0322b")
        self._text(LEFT - 8, self._y + 4, f"longest gap {seconds:.2f} s", small=True, end=True)
        self._y += LANE

    def _buckets(self) -> dict[int, list[Operation]]:
        found: dict[int, list[Operation]] = {}
        for op in self._run.operations:
            if op.outcome is not Outcome.INFO:
                bucket = int((op.return_ns - self._start) / 1e9 / BUCKET_S)
                found.setdefault(bucket, []).append(op)
        return found

    def _chart(self, title: str, top: str, bottom: str) -> float:
        """Begin a chart and return the y of its floor."""
        floor = self._y + CHART
        self._text(LEFT, self._y - 4, title)
        self._text(LEFT - 8, self._y + 8, top, small=True, end=True)
        self._text(LEFT - 8, floor, bottom, small=True, end=True)
        self._parts.append(
            f"<line x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{floor}' y2='{floor}' stroke='#99a'/>"
        )
        self._y += CHART + 26
        return floor

    def _throughput(self) -> None:
        buckets = self._buckets()
        rates = {
            b: sum(op.outcome is Outcome.OK for op in ops) / BUCKET_S for b, ops in buckets.items()
        }
        top = max(rates.values(), default=1) or 1
        floor = self._chart("operations a second answered OK", f"{top:.0f}", "0")
        for bucket, rate in rates.items():
            left = self._x(self._start + bucket * BUCKET_S * 1e9)
            right = self._x(self._start + (bucket + 1) * BUCKET_S * 1e9)
            height = rate / top * CHART
            self._box(left, floor - height, right - left - 0.5, height, "#3a9d6e", f"{rate:.0f}/s")

    def _latency(self) -> None:
        """Draw what calls that do not wait in a queue took; a call is counted where it was answered."""
        low, high = LATENCY_MS
        floor = self._chart(
            "milliseconds an answer took, acquires that wait left out (median, 99th percentile)",
            f"{high:,.0f}", f"{low:.0f}",
        )  # fmt: skip

        def y(ms: float) -> float:
            share = math.log(min(max(ms, low), high) / low) / math.log(high / low)
            return floor - share * CHART

        for mark in (10, 100, 1_000):
            self._parts.append(
                f"<line x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y(mark):.1f}' y2='{y(mark):.1f}' "
                "stroke='#e3e7ee'/>"
            )
            self._text(LEFT - 8, y(mark) + 3, f"{mark:,}", small=True, end=True)
        for bucket, ops in sorted(self._buckets().items()):
            took = sorted(
                (op.return_ns - op.call_ns) / 1e6 for op in ops if not op.asked.get("wait_ms")
            )
            if not took:
                continue
            x = self._x(self._start + (bucket + 0.5) * BUCKET_S * 1e9)
            median, worst = took[len(took) // 2], took[int(len(took) * 0.99)]
            self._parts.append(
                f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{y(median):.1f}' y2='{y(worst):.1f}' "
                f"stroke='#a58bd6' stroke-width='2'><title>{median:.1f} ms, {worst:.1f} ms</title></line>"
                f"<circle cx='{x:.1f}' cy='{y(median):.1f}' r='2' fill='#5a3ea6'/>"
            )

    def _axis(self) -> None:
        seconds = (self._end - self._start) / 1e9
        step = next(s for s in (5, 10, 15, 30, 60, 300, 600, 3_600) if seconds / s <= TICKS_MAX)
        for tick in range(0, int(seconds) + 1, step):
            self._text(self._x(self._start + tick * 1e9), self._y - 8, f"{tick} s", small=True)
        self._y += 4
