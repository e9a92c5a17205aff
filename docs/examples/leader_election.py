"""Leader election: of any number of these processes one leads; when it ends, however it ends, the next one does.

Run it several times:  python docs/examples/leader_election.py
"""

import os

from raftlock.client import Client, LockLost, SyncLock

ENDPOINTS = os.environ.get("RAFTLOCK_ENDPOINTS", "127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403")


def lead(lock: SyncLock) -> None:
    """Do the leader's work, for as long as this process leads."""
    print(f"process {os.getpid()} leads with token {lock.token}", flush=True)
    while not lock.lost.wait(timeout=1):
        lock.raise_if_lost()  # Right before each step that only the leader may take ...
        do_one_step(lock.token)  # ... which hands on the token, for a leader that froze in between.


def do_one_step(fencing_token: int) -> None:
    """Stand for what a leader does."""


def main() -> None:
    """Wait to lead, lead until it is over, and wait again."""
    with Client(ENDPOINTS.split(",")) as client:
        while True:
            try:
                with client.lock("leader:reports", ttl=3, wait=24 * 3600) as lock:
                    lead(lock)
            except LockLost as lost:
                print(f"process {os.getpid()} leads no more: {lost.why}", flush=True)


if __name__ == "__main__":
    main()
