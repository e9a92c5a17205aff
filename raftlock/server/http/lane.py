"""A lane: one HTTP request's conversation with its node's own core, as if a client had connected.

Any node takes any request, so the core forwards what it cannot answer (rule R7). The lane asks until there is a
final answer, as "The client, in any language" of the contract does, and keeps whether an attempt may have had an
effect that nobody told of (R4). It must not know what a request is about.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from raftlock_wire.codec import pack, unpack
from raftlock_wire.limits import FRAME_MESSAGES_MAX, PROTOCOL_VERSION
from raftlock_wire.messages import Event, Op
from raftlock_wire.status import Status

Request = tuple[Any, ...]
Answer = tuple[Any, ...]

ATTEMPT_S = 2.0
BACKOFF_MIN_S = 0.01
BACKOFF_MAX_S = 0.5
EVENTS_MAX = 64
"""Events that a lane keeps: it has one session with one acquire, and asks again after what it missed."""

_RETRY = frozenset({int(Status.NO_QUORUM), int(Status.UNKNOWN), int(Status.OVERLOADED)})


class Core(Protocol):
    """The node, as a lane sees it."""

    def attach(self, port: Any) -> str:
        """Let a client in. Return why not, or empty text."""

    def client_frame(self, connection: Any, payload: bytes) -> None:
        """Take a client's frame."""

    def client_disconnected(self, connection: Any) -> None:
        """Forget a client."""


class NotServed(Exception):
    """There was no final answer in time."""

    def __init__(self, *, unknown: bool, why: str, retry_after_ms: int = 0) -> None:
        super().__init__(why)
        self.unknown = unknown
        """Whether an attempt may yet take effect; otherwise none was taken (R4)."""
        self.why = why
        self.retry_after_ms = retry_after_ms


class Asked:
    """A final answer, and what is needed to count from it."""

    __slots__ = ("answer", "attempts", "first_s", "sent_s")

    def __init__(self, answer: Answer, *, first_s: float, sent_s: float, attempts: int) -> None:
        self.answer = answer
        self.first_s = first_s
        """When the first attempt was sent, on the lane's clock."""
        self.sent_s = sent_s
        """When the attempt that was answered was sent."""
        self.attempts = attempts


class Lane:
    """One client of the core. Use it, then `finish` it: the core forgets it."""

    def __init__(
        self,
        core: Core,
        *,
        address: str,
        credentials: str | None,
        clock: Callable[[], float],
        jitter: Callable[[], float],
    ) -> None:
        self._core = core
        self.address = address
        self.tag = 0
        self._credentials = credentials
        self._clock = clock
        self._jitter = jitter
        self._next_id = 1
        self._waiting: dict[int, asyncio.Future[Answer | None]] = {}
        self._events: deque[Answer] = deque(maxlen=EVENTS_MAX)
        self._event_came = asyncio.Event()
        self.closed_because = ""
        """Why the core ended the conversation; empty while it has not."""

    # life

    def open(self) -> None:
        """Begin, with a hello. Raise NotServed when the node lets nobody in."""
        why = self._core.attach(self)
        if why:
            raise NotServed(unknown=False, why=why)
        hello = (
            int(Op.HELLO), self._take_id(), PROTOCOL_VERSION, PROTOCOL_VERSION, None, self._credentials, "http",
        )  # fmt: skip
        self._core.client_frame(self, pack([hello]))

    def finish(self) -> None:
        """Let the core forget this client. That alone ends no lock (guarantee 7)."""
        self.close()
        self._core.client_disconnected(self)

    # from the core: what a socket would be told

    def send(self, payload: bytes) -> None:
        """Take one payload for the client."""
        _leader, *messages = unpack(payload, array_count_max=FRAME_MESSAGES_MAX + 1)
        for message in messages:
            if message[0] == 0:
                self._event(message)
                continue
            future = self._waiting.pop(message[0], None)
            if future is not None and not future.done():
                future.set_result(message)

    def close(self) -> None:
        """Learn that the core ends the conversation: what has no answer will get none."""
        self.closed_because = self.closed_because or "the node ended the conversation"
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_result(None)
        self._event_came.set()

    def want_input(self, wanted: bool) -> None:
        """Do nothing: a lane has one request under way at a time."""

    def _event(self, event: Answer) -> None:
        if event[1] == Event.GOODBYE:
            self.closed_because = str(event[3])
            return
        self._events.append(event)
        self._event_came.set()

    # to the core

    async def ask(self, build: Callable[[int], Request], *, until_s: float | None) -> Asked:
        """Ask until there is a final answer, or QUEUED, or a refusal. Raise NotServed when the time is up.

        `until_s` None: as long as the node lives.
        """
        backoff_s = BACKOFF_MIN_S
        attempts = 0
        unknown = False
        why = "no answer"
        retry_after_ms = 0
        first_s = self._clock()
        while not self.closed_because:
            attempts += 1
            sent_s = self._clock()
            answer = await self._attempt(build, self._patience(sent_s, until_s))
            if answer is not None and not _asks_again(answer):
                return Asked(answer, first_s=first_s, sent_s=sent_s, attempts=attempts)
            pause_s = backoff_s * (0.5 + self._jitter())
            if answer is None or _maybe_taken(answer):
                unknown = True
                why = self.closed_because or "the answer was lost"
            else:
                why, retry_after_ms = _why(answer)
                pause_s = max(pause_s, retry_after_ms / 1_000)
            if until_s is not None and self._clock() + pause_s >= until_s:
                break
            backoff_s = min(backoff_s * 2, BACKOFF_MAX_S)
            await asyncio.sleep(pause_s)
        raise NotServed(
            unknown=unknown, why=self.closed_because or why, retry_after_ms=retry_after_ms
        )

    async def _attempt(self, build: Callable[[int], Request], patience_s: float) -> Answer | None:
        """Ask once. Return None when there was no answer in time."""
        request_id = self._take_id()
        future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        self._core.client_frame(self, pack([build(request_id)]))
        try:
            async with asyncio.timeout(patience_s):
                return await future
        except TimeoutError:
            return None
        finally:
            self._waiting.pop(request_id, None)

    def _patience(self, now_s: float, until_s: float | None) -> float:
        return ATTEMPT_S if until_s is None else max(0.0, min(ATTEMPT_S, until_s - now_s))

    def _take_id(self) -> int:
        request_id = self._next_id
        self._next_id += 1
        return request_id

    # events

    async def event(self, patience_s: float) -> Answer | None:
        """Return the next event, or None when none came in time or the core ended the conversation."""
        if not self._events and not self.closed_because:
            self._event_came.clear()
            try:
                async with asyncio.timeout(patience_s):
                    await self._event_came.wait()
            except TimeoutError:
                return None
        return self._events.popleft() if self._events else None


def _asks_again(answer: Answer) -> bool:
    """Return whether this attempt was not taken, or nobody knows: it is asked again."""
    if answer[1] in _RETRY:
        return True
    # A renew is OK as a whole and final when each lease's answer is.
    return answer[1] == Status.OK and not answer[2]


def _maybe_taken(answer: Answer) -> bool:
    """Return whether an attempt that is asked again may have had its effect (R4)."""
    if answer[1] == Status.OK:
        return any(item[0] == Status.UNKNOWN for item in answer[3])
    return bool(answer[1] == Status.UNKNOWN)


def _why(answer: Answer) -> tuple[str, int]:
    """Return why an attempt was not taken, and when to come again."""
    if answer[1] == Status.OVERLOADED:
        return f"overloaded ({answer[4]})", int(answer[3])
    if answer[1] == Status.NO_QUORUM:
        return str(answer[3]), 0
    return "this node does not lead any more", 0
