"""The client's side of the container test: run inside the image, it prints JSON.

acquire PREFIX COUNT   locks for an hour: {name: token}
try NAME               one lock for an hour: {name: token}, or {} when the cluster cannot say
check NAME=TOKEN …     the names whose token is not the current grant
"""

import asyncio
import json
import os
import sys

from raftlock.client import AsyncClient, OutcomeUnknown, Unavailable

HOUR_S = 3_600.0


async def acquire(client: AsyncClient, names: list[str]) -> dict[str, int]:
    """Acquire each and leave it to run out."""
    locks = await asyncio.gather(*(client.acquire(n, ttl=HOUR_S, renew=False) for n in names))
    return {lock.resource: lock.token for lock in locks if lock is not None}


async def main(command: str, *words: str) -> object:
    """Do one command and return what to print."""
    async with AsyncClient(os.environ["RAFTLOCK_ENDPOINTS"].split(",")) as client:
        if command == "acquire":
            return await acquire(client, [f"{words[0]}:{i}" for i in range(int(words[1]))])
        if command == "try":
            try:
                return await acquire(client, [words[0]])
            except (OutcomeUnknown, Unavailable):
                return {}
        grants = [word.rpartition("=") for word in words]
        held = await asyncio.gather(*(client.check(n, int(token)) for n, _, token in grants))
        return [name for (name, _, _), ok in zip(grants, held, strict=True) if not ok]


sys.stdout.write(json.dumps(asyncio.run(main(*sys.argv[1:]))) + "\n")
