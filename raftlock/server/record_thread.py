"""The thread that reads records for clients, and how fast it may go: it and the loop take turns at the interpreter.

Whoever waits for the interpreter gets it at once only when the other gives it up. So the thread works for a slice and
then rests for longer: the loop waits for a slice, or for one entry to be decoded, and has most of the time to itself.
"""

import time
from collections.abc import Callable
from pathlib import Path

from raftlock.audit.reader import Directory
from raftlock.server.disk_thread import DiskThread
from raftlock.server.record_jobs import RecordsJob, RecordsRead, RecordsRunner

SLICE_S = 0.000_2
REST = 3
"""So many times as long as it worked it rests."""
PAGE_S = 0.5
"""A page ends after so long, whatever it has: a client gives up an attempt after two seconds."""


def paced(
    *,
    clock: Callable[[], float] = time.perf_counter,
    rest: Callable[[float], None] = time.sleep,
) -> Callable[[], bool]:
    """Return what a page calls after each record: it rests when a slice is over, and says whether there is time left."""
    began = clock()
    until = began + PAGE_S

    def goes_on() -> bool:
        nonlocal began
        now = clock()
        if now - began >= SLICE_S:
            rest(REST * (now - began))
            began = now = clock()
        return now < until

    return goes_on


def records_thread(
    directory: Path | None,
    *,
    done: Callable[[RecordsJob, RecordsRead], None],
    failed: Callable[[BaseException], None],
) -> DiskThread[RecordsJob]:
    """Return the started thread. `directory` None: this node keeps no audit."""
    runner = RecordsRunner(None if directory is None else Directory(directory), pace=paced)
    thread = DiskThread(runner, name="raftlock-records", done=done, failed=failed)
    thread.start()
    return thread
