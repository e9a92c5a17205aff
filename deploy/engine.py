"""The container engine: which one works here, and how it is called.

It owns the choice and the calls. It must not know what runs in the containers.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXIT_NO_ENGINE = 77
"""No engine works here: neither success nor failure (automake's code for a skipped test)."""
BUILD_TIMEOUT_S = 900
CALL_TIMEOUT_S = 120


class EngineError(Exception):
    """A call of the engine failed."""


class NoEngine(Exception):
    """No container engine works on this machine."""


class Engine:
    """A command line such as docker's."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)

    def __str__(self) -> str:
        return " ".join(self._command)

    def call(
        self,
        *arguments: str,
        text: str | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run the engine. Raise EngineError that says what it said, unless `check` is false."""
        try:
            done = subprocess.run(
                [*self._command, *arguments],
                input=text,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
                cwd=ROOT,
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"`{arguments[0]}` took longer than {timeout_s:g} s") from error
        except OSError as error:
            raise EngineError(f"{self}: {error.strerror}") from error
        if check and done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise EngineError(f"`{' '.join(arguments)[:200]}`: {' | '.join(said[-5:])}")
        return done

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start a call that goes on beside the caller."""
        return subprocess.Popen(
            [*self._command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )

    def build(self, tag: str) -> None:
        """Build the image. Health checks are Docker's, so podman must be told to keep them."""
        is_podman = "podman" in self.call("--version").stdout.lower()
        labels = [f"--build-arg=VERSION={_version()}", f"--build-arg=REVISION={_revision()}"]
        self.call(
            "build",
            *(["--format=docker"] if is_podman else []),
            *labels,
            f"--tag={tag}",
            ".",
            timeout_s=BUILD_TIMEOUT_S,
        )

    def image_size(self, tag: str) -> int:
        """Return the bytes of an image."""
        return int(self.call("image", "inspect", "--format={{.Size}}", tag).stdout)


def engine_with_image(tag: str, *, fallback: Path | None) -> Engine:
    """Return the first engine that builds the image and can run it. Raise NoEngine with what each said."""
    problems: list[str] = []
    for command in _candidates(fallback):
        engine = Engine(command)
        try:
            engine.call("info")
            sys.stderr.write(
                f"building the image {tag} with {engine}: a minute or so the first time\n"
            )
            engine.build(tag)
            # Some engines answer and build, and cannot run what they built.
            engine.call("run", "--rm", tag, "--version")
        except EngineError as error:
            problems.append(f"{engine}: {error}")
        else:
            return engine
    raise NoEngine("no container engine works here\n  " + "\n  ".join(problems or ["none found"]))


def _candidates(fallback: Path | None) -> Iterator[list[str]]:
    chosen = os.environ.get("CONTAINER_ENGINE")
    if chosen:
        yield chosen.split()
        return
    for name in ("docker", "podman"):
        if shutil.which(name):
            yield [name]
    if fallback is not None and (fallback / "docker").exists():
        subprocess.run([fallback / "setup"], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        yield [str(fallback / "docker")]


def _version() -> str:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    return next(line.split('"')[1] for line in lines if line.startswith("version ="))


def _revision() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    return done.stdout.strip() or "unknown"


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def arguments(doc: str) -> argparse.ArgumentParser:
    """Return a parser with what all commands here take."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--tag", default="raftlock", help="the image's name")
    parser.add_argument(
        "--fallback", type=Path, help="a folder with `setup` and `docker`, tried last"
    )
    return parser


def engine_or_exit(options: argparse.Namespace) -> Engine:
    """Build the image with an engine that works, or say that there is none and exit with EXIT_NO_ENGINE."""
    fallback = options.fallback.resolve() if options.fallback else None
    try:
        return engine_with_image(options.tag, fallback=fallback)
    except NoEngine as error:
        sys.stderr.write(f"deploy: {error}\n")
        sys.exit(EXIT_NO_ENGINE)
