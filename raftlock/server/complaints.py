"""What strangers do wrong, for the log: at most ten lines a second of each kind, so that they cannot fill the disk.

It owns which lines are written and how many were left out. It must not know what they are about.
"""

import logging
import time
from collections.abc import Callable

from raftlock.telemetry import logs

log = logging.getLogger("raftlock.node")

LINES_MAX = 10
WINDOW_S = 1.0


class Complaints:
    """Rate-limited warnings. The kinds are few and fixed: they come from the code, never from the network."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[str, tuple[float, int]] = {}
        """For each kind: when its window began, and how many came in it."""

    def say(self, event: str, **fields: object) -> None:
        """Log an event, or count it if too many of its kind were logged within this second."""
        now_s = self._clock()
        began_s, count = self._windows.get(event, (now_s, 0))
        left_out = 0
        if now_s - began_s >= WINDOW_S:
            began_s, left_out, count = now_s, max(0, count - LINES_MAX), 0
        self._windows[event] = (began_s, count + 1)
        if count < LINES_MAX:
            known = {name: f"{value!s:.200}" for name, value in fields.items()}
            extra: dict[str, object] = {"left_out": left_out} if left_out else {}
            logs.notice(log, event, {**known, **extra}, level=logging.WARNING)
