"""Cron on many hosts: every host starts the job at the same time, one of them runs it.

In the crontab of each host:  */10 * * * *  python docs/examples/cron.py nightly-report 10m -- ./report.sh
"""

import os
import subprocess
import sys
import time

from raftlock.client import Client

ENDPOINTS = os.environ.get("RAFTLOCK_ENDPOINTS", "127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403")


def is_mine(client: Client, job: str, period: float, now: float) -> bool:
    """Return whether this host runs the job of the period that `now` lies in.

    The lock is one per period and is not released: it is left to run out. A host whose clock is behind, by less than
    a period, finds it taken, though the job has long ended.
    """
    slot = int(now // period)
    lock = client.acquire(f"cron:{job}:{slot}", ttl=2 * period, renew=False)
    return lock is not None


def main() -> int:
    """Run the command if it is this host's turn."""
    job, minutes, dashes, *command = sys.argv[1:]
    if dashes != "--" or not minutes.endswith("m") or not command:
        print("usage: cron.py JOB MINUTESm -- COMMAND...", file=sys.stderr)
        return 2
    with Client(ENDPOINTS.split(",")) as client:
        if not is_mine(client, job, 60 * float(minutes[:-1]), time.time()):
            print(f"{job}: another host runs it")
            return 0
    # At most once: if this host dies here the job of this period is not run.
    return subprocess.call(command)


if __name__ == "__main__":
    sys.exit(main())
