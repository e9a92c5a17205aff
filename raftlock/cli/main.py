"""The entry point of `raftlock`."""

import errno
import os
import platform
import sys
from importlib.metadata import version as version_of
from typing import Any

import click
from click.shell_completion import get_completion_class

from raftlock.cli.bench import bench
from raftlock.cli.common import EXIT_INTERRUPTED, emit, fail, json_option
from raftlock.cli.dev import dev
from raftlock.cli.healthcheck import healthcheck
from raftlock.cli.lock_command import lock
from raftlock.cli.locks import acquire, force_release, release, renew
from raftlock.cli.looking import check, get, list_locks
from raftlock.cli.members import members_group
from raftlock.cli.nodes import bootstrap, config_group, server, status
from raftlock_wire.limits import PROTOCOL_VERSION

try:
    from raftlock.cli.audit import audit
    from raftlock.cli.history import history
except ModuleNotFoundError as error:
    # Where only the client is installed there is no audit to read, and the other commands work.
    if error.name not in ("lz4", "crc32c"):
        raise

    @click.command(name="audit", context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1, expose_value=False)
    def audit() -> None:
        """Read the audit of a node: needs raftlock[server]."""
        raise click.ClickException("this needs lz4 and crc32c: pip install 'raftlock[server]'")

    history = click.Command(
        "history", help=audit.help, params=audit.params, callback=audit.callback,
        context_settings=audit.context_settings,
    )  # fmt: skip


SECTIONS = {
    "Locks": (
        "lock",
        "acquire",
        "renew",
        "release",
        "check",
        "get",
        "list",
        "force-release",
        "history",
    ),
    "A cluster": ("dev", "status", "members", "bench"),
    "Nodes": ("server", "bootstrap", "config", "healthcheck", "audit"),
    "Other": ("completion", "version"),
}
SHELLS = ("bash", "zsh", "fish")


class Sections(click.Group):
    """Lists the commands by what they are for, and gives each the same end at Ctrl-C or a failed write."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help, which completion follows too."""
        del ctx
        return [name for names in SECTIONS.values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list a section; each command with the first sentence of its help, whole."""
        del ctx
        for title, names in SECTIONS.items():
            with formatter.section(title):
                found = [(name, self.commands[name]) for name in names]
                formatter.write_dl([(n, c.get_short_help_str(limit=200)) for n, c in found])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. A reader that went away is click's to handle; a full disk gets a line, no traceback."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno in (None, errno.EPIPE):
                raise
            what = f"{error.filename}: " if error.filename else ""
            fail(f"{what}{error.strerror}")
        except KeyboardInterrupt:
            sys.exit(EXIT_INTERRUPTED)


@click.group(cls=Sections, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="raftlock")
@click.pass_context
def main(ctx: click.Context) -> None:
    """A replicated lock service: fenced, fair, fail-closed locks.

    \b
    Three nodes here:      raftlock dev
    In another terminal:   raftlock lock demo -- sh -c 'echo $RAFTLOCK_TOKEN'

    Exit codes: 0 done; 1 it failed; 2 a wrong flag or value; 3 not held; 69 no node can be reached or none leads; 75 not
    acquired in time; 130 Ctrl-C. `raftlock lock` passes its command's own, and 70 when the lock was lost. Colours are for
    terminals only; NO_COLOR takes them away.
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Print the versions of raftlock, its protocol and Python.

    \b
    Example: raftlock version --json
    """
    values = {
        "raftlock": version_of("raftlock"),
        "protocol": PROTOCOL_VERSION,
        "python": platform.python_version(),
    }
    emit(as_json, values, "\n".join(f"{name} {value}" for name, value in values.items()))


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@json_option
def completion(shell: str, as_json: bool) -> None:
    """Print what makes SHELL complete raftlock's commands and flags.

    \b
    Example: raftlock completion bash > /etc/bash_completion.d/raftlock
             eval "$(raftlock completion zsh)"      (in ~/.zshrc, after compinit)
             raftlock completion fish > ~/.config/fish/completions/raftlock.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    script = found(main, {}, "raftlock", "_RAFTLOCK_COMPLETE").source()
    emit(as_json, {"shell": shell, "script": script}, script)


for _command in (
    lock, acquire, renew, release, check, get, list_locks, force_release, status,
    members_group, healthcheck, history, audit, server, bootstrap, dev, bench, config_group, version, completion,
):  # fmt: skip
    main.add_command(_command)

if __name__ == "__main__":
    main()
