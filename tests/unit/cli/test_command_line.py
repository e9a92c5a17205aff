"""What every command owes its user: help with an example, a wrong value that says what is allowed, exit codes, JSON."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from raftlock.cli.common import Duration, printable
from raftlock.cli.main import SECTIONS, main


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Return the path of every command."""
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def command_at(path: tuple[str, ...]) -> click.Command:
    """Return the command of a path."""
    found: click.Command = main
    for name in path:
        assert isinstance(found, click.Group)
        found = found.commands[name]
    return found


def raftlock(*arguments: str, env: dict[str, str] | None = None) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(main, arguments, env=env, prog_name="raftlock")


@pytest.fixture
def nobody() -> str:
    """Return an address that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return f"127.0.0.1:{sock.getsockname()[1]}"


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_has_an_example(path: tuple[str, ...]) -> None:
    """The help of each command shows how it is called, and names its own flags."""
    result = raftlock(*path, "--help")

    assert result.exit_code == 0
    assert "Example" in result.output
    assert "raftlock " + path[0] in result.output


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_every_command_speaks_json(path: tuple[str, ...]) -> None:
    """Each command has --json, but for groups, the node itself, which logs, and what prints nothing but JSON."""
    command = command_at(path)
    only_json = (("audit", "tail"), ("audit", "query"))
    if isinstance(command, click.Group) or path == ("server",) or path in only_json:
        return

    assert "--json" in {flag for p in command.params for flag in p.opts}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("lock", "x", "--ttl", "50ms", "--", "true"), "'--ttl': 50ms is not within 100ms to 24h"),
        (("lock", "x", "--tll", "1s", "--", "true"), "No such option '--tll'. Did you mean '--ttl'?"),
        (("lock", "x", "sh", "-c", "true"), "COMMAND and its flags go behind a --"),
        (("lock", "x"), "Missing argument 'COMMAND...'"),
        (("acquire", "x", "--ttl", "soon"), "'soon' is not a duration: use 500ms, 10s, 2m or 1h"),
        (("acquire", "x", "--wait", "25h"), "'--wait': 25h is not within 0 to 24h"),
        (("acquire", ""), "resource: 0 bytes of UTF-8 are not within 1 to 512"),
        (("acquire", "x", "--owner", "o" * 257), "owner"),
        (("release", "x"), "Missing option '--token'"),
        (("release", "x", "--token", "0"), "'0' is not a token: a whole number from 1 to 9007199254740991"),
        (("renew", "x", "--token", "t"), "'t' is not a token: a whole number from 1 to 9007199254740991, as acquire printed it"),
        (("check", "x", "--token", "-1"), "'-1' is not a token"),
        (("acquire", "\udcff"), r"resource: '\udcff' is not UTF-8"),
        (("get", "\udcff"), r"resource: '\udcff' is not UTF-8"),
        (("acquire", "x", "--owner", "\udcff"), r"owner: '\udcff' is not UTF-8"),
        (("list", "--prefix", "\udcff"), r"--prefix: '\udcff' is not UTF-8"),
        (("get", "x", "--endpoints", "here"), "--endpoints: 'here' is not host:port"),
        (("get", "x", "--endpoints", "h:70000"), "--endpoints: 'h:70000' is not host:port with a port from 1 to 65535"),
        (("get", "x", "--endpoints", ","), "at least one HOST:PORT is needed"),
        (("get", "x", "--timeout", "1h"), "1h is not within 100ms to 10m"),
        (("list", "--prefix", "a", "--owner", "b"), "exclude each other"),
        (("force-release", "x", "--reason", ""), "reason: 1 to 1024 bytes"),
        (("bench", "--connections", "0"), "0 is not in the range 1<=x<=1000"),
        (("bench", "--connections", "1000", "--depth", "4096"), "4096000 is more than 32768"),
        (("bench", "--seconds", "2m"), "2m is not within 100ms to 1m"),
        (("bootstrap",), "Missing option '--nodes'"),
        (("dev", "--nodes", "9"), "9 is not in the range 1<=x<=7"),
        (("completion", "tcsh"), "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
        (("locks",), "No such command 'locks'"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_wrong_value_says_what_is_allowed(
    arguments: tuple[str, ...], says: str, nobody: str
) -> None:
    """A wrong flag or value ends with exit code 2, before anything is asked, and says what is allowed."""
    result = raftlock(*arguments, env={"RAFTLOCK_ENDPOINTS": nobody, "RAFTLOCK_TIMEOUT": "100ms"})

    assert (result.exit_code, says in result.output) == (2, True), result.output


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("10s", 10.0), ("2m", 120.0), ("1h", 3600.0), ("7", 7.0), ("0.5s", 0.5)],
)
def test_a_duration_has_a_unit_or_is_seconds(text: str, seconds: float) -> None:
    """ms, s, m and h; a bare number is seconds."""
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize(
    "arguments",
    [
        ("acquire", "x"), ("release", "x", "--token", "1"), ("renew", "x", "--token", "1"),
        ("check", "x", "--token", "1"), ("get", "x"), ("list",), ("status",), ("bench",),
        ("force-release", "x", "--reason", "r"), ("lock", "x", "--", "true"),
    ],
    ids=lambda value: value[0],
)  # fmt: skip
def test_no_node_is_exit_code_69(arguments: tuple[str, ...], nobody: str) -> None:
    """Where nobody answers each command says so on stderr, as JSON on stdout if asked for, and ends with 69."""
    name, *rest = arguments
    result = raftlock(name, "--json", "--endpoints", nobody, "--timeout", "100ms", *rest)
    objects = [json.loads(line) for line in result.stdout.splitlines()]

    assert result.exit_code == 69
    assert [sorted(o)[0] for o in objects] == ["error"]
    assert result.stderr.startswith("raftlock: ")
    assert nobody in result.output


def test_the_help_lists_every_command_once_with_a_whole_sentence() -> None:
    """No command is left out of the sections, and no description is cut off."""
    listed = [name for names in SECTIONS.values() for name in names]
    output = raftlock("--help").output

    assert sorted(listed) == sorted(main.commands)
    assert "..." not in output[output.index("Locks:") :]


def test_ctrl_c_is_exit_code_130_for_any_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that does not look for it itself ends with 130 all the same, and says nothing."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("raftlock.server.bootstrap.bootstrap", interrupted)
    result = raftlock("bootstrap", "--nodes", "1=127.0.0.1:1")

    assert (result.exit_code, result.output) == (130, "")


@pytest.mark.parametrize(
    ("flags", "ttl_ms"), [((), 60_000), (("--logged-renewal-ttl", "0"), 0), (("--logged-renewal-ttl", "1.5s"), 1_500)]
)  # fmt: skip
def test_bootstrap_says_which_renewals_are_logged(
    monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], ttl_ms: int
) -> None:
    """60 s unless something else is said, and 0 is something else (L6)."""
    told = {}

    def make_cluster(nodes: dict[int, str], **how: object) -> str:
        told.update(how)
        return "c" * 64

    monkeypatch.setattr("raftlock.server.bootstrap.bootstrap", make_cluster)
    result = raftlock("bootstrap", "--nodes", "1=127.0.0.1:1", *flags)

    assert (result.exit_code, told["logged_renewal_ttl_ms"]) == (0, ttl_ms)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_gets_a_line_and_exit_code_1() -> None:
    """Where the output cannot be written the command says why, without a traceback."""
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "raftlock.cli.main", "config", "example", "--json"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)

    assert (done.returncode, done.stderr) == (1, "raftlock: No space left on device\n")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("order:1 ü 锁", "order:1 ü 锁"),
        ("a\nb", r"a\nb"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\u202eevil", r"\u202eevil"),
        ("\udcff", r"\udcff"),
    ],
)
def test_names_cannot_write_to_the_terminal(name: str, shown: str) -> None:
    """Letters of any script are shown as they are; what moves, colours or reverses is shown as its escape."""
    assert printable(name) == shown


def test_completion_names_the_commands() -> None:
    """The scripts are those of the three shells, and what they call completes commands and flags."""
    scripts = {shell: raftlock("completion", shell).output for shell in ("bash", "zsh", "fish")}
    asked = {"_RAFTLOCK_COMPLETE": "bash_complete", "COMP_WORDS": "raftlock re", "COMP_CWORD": "1"}

    assert all("_RAFTLOCK_COMPLETE" in script for script in scripts.values())
    assert raftlock(env=asked).output.split() == ["plain,renew", "plain,release"]


def test_colours_are_for_terminals(nobody: str) -> None:
    """Into a pipe no command writes an escape sequence."""
    result = raftlock("status", "--endpoints", nobody, "--timeout", "100ms")

    assert "unreachable" in result.stdout
    assert "\x1b" not in result.output
