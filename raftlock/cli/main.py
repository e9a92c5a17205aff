"""The entry point of `raftlock`."""

import click

from raftlock.cli.dev import dev
from raftlock.cli.locks import acquire, lock, release
from raftlock.cli.nodes import bootstrap, server, status


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="raftlock")
def main() -> None:
    """A replicated lock service: fenced, fair, fail-closed locks."""


for _command in (server, bootstrap, dev, lock, acquire, release, status):
    main.add_command(_command)

if __name__ == "__main__":
    main()
