"""`python -m bench COMMAND`: what a cluster does, what it costs, and who waits. Each command has a module."""

import argparse
import sys

from bench import (
    audit_bytes,
    ceiling,
    compare,
    contended,
    cost,
    failover,
    goals,
    handover,
    latency,
    leases,
    micro,
    mixed,
    plot,
    scale,
    soak,
    tamper,
    throughput,
)

COMMANDS = {
    "throughput": throughput,
    "latency": latency,
    "contended": contended,
    "mix": mixed,
    "skew": mixed,
    "follower": mixed,
    "renew": leases,
    "expiry": leases,
    "failover": failover,
    "handover": handover,
    "ceiling": ceiling,
    "compare": compare,
    "cost": cost,
    "micro": micro,
    "scale": scale,
    "soak": soak,
    "audit-bytes": audit_bytes,
    "tamper": tamper,
    "goals": goals,
    "plot": plot,
}


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and run one command."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        text = module.HELP if isinstance(module.HELP, str) else module.HELP[name]
        about = (module.__doc__ or "").replace("%", "%%")
        command = commands.add_parser(name, help=text, description=about)
        module.add_options(command)
    options = parser.parse_args(arguments)
    code: int = COMMANDS[options.command].run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
