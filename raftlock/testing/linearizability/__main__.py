"""`python -m raftlock.testing.linearizability FILE…`: check histories. Exit code 1 for a violation, 2 for a bad file."""

import argparse
import sys
from pathlib import Path

from raftlock.testing.linearizability import HistoryError, Limits, check_history, read_history


def main() -> int:
    """Check the histories that the command line names. Return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m raftlock.testing.linearizability", description=__doc__
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="JSON lines")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="a resource's bound (default: 60)"
    )
    options = parser.parse_args()
    failed = 0
    for file in options.files:
        try:
            report = check_history(read_history(file), Limits(seconds_max=options.seconds))
        except (HistoryError, OSError) as error:
            print(f"{file}: {error}", file=sys.stderr)
            return 2
        print(f"{file}: {report}")
        failed += not report.passed
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
