"""The report as one HTML page: tables and plots in SVG, with nothing fetched from anywhere."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from raftlock.audit.tally import SERIES, Tally
from raftlock.cli.history import duration

COLOURS = {
    "granted": "#2a9d8f", "queued": "#e9a23b", "refused": "#9b5de5", "expired": "#e76f51", "forced": "#c1121f",
}  # fmt: skip
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 880, 220, 56, 26, 10
TOP_COUNT = 15

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2b2a; --paper: #fff; --line: #d8dfde; --soft: #f3f6f5; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3eae8; --paper: #14191a; --line: #37413f; --soft: #1d2425; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
       max-width: 920px; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
p { margin: .3rem 0; } .soft { opacity: .75; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
         overflow-wrap: anywhere; }
td.n, th.n { text-align: right; padding-right: 1.2rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
.numbers { display: flex; flex-wrap: wrap; gap: .6rem; margin: 1rem 0; }
.numbers div { background: var(--soft); border-radius: 8px; padding: .5rem .9rem; }
.numbers b { display: block; font-size: 1.3rem; }
svg { width: 100%; height: auto; display: block; } svg text { font-size: 11px; fill: var(--ink); }
svg .grid { stroke: var(--line); }
.key span { margin-right: 1rem; } .key i { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px;
       margin-right: .3rem; vertical-align: -1px; }
"""


def page(tally: Tally, *, source: str, missing: Sequence[tuple[int, int]] = ()) -> str:
    """Return the page."""
    span = f"{tally.first[:19]} to {tally.last[:19]} UTC" if tally.rows else "no records"
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>Locks, {escape(span)}</title><style>{_STYLE}</style>",
        f"<h1>What happened to the locks</h1><p class='soft'>{escape(span)}, from {escape(source)}</p>",
    ]
    parts += [
        f"<p><b>The records {first} to {last} were found nowhere.</b></p>"
        for first, last in missing
    ]
    if tally.uses.cut:
        parts.append(
            "<p>There were more names than are kept: numbers of single locks may be too low.</p>"
        )
    parts += [_numbers(tally), *_timeline(tally), *_hot(tally), *_contended(tally), *_times(tally)]
    parts += [*_longest(tally), *_expired(tally), *_forced(tally), *_denied(tally)]
    return "\n".join(parts) + "</html>\n"


def _numbers(tally: Tally) -> str:
    count = _count(tally)
    cells = [f"<div><b>{count[name]:,}</b>{name}</div>" for name in SERIES]
    cells.append(f"<div><b>{tally.still_held:,}</b>held or offered at the end</div>")
    return f"<div class='numbers'>{''.join(cells)}</div>"


def _count(tally: Tally) -> Counter[str]:
    return sum(tally.timeline.bins, Counter())


def _timeline(tally: Tally) -> Iterable[str]:
    bins = tally.timeline.bins
    if not bins:
        return
    width_s = tally.timeline.width_s
    shown = [name for name in SERIES if any(one[name] for one in bins)]
    top = nice(max(one.total() for one in bins))
    step = (WIDTH - LEFT) / len(bins)
    yield f"<h2>Over time</h2><p class='soft'>Counts in each {duration(width_s * 1_000)}.</p>"
    keys = (f"<span><i style='background:{COLOURS[name]}'></i>{name}</span>" for name in shown)
    yield f"<p class='key'>{''.join(keys)}</p>"
    body = [_grid(top)]
    for i, one in enumerate(bins):
        below = 0
        for name in shown:
            if one[name]:
                y, foot = _y(below + one[name], top), _y(below, top)
                body.append(
                    f"<rect x='{LEFT + i * step:.1f}' y='{y:.1f}' width='{max(step - 0.5, 0.5):.1f}' "
                    f"height='{foot - y:.1f}' fill='{COLOURS[name]}'><title>{name} {one[name]}</title></rect>"
                )
                below += one[name]
    for part in range(5):
        seconds = tally.timeline.start + part / 4 * width_s * len(bins)
        clock = f"{datetime.fromtimestamp(seconds, UTC):%m-%d %H:%M:%S}"
        anchor = "start" if part == 0 else "end" if part == 4 else "middle"
        x = LEFT + part / 4 * (WIDTH - LEFT)
        body.append(f"<text x='{x:.0f}' y='{HEIGHT - 6}' text-anchor='{anchor}'>{clock}</text>")
    yield _svg(body)


def _times(tally: Tally) -> Iterable[str]:
    for title, counts, colour in (
        ("How long locks were held", tally.hold_times, "granted"),
        ("How long acquires waited in queues", tally.wait_times, "queued"),
    ):
        if not counts:
            continue
        low, high = min(counts), max(counts)
        top, bars = nice(max(counts.values())), range(low, high + 1)
        step = (WIDTH - LEFT) / len(bars)
        body = [_grid(top)]
        for number, power in enumerate(bars):
            y, x = _y(counts[power], top), LEFT + number * step
            body.append(
                f"<rect x='{x + step * 0.08:.1f}' y='{y:.1f}' width='{step * 0.84:.1f}' rx='2' "
                f"height='{HEIGHT - BOTTOM - y:.1f}' fill='{COLOURS[colour]}'><title>{counts[power]}</title></rect>"
            )
            label = f"&lt; {duration(2.0**power)}"
            body.append(
                f"<text x='{x + step / 2:.1f}' y='{HEIGHT - 6}' text-anchor='middle'>{label}</text>"
            )
        yield f"<h2>{title}</h2>{_svg(body)}"


def _svg(body: Iterable[str]) -> str:
    return f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img'>{''.join(body)}</svg>"


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP)


def _grid(top: int) -> str:
    lines = []
    for part in range(5):
        y = _y(top * part / 4, top)
        lines.append(f"<line class='grid' x1='{LEFT}' x2='{WIDTH}' y1='{y:.1f}' y2='{y:.1f}'/>")
        lines.append(
            f"<text x='{LEFT - 6}' y='{y + 4:.1f}' text-anchor='end'>{top * part / 4:g}</text>"
        )
    return "".join(lines)


def nice(value: int) -> int:
    """Return the end of an axis: a round number that four lines divide well."""
    if value <= 4:
        return 4
    unit = int(10 ** math.floor(math.log10(value)))
    return next(n for n in (unit * m for m in (1, 2, 4, 8, 10, 20)) if n >= value)


def _hot(tally: Tally) -> Iterable[str]:
    rows = [
        (
            name,
            use.granted,
            use.refused,
            use.queued,
            use.expired,
            duration(use.held_ms),
            duration(use.held_max_ms),
        )
        for name, use in tally.uses.top(TOP_COUNT)
    ]
    head = ("lock", "granted", "refused", "queued", "expired", "held in all", "longest")
    yield _table("Hot locks", head, rows)


def _contended(tally: Tally) -> Iterable[str]:
    rows = [
        (name, duration(use.waited_ms), duration(use.waited_max_ms), use.queued, use.refused)
        for name, use in tally.uses.top(TOP_COUNT, by=lambda use: use.waited_ms)
    ]
    head = ("lock", "waited in all", "longest", "queued", "refused")
    yield _table("Contention", head, rows)


def _longest(tally: Tally) -> Iterable[str]:
    for title, found in (("Longest holds", tally.holds), ("Longest waits", tally.waits)):
        rows = [
            (one.resource, duration(one.ms), one.owner, one.since[:23].replace("T", " "), one.end)
            for one in sorted(found, reverse=True)[:TOP_COUNT]
        ]
        yield _table(title, ("lock", "for", "owner", "since", "and then"), rows, numbers=(1,))


def _expired(tally: Tally) -> Iterable[str]:
    rows = [(owner, count[0]) for owner, count in tally.expired_owners.top(TOP_COUNT)]
    yield _table("Owners whose leases and offers ran out", ("owner", "times"), rows)


def _forced(tally: Tally) -> Iterable[str]:
    rows = [
        (
            row["time"][:23].replace("T", " "), row["resource"], row.get("owner", ""), row.get("reason", ""),
            row.get("when", ""), row.get("principal") or row.get("address") or "",
        )
        for row in reversed(tally.forced)
    ]  # fmt: skip
    head = ("time", "lock", "holder", "reason", "when", "by")
    yield _table(f"Forced releases ({tally.forced_count})", head, rows, numbers=())


def _denied(tally: Tally) -> Iterable[str]:
    rows = [(*key, count[0]) for key, count in tally.denied.top(TOP_COUNT)]
    head = ("operation", "status", "who", "host", "times")
    yield _table("Denied", head, rows, numbers=(4,))


def _table(
    title: str,
    head: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    numbers: Sequence[int] | None = None,
) -> str:
    """Return a table. `numbers` are the columns that stand to the right: all but the first unless told."""
    right = range(1, len(head)) if numbers is None else numbers
    if not rows:
        return f"<h2>{escape(title)}</h2><p class='soft'>None.</p>"

    def line(cells: Sequence[object], tag: str) -> str:
        made = (
            f"<{tag} class='n'>{escape(str(cell))}</{tag}>"
            if i in right
            else f"<{tag}>{escape(str(cell))}</{tag}>"
            for i, cell in enumerate(cells)
        )
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(line(cells, "td") for cells in rows)
    return f"<h2>{escape(title)}</h2><table>{line(head, 'th')}{body}</table>"
