"""A client by the protocol: one session, one connection at a time, many operations in flight.

When its connection is lost it calls another node, attaches its session and sends again what has no answer yet, with the
same keys. It owns requests and answers; what is asked is `load`'s.
"""

import asyncio
import os
import random
import time
from collections.abc import Sequence
from typing import Any

import msgpack

from chaos.audit.asks import Ask
from chaos.audit.ledger import Ledger, Said
from raftlock.client.arguments import host_and_port
from raftlock_wire.limits import FRAME_HEADER_SIZE, PROTOCOL_VERSION
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

SESSION_TTL_MS = 30_000
KEEP_ALIVE_S = 5.0
LOOK_S = 0.25
SILENCE_S = 2.0
"""A node that owes answers and says nothing for so long is left for another (PROTOCOL.md)."""
AGAIN_S = (0.02, 0.08)
POLL_S = 1.0
"""How often a waiter asks again: an event may be lost."""
GIVE_UP_S = 40.0
EVENT_OFFERED, EVENT_TIMEOUT, EVENT_ROUTES_LOST, EVENT_SESSION_ENDED = 1, 2, 5, 6
NO_EFFECT = frozenset({Status.NO_QUORUM, Status.OVERLOADED})


class Talker(asyncio.Protocol):
    """One client."""

    def __init__(self, endpoints: Sequence[str], ledger: Ledger, rng: random.Random) -> None:
        self._endpoints, self._ledger, self._rng = list(endpoints), ledger, rng
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._id = 0
        self._own: dict[int, Op] = {}
        self._in_flight: dict[int, Ask] = {}
        self.open_asks: dict[int, Ask] = {}
        """What has not ended yet, by identity, whether it was sent or not."""
        self._out: list[tuple[Any, ...]] = []
        self._heard_s = self._kept_s = self._polled_s = 0.0
        self._new_session()
        self.ready = asyncio.Event()
        self.acknowledged = 0
        self._closing = False

    def _new_session(self) -> None:
        self.session = 0
        self._nonce = os.urandom(16)
        self._opens = 0
        self._closes = 0

    # for the load

    def ask(self, ask: Ask) -> None:
        """Send an operation; its `done` is called when it has ended."""
        self.open_asks[id(ask)] = ask
        if self.ready.is_set():
            self._send_ask(ask)

    async def run(self) -> None:
        """Keep a connection until the task is cancelled."""
        while True:
            await self._connect()
            while self._transport is not None:
                await asyncio.sleep(LOOK_S)
                self._look()
            self.ready.clear()
            await asyncio.sleep(self._rng.uniform(*AGAIN_S))

    async def close(self, limit_s: float) -> None:
        """Close the session. What has no answer by then is of unknown outcome."""
        self._closing = True
        until = time.monotonic() + limit_s
        while self.session and time.monotonic() < until:
            if self.ready.is_set() and Op.CLOSE_SESSION not in self._own.values():
                self._closes += 1
                self._ask_own(Op.CLOSE_SESSION, self.session)
            await asyncio.sleep(0.05)
        for ask in list(self.open_asks.values()):
            self._end(ask)
        if self.session:
            self._write_close("")

    # the connection

    async def _connect(self) -> None:
        endpoint = self._rng.choice(self._endpoints)
        host, port = host_and_port(endpoint)
        try:
            async with asyncio.timeout(SILENCE_S):
                await self._loop.create_connection(lambda: self, host, port)
        except (OSError, TimeoutError):
            await asyncio.sleep(self._rng.uniform(*AGAIN_S))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        self._transport = transport  # type: ignore[assignment]
        self._heard_s = self._loop.time()
        self._in_flight, self._own, self._out = {}, {}, []
        self._buffer.clear()
        self._ask_own(Op.HELLO, PROTOCOL_VERSION, PROTOCOL_VERSION, None, None, "chaos-audit")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection. What was in flight is sent again on the next one."""
        del exc
        self._transport = None
        self.ready.clear()

    def _drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _look(self) -> None:
        now_s = self._loop.time()
        owed = self._own or any(not ask.queued for ask in self._in_flight.values())
        if owed and now_s - self._heard_s > SILENCE_S:
            self._drop()
            return
        if not self.ready.is_set():
            return
        if now_s - self._kept_s > KEEP_ALIVE_S:
            self._kept_s = now_s
            self._ask_own(Op.KEEP_ALIVE, self.session)
        if now_s - self._polled_s > POLL_S:
            self._poll()
        for ask in list(self.open_asks.values()):
            if time.monotonic() - ask.began_s > GIVE_UP_S:
                self._end(ask)

    def _poll(self) -> None:
        self._polled_s = self._loop.time()
        in_flight = {id(ask) for ask in self._in_flight.values()}
        for ask in self.open_asks.values():
            if ask.queued and id(ask) not in in_flight:
                self._send_ask(ask)

    # sending

    def _send(self, request: tuple[Any, ...]) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(request)

    def _flush(self) -> None:
        requests, self._out = self._out, []
        if requests and self._transport is not None and not self._transport.is_closing():
            payload = msgpack.packb(requests)
            self._transport.write(len(payload).to_bytes(FRAME_HEADER_SIZE, "big") + payload)

    def _ask_own(self, op: Op, *fields: Any) -> None:
        self._id += 1
        self._own[self._id] = op
        self._send((int(op), self._id, *fields))

    def _send_ask(self, ask: Ask) -> None:
        if id(ask) not in self.open_asks or not self.ready.is_set():
            return
        if ask.op is Op.ACQUIRE and not ask.attempts:
            # It may have been made while there was no session.
            ask.fields = (self.session, *ask.fields[1:])
        elif ask.op is Op.CANCEL and ask.key[0] != self.session:
            self._end(ask)
            return
        self._id += 1
        ask.attempts += 1
        self._in_flight[self._id] = ask
        self._send((int(ask.op), self._id, *ask.fields))

    def _again(self, ask: Ask) -> None:
        self._loop.call_later(self._rng.uniform(*AGAIN_S), self._send_ask, ask)

    # answers

    def data_received(self, data: bytes) -> None:
        """Take all whole frames."""
        self._heard_s = self._loop.time()
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= FRAME_HEADER_SIZE:
            after = start + 4 + int.from_bytes(buffer[start : start + 4], "big")
            if after > len(buffer):
                break
            _, *messages = msgpack.unpackb(buffer[start + 4 : after], use_list=False)
            start = after
            for message in messages:
                self._message(message)
        del buffer[:start]

    def _message(self, message: tuple[Any, ...]) -> None:
        if message[0] == 0:
            self._event(message)
        elif (op := self._own.pop(message[0], None)) is not None:
            self._own_answer(op, message)
        elif (ask := self._in_flight.pop(message[0], None)) is not None and id(
            ask
        ) in self.open_asks:
            self._answer(ask, message)

    def _answer(self, ask: Ask, message: tuple[Any, ...]) -> None:
        if ask.take(message):
            self.acknowledged += ask.logged
            self._end(ask)
            if ask.status == "SESSION_EXPIRED":
                self._expired()
        elif message[1] == Status.BAD_REQUEST:
            # The session is not attached here (any more).
            self._drop()
        elif message[1] != Status.QUEUED:
            self._again(ask)

    def _event(self, message: tuple[Any, ...]) -> None:
        code = message[1]
        if code == EVENT_ROUTES_LOST:
            self._poll()
        elif code == EVENT_SESSION_ENDED and message[2] == self.session:
            self._drop()
        elif code in (EVENT_OFFERED, EVENT_TIMEOUT):
            key = (message[2], message[4], message[5])
            waiting = (a for a in self.open_asks.values() if a.op is Op.ACQUIRE and a.key == key)
            ask = next(waiting, None)
            if code == EVENT_OFFERED:
                resource, token, rev = message[6:9]
                self._ledger.write(Said("offer", resource, token, *key, status="OK"))
            else:
                resource, token, rev = "" if ask is None else ask.fields[3], 0, 0
                if ask is not None:
                    self._ledger.write(Said("timeout", resource, 0, *key, status="OK"))
            if ask is not None:
                ask.status = "OFFERED" if code == EVENT_OFFERED else "TIMEOUT"
                ask.token, ask.rev = token, rev
                self.acknowledged += 1
                self._end(ask)

    def _end(self, ask: Ask) -> None:
        del self.open_asks[id(ask)]
        said = ask.said() if ask.attempts or ask.status else None
        if said is not None:
            self._ledger.write(said)
        if ask.done is not None:
            ask.done()

    # the session

    def _own_answer(self, op: Op, message: tuple[Any, ...]) -> None:
        status = message[1]
        if op is Op.HELLO:
            self._greeted(message)
        elif op is Op.OPEN_SESSION:
            if status == Status.OK:
                self.session = message[3]
                self._ledger.write(
                    Said("open_session", session=self.session, status="OK", attempts=self._opens)
                )
                self.acknowledged += 1
                self._begin()
            else:
                self._opens -= status in NO_EFFECT
                self._loop.call_later(0.1, self._open)
        elif op is Op.ATTACH:
            if status == Status.OK:
                self._begin()
            elif status == Status.SESSION_EXPIRED:
                self._expired()
            else:
                self._drop()
        elif op is Op.CLOSE_SESSION:
            self._closed(status, final=message[2])
        elif status == Status.SESSION_EXPIRED:
            self._expired()

    def _greeted(self, message: tuple[Any, ...]) -> None:
        if message[1] != Status.OK:
            self._drop()
            return
        if self.session:
            self._ask_own(Op.ATTACH, self.session, self._nonce)
        else:
            self._open()

    def _open(self) -> None:
        if self._transport is not None and not self.session and not self._closing:
            self._opens += 1
            self._ask_own(Op.OPEN_SESSION, self._nonce, SESSION_TTL_MS)

    def _begin(self) -> None:
        self._kept_s = self._loop.time()
        self.ready.set()
        self._ask_own(Op.KEEP_ALIVE, self.session)
        for ask in list(self.open_asks.values()):
            self._send_ask(ask)

    def _expired(self) -> None:
        """Begin another session. What named the old one will not be answered."""
        old = self.session
        if self._closes:
            self._write_close("SESSION_EXPIRED")
        self._new_session()
        self.ready.clear()
        for ask in list(self.open_asks.values()):
            if ask.op in (Op.ACQUIRE, Op.CANCEL) and ask.key[0] == old:
                self._end(ask)
        self._drop()

    def _closed(self, status: int, *, final: bool) -> None:
        if final:
            self._write_close(Status(status).name)
            self.acknowledged += 1
            self.session = 0
            self.ready.clear()
        else:
            self._closes -= status in NO_EFFECT

    def _write_close(self, status: str) -> None:
        if self._closes:
            self._ledger.write(
                Said("close_session", session=self.session, status=status, attempts=self._closes)
            )
