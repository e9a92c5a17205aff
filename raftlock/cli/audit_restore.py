"""`raftlock audit restore` and `diff`: the lock table as it was at a moment, from a node's data directory."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from raftlock.audit import AuditDamaged
from raftlock.audit.names import iso
from raftlock.cli.audit_data import data_option, find
from raftlock.cli.audit_times import FORMS, moment
from raftlock.cli.common import EXIT_USAGE, emit, fail, json_option
from raftlock.cli.progress import Progress
from raftlock.server.past import (
    CannotRestore,
    Change,
    Grant,
    Moment,
    Past,
    UnknownCommand,
    changes,
    locks_of,
)
from raftlock.storage.disk_os import OsDisk
from raftlock.storage.errors import StorageError
from raftlock_wire.errors import BadFrame

TABLE_NAME = "table.json"


class When(click.ParamType[Moment]):
    """An index, or a time."""

    name = "time or index"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Moment:
        """Parse it, or end with what is allowed."""
        del ctx
        if isinstance(value, Moment):
            return value
        if str(value).isdigit():
            return Moment(index=int(value))
        name = (param.name or "at").upper() if isinstance(param, click.Argument) else "at"
        return Moment(wall_us=int(moment(str(value), name).timestamp() * 1e6))


@click.command()
@data_option
@click.option(
    "--at",
    required=True,
    type=When(),
    metavar="TIME|INDEX",
    help=f"An index of the log, or a time: {FORMS}.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Make this directory, with the table as JSON and as a snapshot.",
)
@click.option(
    "--list", "show_locks", is_flag=True, help="Print each lock that was held or offered."
)
@click.option("--prefix", default="", help="With --list: only names that begin so.")
@json_option
def restore(
    data: Path, at: Moment, out: Path | None, show_locks: bool, prefix: str, as_json: bool
) -> None:
    """Build the lock table as it was at a moment: who held what, who waited, which sessions there were.

    The audit's records are applied again, behind the newest snapshot that is not later. The result is the state that each
    node had then: its digest is the same. Nothing in --data is changed. --out gets `table.json`, and the snapshot that
    a node would have written (it is no way to put a cluster back: tokens that were given since would be given again).

    \b
    Example: raftlock audit restore --at 2026-11-25T13:00:00Z --data /var/lib/raftlock --list
             raftlock audit restore --at 41231 --data /var/lib/raftlock --out then
    Exit codes: 0 done; 1 the records do not lead there, or are damaged; 2 a wrong flag.
    """
    if out is not None and out.exists() and any(out.iterdir()):
        fail(f"--out: {out} is not empty", EXIT_USAGE)
    with going(data, f"restoring {at}") as past:
        past.begin(at)
        past.go_to(at)
        table = past.table
        digest = table.digest().hex()
        values: dict[str, Any] = {
            "index": table.applied_index,
            "time": iso(table.wall_us),
            "digest": digest,
            "locks": table.lock_count,
            "waiters": table.waiter_count,
            "sessions": table.session_count,
        }
        listed = (
            [as_values(g, waiters) for g, waiters in locks_of(table, prefix)] if show_locks else []
        )
        if out is not None:
            _save(past, out, values)
    text = [
        f"index {values['index']}, {values['time']}: {values['locks']} locks, {values['waiters']} waiters, "
        f"{values['sessions']} sessions",
        f"digest {digest}",
        *(as_line(one) for one in listed),
    ]
    emit(as_json, values | ({"list": listed} if show_locks else {}), "\n".join(text))


@click.command(name="diff")
@data_option
@click.argument("a", type=When(), metavar="A")
@click.argument("b", type=When(), metavar="B")
@click.option("--prefix", default="", help="Only names that begin so.")
@json_option
def diff(data: Path, a: Moment, b: Moment, prefix: str, as_json: bool) -> None:
    """Show which locks another held at moment B than at moment A. Each is an index of the log, or a time.

    What was acquired and released in between is not seen: `raftlock history` tells of it.

    \b
    Example: raftlock audit diff 41000 41231 --data /var/lib/raftlock
             raftlock audit diff 2h 1h --data /var/lib/raftlock --prefix order: --json
    Exit codes: 0 shown; 1 the records do not lead there, or are damaged; 2 a wrong value.
    """
    with going(data, "comparing") as past:
        past.begin(a)
        past.go_to(a)
        before = {g.resource: (g, waiters) for g, waiters in locks_of(past.table, prefix)}
        first = past.table.applied_index
        past.go_to(b)
        if past.table.applied_index < first or (b.index is not None and b.index < first):
            fail("B is before A", EXIT_USAGE)
        if b.wall_us is not None and b.wall_us < past.table.wall_us:
            fail("B is before A", EXIT_USAGE)
        after = {g.resource: (g, waiters) for g, waiters in locks_of(past.table, prefix)}
        last = past.table.applied_index
    found = list(changes(before, after))
    values = {"from": first, "to": last, "changes": [_change_values(one) for one in found]}
    head = f"index {first} to {last}: {len(found)} locks changed"
    emit(as_json, values, "\n".join([head, *map(_change_line, found)]))


@contextmanager
def going(data: Path, what: str) -> Iterator[Past]:
    """Give a table to move through time; turn what may be wrong on the way into a message."""
    folder = find(data).path.parent
    with Progress(what) as progress:

        def look(index: int) -> None:
            if not index & 0x3FF:
                progress.detail = f"index {index}"

        try:
            yield Past(folder, look=look)
        except CannotRestore as error:
            fail(str(error))
        except (AuditDamaged, StorageError, BadFrame, UnknownCommand, OSError) as error:
            fail(f"{folder}: {error}")


def _save(past: Past, out: Path, values: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    disk = OsDisk(out)
    try:
        past.save(disk)
    finally:
        disk.close()
    with (out / TABLE_NAME).open("w", encoding="utf-8") as file:
        file.write(json.dumps(values)[:-1] + ', "list": [')
        between = "\n"
        for grant, waiters in locks_of(past.table):
            file.write(between + json.dumps(as_values(grant, waiters), ensure_ascii=False))
            between = ",\n"
        file.write("\n]}\n")


def as_values(grant: Grant, waiters: int) -> dict[str, Any]:
    """Return a lock in plain values."""
    return {
        "resource": grant.resource,
        "state": grant.state.name.lower(),
        "owner": grant.owner,
        "token": grant.token,
        "ttl_ms": grant.ttl_ms or None,
        "since": iso(grant.granted_wall_us),
        "session": grant.session,
        "principal": grant.principal,
        "address": grant.address,
        "metadata": grant.metadata or {},
        "waiters": waiters,
    }


def as_line(lock: dict[str, Any]) -> str:
    """Return a lock as a line for people."""
    line = f"{lock['resource']}  {lock['state']} by {lock['owner']} since {lock['since']}, token {lock['token']}"
    line += f", {lock['waiters']} waiting" if lock["waiters"] else ""
    return "".join(c if c.isprintable() else "\ufffd" for c in line)


def _side(grant: Grant | None, waiters: int) -> str:
    if grant is None:
        return "free"
    waiting = f", {waiters} waiting" if waiters else ""
    return f"{grant.state.name.lower()} by {grant.owner} (token {grant.token}{waiting})"


def _change_line(change: Change) -> str:
    before = _side(change.before, change.waiters_before)
    line = f"{change.resource}  {before} -> {_side(change.after, change.waiters_after)}"
    return "".join(c if c.isprintable() else "\ufffd" for c in line)


def _change_values(change: Change) -> dict[str, Any]:
    sides = ((change.before, change.waiters_before), (change.after, change.waiters_after))
    before, after = (
        None if grant is None else as_values(grant, waiters) for grant, waiters in sides
    )
    return {"resource": change.resource, "before": before, "after": after}
