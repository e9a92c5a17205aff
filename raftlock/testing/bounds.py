"""Bounds made small for a run, so that what needs thousands of locks in production needs a handful here.

Each is a number that the code looks up where it uses it. All nodes of a run get the same ones, so apply stays a
function of (state, entry).
"""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from raftlock.locks import handover, packing
from raftlock.server import applying, batcher, leases, snapshots
from raftlock_wire import limits

SMALL: tuple[tuple[object, str, tuple[int, ...]], ...] = (
    (handover, "STEPS_PER_COMMAND_MAX", (2, 2, 4, 500)),
    (handover, "SWEEPS_AT_ONCE", (1, 3, 64)),
    (packing, "YOUNG_MAX", (0, 3, 16_384)),
    (leases, "ARM_SLICE", (1, 4, 2_000)),
    (leases, "EXPIRIES_PER_ENTRY_MAX", (2, 5, 2_000)),
    (batcher, "BATCH_COMMANDS_MAX", (3, 10, 4_096)),
    (batcher, "BATCH_SHARE", (1, 2, 256)),
    (limits, "TURN_WORK_MAX", (40, 400, 10_000)),
    (limits, "TURN_SHARE", (16, 512)),
    (applying, "APPLY_COMMANDS_MAX", (5, 50, 20_000)),
    (snapshots, "PART_SIZE", (200, 2_000, 256 << 10)),
)
BUSY: tuple[tuple[object, str, tuple[int, ...]], ...] = ((limits, "ORDINARY_REQUESTS_MAX", (3, 8)),)


@contextmanager
def small_bounds(rng: random.Random, *, small: bool, busy: bool) -> Iterator[dict[str, int]]:
    """Run with bounds drawn from the lists above. Yield what was drawn."""
    drawn: dict[str, int] = {}
    with ExitStack() as stack:
        for owner, name, choices in (*(SMALL if small else ()), *(BUSY if busy else ())):
            drawn[name] = rng.choice(choices)
            stack.enter_context(patch.object(owner, name, drawn[name]))
        steps = drawn.get("STEPS_PER_COMMAND_MAX", limits.STEPS_PER_COMMAND_MAX)
        # A default is bound when the function is made: the number in the module alone would not reach it.
        stack.enter_context(patch.object(handover.end_grant, "__defaults__", (steps,)))
        yield drawn
