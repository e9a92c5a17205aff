"""What a frame costs a client that holds many locks: counted in instructions, which no machine makes more or less."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from raftlock_wire.messages import Event, Op
from raftlock_wire.status import Status
from tests.unit.client.scripted import SECOND, SESSION, Scripted, Wanted

FEW, MANY = 10, 3_000
DAY_MS = 86_400_000


class Instructions:
    """Counts the instructions of Python that run."""

    def __init__(self) -> None:
        self.count = 0

    def trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Take an event of the interpreter."""
        del argument
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        self.count += event == "opcode"
        return self.trace


@contextmanager
def counted() -> Iterator[Instructions]:
    """Count what runs within."""
    found = Instructions()
    before = sys.gettrace()
    sys.settrace(found.trace)
    try:
        yield found
    finally:
        sys.settrace(before)


def holding(count: int, *, ttl_ms: int) -> Scripted:
    """Return a client that holds so many locks, none of which is due for a long while."""
    client = Scripted(checked=False)
    for token in range(1, count + 1):
        client.hold(token, resource=f"r{token}", ttl_ms=ttl_ms)
    client.core.tick(client.now_us)
    client.core.next_deadline_us()
    return client


def waiting(count: int) -> Scripted:
    """Return a client that waits for so many locks."""
    client = Scripted(checked=False)
    for number in range(count):
        client.queue(resource=f"r{number}", wait_ms=DAY_MS, limit_us=client.now_us + DAY_MS * 1_000)
    client.core.tick(client.now_us)
    client.core.next_deadline_us()
    return client


def _lock_and_release(client: Scripted) -> None:
    """Take a lock and let it go: four frames, after each of which the shell sets its timer."""
    core, wanted = client.core, Wanted(client.now_us, resource="one")
    core.acquire(wanted.acquire, client.now_us)
    core.next_deadline_us()
    client.answer(client.take(Op.ACQUIRE), Status.OK, 0, 1 << 40, 1)
    core.next_deadline_us()
    core.release(wanted.handle, client.now_us)
    core.next_deadline_us()
    client.answer(client.take(Op.RELEASE), Status.OK, 0)
    core.next_deadline_us()


def _timer(client: Scripted) -> None:
    client.core.tick(client.now_us + SECOND // 100)
    client.core.next_deadline_us()


def _event(client: Scripted) -> None:
    """Hear that somebody else's lock, of which this client knows nothing, was taken away."""
    client.event(Event.CUT, SESSION, 1, "r", 1 << 41)
    client.core.next_deadline_us()


WORK = {"a lock and its release": _lock_and_release, "a timer": _timer, "an event": _event}


def cost(client: Scripted, work: Callable[[Scripted], None]) -> int:
    """Return how many instructions a piece of work takes, when it is done for the second time."""
    work(client)
    with counted() as found:
        work(client)
    return found.count


@pytest.mark.parametrize("work", WORK.values(), ids=WORK.keys())
@pytest.mark.parametrize("ttl_ms", [0, DAY_MS], ids=["in the session", "with leases of their own"])
def test_what_a_client_does_costs_no_more_for_the_locks_that_it_holds(
    work: Callable[[Scripted], None], ttl_ms: int
) -> None:
    """Three thousand idle locks cost what ten cost: nothing."""
    few = cost(holding(FEW, ttl_ms=ttl_ms), work)

    many = cost(holding(MANY, ttl_ms=ttl_ms), work)

    assert abs(many - few) < 100


@pytest.mark.parametrize("work", WORK.values(), ids=WORK.keys())
def test_what_a_client_does_costs_no_more_for_the_locks_that_it_waits_for(
    work: Callable[[Scripted], None],
) -> None:
    """Three thousand acquires in their queues, each in a slot of the session, cost what ten cost."""
    few = cost(waiting(FEW), work)

    many = cost(waiting(MANY), work)

    assert abs(many - few) < 100
