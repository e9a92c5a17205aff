"""The address of a tier on the command line.

What reads and writes Parquet and S3 is imported by the command that needs it: the others work without.
"""

import json
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import click

from raftlock.audit.manifest import CLUSTER_KEY
from raftlock.audit.tiers import BadTier, Place, Tier, TierRefused, TierUnavailable, parse_place
from raftlock.cli.common import EXIT_UNAVAILABLE, EXIT_USAGE, fail


def tier_options(
    name: str, *, required: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the address of the tier, under a name, and how to reach it.

    Only where it is required the variable counts: `verify` without the flag is about the node's disk.
    """

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        command = click.option("--region", envvar="RAFTLOCK_AUDIT_REGION", help="S3 region.")(
            command
        )
        command = click.option(
            "--endpoint",
            envvar="RAFTLOCK_AUDIT_ENDPOINT",
            metavar="URL",
            help="An S3 endpoint that is not AWS's (also RAFTLOCK_AUDIT_ENDPOINT).",
        )(command)
        return click.option(
            name,
            "url",
            envvar="RAFTLOCK_AUDIT_TIER" if required else None,
            required=required,
            metavar="URL",
            help="s3://BUCKET/PREFIX or file:///DIRECTORY"
            + (" (also RAFTLOCK_AUDIT_TIER)." if required else "."),
        )(command)

    return add


def need_extra() -> None:
    """End with what is missing, where only the server is installed."""
    if find_spec("boto3") is None or find_spec("pyarrow") is None:
        fail("this needs boto3 and pyarrow: pip install 'raftlock[audit]'")


def check_tier(url: str) -> None:
    """See that a node could ship to an address, or end with what is wrong."""
    need_extra()
    try:
        parse_place(url)
    except BadTier as error:
        fail(str(error), EXIT_USAGE)


def open_place(url: str, endpoint: str | None, region: str | None) -> Tier:
    """Return a tier, or end with what is wrong with its address."""
    need_extra()
    from raftlock.audit.tier_s3 import open_tier

    try:
        return open_tier(url, endpoint=endpoint, region=region)
    except BadTier as error:
        fail(str(error), EXIT_USAGE)
    except TierRefused as error:
        fail(str(error))


def open_archive(url: str, endpoint: str | None, region: str | None) -> Tier:
    """Return a tier that something was shipped to, or end: a wrong prefix is not an empty audit."""
    tier = open_place(url, endpoint, region)
    try:
        tier.read(CLUSTER_KEY)
    except FileNotFoundError:
        fail(f"{url} holds no shipped audit")
    except TierUnavailable as error:
        fail(str(error), EXIT_UNAVAILABLE)
    except TierRefused as error:
        fail(str(error))
    return tier


def cluster_of(tier: Tier) -> str:
    """Return whose records an archive holds: nodes of another cluster must not be read as one with it."""
    return str(json.loads(tier.read(CLUSTER_KEY))["cluster"])


def parse_bucket(url: str) -> Place:
    """Return what the address of a bucket names, or end with what is wrong with it."""
    try:
        place = parse_place(url)
    except BadTier as error:
        fail(str(error), EXIT_USAGE)
    if place.scheme != "s3":
        fail(f"{url}: only a bucket has such rules", EXIT_USAGE)
    return place
