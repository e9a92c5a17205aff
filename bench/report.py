"""What a bench says in the end: a table for people, JSON for programs, and the machine that the figures depend on."""

import argparse
import contextlib
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgpack


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    cpu = "unknown"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "uvloop": version("uvloop"),
        "msgpack": ".".join(map(str, msgpack.version)),
        "load_average": round(os.getloadavg()[0], 2),
        "nodes": 3,
        "fsync": True,
        "load_on_the_same_machine": True,
    }


def machine_line(what: str = "3 nodes, fsync on, load on the same machine") -> str:
    """Return the machine in one line, for the foot of a table."""
    about = machine()
    return (
        f"{what}; {about['cores']} cores "
        f"({about['cpu']}, load average {about['load_average']}); Python {about['python']}, "
        f"uvloop {about['uvloop']}, msgpack {about['msgpack']}"
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return rows under their heads: text to the left, numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(head), *(len(row[i]) for row in cells), 1) for i, head in enumerate(heads)]
    left = [i for i in range(len(heads)) if not all(_is_number(row[i]) for row in cells)]
    lines = []
    for row in [list(heads), *cells]:
        padded = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:,.3g}" if value else "0"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v:,}" for k, v in value.items()) or "none"
    return "-" if value is None else str(value)


def _is_number(cell: str) -> bool:
    return cell == "-" or cell.replace(",", "").replace(".", "").replace("-", "").isdigit()


def document(command: str, options: argparse.Namespace, results: Any) -> dict[str, Any]:
    """Return what a run's JSON holds: the command and its options, the machine, the results."""
    given = {
        name: value
        for name, value in vars(options).items()
        if name not in ("command", "json", "run")
    }
    return {"command": command, "options": given, "machine": machine(), "results": results}


def write(
    options: argparse.Namespace, results: Any, chief: Mapping[str, Any] | None = None
) -> None:
    """Write the run's JSON if `--json` asks for it. The chief figures also stand at its top."""
    if options.json:
        whole = document(options.command, options, results) | dict(chief or {})
        text = json.dumps(whole, indent=2)
        Path(options.json).write_text(text + "\n")


def add_common(
    parser: argparse.ArgumentParser, *, seconds: float | None = None, endpoints: bool = True
) -> None:
    """Declare the options that most commands share."""
    if endpoints:
        parser.add_argument(
            "--endpoints", help="HOST:PORT,… of a running cluster (default: one of its own)"
        )
    if seconds is not None:
        parser.add_argument(
            "--seconds",
            type=positive,
            default=seconds,
            help=f"of each measurement (default: {seconds:g})",
        )
    parser.add_argument("--json", metavar="FILE", help="write everything to FILE")


def positive(text: str) -> float:
    """Read a number above 0."""
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def count(text: str) -> int:
    """Read a whole number of at least 1; 1_000 and 1e6 are allowed."""
    try:
        value = int(float(text)) if "e" in text.lower() else int(text)
    except (ValueError, OverflowError):
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 1")
    return value
