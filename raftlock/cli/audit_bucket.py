"""`raftlock audit init-bucket`: the rules by which a bucket moves old records to colder classes."""

import json
from typing import Any

import click

from raftlock.audit.tiers import TierRefused, TierUnavailable
from raftlock.cli.audit_place import need_extra, parse_bucket, tier_options
from raftlock.cli.common import EXIT_UNAVAILABLE, EXIT_USAGE, emit, fail, json_option


@click.command(name="init-bucket")
@tier_options("--to")
@click.option(
    "--move",
    "moves",
    multiple=True,
    default=("90:GLACIER_IR",),
    show_default=True,
    metavar="DAYS:CLASS",
    help="Move objects so old to a storage class; may be given several times; '' for none.",
)
@click.option("--expire", type=click.IntRange(1), metavar="DAYS", help="Delete objects so old.")
@click.option("--apply/--dry-run", "do_it", default=False, help="Do it. Without it only show.")
@json_option
def init_bucket(
    url: str,
    endpoint: str | None,
    region: str | None,
    moves: tuple[str, ...],
    expire: int | None,
    do_it: bool,
    as_json: bool,
) -> None:
    """Show, and with --apply set, the rules by which a bucket moves old records to colder classes.

    Other rules of the bucket stay. A bucket that does not exist is made. Repeating it changes nothing.

    \b
    Example: raftlock audit init-bucket --to s3://locks-audit/prod --move 90:GLACIER_IR --expire 2555 --apply
    Exit codes: 0 done, or shown; 1 the store refused; 2 a wrong flag; 69 it does not answer.
    """
    place = parse_bucket(url)
    need_extra()
    from raftlock.audit import lifecycle, tier_s3

    try:
        steps = [_step(text) for text in moves if text]
        rule = lifecycle.rule_for(place.prefix, steps, expire_days=expire)
    except ValueError as error:
        fail(str(error), EXIT_USAGE)
    try:
        client = tier_s3.connect(endpoint=endpoint, region=region)
        found = lifecycle.plan(client, place.bucket, rule)
        if do_it and found.changes:
            lifecycle.apply(client, place.bucket, found, region=region)
    except TierUnavailable as error:
        fail(str(error), EXIT_UNAVAILABLE)
    except TierRefused as error:
        fail(str(error))
    values = {
        "exists": found.exists,
        "changes": found.changes,
        "applied": do_it and found.changes,
        "before": found.before,
        "after": found.after,
    }
    emit(as_json, values, _plan_text(values))


def _step(text: str) -> Any:
    from raftlock.audit.lifecycle import CLASSES, Step

    days, _, storage_class = text.partition(":")
    if not days.isdecimal() or int(days) < 1 or storage_class not in CLASSES:
        raise ValueError(
            f"--move: {text!r} is not DAYS:CLASS, with a class of {', '.join(CLASSES)}"
        )
    return Step(int(days), storage_class)


def _plan_text(values: dict[str, Any]) -> str:
    lines = [] if values["exists"] else ["the bucket did not exist"]
    lines += [f"- {json.dumps(r)}" for r in values["before"] if r not in values["after"]]
    lines += [f"+ {json.dumps(r)}" for r in values["after"] if r not in values["before"]]
    lines += [f"  {json.dumps(r)}" for r in values["after"] if r in values["before"]]
    if not values["changes"]:
        lines.append("nothing to do")
    else:
        lines.append("done" if values["applied"] else "nothing was changed: --apply does it")
    return "\n".join(lines)
