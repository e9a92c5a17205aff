"""The operations around a violation, drawn: one lane a process, one bar a call, coloured by what came of it.

It owns the drawing and the choice of what to draw. It must not know how a violation was found: it reads the resource and
the times that stand in its text.
"""

import html
import re
from collections.abc import Sequence

from raftlock.testing.linearizability import Operation, Outcome

WIDTH, LEFT, RIGHT, LANE = 1180, 110, 30, 17
AROUND_NS = 400_000_000
BARS_MAX = 150
LANES_MAX = 24
FILLS = {Outcome.OK: "#3a9d6e", Outcome.FAIL: "#b9c2cf", Outcome.INFO: "#e0a52e"}
_SPAN = re.compile(r"\[(\d+\.\d+) to (\d+\.\d+|\?)")
_RESOURCE = re.compile(r"'([^']+)'")


def around(problem: str, ops: Sequence[Operation]) -> str:
    """Return a drawing of the operations on the resource that a problem names, around its last time; empty without one."""
    resource, spans = _RESOURCE.search(problem), _SPAN.findall(problem)
    if resource is None or not spans:
        return ""
    # The last line of a problem is what could not be; a call without an answer has its beginning only.
    begun, ended = spans[-1]
    low = int(float(begun) * 1e6)
    high = low if ended == "?" else int(float(ended) * 1e6)
    middle = max(low, high)
    low, high = middle - AROUND_NS, middle + AROUND_NS // 2
    near = [
        op
        for op in ops
        if op.resource == resource.group(1) and op.call_ns <= high and _end(op, high) >= low
    ]
    near.sort(key=lambda op: abs(_end(op, high) - middle))
    near = near[:BARS_MAX]
    lanes = sorted({str(op.process) for op in near})[:LANES_MAX]
    near = [op for op in near if str(op.process) in lanes]
    if not near:
        return ""
    return _drawing(near, lanes, low, high, middle)


def _end(op: Operation, open_ns: int) -> int:
    return open_ns if op.outcome is Outcome.INFO else op.return_ns


def _drawing(
    near: Sequence[Operation], lanes: Sequence[str], low: int, high: int, middle: int
) -> str:
    height = len(lanes) * LANE + 24

    def x(time_ns: int) -> float:
        share = (min(max(time_ns, low), high) - low) / (high - low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    parts = [
        f"<line x1='{x(middle):.1f}' x2='{x(middle):.1f}' y1='0' y2='{height - 20}' stroke='#c0322b'/>"
    ]
    for number, process in enumerate(lanes):
        y = number * LANE
        parts.append(
            f"<text class=small x='{LEFT - 6}' y='{y + 11}' text-anchor=end>{html.escape(process[-18:])}</text>"
        )
        for op in near:
            if str(op.process) != process:
                continue
            left, right = x(op.call_ns), x(_end(op, high))
            parts.append(
                f"<rect x='{left:.1f}' y='{y + 2}' width='{max(right - left, 2):.1f}' height='{LANE - 5}' rx='2' "
                f"fill='{FILLS[op.outcome]}'><title>{html.escape(str(op))}</title></rect>"
            )
            if right - left > 7 * len(op.f):
                parts.append(
                    f"<text x='{left + 3:.1f}' y='{y + 11}' style='fill:#fff;font-size:10px'>{html.escape(op.f)}</text>"
                )
    for ms in range(-int(AROUND_NS / 1e6), int(AROUND_NS / 2e6) + 1, 100):
        at = x(middle + ms * 1_000_000)
        parts.append(
            f"<text class=small x='{at:.1f}' y='{height - 8}' text-anchor=middle>{ms:+} ms</text>"
        )
    return (
        f"<svg viewBox='0 0 {WIDTH} {height}' role=img aria-label='operations around it'>"
        f"{''.join(parts)}</svg>"
    )
