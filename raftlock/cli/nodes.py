"""The commands about nodes: server, bootstrap, status."""

import asyncio
import tomllib
from pathlib import Path
from typing import Any

import click

from raftlock.cli.common import (
    EXIT_UNAVAILABLE,
    emit,
    endpoints_option,
    fail,
    json_option,
    parse_endpoints,
    run,
)
from raftlock.client import NodeStatus, Unavailable
from raftlock.client.async_client import fetch_status

_FLAGS = {
    "node_id": "--node-id",
    "data_dir": "--data-dir",
    "client_address": "--client",
    "peer_address": "--peer",
    "http_address": "--http",
}


@click.command()
@click.option(
    "--config",
    "config_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A TOML file; flags win over it.",
)
@click.option("--node-id", type=int, help="1 to 65535, different for each node.")
@click.option(
    "--data-dir", type=click.Path(file_okay=False), help="Where the node keeps its state."
)
@click.option("--client", "client_address", metavar="HOST:PORT", help="For clients.")
@click.option("--peer", "peer_address", metavar="HOST:PORT", help="For the other nodes.")
@click.option("--http", "http_address", metavar="HOST:PORT", help="Kept for the HTTP interface.")
@click.option("--heartbeat-ms", type=int)
@click.option("--election-min-ms", type=int)
@click.option("--election-max-ms", type=int)
@click.option("--segment-size", type=int, help="Bytes of one segment of the log.")
@click.option("--snapshot-log-size", type=int, help="Bytes of log after which a snapshot is saved.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
def server(config_file: Path | None, **flags: Any) -> None:
    """Run one node until SIGTERM.

    A new data directory is formatted; the node then waits until `raftlock bootstrap` makes it part of a cluster.

    \b
    Example: raftlock server --node-id 1 --data-dir /var/lib/raftlock --client 10.0.0.1:7401 --peer 10.0.0.1:7411
    """
    from raftlock.server.config import ConfigError, config_from
    from raftlock.server.run import serve
    from raftlock.storage import StorageError

    values: dict[str, Any] = {}
    if config_file is not None:
        try:
            values = tomllib.loads(config_file.read_text())
        except tomllib.TOMLDecodeError as error:
            fail(f"{config_file}: {error}", 2)
    values |= {name: value for name, value in flags.items() if value is not None}
    try:
        config = config_from(values)
    except ConfigError as error:
        name = _FLAGS.get(error.field, "--" + error.field.replace("_", "-"))
        raise click.UsageError(f"{error.field} ({name}): {error.problem}") from error
    try:
        serve(config)
    except (StorageError, OSError) as error:
        fail(str(error))


@click.command()
@click.option(
    "--nodes", required=True, metavar="ID=HOST:PORT,…", help="Each node's id and peer address."
)
@click.option(
    "--wait",
    "wait_s",
    type=float,
    default=10.0,
    show_default=True,
    help="Seconds to wait for nodes to be up.",
)
@json_option
def bootstrap(nodes: str, wait_s: float, as_json: bool) -> None:
    """Make formatted, empty nodes one cluster. Repeating it is harmless.

    \b
    Example: raftlock bootstrap --nodes 1=10.0.0.1:7411,2=10.0.0.2:7411,3=10.0.0.3:7411
    """
    from raftlock.server.bootstrap import BootstrapError, parse_nodes
    from raftlock.server.bootstrap import bootstrap as make_cluster

    try:
        listed = parse_nodes(nodes)
    except ValueError as error:
        raise click.UsageError(f"--nodes: {error}") from error
    try:
        cluster_id = make_cluster({int(i): a for i, a in listed.items()}, wait_s=wait_s)
    except BootstrapError as error:
        fail(str(error))
    emit(
        as_json,
        {"cluster_id": cluster_id, "nodes": list(listed)},
        f"cluster {cluster_id} of nodes {', '.join(map(str, listed))}",
    )


@click.command()
@json_option
@endpoints_option
def status(as_json: bool, endpoints: str) -> None:
    """Show each node and who leads.

    \b
    Exit codes: 0 a node leads; 69 none does, or none can be reached.
    """
    asked = parse_endpoints(endpoints)
    answers = run(_ask_all(asked))
    leader = next(
        (s.id for s in answers.values() if s is not None and s.role == "leader" and s.healthy), None
    )
    rows = [_row(endpoint, answer) for endpoint, answer in answers.items()]
    lines = [
        f"{'node':>4}  {'address':<22}{'role':<14}{'term':>6}{'commit':>10}{'applied':>10}  health"
    ]
    for row in rows:
        health = "ok" if row["healthy"] else "unreachable" if row["id"] is None else "no leader"
        values = [
            ("-" if row[k] is None else row[k])
            for k in ("id", "role", "term", "commit_index", "applied_index")
        ]
        lines.append(
            f"{values[0]:>4}  {row['address']:<22}{values[1]:<14}{values[2]:>6}{values[3]:>10}{values[4]:>10}  {health}"
        )
    emit(as_json, {"leader": leader, "nodes": rows}, "\n".join(lines))
    if leader is None:
        fail("no node leads", EXIT_UNAVAILABLE)


def _row(endpoint: str, answer: NodeStatus | None) -> dict[str, Any]:
    names = ("id", "pid", "role", "term", "commit_index", "applied_index", "address", "healthy")
    if answer is None:
        return {**dict.fromkeys(names), "address": endpoint, "healthy": False}
    return {name: getattr(answer, name) for name in names}


async def _ask_all(endpoints: list[str]) -> dict[str, NodeStatus | None]:
    async def ask(endpoint: str) -> NodeStatus | None:
        try:
            return await fetch_status(endpoint)
        except (OSError, TimeoutError, Unavailable):
            return None

    return dict(zip(endpoints, await asyncio.gather(*map(ask, endpoints)), strict=True))
