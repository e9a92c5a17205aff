"""The honest clients, in a process of their own: acquire, renew and release at times that were fixed beforehand.

`python -m chaos.abuse.honest --endpoints A,B,C --folder DIR --rate N --seconds T`. Each latency counts from the time at
which the call was due, however late it was sent: a node that stalls for two seconds delays all that was due meanwhile,
and all of it shows (no coordinated omission). A second file is the history, for the checker.
"""

import argparse
import asyncio
import json
import random
import signal
import time
from pathlib import Path
from typing import Any

from chaos.history import Recorder
from raftlock.client import AsyncClient, Lock, OutcomeUnknown, RaftlockError

CLIENTS = 8
RESOURCES = tuple(f"honest:{number}" for number in range(128))
STEP_S = 0.1
"""From the time of an acquire to that of its renewal, and on to that of its release."""
TTL_S = 20.0
UNDER_WAY_MAX = 4_000
"""Rounds under way; one that comes due beyond them is counted as failed and not begun."""
DRAIN_S = 60.0


class Honest:
    """All honest clients of a run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._recorder = Recorder(Path(options.folder) / "history-honest.jsonl")
        self._samples = (Path(options.folder) / "samples.jsonl").open("w", buffering=1)
        self._under_way: set[asyncio.Task[None]] = set()
        self._rng = random.Random(1)
        self._until = 0.0

    async def run(self) -> None:
        """Begin a round at each due time, and wait for all of them to end."""
        endpoints = self._options.endpoints.split(",")
        clients = [AsyncClient(endpoints, owner=f"honest-{n}") for n in range(CLIENTS)]
        for client in clients:
            client.start()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop)
        began, number = time.monotonic(), 0
        self._until = began + self._options.seconds
        while (due := began + number / self._options.rate) < self._until:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if len(self._under_way) >= UNDER_WAY_MAX:
                self._sample("acquire", due, "not begun")
            else:
                work = self._round(clients[number % CLIENTS], f"h{number}", due)
                task = asyncio.create_task(work)
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
            number += 1
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=DRAIN_S)
        left = len(self._under_way)
        for client in clients:
            await client.close()
        if left:
            raise SystemExit(f"{left} rounds did not end within {DRAIN_S:.0f} s")

    def _stop(self) -> None:
        """Begin no more rounds."""
        self._until = 0.0

    async def _round(self, client: AsyncClient, process: str, due: float) -> None:
        resource = self._rng.choice(RESOURCES)
        asked = {"resource": resource, "owner": process, "ttl_ms": int(TTL_S * 1e3), "wait_ms": 0}
        self._recorder.event(process, "invoke", "acquire", asked, None)
        try:
            result = await client.try_acquire(resource, ttl=TTL_S)
        except RaftlockError as error:
            self._failed("acquire", process, due, error)
            return
        self._sample("acquire", due, "answered")
        if not isinstance(result, Lock):
            told: dict[str, Any] = {
                "status": result.status.name, "holder_token": result.holder_token,
            }  # fmt: skip
            self._recorder.event(process, "fail", "acquire", told, None)
            return
        deadline_ns = time.monotonic_ns() + int(result.remaining * 1e9)
        told = {"status": "OK", "token": result.token, "deadline_ns": deadline_ns}
        self._recorder.event(process, "ok", "acquire", told, None)
        await self._renew(client, result, due + STEP_S)
        await self._release(client, result, process, due + 2 * STEP_S)

    async def _renew(self, client: AsyncClient, lock: Lock, due: float) -> None:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        try:
            held = await client.renew_token(lock.resource, lock.token)
        except RaftlockError as error:
            self._sample("renew", due, type(error).__name__)
            return
        # A lease of which this client still knows that it holds cannot be gone (guarantee 3).
        self._sample("renew", due, "answered" if held or not lock.held else "WRONG: not held")

    async def _release(self, client: AsyncClient, lock: Lock, process: str, due: float) -> None:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        believed_ns = time.monotonic_ns() if lock.held else 0
        asked = {"resource": lock.resource, "token": lock.token, "held_until_ns": believed_ns}
        self._recorder.event(process, "invoke", "release", asked, None)
        try:
            held = await client.release_token(lock.resource, lock.token)
            self._sample("release", due, "answered")
            kind, status = ("ok", "OK") if held else ("fail", "NOT_HELD")
            self._recorder.event(process, kind, "release", {"status": status}, None)
            await lock.release()
        except RaftlockError as error:
            self._failed("release", process, due, error)

    def _failed(self, f: str, process: str, due: float, error: RaftlockError) -> None:
        """Record what an error says: only a refusal is known to have no effect."""
        self._sample(f, due, type(error).__name__)
        kind = "info" if isinstance(error, OutcomeUnknown) else "fail"
        status = "UNKNOWN" if kind == "info" else "NO_QUORUM"
        self._recorder.event(process, kind, f, {"status": status, "why": str(error)}, None)

    def _sample(self, f: str, due: float, outcome: str) -> None:
        took_ms = (time.monotonic() - due) * 1e3
        self._samples.write(json.dumps({"f": f, "due_s": due, "ms": took_ms, "is": outcome}) + "\n")


def main() -> None:
    """Read the command line and work."""
    parser = argparse.ArgumentParser(prog="python -m chaos.abuse.honest", description=__doc__)
    parser.add_argument("--endpoints", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    asyncio.run(Honest(parser.parse_args()).run())


if __name__ == "__main__":
    main()
