"""`python -m raftlock.testing.explore`: search small worlds exhaustively, and print what each search saw.

Exit codes: 0 every property holds in every state that was met, 129 one does not. A world that has not closed says so.
"""

import argparse
import gc
import sys
from collections.abc import Sequence

from raftlock.testing.arguments import positive_count
from raftlock.testing.explore.search import Searched, search
from raftlock.testing.explore.worlds import WORLDS, world

EXIT_SAFETY = 129
STATES_MAX = 1_000_000


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m raftlock.testing.explore",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--world",
        action="append",
        choices=list(WORLDS),
        metavar="NAME",
        help=f"search this one; may be repeated (default: all of {', '.join(WORLDS)})",
    )
    parser.add_argument(
        "--states-max",
        type=positive_count,
        default=STATES_MAX,
        metavar="N",
        help=f"stop a world that has not closed after N states (default: {STATES_MAX:,})",
    )
    return parser.parse_args(argv)


def report(found: Searched) -> str:
    """Return what one search found, in words."""
    if not found.broken:
        end = "closed" if found.closed else "stopped"
        said = f"{found.states:,} states, {found.transitions:,} transitions, depth {found.depth}"
        return f"{found.world}: {end} with {said} ({found.bounds})"
    lines = [f"{found.world}: {found.broken}: {found.text}", f"  within {found.bounds}"]
    lines += [f"  {number:2}. {said}" for number, said in enumerate(found.way, 1)]
    return "\n".join(lines)


def table(results: Sequence[Searched]) -> str:
    """Return the table of all searches."""
    rows = [("world", "states", "transitions", "runs", "depth", "seconds", "end")]
    for found in results:
        end = found.broken or ("closed" if found.closed else "stopped")
        rows.append(
            (
                found.world,
                f"{found.states:,}",
                f"{found.transitions:,}",
                f"{found.runs:,}",
                str(found.depth),
                f"{found.seconds:.1f}",
                end,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if 0 < column < len(row) - 1 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Search the worlds that were asked for. Return the exit code."""
    options = _arguments(argv)
    # States hold no cycles: looking through millions of them for some would take longer than the search.
    gc.set_threshold(200_000, 50, 1_000)
    results = []
    for name in options.world or WORLDS:
        found = search(world(name), states_max=options.states_max)
        results.append(found)
        sys.stdout.write(report(found) + "\n")
        sys.stdout.flush()
    sys.stdout.write("\n" + table(results) + "\n")
    return EXIT_SAFETY if any(found.broken for found in results) else 0


if __name__ == "__main__":
    sys.exit(main())
