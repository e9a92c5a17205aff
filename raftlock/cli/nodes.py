"""The commands about nodes: server, bootstrap, status."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from raftlock.cli.common import (
    EXIT_UNAVAILABLE,
    Duration,
    emit,
    endpoints_option,
    fail,
    json_option,
    parse_endpoints,
    run,
)
from raftlock.cli.progress import Progress
from raftlock.client import NodeStatus, Unavailable
from raftlock.client.async_client import fetch_status
from raftlock.server.config import (
    SETTINGS,
    ConfigError,
    ServerConfig,
    config_from,
    example,
    read_file,
)

STATUS_TIMEOUT_S = 2.0
"""A node that does not say how it is within this time counts as unreachable."""


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --config, and a flag for each field of the configuration."""
    for setting in reversed(SETTINGS):
        default = "required" if setting.default is None else f"default: {setting.default or 'none'}"
        command = click.option(
            setting.option,
            setting.name,
            type=setting.kind,
            envvar=setting.variable,
            metavar=setting.allowed.upper() if setting.address else None,
            help=f"{setting.doc} {setting.allowed.capitalize()}; {default}.",
        )(command)
    return click.option(
        "--config",
        "config_file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        envvar="RAFTLOCK_CONFIG",
        help="A TOML file (`raftlock config example`). Flags win over variables, variables over it.",
    )(command)


def read_config(config_file: Path | None, flags: dict[str, Any]) -> ServerConfig:
    """Put file and flags together. Raise UsageError that names the field and what is allowed."""
    options = {setting.name: setting.option for setting in SETTINGS}
    try:
        values = {} if config_file is None else read_file(config_file)
        values |= {name: value for name, value in flags.items() if value is not None}
        return config_from(values)
    except ConfigError as error:
        option = f" ({options[error.field]})" if error.field in options else ""
        raise click.UsageError(f"{error.field}{option}: {error.problem}") from error


@click.command()
@settings_options
def server(config_file: Path | None, **flags: Any) -> None:
    """Run one node until SIGTERM.

    A new data directory is formatted; the node then waits until `raftlock bootstrap`, or
    `raftlock members add`, makes it part of a cluster. Each field may stand in the file, in its
    RAFTLOCK_ variable, or as a flag.

    \b
    Example: raftlock server --node-id 1 --data-dir /var/lib/raftlock \\
                 --client 10.0.0.1:7401 --peer 10.0.0.1:7411
    Exit codes: 0 stopped; 1 the disk or the network failed;
    2 the configuration is wrong.
    """
    config = read_config(config_file, flags)
    # Here, so that the other commands work where only the client is installed.
    from raftlock.cli.audit_place import need_extra
    from raftlock.server.run import serve
    from raftlock.storage import StorageError

    if config.audit_tier:
        need_extra()
    try:
        serve(config)
    except (StorageError, OSError) as error:
        fail(str(error))


@click.group(name="config")
def config_group() -> None:
    """Look at the configuration of a node.

    \b
    Example: raftlock config check --config /etc/raftlock.toml
    """


@config_group.command(name="example")
@json_option
def config_example(as_json: bool) -> None:
    """Print a whole configuration file: each field, what it means, what is allowed, its default.

    \b
    Example: raftlock config example > /etc/raftlock.toml
    """
    if as_json:
        fields = ("name", "option", "variable", "allowed", "default", "doc")
        click.echo(json.dumps([{f: getattr(s, f) for f in fields} for s in SETTINGS], default=str))
        return
    click.echo(example(), nl=False)


@config_group.command(name="check")
@settings_options
@json_option
def config_check(config_file: Path | None, as_json: bool, **flags: Any) -> None:
    """Check a configuration as `raftlock server` would, and print what it comes to.

    \b
    Example: raftlock config check --config /etc/raftlock.toml
    Exit codes: 0 it is fine; 2 it is not.
    """
    config = read_config(config_file, flags)
    values = {setting.name: getattr(config, setting.name) for setting in SETTINGS}
    values["data_dir"] = str(values["data_dir"])
    emit(as_json, values, "\n".join(f"{name} = {value!r}" for name, value in values.items()))


@click.command()
@click.option(
    "--nodes", required=True, metavar="ID=HOST:PORT,…", help="Each node's id and peer address."
)
@click.option(
    "--wait",
    "wait_s",
    type=Duration("0", "1h"),
    default="10s",
    show_default=True,
    help="How long to wait for nodes to be up.",
)
@click.option(
    "--logged-renewal-ttl",
    "logged_ttl_s",
    type=Duration("0", "24h"),
    default="60s",
    show_default=True,
    help="Leases from this ttl on are renewed in the log, and so recorded by the audit; 0: all. Fixed from then on.",
)
@json_option
def bootstrap(nodes: str, wait_s: float, logged_ttl_s: float, as_json: bool) -> None:
    """Make formatted, empty nodes one cluster. Repeating it is harmless.

    \b
    Example: raftlock bootstrap \\
                 --nodes 1=10.0.0.1:7411,2=10.0.0.2:7411,3=10.0.0.3:7411
    Exit codes: 0; 1 a node does not answer, or belongs to another cluster;
    2 a wrong flag.
    """
    from raftlock.server.bootstrap import BootstrapError, parse_nodes
    from raftlock.server.bootstrap import bootstrap as make_cluster

    try:
        listed = parse_nodes(nodes)
    except ValueError as error:
        raise click.UsageError(f"--nodes: {error}") from error
    try:
        with Progress("waiting for the nodes", of_s=wait_s):
            cluster_id = make_cluster(
                {int(i): a for i, a in listed.items()},
                wait_s=wait_s,
                logged_renewal_ttl_ms=round(logged_ttl_s * 1_000),
            )
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
def status(as_json: bool, endpoints: str, timeout: float) -> None:
    """Show each node and who leads.

    \b
    Example: raftlock status --endpoints 10.0.0.1:7401,10.0.0.2:7401,10.0.0.3:7401
    Exit codes: 0 a node leads; 69 none does, or none can be reached.
    """
    asked = parse_endpoints(endpoints)
    with Progress("asking the nodes"):
        answers = run(_ask_all(asked, min(timeout, STATUS_TIMEOUT_S)))
    leader = next(
        (s.id for s in answers.values() if s is not None and s.role == "leader" and s.healthy), None
    )
    rows = [_row(endpoint, answer) for endpoint, answer in answers.items()]
    lines = [
        f"{'node':>4}  {'address':<22}{'role':<14}{'term':>6}{'commit':>10}{'applied':>10}  health"
    ]
    for row in rows:
        values = [
            ("-" if row[k] is None else row[k])
            for k in ("id", "role", "term", "commit_index", "applied_index")
        ]
        lines.append(
            f"{values[0]:>4}  {row['address']:<22}{values[1]:<14}{values[2]:>6}{values[3]:>10}{values[4]:>10}  {_health(row)}"
        )
    if leader is not None:
        emit(as_json, {"status": "OK", "leader": leader, "nodes": rows}, "\n".join(lines))
        return
    if not as_json:
        click.echo("\n".join(lines))
    reached = any(answer is not None for answer in answers.values())
    why = "no node leads" if reached else "no node can be reached (--endpoints says where they are)"
    fail(why, EXIT_UNAVAILABLE, leader=None, nodes=rows)


def _health(row: dict[str, Any]) -> str:
    if row["healthy"]:
        return click.style("ok", fg="green")
    if row["role"] == "removed":
        return click.style("removed from the cluster", fg="yellow")
    return click.style("unreachable" if row["id"] is None else "no leader", fg="red")


def _row(endpoint: str, answer: NodeStatus | None) -> dict[str, Any]:
    names = ("id", "pid", "role", "term", "commit_index", "applied_index", "address", "healthy")
    if answer is None:
        return {**dict.fromkeys(names), "address": endpoint, "healthy": False}
    return {name: getattr(answer, name) for name in names}


async def _ask_all(endpoints: list[str], timeout_s: float) -> dict[str, NodeStatus | None]:
    async def ask(endpoint: str) -> NodeStatus | None:
        try:
            return await fetch_status(endpoint, timeout=timeout_s)
        except (OSError, TimeoutError, Unavailable):
            return None

    return dict(zip(endpoints, await asyncio.gather(*map(ask, endpoints)), strict=True))
