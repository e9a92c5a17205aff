"""What the simulator found in this project's code: each with its seed, as the smallest story that shows it."""

import random
from typing import Any

from raftlock.client.acquiring import Acquire
from raftlock.client.session import ClientSession
from raftlock_wire.limits import PROTOCOL_VERSION
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

TOKEN, REV = 77, 5


class Server:
    """Answers one ClientSession by hand, at times that the test says."""

    def __init__(self) -> None:
        self.client = ClientSession(
            rng=random.Random(0), nonces=lambda: bytes(16), session_ttl_ms=60_000
        )
        hello = (1, int(Status.OK), True, PROTOCOL_VERSION, "cluster", 1, [(1, "node1:7401")], {})
        self.client.connected(hello, 0)

    def asked(self, op: Op) -> tuple[Any, ...]:
        """Take the newest request of a kind out of what the client sent."""
        outbox = self.client.asking.outbox
        request = next(r for r in reversed(outbox) if r[0] == op)
        outbox.clear()
        return request

    def answers(self, request: tuple[Any, ...], *fields: Any, at_us: int) -> None:
        """Answer a request."""
        self.client.received(1, [(request[1], *fields)], at_us)


def test_a_take_up_answered_after_the_lease_makes_no_handle() -> None:
    """overload, seed 0: the renewal that takes an offer up is answered when its lease may be over, so it is asked again.

    The client was told that it held the lock, 40 ms after the server had given it to the next.
    """
    results: list[Any] = []
    server = Server()
    wanted = Acquire(
        resource="r", owner="o", ttl_ms=300, wait_ms=5_000, metadata=None, limit_us=10_000_000, on_done=results.append,
    )  # fmt: skip
    server.client.acquire(wanted, 0)
    server.answers(server.asked(Op.OPEN_SESSION), int(Status.OK), True, 1, 60_000, 0, at_us=1_000)
    server.answers(server.asked(Op.ACQUIRE), int(Status.OFFERED), True, 0, TOKEN, REV, at_us=2_000)
    late = [(int(Status.OK), None, REV, 300, 300)]
    server.answers(server.asked(Op.RENEW), int(Status.OK), True, late, at_us=342_000)
    told_early = list(results)
    server.client.tick(400_000)
    gone = [(int(Status.NOT_HELD), TOKEN + 1)]
    server.answers(server.asked(Op.RENEW), int(Status.OK), True, gone, at_us=401_000)

    assert (told_early, [r.status for r in results]) == ([], [Status.NOT_HELD])
