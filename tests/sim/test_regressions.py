"""What the simulator found, in this project's code and in itself: each with its seed, as the smallest story that shows it."""

import random
from typing import Any

from raftlock.client.acquiring import Acquire
from raftlock.client.session import ClientSession
from raftlock.locks import LockTable
from raftlock.raft import Raft, RaftConfig
from raftlock.server.driver import Driver, DriverConfig
from raftlock.server.jobs import WriteDone, WriteJob
from raftlock.testing.run import run_seed
from raftlock_wire.entry import HardState
from raftlock_wire.ids import NodeId, Term
from raftlock_wire.limits import PROTOCOL_VERSION
from raftlock_wire.membership import Member, Membership
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


def alone() -> Driver:
    """Return a node that is the only member of its cluster."""
    first = Membership((Member(NodeId(1), "0" * 32, "node1:7411", "node1:7401"),))
    raft = Raft(
        config=RaftConfig(node_id=NodeId(1)),
        hard_state=HardState(Term(0), NodeId(0)),
        membership=first,
        snapshot=None,
        entries=(),
        rng=random.Random(0),
        now_us=0,
    )
    config = DriverConfig(
        node_id=NodeId(1), cluster_id="c", logged_renewal_ttl_ms=60_000, stall_us=150_000
    )
    return Driver(config=config, raft=raft, table=LockTable(), applied=None, membership=first)


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


def test_a_node_does_not_spin_while_its_disk_is_slow() -> None:
    """default, seed 1: after 20 ms without a finished write the seal is due, but not while the next write is under way.

    The node took turn after turn at once until the disk was done, which starves what else runs on its machine.
    """
    node = alone()
    write = node.turn(300_000, 0).jobs[-1]
    node.job_done(write, WriteDone(write.writes[-1].number, spare_is_ready=True))
    second = [job for job in node.turn(301_000, 0).jobs if isinstance(job, WriteJob)]
    later_us = 301_000 + 100_000

    effects = node.turn(later_us, 0)

    assert (len(second), effects.wake_us > later_us) == (1, True)


def test_a_learner_that_was_added_by_a_replaced_leader_is_heard() -> None:
    """everything, seed 1390: a node that knows only the first members calls back a leader that came later.

    The simulator's links kept to the members that the caller knows, and production's do not: the learner heard its leader
    for 40 s, never answered, and clients of it were never answered either.
    """
    assert run_seed(1390, "everything").failure == ""


def test_an_outage_may_leave_one_audit_segment_open() -> None:
    """everything, seed 1681: nothing is committed for 25 s, and then the leader's wall clock is behind the log's."""
    assert run_seed(1681, "everything").failure == ""
