"""Running the system's own tools, and saying which one failed and why."""

import subprocess
from collections.abc import Sequence


class ToolFailed(Exception):
    """A system tool is missing or failed: `command`, and what it said."""

    def __init__(self, command: Sequence[str], said: str) -> None:
        super().__init__(f"{' '.join(command)}: {said.strip()}")
        self.command = tuple(command)


def run(*command: str, given: str | None = None, limit_s: float = 30.0) -> str:
    """Run a command to its end and return what it printed. Raise ToolFailed if it could not, failed, or took too long."""
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, timeout=limit_s
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolFailed(command, str(error)) from error
    if done.returncode:
        raise ToolFailed(command, done.stderr or f"exit code {done.returncode}")
    return done.stdout
