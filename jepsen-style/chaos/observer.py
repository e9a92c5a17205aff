"""Watches the nodes from outside, in a process of its own: who leads, in which term, and who does not answer.

`python -m chaos.observer --endpoints A,B,C --file FILE`, until it is killed. A JSON line a look.
"""

import argparse
import asyncio
import json
import time
from pathlib import Path

from raftlock.client import Unavailable
from raftlock.client.async_client import fetch_status

LOOK_EVERY_S = 0.2
SILENT_AFTER_S = 0.5


async def look(endpoint: str) -> dict[str, object] | None:
    """Ask a node how it is; None when it does not say."""
    try:
        status = await fetch_status(endpoint, timeout=SILENT_AFTER_S)
    except (OSError, TimeoutError, Unavailable):
        return None
    return {
        "id": status.id, "role": status.role, "term": status.term,
        "commit_index": status.commit_index, "healthy": status.healthy,
    }  # fmt: skip


async def watch(endpoints: list[str], file: Path) -> None:
    """Look at all nodes again and again."""
    with file.open("w", buffering=1) as out:
        while True:
            answers = await asyncio.gather(*map(look, endpoints))
            out.write(json.dumps({"time_ns": time.monotonic_ns(), "nodes": answers}) + "\n")
            await asyncio.sleep(LOOK_EVERY_S)


def main() -> None:
    """Read the command line and watch."""
    parser = argparse.ArgumentParser(prog="python -m chaos.observer", description=__doc__)
    parser.add_argument("--endpoints", required=True)
    parser.add_argument("--file", required=True, type=Path)
    options = parser.parse_args()
    asyncio.run(watch(options.endpoints.split(","), options.file))


if __name__ == "__main__":
    main()
