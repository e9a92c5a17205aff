"""The leader's memory of deadlines (rules L1 to L10, R5): leases, sessions, offers and waits.

It owns when each is due, and which logged commands on a lease are in flight. It must not decide what a due lease
means: only an applied command ends one (L2).
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from raftlock.locks import Grant, LockTable
from raftlock.server.timers import Timers
from raftlock_wire.limits import EXPIRIES_PER_ENTRY_MAX, OFFER_MS_MAX
from raftlock_wire.messages import GrantState, Op

ARM_SLICE = 2_000
"""Leases armed a turn by a new leader (L5)."""


class Wait(NamedTuple):
    """A waiting acquire, for its WaitTimeout (R5)."""

    session: int
    slot: int
    n: int


class Due(NamedTuple):
    """A lease that is due: its command is proposed, and comes back with its entry."""

    key: int
    deadline_us: int
    command: tuple[Any, ...]


class Leases:
    """All deadlines of one leadership, on the lease clock."""

    def __init__(self) -> None:
        self.locks: Timers[str] = Timers()
        self.sessions: Timers[int] = Timers()
        self.waits: Timers[Wait] = Timers()
        self._in_flight: dict[int, int] = {}
        self._expiring: set[int] = set()
        """Keys whose Expire is in flight: arming them again would lead to a second one of the same rev (L3)."""
        self._elected_us = 0
        self._arming: Iterator[int] | None = None

    # leadership

    def begin(self, elected_us: int) -> None:
        """Start with nothing armed. `elected_us`: the lease clock when the majority was had, not the campaign (L5)."""
        self.end()
        self._elected_us = elected_us

    def end(self) -> None:
        """Drop all deadlines: they belong to one node and term (L1)."""
        self.locks.clear()
        self.sessions.clear()
        self.waits.clear()
        self._in_flight.clear()
        self._expiring.clear()
        self._arming = None

    def start_arming(self, table: LockTable) -> None:
        """Begin to arm what the table held when the own entry was applied (L5)."""
        self._arming = self._arm(table)

    def arm_slice(self) -> bool:
        """Arm the next leases of `start_arming`. Return whether any are left."""
        if self._arming is None:
            return False
        armed = 0
        for count in self._arming:
            armed += count
            if armed >= ARM_SLICE:
                return True
        self._arming = None
        return False

    def _arm(self, table: LockTable) -> Iterator[int]:
        elected = self._elected_us
        for session, ttl_ms in table.iter_sessions():
            if session not in self.sessions.deadlines and -session not in self._expiring:
                self.sessions.arm(session, session, elected + ttl_ms * 1_000)
            yield 1
        for bucket in range(table.bucket_count):
            grants = table.iter_grants(bucket)
            for grant in grants:
                if grant.token not in self.locks.deadlines and grant.token not in self._expiring:
                    self._arm_grant(table, grant, elected, after_failover=True)
            yield 1 + len(grants)
        for session, slot, n, wait_ms in table.iter_waiters():
            key = wait_key(session, slot)
            if key not in self.waits.deadlines:
                self.waits.arm(key, Wait(session, slot, n), elected + wait_ms * 1_000)
            yield 1

    def _arm_grant(
        self, table: LockTable, grant: Grant, now_us: int, *, after_failover: bool
    ) -> None:
        lease_ms = grant.ttl_ms
        if grant.state == GrantState.OFFERED or (grant.offer and grant.state == GrantState.ENDING):
            if not lease_ms:
                view = table.session(grant.session)
                lease_ms = view.ttl_ms if view is not None else OFFER_MS_MAX
            self.locks.arm(
                grant.token, grant.resource, now_us + min(lease_ms, OFFER_MS_MAX) * 1_000
            )
        elif lease_ms:
            # A logged lease ends at the stamp of its last logged renewal + ttl, however many failovers (L6); an
            # unlogged one gets its full ttl from the election (L5), or from the stamp of the entry that just set it.
            from_us = grant.stamp_us
            if after_failover and not table.is_logged_class(grant):
                from_us = now_us
            self.locks.shorten(grant.token, grant.resource, from_us + lease_ms * 1_000)

    # what apply did

    def granted(self, table: LockTable, grants: Sequence[Grant], now_us: int) -> None:
        """Arm grants just made, taken up, changed or renewed in the log."""
        deadlines = self.locks.deadlines
        for grant in grants:
            if grant.state == GrantState.HELD and grant.token not in deadlines:
                if grant.ttl_ms:
                    self.locks.arm(
                        grant.token, grant.resource, grant.stamp_us + grant.ttl_ms * 1_000
                    )
            elif grant.state == GrantState.HELD and not grant.ttl_ms:
                self.locks.disarm(grant.token)  # an offer that was taken up into its session
            elif grant.state == GrantState.ENDING:
                self._ending(table, grant, now_us)
            else:
                self._arm_grant(table, grant, now_us, after_failover=False)

    def _ending(self, table: LockTable, grant: Grant, now_us: int) -> None:
        # at_expiry refuses further renewals and lets the lease run out: a deadline that is armed stays as it is. One
        # that is not armed is a lock just cut out of its session (L9: the session's ttl from the apply), or one that
        # a new leader has not come to yet: that has what every lease has after an election (L5, L6).
        if grant.token in self.locks.deadlines:
            return
        if grant.cut:
            self.locks.arm(grant.token, grant.resource, now_us + grant.ttl_ms * 1_000)
        else:
            self._arm_grant(table, grant, self._elected_us, after_failover=True)

    def ended(self, tokens: Sequence[int]) -> None:
        """Forget grants that are over."""
        disarm = self.locks.disarm
        for token in tokens:
            disarm(token)

    # renewals

    def renew(self, grant: Grant, receipt_us: int) -> None:
        """Re-arm an unlogged lease from the receipt of its renewal (L3, L4)."""
        deadline_us = receipt_us + grant.ttl_ms * 1_000
        if grant.token in self.locks.deadlines:
            self.locks.extend(grant.token, deadline_us)
        else:
            self.locks.arm(
                grant.token,
                grant.resource,
                max(deadline_us, self._elected_us + grant.ttl_ms * 1_000),
            )

    def keep_alive(self, session: int, ttl_ms: int, receipt_us: int) -> None:
        """Re-arm a session from the receipt of a request of it (L4)."""
        deadline_us = receipt_us + ttl_ms * 1_000
        if session in self.sessions.deadlines:
            self.sessions.extend(session, deadline_us)
        else:
            self.sessions.arm(session, session, max(deadline_us, self._elected_us + ttl_ms * 1_000))

    def expires_in_ms(self, token: int, now_us: int) -> int | None:
        """Return the estimate for an answer; None when the lease has no deadline of its own, or none yet."""
        deadline_us = self.locks.deadlines.get(token)
        return None if deadline_us is None else max(0, (deadline_us - now_us) // 1_000)

    # commands in flight (L3)

    def command_begins(self, key: int) -> None:
        """Note a logged command on a lease (its token) or on a session (minus its id)."""
        self._in_flight[key] = self._in_flight.get(key, 0) + 1

    def command_ends(self, key: int) -> bool:
        """Note that it was applied. Return whether no other command on the lease is in flight."""
        count = self._in_flight.get(key, 0) - 1
        if count > 0:
            self._in_flight[key] = count
            return False
        self._in_flight.pop(key, None)
        return True

    def in_flight(self, key: int) -> bool:
        """Return whether an unlogged renewal of this lease, or keep-alive of this session, must wait (L3)."""
        return key in self._in_flight

    # expiry

    def due(self, table: LockTable, now_us: int) -> list[Due]:
        """Return the commands for what is due, at most EXPIRIES_PER_ENTRY_MAX, and note them as in flight."""
        found: list[Due] = []
        for session, _ in self.sessions.due(now_us, EXPIRIES_PER_ENTRY_MAX):
            view = table.session(session)
            if view is not None and not view.ended:
                found.append(Due(-session, now_us, (int(Op.EXPIRE_SESSION), 0, session, view.rev)))
        for token, resource in self.locks.due(now_us, EXPIRIES_PER_ENTRY_MAX - len(found)):
            current = table.lookup(resource)
            if current is not None and current.token == token:
                command = (int(Op.EXPIRE_LOCK), 0, resource, token, current.rev)
                found.append(Due(token, now_us, command))
        for item in found:
            self.command_begins(item.key)
            self._expiring.add(item.key)
        return found

    def expire_applied(self, table: LockTable, item: Due) -> bool:
        """Learn that an Expire was applied. One without effect leaves the lease due, to be proposed again (L3).

        Return whether waiting renewals of the lease may go on.
        """
        self._expiring.discard(item.key)
        if item.key > 0:
            current = table.lookup(item.command[2])
            if (
                current is not None
                and current.token == item.key
                and item.key not in self.locks.deadlines
            ):
                self.locks.arm(item.key, current.resource, item.deadline_us)
        else:
            view = table.session(-item.key)
            if view is not None and not view.ended and -item.key not in self.sessions.deadlines:
                self.sessions.arm(-item.key, -item.key, item.deadline_us)
        return self.command_ends(item.key)

    def waits_due(self, now_us: int) -> list[tuple[Any, ...]]:
        """Return the WaitTimeout commands that are due (R5)."""
        return [
            (int(Op.WAIT_TIMEOUT), 0, wait.session, wait.slot, wait.n)
            for _, wait in self.waits.due(now_us, EXPIRIES_PER_ENTRY_MAX)
        ]

    def waits_changed(
        self,
        queued: Sequence[tuple[int, int, int, int]],
        over: Sequence[tuple[int, int, int]],
        now_us: int,
    ) -> None:
        """Forget the waits that one entry ended, and arm those that it began and did not end."""
        # The slots' old waits go first: an acquire that takes the place of one that waits ends and begins a wait of
        # the same slot in one command, and its own must stay armed.
        for session, slot, _ in over:
            self.waits.disarm(wait_key(session, slot))
        ended = set(over)
        for session, slot, n, wait_ms in queued:
            if (session, slot, n) not in ended:
                wait = Wait(session, slot, n)
                self.waits.arm(wait_key(session, slot), wait, now_us + wait_ms * 1_000)

    @property
    def commands_in_flight(self) -> int:
        """Return how many leases and sessions have a logged command under way."""
        return len(self._in_flight)

    def next_us(self) -> int | None:
        """Return the lease clock's time of the next work, or None."""
        times = [
            t
            for t in (self.locks.next_us(), self.sessions.next_us(), self.waits.next_us())
            if t is not None
        ]
        return min(times, default=None)

    def tidy(self) -> None:
        """Keep the dead entries below the living."""
        self.locks.tidy()
        self.sessions.tidy()
        self.waits.tidy()


def wait_key(session: int, slot: int) -> int:
    """Return one number for a slot of a session: a slot is below 4,096."""
    return session << 12 | slot
