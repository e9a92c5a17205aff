"""The clock that a client counts its deadlines on: one that goes on while the machine sleeps (guarantee 10)."""

import sys
import time
from collections.abc import Callable
from typing import Any


def choose_clock(platform: str, source: Any) -> Callable[[], int]:
    """Return the nanosecond clock for a platform. `source` offers what the time module offers there.

    A clock that stands still while the machine sleeps would let a holder wake up and believe in a lease that the
    server ended long ago.
    """
    if hasattr(source, "CLOCK_BOOTTIME"):
        boot_time = source.CLOCK_BOOTTIME
        return lambda: int(source.clock_gettime_ns(boot_time))
    if platform == "darwin" and hasattr(source, "clock_gettime_ns"):
        # On macOS this clock counts sleep; time.monotonic() there does not.
        monotonic = source.CLOCK_MONOTONIC
        return lambda: int(source.clock_gettime_ns(monotonic))
    if platform == "win32":
        # The performance counter counts sleep, and is not 16 ms coarse as time.monotonic() is before Python 3.13.
        return lambda: int(source.perf_counter_ns())
    return lambda: int(source.monotonic_ns())


_NOW_NS = choose_clock(sys.platform, time)


def client_now_us() -> int:
    """Return the client's clock, in microseconds."""
    return _NOW_NS() // 1_000
