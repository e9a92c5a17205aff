"""The invariants of leases: what clients believe, what leaders wait for, and what replicas have ended.

It sees all clocks at once, which nobody in the system does.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from raftlock.client.handles import Handle
from raftlock.testing.invariants import Violation
from raftlock.testing.node import SimNode
from raftlock.testing.world import World
from raftlock_wire import limits
from raftlock_wire.messages import GrantState

if TYPE_CHECKING:
    from raftlock.testing.sim_client import SimClient

ROUNDING_US = 10
"""Clocks of different rates are compared in whole microseconds."""
LATE_US = 250_000
"""Guarantee 4."""
LOOK_EVERY = 48


class LeaseChecks:
    """Beliefs and deadlines of the whole run."""

    def __init__(
        self, world: World, nodes: Mapping[int, SimNode], in_office: Callable[[], SimNode | None]
    ) -> None:
        """`in_office` returns the leader of the newest term, if it serves."""
        self._world = world
        self._nodes = nodes
        self._in_office = in_office
        self.handles: list[tuple[SimClient, Handle]] = []
        self._highest: dict[str, int] = {}
        self.forced: set[int] = set()
        """Tokens that an administrator ended at once: their holders may believe them a little longer (guarantee 3)."""
        self._applied: dict[int, tuple[int, int]] = {}
        self._turns = 0
        self._tellers: dict[int, tuple[int, int]] = {}
        self.looked_at = 0
        """How often a client's deadline was compared with the leader's."""

    # the clients' side

    def counts_on(self, client: "SimClient") -> None:
        """Check that no handle is believed for longer than the leader in office waits (guarantees 3 and 10).

        A lease that is ended under its holder is seen only when it ends, which takes another fault at that very
        moment. This sees the wrong deadline itself.
        """
        handles = client.core.handles
        if not handles:
            return
        leader = self._in_office()
        if leader is None or leader.driver is None:
            return
        leases = leader.driver.leading.leases
        for handle in handles:
            if handle.token in self.forced or not client.believes(handle):
                continue
            timers = leases.sessions if handle.in_session and not handle.frozen else leases.locks
            key = handle.session if timers is leases.sessions else handle.token
            due_us = timers.deadlines.get(key)
            if due_us is None:
                continue
            believed_us = client.real_us_until(client.core.deadline_us(handle))
            waited_us = leader.real_us_until_lease_clock(due_us)
            self.looked_at += 1
            if believed_us > waited_us + ROUNDING_US:
                raise Violation(
                    "deadline within the leader's",
                    f"c{client.number} counts on {handle.resource} {handle.token} for {believed_us} us, "
                    f"node {leader.node_id} ends it in {waited_us} us",
                )

    def holds(self, client: "SimClient", handle: Handle) -> None:
        """Check a handle that was just made."""
        if not client.believes(handle):
            raise Violation(
                "held when told",
                f"c{client.number} is told of {handle.resource} {handle.token} past its deadline",
            )
        if handle.token in self.forced:
            # Ended at once before its client knew that it had it: it believes until it hears (guarantee 3).
            return
        for other, known in self.handles:
            same = known.resource == handle.resource and known.token not in self.forced
            if same and other.believes(known):
                raise Violation(
                    "one holder",
                    f"of {handle.resource} there are two: c{other.number} with {known.token} "
                    f"and c{client.number} with {handle.token}",
                )
        highest = self._highest.get(handle.resource, 0)
        if handle.token <= highest:
            raise Violation(
                "tokens grow", f"token {handle.token} of {handle.resource} is not above {highest}"
            )
        self._highest[handle.resource] = handle.token
        self.handles = [(c, h) for c, h in self.handles if c.believes(h)]
        self.handles.append((client, handle))

    # the nodes' side

    def after_turn(self, node: SimNode) -> None:
        """Check a node that has just taken a turn."""
        driver = node.driver
        if driver is None:
            return
        applied = (node.life, driver.table.applied_index)
        if self._applied.get(node.node_id) != applied:
            self._applied[node.node_id] = applied
            self._check_holders(node)
        self._turns += 1
        if self._turns % LOOK_EVERY == 0 and driver.serving:
            self._check_deadlines(node)
            self._check_bounds(node)

    def _check_holders(self, node: SimNode) -> None:
        """No end of a lease takes effect before its holder's own deadline (guarantees 3 and 10)."""
        assert node.driver is not None
        table = node.driver.table
        for client, handle in self.handles:
            if handle.token in self.forced or table.applied_index < handle.rev:
                continue
            if not client.believes(handle):
                continue
            current = table.lookup(handle.resource)
            if current is None or current.token != handle.token:
                raise Violation(
                    "never early",
                    f"node {node.node_id} at index {table.applied_index} ended {handle.resource} {handle.token} "
                    f"while c{client.number} still counts on it",
                )

    def _check_deadlines(self, node: SimNode) -> None:
        """Every lease has a deadline or its end is on its way, and none is long overdue (guarantees 4 and 7)."""
        assert node.driver is not None
        driver = node.driver
        table, leases, stamp_us = driver.table, driver.leading.leases, driver.clock.stamp_us
        # A batch that waits to be proposed holds Expires too: a full or slow disk, or a hand-over, excuses lateness.
        waits = bool(driver.leading.batcher) or leases._arming is not None
        for timers, what in ((leases.locks, "lease"), (leases.sessions, "session")):
            overdue = [
                key for key, due_us in timers.deadlines.items() if stamp_us - due_us > LATE_US
            ]
            if overdue and not waits:
                raise Violation(
                    "bounded late",
                    f"node {node.node_id} has not ended {what} {overdue[0]}, "
                    f"{stamp_us - timers.deadlines[overdue[0]]} us after its deadline",
                )
        if leases._arming is not None or self._in_office() is not node:
            return
        for bucket in range(table.bucket_count):
            for grant in table.iter_grants(bucket):
                ends = grant.ttl_ms or grant.state is not GrantState.HELD
                known = grant.token in leases.locks.deadlines or leases.in_flight(grant.token)
                if ends and not known and table.lookup(grant.resource) is not None:
                    raise Violation(
                        "no orphans",
                        f"node {node.node_id} waits for no end of {grant.resource} {grant.token}",
                    )
        for session, _ in table.iter_sessions():
            if session not in leases.sessions.deadlines and not leases.in_flight(-session):
                raise Violation(
                    "no orphans", f"node {node.node_id} waits for no end of session {session}"
                )

    def _check_bounds(self, node: SimNode) -> None:
        """Every queue, window and budget is within its limit (decision 16)."""
        assert node.driver is not None
        driver, leading = node.driver, node.driver.leading
        config = driver.raft.state.config
        bounds = [
            (
                "ordinary requests",
                leading.ordinary,
                limits.ORDINARY_REQUESTS_MAX + limits.FRAME_MESSAGES_MAX,
            ),
            (
                "requests",
                leading.requests,
                limits.ORDINARY_REQUESTS_MAX + limits.RESERVED_REQUESTS_MAX,
            ),
            ("waiting bytes", driver.front.waiting_size, limits.WAITING_SIZE_MAX),
            (
                "waiters",
                max(map(len, driver.table.queues.values()), default=0),
                limits.WAITERS_PER_RESOURCE_MAX,
            ),
        ]
        for peer, progress in driver.raft.state.progress.items():
            bounds.append(
                (f"messages to {peer}", len(progress.inflight), config.inflight_messages_max)
            )
            most = config.inflight_bytes_max + config.append_bytes_max + limits.FRAME_SIZE_MAX
            bounds.append((f"bytes to {peer}", progress.inflight_bytes, most))
        for what, value, most in bounds:
            if not 0 <= value <= most:
                raise Violation(
                    "bounded queues", f"node {node.node_id} has {value} {what}, of {most}"
                )

    # the end

    def check_budgets(self, node: SimNode) -> None:
        """When all is answered, nothing is counted as under way (decision 16)."""
        assert node.driver is not None
        leading = node.driver.leading
        left = {
            "requests": leading.requests,
            "ordinary": leading.ordinary,
            "blocked": sum(map(len, leading._blocked.values())),
            "commands in flight": len(leading.leases._in_flight),
        }
        for origin in (*node.driver.clients.local.values(), *node.driver.clients.remote.values()):
            left["in flight"] = left.get("in flight", 0) + abs(origin.in_flight)
        if any(left.values()):
            raise Violation("budgets return", f"node {node.node_id} still counts {left}")
