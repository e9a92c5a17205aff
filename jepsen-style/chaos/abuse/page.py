"""The table of an abuse run: as text, as JSON, and as a page of the look of the chaos report."""

import html
import math
from collections.abc import Sequence
from typing import Any

from chaos.abuse.verdicts import Row, Sample, percentile
from chaos.checks import Check
from chaos.report import STYLE

WIDTH, LEFT, RIGHT, CHART = 1180, 70, 20, 220
LATENCY_MS = (0.5, 20_000.0)
BUCKET_S = 0.25


def text(rows: Sequence[Row], checks: Sequence[Check]) -> str:
    """Return the table for a terminal."""
    lines = [
        f"{'phase':<26} {'calls':>6} {'p50 ms':>8} {'p99 ms':>8} {'longest':>8} {'failed':>6} "
        f"{'MiB':>5} {'files':>6}  verdict"
    ]
    for one in rows:
        lines.append(
            f"{one.phase.name:<26} {one.calls:>6} {one.p50_ms:>8.1f} {one.p99_ms:>8.1f} "
            f"{one.longest_ms:>8.0f} {sum(one.failed.values()):>6} {one.phase.usage.memory_mib:>5.0f} "
            f"{one.phase.usage.files:>6}  {'passed' if one.passed else 'FAILED'}"
        )
        lines += [f"    {problem}" for problem in one.problems]
        for who, found in (
            ("honest", one.failed), ("nodes", one.phase.counted), ("abuser", one.phase.abuser)
        ):  # fmt: skip
            if found:
                lines.append(f"    {who}: " + ", ".join(f"{n} {what}" for what, n in found.items()))
    for check in checks:
        lines.append(f"{'passed' if check.passed else 'FAILED':>7}  {check.name}: {check.says}")
        lines += [f"         {problem}" for problem in check.problems[:10]]
    return "\n".join(lines)


def as_json(rows: Sequence[Row], checks: Sequence[Check]) -> dict[str, Any]:
    """Return everything as plain values."""
    return {
        "phases": [
            {
                "name": one.phase.name,
                "seconds": round(one.phase.end_s - one.phase.begin_s, 1),
                "honest": {
                    "calls": one.calls, "p50_ms": one.p50_ms, "p99_ms": one.p99_ms,
                    "longest_ms": one.longest_ms, "failed": one.failed,
                },
                "nodes": {
                    "memory_mib_max": round(one.phase.usage.memory_mib, 1),
                    "files_max": one.phase.usage.files, "counted": one.phase.counted,
                },
                "abuser": one.phase.abuser,
                "problems": list(one.problems),
            }
            for one in rows
        ],
        "checks": [
            {"name": c.name, "says": c.says, "problems": c.problems} for c in checks
        ],
    }  # fmt: skip


def page(rows: Sequence[Row], checks: Sequence[Check], samples: Sequence[Sample]) -> str:
    """Return the page."""
    passed = all(one.passed for one in rows) and all(check.passed for check in checks)
    state = "passed" if passed else "failed"
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>raftlock abuse: {state}</title><style>{STYLE}</style>"
        f"<h1>raftlock abuse <span class='verdict {state}'>{state}</span></h1>"
        "<p>Honest clients acquire, renew and release at a fixed rate on three nodes, while another process abuses "
        "them. Latency counts from the time at which a call was due. It is shown and not judged: it is this machine's "
        "as much as the nodes'.</p>"
        f"<h2>Honest clients</h2>{_chart(rows, samples)}<h2>Abuses</h2>{_table(rows)}"
        f"<h2>Verdicts over the whole run</h2>{_checks(checks)}"
    )


def _counts(found: dict[str, int]) -> str:
    return "<br>".join(f"{number:,} {html.escape(what)}" for what, number in found.items())


def _verdict(passed: bool) -> str:
    state = "passed" if passed else "failed"
    return f"<span class='verdict {state}'>{state}</span>"


def _table(rows: Sequence[Row]) -> str:
    head = (
        "<tr><th>phase<th>verdict<th>honest p50 / p99 / longest, ms<th>calls that failed"
        "<th>most memory of a node<th>most files of a node<th>nodes counted<th>the abuser says"
    )
    body = [
        f"<tr><td>{html.escape(one.phase.name)}<td>{_verdict(one.passed)}"
        f"{''.join(f'<pre>{html.escape(p)}</pre>' for p in one.problems)}"
        f"<td>{one.p50_ms:,.1f} / {one.p99_ms:,.1f} / {one.longest_ms:,.0f}"
        f"<td>{sum(one.failed.values())} of {one.calls}<br>{_counts(one.failed)}"
        f"<td>{one.phase.usage.memory_mib:.0f} MiB<td>{one.phase.usage.files:,}"
        f"<td>{_counts(one.phase.counted)}<td>{_counts(one.phase.abuser)}"
        for one in rows
    ]
    return f"<table>{head}{''.join(body)}</table>"


def _checks(checks: Sequence[Check]) -> str:
    body = [
        f"<tr><td>{_verdict(c.passed)}<td>{html.escape(c.name)}<td>{html.escape(c.says)}"
        f"{''.join(f'<pre>{html.escape(p)}</pre>' for p in c.problems[:20])}"
        for c in checks
    ]
    return f"<table>{''.join(body)}</table>"


def _chart(rows: Sequence[Row], samples: Sequence[Sample]) -> str:
    """Draw median, 99th percentile and failures over the time of the run, a quarter of a second a step."""
    begin = rows[0].phase.begin_s
    end = rows[-1].phase.end_s
    low, high = LATENCY_MS
    floor = CHART + 40

    def x(when: float) -> float:
        return LEFT + (when - begin) / (end - begin) * (WIDTH - LEFT - RIGHT)

    def y(ms: float) -> float:
        return floor - math.log(min(max(ms, low), high) / low) / math.log(high / low) * CHART

    parts = []
    for number, one in enumerate(rows):
        left, right = x(one.phase.begin_s), x(one.phase.end_s)
        if one.phase.abuser:
            parts.append(
                f"<rect x='{left:.1f}' y='34' width='{right - left:.1f}' height='{CHART + 6}' fill='#fbeee0'/>"
            )
        parts.append(
            f"<text x='{left:.1f}' y='{14 + 13 * (number % 2)}'>{html.escape(one.phase.name)}</text>"
        )
    for mark in (1, 10, 100, 1_000, 10_000):
        parts.append(
            f"<line x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y(mark):.1f}' y2='{y(mark):.1f}' stroke='#e3e7ee'/>"
            f"<text class=small x='{LEFT - 6}' y='{y(mark) + 3:.1f}' text-anchor=end>{mark:,} ms</text>"
        )
    buckets: dict[int, list[Sample]] = {}
    for sample in samples:
        if begin <= sample.due_s < end:
            buckets.setdefault(int((sample.due_s - begin) / BUCKET_S), []).append(sample)
    for bucket, mine in sorted(buckets.items()):
        at = x(begin + (bucket + 0.5) * BUCKET_S)
        answered = [s.ms for s in mine if s.outcome == "answered"]
        if answered:
            median, worst = percentile(answered, 0.5), percentile(answered, 0.99)
            parts.append(
                f"<line x1='{at:.1f}' x2='{at:.1f}' y1='{y(median):.1f}' y2='{y(worst):.1f}' stroke='#a58bd6' "
                f"stroke-width='2'><title>{median:.1f} ms, {worst:.1f} ms</title></line>"
                f"<circle cx='{at:.1f}' cy='{y(median):.1f}' r='2' fill='#5a3ea6'/>"
            )
        failed = len(mine) - len(answered)
        if failed:
            parts.append(
                f"<rect x='{at - 2:.1f}' y='{floor + 2}' width='4' height='8' fill='#c0322b'>"
                f"<title>{failed} failed</title></rect>"
            )
    parts.append(
        f"<text class=small x='{LEFT}' y='{floor + 24}'>median and 99th percentile of each {BUCKET_S} s, by the time "
        "at which calls were due; red: calls that failed</text>"
    )
    return (
        f"<svg viewBox='0 0 {WIDTH} {floor + 30}' role=img aria-label='latency of honest clients'>"
        f"{''.join(parts)}</svg>"
    )
