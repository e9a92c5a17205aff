"""`python -m bench COMMAND`: what a cluster does, what it costs, and who waits. Each command has a module."""

import argparse
import sys

from bench import failover, handover, latency, throughput

COMMANDS = {
    "throughput": throughput,
    "latency": latency,
    "failover": failover,
    "handover": handover,
}


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and run one command."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=module.HELP, description=module.__doc__)
        module.add_options(command)
    options = parser.parse_args(arguments)
    code: int = COMMANDS[options.command].run(options)  # type: ignore[attr-defined]
    return code


if __name__ == "__main__":
    sys.exit(main())
