"""Celery: a task that runs once at a time over all workers, however often it is sent.

Run it with a worker of its own in this process:  python docs/examples/celery_tasks.py
"""

import functools
import os
import time
from collections.abc import Callable

from celery import Celery
from celery.contrib.testing.worker import start_worker

from raftlock.client import Client, SyncLock

ENDPOINTS = os.environ.get("RAFTLOCK_ENDPOINTS", "127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403")

app = Celery("shop", broker="memory://", backend="cache+memory://")
# It connects at its first use, and each forked worker of a prefork pool gets a connection and a session of its own.
locks = Client(ENDPOINTS.split(","))


def once(name: str) -> Callable[[Callable[[SyncLock], str]], Callable[[], str]]:
    """Run a task's body while the lock `name` is held; skip it if another worker has it."""

    def decorate(body: Callable[[SyncLock], str]) -> Callable[[], str]:
        @functools.wraps(body)
        def run() -> str:
            lock = locks.acquire(name, ttl=30)
            if lock is None:
                return "skipped: another worker has it"
            try:
                result = body(lock)
                lock.raise_if_lost()
                return result
            finally:
                lock.release()

        # Celery takes a task's parameters from its signature, and the lock is none.
        del run.__wrapped__
        return run

    return decorate


@app.task  # type: ignore[untyped-decorator]
@once("task:rebuild-index")
def rebuild_index(lock: SyncLock) -> str:
    """Stand for a task that must not run twice at a time."""
    time.sleep(1)
    return f"rebuilt under token {lock.token}"


def main() -> None:
    """Send the task to four workers at once."""
    with start_worker(
        app, pool="threads", concurrency=4, perform_ping_check=False, loglevel="error"
    ):
        sent = [rebuild_index.delay() for _ in range(4)]
        for result in sent:
            print(result.get(timeout=60))
        print("again:", rebuild_index.delay().get(timeout=60))
    locks.close()


if __name__ == "__main__":
    main()
