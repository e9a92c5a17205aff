"""The commands about the members of the cluster: list, add, promote, remove."""

import asyncio
import time
from typing import Any

import click

from raftlock.cli.common import (
    Duration,
    connect,
    emit,
    endpoints_option,
    fail,
    json_option,
    run,
)
from raftlock.cli.progress import Progress
from raftlock.client import AsyncClient, ChangeRefused, MemberInfo, Members

PROMOTE_EVERY_S = 0.2
"""A learner that catches up is tried so often."""

node_argument = click.argument("node_id", type=click.IntRange(1, 65_535), metavar="ID")
wait_option = click.option(
    "--wait",
    "wait_s",
    type=Duration("0", "24h"),
    default="10m",
    show_default=True,
    help="How long the node may take to catch up.",
)


@click.group(name="members")
def members_group() -> None:
    """Look at the members of the cluster, and change them one at a time.

    A new node comes in as a learner: it gets the log and counts in no majority. Promoted, it is a voter. A leader that is
    removed hands over.

    \b
    Example: raftlock members list
             raftlock members add 10.0.0.4:7411 --promote
    """


@members_group.command(name="list")
@json_option
@endpoints_option
def members_list(as_json: bool, endpoints: str, timeout: float) -> None:
    """Show the members, as the leader sees them.

    "Behind" is how many entries of the log a member is not known to have, "heard" when it answered the leader last.

    \b
    Example: raftlock members list --json
    Exit codes: 0; 69 no node answers, or none leads.
    """

    async def main() -> Members:
        async with connect(endpoints, timeout) as client:
            return await client.members()

    found = run(main())
    lines = [f"{'node':>5}  {'role':<8}  {'peer':<22}{'client':<22}{'behind':>8}{'heard':>10}"]
    for m in found.members:
        heard = "never" if m.heard is None else f"{m.heard * 1_000:.0f} ms"
        lines.append(
            f"{m.node_id:>5}  {_role(m):<8}  {m.peer_address:<22}{m.client_address:<22}{m.behind:>8}{heard:>10}"
        )
    if not found.settled:
        lines.append("a change is under way, and may be undone until it is committed")
    emit(as_json, _as_values(found), "\n".join(lines))


@members_group.command(name="add")
@click.argument("peer", metavar="PEER_HOST:PORT")
@click.option("--promote", is_flag=True, help="Wait until it has caught up, and make it a voter.")
@click.option(
    "--client",
    "client_address",
    default=None,
    metavar="HOST:PORT",
    help="Where clients reach it, if not where its configuration says.",
)
@wait_option
@json_option
@endpoints_option
def members_add(
    peer: str,
    promote: bool,
    client_address: str | None,
    wait_s: float,
    as_json: bool,
    endpoints: str,
    timeout: float,
) -> None:
    """Add the node whose peer port is at PEER_HOST:PORT, as a learner. Repeating it is harmless.

    The node runs (`raftlock server`) with an empty data directory. It is asked for its id and its incarnation. Of a node
    that is a member already, the addresses are set to these.

    \b
    Example: raftlock members add 10.0.0.4:7411 --promote
    Exit codes: 0; 1 refused, or the node does not answer or catch up; 2 a wrong flag; 69 no node leads.
    """
    told = _ask_node(peer, timeout)

    async def main() -> None:
        async with connect(endpoints, timeout) as client:
            before = await client.members()
            if told.cluster_id not in ("", before.cluster_id):
                fail(
                    f"the node at {peer} is of cluster {told.cluster_id}, not {before.cluster_id}: "
                    "empty its data directory first"
                )
            await client.add_member(
                told.node_id,
                incarnation=told.incarnation,
                peer_address=peer,
                client_address=client_address or told.client_address,
            )
            if promote:
                await _promoted(client, told.node_id, told.incarnation, wait_s)

    run(main())
    _done(as_json, told.node_id, "voter" if promote else "member")


@members_group.command(name="promote")
@node_argument
@wait_option
@json_option
@endpoints_option
def members_promote(
    node_id: int, wait_s: float, as_json: bool, endpoints: str, timeout: float
) -> None:
    """Make the learner ID a voter, when it has caught up. Repeating it is harmless.

    \b
    Example: raftlock members promote 4
    Exit codes: 0; 1 refused, or it does not catch up; 69 no node leads.
    """

    async def main() -> None:
        async with connect(endpoints, timeout) as client:
            member = (await client.members()).get(node_id)
            if member is None:
                fail(f"node {node_id} is not a member")
            await _promoted(client, node_id, member.incarnation, wait_s)

    run(main())
    _done(as_json, node_id, "voter")


@members_group.command(name="remove")
@node_argument
@json_option
@endpoints_option
def members_remove(node_id: int, as_json: bool, endpoints: str, timeout: float) -> None:
    """Remove the member ID, also one that is down. Repeating it is harmless.

    Its data directory cannot come back: empty it before the node is added again. A change that would leave no majority of
    voters that keep up is refused.

    \b
    Example: raftlock members remove 2
    Exit codes: 0; 1 refused; 69 no node leads.
    """

    async def main() -> None:
        async with connect(endpoints, timeout) as client:
            member = (await client.members()).get(node_id)
            if member is not None:
                await client.remove_member(node_id, incarnation=member.incarnation)

    run(main())
    _done(as_json, node_id, "removed")


def _ask_node(peer: str, timeout: float) -> Any:
    from raftlock.server.bootstrap import BootstrapError, ask_node

    try:
        with Progress(f"asking the node at {peer}", of_s=timeout):
            return ask_node(peer, wait_s=timeout)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except BootstrapError as error:
        fail(str(error))


async def _promoted(client: AsyncClient, node_id: int, incarnation: str, wait_s: float) -> None:
    until = time.monotonic() + wait_s
    with Progress(f"node {node_id} catches up", of_s=wait_s) as progress:
        while True:
            try:
                await client.promote_member(node_id, incarnation=incarnation)
            except ChangeRefused as refused:
                if refused.cause != "behind" or time.monotonic() >= until:
                    raise
                progress.detail = refused.why
            else:
                return
            await asyncio.sleep(PROMOTE_EVERY_S)


def _done(as_json: bool, node_id: int, state: str) -> None:
    text = {
        "voter": f"node {node_id} is a voter",
        "member": f"node {node_id} is a member",
        "removed": f"node {node_id} is no member",
    }[state]
    emit(as_json, {"status": "OK", "node_id": node_id, "state": state}, text)


def _role(member: MemberInfo) -> str:
    return "voter" if member.voter else "learner"


def _as_values(found: Members) -> dict[str, Any]:
    return {
        "cluster_id": found.cluster_id,
        "settled": found.settled,
        "members": [
            {
                "node_id": m.node_id,
                "role": _role(m),
                "incarnation": m.incarnation,
                "peer_address": m.peer_address,
                "client_address": m.client_address,
                "behind": m.behind,
                "heard": m.heard,
            }
            for m in found.members
        ],
    }
