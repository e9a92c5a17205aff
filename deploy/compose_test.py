"""The test of compose.yaml: the file itself is brought up, used, taken down and brought up again.

Only ports of this machine, and the image's name, are changed in the copy that is run. It needs Docker's compose or
podman-compose; where there is neither and the engine is podman, podman-compose is installed for this one run.
Exit codes: 0 all right; 1 a step failed; 77 no container engine or no compose works here.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping
from pathlib import Path

from deploy.cluster import HTTP_PORT, NODES, free_ports, wait_for
from deploy.engine import EXIT_NO_ENGINE, ROOT, Engine, EngineError, arguments, engine_or_exit, say
from deploy.http import WrongAnswer, acquire, ask_http, expect

PODMAN_COMPOSE = "podman-compose==1.6.0"
CLIENT_PORTS = ("7401", "7402", "7403")
HTTP_PORTS = ("7421", "7422", "7423")
UP_TIMEOUT_S = 120
VARIABLE = "RAFTLOCK_ADVERTISE"


class Project:
    """compose.yaml under a name and on ports of its own."""

    def __init__(self, command: list[str], folder: Path, tag: str) -> None:
        self._command = command
        self._file = folder / "compose.yaml"
        self._name = f"raftlock-compose-{os.getpid()}"
        self.client_ports, self.http_ports = free_ports(3), free_ports(3)
        text = (ROOT / "compose.yaml").read_text().replace("image: raftlock\n", f"image: {tag}\n")
        for said, port in zip(CLIENT_PORTS, self.client_ports, strict=True):
            text = text.replace(said, str(port))
        for said, port in zip(HTTP_PORTS, self.http_ports, strict=True):
            text = text.replace(
                f'"127.0.0.1:{said}:{HTTP_PORT}"', f'"127.0.0.1:{port}:{HTTP_PORT}"'
            )
        self._file.write_text(text)

    def call(
        self, *words: str, variables: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run compose on the file. Raise EngineError with what it said if it fails."""
        try:
            done = subprocess.run(
                [*self._command, "-f", str(self._file), "-p", self._name, *words],
                capture_output=True,
                text=True,
                timeout=UP_TIMEOUT_S,
                check=False,
                env={**os.environ, **(variables or {})},
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"compose {words[0]} took longer than {UP_TIMEOUT_S} s") from error
        if done.returncode:
            raise EngineError(f"compose {' '.join(words)}: {(done.stderr or done.stdout)[-2000:]}")
        return done

    def up(self, advertise: str | None = None) -> None:
        """Bring the services up, and wait until each node serves."""
        self.call("up", "--detach", "--no-build", variables={VARIABLE: advertise} if advertise else {})  # fmt: skip
        for node_id in NODES:
            wait_for(lambda n=node_id: self.is_ready(n), f"node {node_id} is ready")  # type: ignore[misc]

    def url(self, node_id: int) -> str:
        """Return where this machine reaches a node's HTTP."""
        return f"http://127.0.0.1:{self.http_ports[node_id - 1]}"

    def is_ready(self, node_id: int) -> bool:
        """Say whether the node serves requests."""
        try:
            return ask_http(f"{self.url(node_id)}/readyz")[0] == 200
        except EngineError:
            return False

    def advertised(self, node_id: int) -> list[str]:
        """Return what the nodes tell clients, asked for inside a node's container, once one of them leads."""
        names = ",".join(f"n{i}:{port}" for i, port in zip(NODES, self.client_ports, strict=True))
        words = ("raftlock", "status", "--json", f"--endpoints={names}")
        found: list[str] = []

        def one_leads() -> bool:
            try:
                done = self.call("exec", "-T", f"n{node_id}", *words)
            except EngineError:
                return False
            nodes = json.loads(done.stdout.strip().splitlines()[-1])["nodes"]
            found[:] = [node["address"] for node in nodes if node["healthy"]]
            return len(found) == len(NODES)

        wait_for(one_leads, "one of three nodes leads")
        return found


def run(project: Project) -> None:
    """Use it in two lives: what the first one acquired is held in the second, under the same tokens."""
    began = time.monotonic()
    project.up(advertise="127.0.0.1")
    meant = [f"127.0.0.1:{port}" for port in project.client_ports]
    seen = project.advertised(1)
    expect(seen == meant, f"with {VARIABLE} the nodes advertise {seen}, not {meant}")
    tokens = {f"compose:{n}": acquire(project.url(n), f"compose:{n}") for n in NODES}
    say(
        f"ok    {time.monotonic() - began:5.1f} s  up: bootstrapped, ready, a lock over HTTP at each node"
    )

    began = time.monotonic()
    project.call("down")
    project.up()
    for name, token in tokens.items():
        code, answer = ask_http(f"{project.url(1)}/api/v1/locks/check", {"resourceId": name, "lockToken": token})  # fmt: skip
        expect(code == 200 and json.loads(answer)["held"], f"{name} is lost: {code} {answer}")
    expect(acquire(project.url(2), "compose:new") > max(tokens.values()), "a token did not grow")
    say(f"ok    {time.monotonic() - began:5.1f} s  down and up again: the volumes kept all")


def compose_command(engine: Engine, folder: Path) -> list[str] | None:
    """Return the compose that works with the engine, or None. `COMPOSE` chooses another."""
    if os.environ.get("COMPOSE"):
        return os.environ["COMPOSE"].split()
    if "podman" not in engine.call("--version").stdout.lower():
        for command in ([*str(engine).split(), "compose"], ["docker-compose"]):
            if shutil.which(command[0]) and _works(command):
                return command
        return None
    found = shutil.which("podman-compose") or _installed(folder)
    return [found, "--podman-path", str(engine)] if found else None


def _works(command: list[str]) -> bool:
    return subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0


def _installed(folder: Path) -> str | None:
    venv.create(folder / "venv", with_pip=True)
    binaries = folder / "venv" / "bin"
    pip = [str(binaries / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, PODMAN_COMPOSE], capture_output=True, check=False)
    return str(binaries / "podman-compose") if done.returncode == 0 else None


def main() -> None:
    """Bring compose.yaml up, use it, and take it down."""
    options = arguments(main.__doc__ or "").parse_args()
    engine = engine_or_exit(options)
    with tempfile.TemporaryDirectory() as folder:
        command = compose_command(engine, Path(folder))
        if command is None:
            sys.stderr.write("deploy: no compose works here\n")
            sys.exit(EXIT_NO_ENGINE)
        say(f"compose: {' '.join(command)}")
        project = Project(command, Path(folder), options.tag)
        code = 0
        try:
            run(project)
            say("compose-test: passed")
        except (WrongAnswer, EngineError) as error:
            say(f"FAIL  {error}")
            code = 1
        finally:
            try:
                project.call("down", "--volumes")
            except EngineError as error:
                say(f"could not be removed: {error}")
    sys.exit(code)


if __name__ == "__main__":
    main()
