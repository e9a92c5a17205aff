"""What the commands of `raftlock audit` share: where a node's segments are, and how a record is printed."""

import json
from pathlib import Path
from typing import Any

import click

from raftlock.audit import AUDIT_DIRECTORY
from raftlock.audit.reader import Directory
from raftlock.cli.common import fail

data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="RAFTLOCK_DATA_DIR",
    default=Path(".raftlock"),
    show_default=True,
    help="The node's data directory (also RAFTLOCK_DATA_DIR); of a `raftlock dev`, its first node's.",
)


def find(data: Path) -> Directory:
    """Return the audit directory in or under `data`. End with a message if there is none."""
    found = [p for p in (data, *sorted(data.glob("node-*"))) if (p / AUDIT_DIRECTORY).is_dir()]
    if not found:
        fail(f"{data} holds no {AUDIT_DIRECTORY}: --data takes the data directory of a node")
    return Directory(found[0] / AUDIT_DIRECTORY)


def show(row: dict[str, Any]) -> None:
    """Print a row without the fields that say nothing."""
    said = {name: value for name, value in row.items() if value is not None and value != ""}
    click.echo(json.dumps(said, ensure_ascii=False))
