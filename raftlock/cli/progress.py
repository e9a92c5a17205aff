"""What a person sees while something takes longer than a second: one line on stderr, only on a terminal."""

import os
import sys
import threading
import time
from types import TracebackType

SHOW_AFTER_S = 1.0
DRAW_EVERY_S = 0.2


class Progress:
    """`with Progress("waiting for 'x'") as progress`: a line with the time so far, gone at the end.

    It draws in a thread, so that it serves code that blocks and code on an event loop alike.
    """

    def __init__(self, what: str, *, of_s: float | None = None) -> None:
        """Say what is done, and how long it takes if that is known."""
        self._what = what
        self._of_s = of_s
        self.detail = ""
        """Shown behind the time; may be set at any moment."""
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            self._thread = threading.Thread(target=self._draw, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    def line(self, took_s: float) -> str:
        """Return the line at a moment. Beyond what it was to take, only the time is shown."""
        open_end = self._of_s is None or took_s > self._of_s
        took = f"{took_s:.0f} s" if open_end else f"{took_s:.0f} of {self._of_s:g} s"
        return f"{self._what} ({took}{'; ' if self.detail else ''}{self.detail})"

    def _draw(self) -> None:
        began = time.monotonic()
        if self._done.wait(SHOW_AFTER_S):
            return
        while not self._done.wait(DRAW_EVERY_S):
            sys.stderr.write(f"\r\x1b[K{self.line(time.monotonic() - began)}")
            sys.stderr.flush()
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
