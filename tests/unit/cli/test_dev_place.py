"""`raftlock dev` takes only a directory and ports that are its own, and says which are not."""

import socket
from pathlib import Path

import pytest

from raftlock.cli.dev_place import NOTE, claim, last_line


def refusal(
    data: Path, capsys: pytest.CaptureFixture[str], nodes: int, base_port: int, ports: list[int]
) -> tuple[object, str]:
    """Return the exit code and what is said when a claim is refused."""
    with pytest.raises(SystemExit) as ended, claim(data, nodes, base_port, ports):
        pass
    return ended.value.code, capsys.readouterr().err


def test_a_directory_in_use_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two clusters never share a directory, whatever their ports."""
    with claim(tmp_path, 3, 7401, []):
        code, said = refusal(tmp_path, capsys, 3, 17401, [])

    assert (code, f"{tmp_path} is in use by another `raftlock dev`" in said) == (1, True)


@pytest.mark.parametrize(("nodes", "base_port"), [(5, 7401), (3, 17401)])
def test_data_of_other_ports_or_nodes_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], nodes: int, base_port: int
) -> None:
    """The nodes' addresses are in their logs: a cluster at other ones would wait for a leader for ever."""
    with claim(tmp_path, 3, 7401, []):
        pass
    code, said = refusal(tmp_path, capsys, nodes, base_port, [])

    assert (code, "`raftlock dev --nodes 3 --base-port 7401`" in said) == (1, True)


def test_the_same_ports_go_on_with_the_data(tmp_path: Path) -> None:
    """A second run with the same flags has the directory again."""
    for _ in range(2):
        with claim(tmp_path, 3, 7401, []):
            pass

    assert (tmp_path / NOTE).read_text() == '{"nodes": 3, "base_port": 7401}'


def test_a_port_in_use_is_named_and_leaves_no_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The port is named with a way out; the empty directory is still anyone's, with other ports too."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        code, said = refusal(tmp_path, capsys, 3, 7401, [port])

    assert (code, f"127.0.0.1:{port} is in use" in said) == (1, True)
    assert (tmp_path / NOTE).read_text() == ""


def test_the_last_line_of_a_log_is_what_a_node_said(tmp_path: Path) -> None:
    """Of a long log the last line is found; of an empty one that it is empty."""
    log, empty = tmp_path / "a.log", tmp_path / "b.log"
    log.write_text("x" * 5_000 + "\nraftlock: disk full\n")
    empty.write_text("")

    assert (last_line(log), last_line(empty)) == ("disk full", f"{empty} is empty")
