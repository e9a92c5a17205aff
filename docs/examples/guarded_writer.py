"""Fencing: a database that refuses a writer who was overtaken, though that writer still believes in its lock.

Run it:  python docs/examples/guarded_writer.py
"""

import os
import sqlite3
import time
from contextlib import closing

from raftlock.client import Client, StaleToken

ENDPOINTS = os.environ.get("RAFTLOCK_ENDPOINTS", "127.0.0.1:7401,127.0.0.1:7402,127.0.0.1:7403")


def write(database: sqlite3.Connection, account: str, balance: int, token: int) -> None:
    """Write under a fencing token. Raise StaleToken if a larger one has written before.

    The largest token lives in the row that it guards, and is compared in the transaction that writes.
    """
    with database:
        changed = database.execute(
            "INSERT INTO account (name, balance, token) VALUES (?1, ?2, ?3)"
            " ON CONFLICT (name) DO UPDATE SET balance = ?2, token = ?3 WHERE token <= ?3",
            (account, balance, token),
        ).rowcount
        if not changed:
            (highest,) = database.execute(
                "SELECT token FROM account WHERE name = ?1", (account,)
            ).fetchone()
            raise StaleToken(account, token, highest)


def main() -> None:
    """Let one writer sleep over its lease, and another one write meanwhile."""
    with closing(sqlite3.connect(":memory:")) as database, Client(ENDPOINTS.split(",")) as client:
        database.execute("CREATE TABLE account (name TEXT PRIMARY KEY, balance INT, token INT)")
        # Not renewed, and not looked at again: as a process that is frozen between looking and writing.
        frozen = client.acquire("account:alice", ttl=0.5, renew=False)
        assert frozen is not None
        time.sleep(0.6)
        with client.lock("account:alice", ttl=10, wait=30) as lock:
            write(database, "alice", 200, lock.token)
            print(f"token {lock.token} wrote 200")
        try:
            write(database, "alice", 100, frozen.token)
        except StaleToken as stale:
            print(f"refused: {stale}")
        print("balance:", database.execute("SELECT balance FROM account").fetchone()[0])


if __name__ == "__main__":
    main()
