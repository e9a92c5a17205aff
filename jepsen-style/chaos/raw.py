"""The workload through raw sockets: waiters of one queue, by the protocol's document and without our client.

A waiter opens a session, waits in line, takes up its offer, holds the lock for a moment and releases it. It records when
it was told that it waits, so that the checker can see who was overtaken.
"""

import asyncio
import os
import random
import struct
import time
from typing import Any

import msgpack

from chaos.history import Recorder

HELLO, OPEN_SESSION, KEEP_ALIVE, ACQUIRE, RENEW, RELEASE = 1, 2, 4, 6, 8, 10
OK, OFFERED, QUEUED, HELD, NOT_HELD = 0, 1, 2, 3, 4
NAMES = {
    3: "HELD", 4: "NOT_HELD", 5: "ENDING", 6: "SESSION_EXPIRED", 7: "TIMEOUT", 8: "CANCELLED",
    9: "NO_QUORUM", 10: "UNKNOWN", 11: "OVERLOADED",
}  # fmt: skip
EVENT_OFFERED, EVENT_TIMEOUT, EVENT_ROUTES_LOST = 1, 2, 5
SESSION_TTL_MS, TTL_MS, WAIT_MS = 60_000, 2_000, 4_000
ANSWER_TIMEOUT_S = 6.0


class Gone(Exception):
    """The connection ended, or an answer did not come in time."""


class RawWaiter:
    """One connection at a time, one acquire at a time."""

    def __init__(
        self,
        process: str,
        endpoints: list[str],
        resource: str,
        recorder: Recorder,
        rng: random.Random,
    ) -> None:
        self._process, self._endpoints, self._resource = process, endpoints, resource
        self._recorder, self._rng = recorder, rng
        self._life = 0

    async def run(self, seconds: float) -> None:
        """Wait in line again and again. After a lost connection what was open stays open: it is of unknown outcome."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._life += 1
            line = Line(f"{self._process}/{self._life}", self._recorder, self._resource)
            try:
                await line.connect(self._rng.choice(self._endpoints))
                while time.monotonic() < until:
                    await line.once(self._rng)
            except (OSError, TimeoutError, Gone):
                await asyncio.sleep(self._rng.random() * 0.3)
            finally:
                line.close()


class Line:
    """One connection with one session: a process of the history, for what it leaves open it never learns."""

    def __init__(self, process: str, recorder: Recorder, resource: str) -> None:
        self._process, self._recorder, self._resource = process, recorder, resource
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._session = self._n = self._request = 0
        self._kept = 0.0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self._reading: asyncio.Task[None] | None = None

    async def connect(self, endpoint: str) -> None:
        """Say hello and open a session."""
        host, _, port = endpoint.rpartition(":")
        async with asyncio.timeout(2):
            self._reader, self._writer = await asyncio.open_connection(host, int(port))
        self._reading = asyncio.create_task(self._read())
        hello = await self._ask(HELLO, 1, 1, None, None, "chaos-raw")
        if hello[1] != OK:
            raise Gone
        nonce = os.urandom(16)
        while True:
            answer = await self._ask(OPEN_SESSION, nonce, SESSION_TTL_MS)
            if answer[1] == OK:
                break
            await asyncio.sleep(0.1)
        self._session = answer[3]
        self._kept = time.monotonic()

    def close(self) -> None:
        """Drop the connection; the session is left to run out."""
        if self._reading is not None:
            self._reading.cancel()
        if self._writer is not None:
            self._writer.close()

    async def once(self, rng: random.Random) -> None:
        """Wait in line for the lock, hold it, release it."""
        if time.monotonic() - self._kept > SESSION_TTL_MS / 3_000:
            await self._ask(KEEP_ALIVE, self._session)
            self._kept = time.monotonic()
        self._n += 1
        asked = {
            "resource": self._resource, "session": self._session, "slot": 0, "n": self._n,
            "ttl_ms": TTL_MS, "wait_ms": WAIT_MS,
        }  # fmt: skip
        sent_ns = self._recorder.event(self._process, "invoke", "acquire", asked, None)
        told = await self._acquire(sent_ns)
        kind = {"OK": "ok", "UNKNOWN": "info"}.get(told["status"], "fail")
        self._recorder.event(self._process, kind, "acquire", told, None)
        if kind == "ok":
            await asyncio.sleep(rng.random() * 0.03)
            await self._release(told["token"], told["deadline_ns"])
        elif told["status"] == "SESSION_EXPIRED":
            raise Gone

    async def _acquire(self, sent_ns: int) -> dict[str, Any]:
        fields = (self._session, 0, self._n, self._resource, "raw", TTL_MS, WAIT_MS, None)
        queued_ns = 0
        while True:
            answer = await self._ask(ACQUIRE, *fields)
            status = answer[1]
            if status == OK:
                deadline_ns = sent_ns + _counts_ns(TTL_MS)
                return {"status": "OK", "token": answer[4], "deadline_ns": deadline_ns}
            if status == OFFERED:
                return await self._take_up(answer[4], queued_ns)
            if status == QUEUED:
                queued_ns = queued_ns or time.monotonic_ns()
                event = await self._event()
                if event is None:
                    continue
                if event[1] == EVENT_OFFERED:
                    return await self._take_up(event[7], queued_ns)
                return {"status": "TIMEOUT"}
            if answer[2]:
                return {
                    "status": NAMES.get(status, str(status)),
                    "holder_token": answer[5] if status == HELD else 0,
                }
            await asyncio.sleep(0.05)

    async def _take_up(self, token: int, queued_ns: int) -> dict[str, Any]:
        while True:
            sent_ns = time.monotonic_ns()
            answer = await self._ask(RENEW, [[self._resource, token]])
            item = answer[3][0] if answer[1] == OK else (10,)
            if item[0] == OK:
                return {
                    "status": "OK", "token": token, "queued_ns": queued_ns,
                    "deadline_ns": sent_ns + _counts_ns(TTL_MS),
                }  # fmt: skip
            if item[0] == NOT_HELD:
                return {"status": "NOT_HELD"}
            await asyncio.sleep(0.02)

    async def _release(self, token: int, deadline_ns: int) -> None:
        believed = min(time.monotonic_ns(), deadline_ns)
        asked = {"resource": self._resource, "token": token, "held_until_ns": believed}
        self._recorder.event(self._process, "invoke", "release", asked, None)
        attempts = 0
        while True:
            attempts += 1
            answer = await self._ask(RELEASE, self._resource, token)
            if answer[2]:
                break
            await asyncio.sleep(0.02)
        status = NAMES.get(answer[1], "OK")
        kind = "ok" if answer[1] == OK else "fail"
        told = {"status": status, "attempts": attempts}
        self._recorder.event(self._process, kind, "release", told, None)

    # frames

    async def _ask(self, code: int, *fields: Any) -> tuple[Any, ...]:
        """Send a request and return its answer: (request id, status, final, …)."""
        self._request += 1
        answer = asyncio.get_running_loop().create_future()
        self._answers[self._request] = answer
        payload = msgpack.packb([[code, self._request, *fields]])
        assert self._writer is not None
        self._writer.write(struct.pack(">I", len(payload)) + payload)
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return tuple(await answer)

    async def _event(self) -> tuple[Any, ...] | None:
        """Return the event that ends the wait; None after a second, or when the routes are lost: ask again."""
        try:
            async with asyncio.timeout(1.0):
                while True:
                    event = await self._events.get()
                    if event[1] in (EVENT_OFFERED, EVENT_TIMEOUT) and event[5] == self._n:
                        return tuple(event)
                    if event[1] == EVENT_ROUTES_LOST:
                        return None
        except TimeoutError:
            return None

    async def _read(self) -> None:
        """Hand out answers and events until the connection ends; then fail what still waits for an answer."""
        assert self._reader is not None
        try:
            while True:
                size = struct.unpack(">I", await self._reader.readexactly(4))[0]
                for message in msgpack.unpackb(await self._reader.readexactly(size))[1:]:
                    if not message[0]:
                        self._events.put_nowait(message)
                    elif message[0] in self._answers:
                        waiting = self._answers.pop(message[0])
                        if not waiting.done():
                            waiting.set_result(message)
        except (OSError, asyncio.IncompleteReadError):
            for waiting in self._answers.values():
                if not waiting.done():
                    waiting.set_exception(Gone())


def _counts_ns(ttl_ms: int) -> int:
    """Return for how long after sending a client counts on a lease (guarantee 10)."""
    return ttl_ms * 1_000_000 - ttl_ms * 10_000 - 5_000_000
