"""`raftlock healthcheck`: is this one node fit to serve? For container engines and load balancers."""

import asyncio

import click

from raftlock.cli.common import emit, fail, json_option, parse_endpoints
from raftlock.client import Unavailable
from raftlock.client.async_client import fetch_status

TIMEOUT_S = 3.0


@click.command()
@click.option(
    "--endpoint",
    envvar="RAFTLOCK_CLIENT_ADDRESS",
    default="127.0.0.1:7401",
    show_default=True,
    metavar="HOST:PORT",
    help="The node's client address (also RAFTLOCK_CLIENT_ADDRESS, as the server reads it).",
)
@json_option
def healthcheck(endpoint: str, as_json: bool) -> None:
    """Ask one node whether it leads, or follows a leader. `raftlock status` asks all of them.

    \b
    Example: raftlock healthcheck --endpoint 10.0.0.1:7401
    Exit codes: 0 it does; 1 it knows no leader, has no cluster yet, or cannot
    be reached.
    """
    (address,) = parse_endpoints(endpoint)[:1]
    try:
        status = asyncio.run(fetch_status(address, timeout=TIMEOUT_S))
    except TimeoutError:
        fail(f"{address} did not answer within {TIMEOUT_S:g} s")
    except (OSError, Unavailable) as error:
        fail(f"{address}: {error}")
    if not status.healthy:
        fail(
            f"{address}: node {status.id} is {status.role} of term {status.term}, and knows no leader"
        )
    values = {"id": status.id, "role": status.role, "term": status.term, "healthy": True}
    emit(as_json, values, f"node {status.id} is {status.role} of term {status.term}")
