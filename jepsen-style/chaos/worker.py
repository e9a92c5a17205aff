"""One worker process: some clients that lock, write the guarded register, and record what they were told.

`python -m chaos.worker --clients N --raw N --endpoints A,B,C --folder DIR --seed S --seconds T --name W`
"""

import argparse
import asyncio
import contextlib
import random
import sys
import time
from pathlib import Path
from typing import Any

from chaos.history import Recorder
from chaos.raw import RawWaiter
from chaos.register import Register, StaleToken
from raftlock.client import (
    AsyncClient,
    BadRequest,
    Lock,
    LockLost,
    OutcomeUnknown,
    Overloaded,
    QuotaExceeded,
    RaftlockError,
    Unavailable,
)

RESOURCES = tuple(f"account:{number}" for number in range(6))
FAIR_RESOURCE = "queue:0"
PAUSE_S = 0.02


class Client:
    """One client and its endless work, an operation at a time."""

    def __init__(self, number: int, options: argparse.Namespace, recorder: Recorder) -> None:
        self._process = f"{options.name}.{number}"
        self._rng = random.Random(f"{options.seed}:{self._process}")
        self._endpoints = options.endpoints.split(",")
        self._folder = Path(options.folder)
        self._recorder = recorder
        self._until = time.monotonic() + options.seconds
        self._lives = 0

    async def run(self) -> None:
        """Work until the time is up. Now and then the client is dropped, as if it had crashed, and a new one made."""
        while time.monotonic() < self._until:
            self._lives += 1
            client = AsyncClient(
                self._endpoints, session_ttl=self._rng.choice([2, 4]), owner=self._process
            )
            client.start()
            for _ in range(self._rng.randint(20, 60)):
                if time.monotonic() >= self._until:
                    break
                await self._once(client)
                await asyncio.sleep(self._rng.random() * PAUSE_S)
            # A dropped client closes nothing: its session and locks run out.
            await client.close(timeout=2.0 if self._rng.random() < 0.7 else 0.0)

    async def _once(self, client: AsyncClient) -> None:
        resource = self._rng.choice(RESOURCES)
        choice = self._rng.random()
        if choice < 0.1:
            await self._get(client, resource)
        elif choice < 0.13:
            await self._force_release(client, resource)
        elif choice < 0.16:
            await self._command(resource)
        else:
            await self._hold(client, resource)

    def _begin(self, f: str, value: dict[str, Any]) -> None:
        self._recorder.event(self._process, "invoke", f, value, None)

    def _end(self, f: str, kind: str, value: dict[str, Any]) -> None:
        self._recorder.event(self._process, kind, f, value, None)

    def _failed(self, f: str, error: RaftlockError) -> None:
        """Record what an error says: only an outcome that is not known may take effect later."""
        if isinstance(error, OutcomeUnknown):
            self._end(f, "info", {"status": "UNKNOWN"})
        elif isinstance(error, Unavailable):
            self._end(f, "fail", {"status": "NO_QUORUM"})
        elif isinstance(error, Overloaded):
            self._end(f, "fail", {"status": "OVERLOADED"})
        elif isinstance(error, QuotaExceeded):
            self._end(f, "fail", {"status": "QUOTA_EXCEEDED"})
        elif isinstance(error, BadRequest):
            self._end(f, "fail", {"status": "BAD_REQUEST", "why": str(error)})
        else:
            self._end(f, "info", {"status": type(error).__name__, "why": str(error)})

    # acquire, work, release

    async def _hold(self, client: AsyncClient, resource: str) -> None:
        rng = self._rng
        ttl = rng.choice([None, 1.0, 2.0, 3.0])
        wait = rng.choice([0.0, 0.0, 0.5, 2.0])
        lock = await self._acquire(client, resource, ttl, wait)
        if lock is None:
            return
        believed_until = time.monotonic_ns()
        with contextlib.suppress(StaleToken, LockLost):
            register = Register(self._folder / f"register-{resource.replace(':', '-')}")
            value = register.read(lock.token)
            await asyncio.sleep(rng.random() * 0.05)
            lock.raise_if_lost()
            believed_until = time.monotonic_ns()
            register.write(lock.token, value + 1)
            if rng.random() < 0.2:
                await self._check(client, resource, lock.token)
            if ttl is not None and rng.random() < 0.15:
                await self._change_ttl(lock, rng.choice([1.0, 2.0, 4.0]))
            if rng.random() < 0.05:
                # Long enough for its renewals to matter.
                await asyncio.sleep(rng.random() * 4.0)
        if lock.held:
            believed_until = time.monotonic_ns()
        await self._release(client, lock, believed_until)

    async def _acquire(
        self, client: AsyncClient, resource: str, ttl: float | None, wait: float
    ) -> Lock | None:
        ttl_ms = None if ttl is None else int(ttl * 1_000)
        self._begin(
            "acquire",
            {"resource": resource, "owner": self._process, "ttl_ms": ttl_ms, "wait_ms": wait * 1e3},
        )
        try:
            result = await client.try_acquire(resource, ttl=ttl, wait=wait)
        except RaftlockError as error:
            self._failed("acquire", error)
            return None
        if not isinstance(result, Lock):
            value = {"status": result.status.name, "holder_token": result.holder_token}
            self._end("acquire", "fail", value)
            return None
        deadline_ns = time.monotonic_ns() + int(result.remaining * 1e9)
        value = {"status": "OK", "token": result.token, "deadline_ns": deadline_ns}
        self._end("acquire", "ok", value)
        return result

    async def _release(self, client: AsyncClient, lock: Lock, believed_until: int) -> None:
        value = {
            "resource": lock.resource, "token": lock.token, "held_until_ns": believed_until,
        }  # fmt: skip
        self._begin("release", value)
        try:
            held = await client.release_token(lock.resource, lock.token)
            await lock.release()
        except RaftlockError as error:
            self._failed("release", error)
            return
        if held:
            self._end("release", "ok", {"status": "OK"})
        else:
            self._end("release", "fail", {"status": "NOT_HELD"})

    # the others

    async def _check(self, client: AsyncClient, resource: str, token: int) -> None:
        self._begin("check", {"resource": resource, "token": token})
        try:
            current = await client.check(resource, token)
        except RaftlockError as error:
            self._failed("check", error)
            return
        status = {"status": "OK"} if current else {"status": "NOT_HELD"}
        self._end("check", "ok" if current else "fail", status)

    async def _change_ttl(self, lock: Lock, ttl: float) -> None:
        value = {"resource": lock.resource, "token": lock.token, "ttl_ms": int(ttl * 1_000)}
        self._begin("change_ttl", value)
        try:
            await lock.change_ttl(ttl)
        except LockLost:
            self._end("change_ttl", "fail", {"status": "NOT_HELD"})
            raise
        except RaftlockError as error:
            self._failed("change_ttl", error)
            return
        deadline_ns = time.monotonic_ns() + int(lock.remaining * 1e9)
        self._end("change_ttl", "ok", {"status": "OK", "deadline_ns": deadline_ns})

    async def _get(self, client: AsyncClient, resource: str) -> None:
        self._begin("get", {"resource": resource})
        try:
            info = await client.get(resource)
        except RaftlockError as error:
            self._failed("get", error)
            return
        token = 0 if info is None else info.token
        self._end("get", "ok", {"status": "OK", "holder_token": token})

    async def _force_release(self, client: AsyncClient, resource: str) -> None:
        try:
            info = await client.get(resource)
        except RaftlockError:
            return
        if info is None:
            return
        now = self._rng.random() < 0.5
        value = {"resource": resource, "token": info.token, "now": now}
        self._begin("force_release", value)
        try:
            held = await client.force_release(resource, info.token, reason="chaos", now=now)
        except RaftlockError as error:
            self._failed("force_release", error)
            return
        status = {"status": "OK"} if held else {"status": "NOT_HELD"}
        self._end("force_release", "ok" if held else "fail", status)

    async def _command(self, resource: str) -> None:
        """Lock by the command line: `raftlock lock … -- sh -c …`."""
        command_s = 0.3
        self._begin("acquire", {"resource": resource, "owner": "command", "ttl_ms": 2_000})
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "raftlock.cli.main", "lock", resource,
            "--ttl", "2s", "--wait", "1s", "--endpoints", ",".join(self._endpoints),
            "--", "sh", "-c", f"echo $RAFTLOCK_TOKEN; exec sleep {command_s}",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None
        line = (await process.stdout.readline()).strip()
        if not line.isdigit():
            code = await process.wait()
            # 75: not acquired in time. Anything else says nothing of what may yet happen.
            kind, status = ("fail", "TIMEOUT") if code == 75 else ("info", f"exit code {code}")
            self._end("acquire", kind, {"status": status})
            return
        token = int(line)
        self._end("acquire", "ok", {"status": "OK", "token": token})
        # Within this call the command ends and its lock is released; until then it was believed.
        value = {"resource": resource, "token": token}
        self._begin("release", value)
        code = await process.wait()
        if code == 0:
            # The command ended in time, and what was left of its lock was released, if it was not taken away just before.
            self._end("release", "fail", {"status": "NOT_HELD"})
        else:
            self._end("release", "info", {"status": f"exit code {code}"})


async def work(options: argparse.Namespace) -> None:
    """Run this process's clients until their time is up."""
    recorder = Recorder(Path(options.folder) / f"history-{options.name}.jsonl")
    clients = [Client(number, options, recorder).run() for number in range(options.clients)]
    waiters = [
        RawWaiter(
            f"{options.name}.raw{number}",
            options.endpoints.split(","),
            FAIR_RESOURCE,
            recorder,
            random.Random(f"{options.seed}:{options.name}:{number}"),
        ).run(options.seconds)
        for number in range(options.raw)
    ]
    await asyncio.gather(*clients, *waiters)
    recorder.close()


def main() -> None:
    """Read the command line and work."""
    parser = argparse.ArgumentParser(prog="python -m chaos.worker", description=__doc__)
    for name in ("endpoints", "folder", "seed", "name"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--raw", type=int, default=0)
    parser.add_argument("--seconds", type=float, required=True)
    asyncio.run(work(parser.parse_args()))


if __name__ == "__main__":
    main()
