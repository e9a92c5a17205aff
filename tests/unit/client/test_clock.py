"""Which clock a client counts on, where the system has no CLOCK_BOOTTIME."""

from types import SimpleNamespace
from typing import Any

import pytest

from raftlock.client.clock import choose_clock

BOOTTIME, MONOTONIC = 7, 1


def system(**missing: bool) -> Any:
    """Return a time module that has everything but what is missing; each clock reads as its own number."""
    offers: dict[str, Any] = {
        "CLOCK_BOOTTIME": BOOTTIME,
        "CLOCK_MONOTONIC": MONOTONIC,
        "clock_gettime_ns": lambda clock: clock,
        "perf_counter_ns": lambda: 100,
        "monotonic_ns": lambda: 200,
    }
    return SimpleNamespace(**{name: v for name, v in offers.items() if name not in missing})


@pytest.mark.parametrize(
    ("platform", "missing", "read"),
    [
        ("linux", (), BOOTTIME),
        ("darwin", ("CLOCK_BOOTTIME",), MONOTONIC),
        ("win32", ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC", "clock_gettime_ns"), 100),
        ("freebsd14", ("CLOCK_BOOTTIME",), 200),
    ],
)
def test_the_clock_goes_on_in_sleep_where_one_does(
    platform: str, missing: tuple[str, ...], read: int
) -> None:
    """CLOCK_BOOTTIME where there is one; macOS's CLOCK_MONOTONIC and Windows' performance counter count sleep too."""
    clock = choose_clock(platform, system(**dict.fromkeys(missing, True)))

    assert clock() == read
