"""A thread that writes and syncs (decision 3), for the log or the audit: jobs go in, and come back in order."""

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

JobT = TypeVar("JobT")
RunJobT = TypeVar("RunJobT", contravariant=True)


class Runner(Protocol[RunJobT]):
    """Does a job and returns its result."""

    def run(self, job: RunJobT) -> Any:
        """Do one job. What it raises ends the process."""


class DiskThread(Generic[JobT]):
    """Runs jobs one after the other, off the loop. The number of jobs under way is bounded by the driver."""

    def __init__(
        self,
        runner: Runner[JobT],
        *,
        name: str,
        done: Callable[[JobT, Any], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._runner = runner
        self._done = done
        self._failed = failed
        self._jobs: queue.SimpleQueue[JobT | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, job: JobT) -> None:
        """Give it a job; `done` is called on the loop with the result."""
        self._jobs.put(job)

    def stop(self) -> None:
        """Finish what was given, and end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                result = self._runner.run(job)
            except BaseException as error:  # noqa: BLE001 - whatever failed here, the process must not go on (decision 12)
                self._loop.call_soon_threadsafe(self._failed, error)
                return
            self._loop.call_soon_threadsafe(self._done, job, result)
