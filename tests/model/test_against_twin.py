"""The lock table against a simple twin, command by command (Hypothesis decides which)."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from raftlock.locks import LockTable
from raftlock_wire.messages import Op
from tests.model.logs import FIRST_TOKEN, NAMES, apply, genesis
from tests.model.twin import BAD_REQUEST, Twin

names = st.sampled_from(NAMES[:2])
sessions = st.integers(1, 4)
slots = st.integers(0, 2)
ns = st.integers(1, 4)
ttls = st.sampled_from([0, 0, 300, 120_000])


class Tables(RuleBasedStateMachine):
    """Both tables, side by side."""

    @initialize()
    def begin(self) -> None:
        """Begin a cluster."""
        self.table = LockTable()
        self.twin = Twin(FIRST_TOKEN)
        self.index = 0
        self._entry(genesis()[3][0][2])
        self.twin.token = FIRST_TOKEN
        for session in range(1, 4):
            self._entry((int(Op.OPEN_SESSION), 7, bytes([self.index]) * 16, 10_000))
            self.twin.open(session)

    def _entry(self, request: tuple[Any, ...]) -> tuple[Any, ...]:
        """Apply one request to the real table. Return its answer without the id."""
        self.index += 1
        self.twin.index, self.twin.wall = self.index, self.index * 2_000
        self.twin.events = []
        self.applied = apply(
            self.table,
            (self.index, self.index * 1_000, self.index * 2_000, (("", "host", request),)),
        )
        return tuple(self.applied.answers[0][0])

    def _same(self, answer: tuple[Any, ...], expected: tuple[Any, ...]) -> None:
        found = (answer[1], *answer[3:])
        if expected[0] == BAD_REQUEST:
            found = found[:1]
        assert (found, self.applied.events) == (expected, self.twin.events)

    def _token(self, name: str, stale: bool) -> tuple[int, int]:
        """Return token and rev of the current grant, or those of an older one."""
        grant = self.twin.grants.get(name)
        return (FIRST_TOKEN + 1, 2) if grant is None or stale else (grant.token, grant.rev)

    @rule(session=sessions)
    def open_session(self, session: int) -> None:
        """Open the next session; ids are given in order."""
        if len(self.twin.sessions) < 4:
            answer = self._entry((int(Op.OPEN_SESSION), 7, bytes([self.index]) * 16, 10_000))
            self.twin.open(answer[3])
            assert answer == (7, 0, True, len(self.twin.sessions), 10_000, 0)

    @rule(session=sessions, closes=st.booleans())
    def end_session(self, session: int, closes: bool) -> None:
        """Close a session, or let it expire."""
        found = self.table.session(session)
        if closes:
            answer = self._entry((int(Op.CLOSE_SESSION), 7, session))
            assert answer[1] == (0 if self.twin.end(session) else 6)
        elif found is not None:
            self._entry((int(Op.EXPIRE_SESSION), 0, session, found.rev))
            self.twin.end(session)

    @rule()
    def sweep(self) -> None:
        """Apply the Sweeps that the state asks for."""
        while sweeps := self.table.open_sweeps():
            self.index += 1
            self.twin.index, self.twin.wall = self.index, self.index * 2_000
            apply(
                self.table,
                (self.index, self.index * 1_000, self.index * 2_000, (("", "", *sweeps),)),
            )
        self.twin.sweep()

    @rule(
        session=sessions, slot=slots, n=ns, name=names, ttl=ttls, wait=st.sampled_from([0, 5_000])
    )
    def acquire(self, session: int, slot: int, n: int, name: str, ttl: int, wait: int) -> None:
        """Acquire, for the first time or again."""
        owner = f"o{session}"
        answer = self._entry((int(Op.ACQUIRE), 7, session, slot, n, name, owner, ttl, wait, None))
        self._same(answer, self.twin.acquire(session, slot, n, name, owner, ttl, wait))

    @rule(session=st.integers(1, 3), slot=slots, name=names, ttl=ttls)
    def queue_up(self, session: int, slot: int, name: str, ttl: int) -> None:
        """Acquire with the slot's next key and wait: so that there are queues to speak of."""
        known = self.twin.sessions[session].slots.get(slot)
        self.acquire(session, slot, 1 if known is None else known["n"] + 1, name, ttl, 5_000)

    @rule(session=sessions, slot=slots, n=ns)
    def cancel(self, session: int, slot: int, n: int) -> None:
        """Cancel; a smaller n has no effect (R3)."""
        answer = self._entry((int(Op.CANCEL), 7, session, slot, n))
        self._same(answer, self.twin.cancel(session, slot, n))

    @rule(name=names, stale=st.booleans())
    def release(self, name: str, stale: bool) -> None:
        """Release, by the current or by an older token."""
        token, _ = self._token(name, stale)
        answer = self._entry((int(Op.RELEASE), 7, name, token))
        self._same(answer, self.twin.release(name, token))

    @rule(name=names, stale=st.booleans())
    def renew(self, name: str, stale: bool) -> None:
        """Renew in the log: its answer is an item of a renew's."""
        token, _ = self._token(name, stale)
        answer = self._entry((int(Op.LOGGED_RENEW), 0, name, token))
        expected = self.twin.renew(name, token)
        found = (answer[0], answer[2]) if answer[0] != 4 else answer
        assert (found, self.applied.events) == (expected, self.twin.events)

    @rule(name=names, stale=st.booleans(), stale_rev=st.booleans())
    def change_ttl(self, name: str, stale: bool, stale_rev: bool) -> None:
        """Change a ttl."""
        token, rev = self._token(name, stale)
        rev = 1 if stale_rev else rev
        answer = self._entry((int(Op.CHANGE_TTL), 7, name, token, 900, rev))
        self._same(answer, self.twin.change_ttl(name, token, 900, rev))

    @rule(name=names, stale=st.booleans(), now=st.booleans())
    def force_release(self, name: str, stale: bool, now: bool) -> None:
        """Force a release."""
        token, _ = self._token(name, stale)
        answer = self._entry((int(Op.FORCE_RELEASE), 7, name, token, "why", now))
        self._same(answer, self.twin.force(name, token, now))

    @rule(name=names, stale=st.booleans(), stale_rev=st.booleans())
    def expire(self, name: str, stale: bool, stale_rev: bool) -> None:
        """Expire a lease by token and rev: without effect unless both are current (L2)."""
        token, rev = self._token(name, stale)
        rev = 1 if stale_rev else rev
        self._entry((int(Op.EXPIRE_LOCK), 0, name, token, rev))
        self.twin.expire(name, token, rev)
        assert self.applied.events == self.twin.events

    @rule(which=st.integers(0, 5), late=st.booleans())
    def time_out_of_a_waiter(self, which: int, late: bool) -> None:
        """Let a wait time out, or one that the slot's next acquire has replaced meanwhile."""
        if self.twin.waiters:
            waiter = self.twin.waiters[which % len(self.twin.waiters)]
            self.time_out(waiter["session"], waiter["slot"], max(1, waiter["n"] - late))

    @rule(session=sessions, slot=slots, n=ns)
    def time_out(self, session: int, slot: int, n: int) -> None:
        """Let a wait time out (R5)."""
        self._entry((int(Op.WAIT_TIMEOUT), 0, session, slot, n))
        self.twin.time_out(session, slot, n)
        assert self.applied.events == self.twin.events

    @invariant()
    def holders_are_the_same(self) -> None:
        """Both agree on who holds or is offered what, and on the next token."""
        if not hasattr(self, "table"):
            return
        real = {name: self.table.lookup(name) for name in NAMES}
        twin = {name: self.twin.current(name) for name in NAMES}
        assert {
            name: g and (g.token, g.rev, g.session, g.ttl_ms, g.offer) for name, g in real.items()
        } == {name: g and (g.token, g.rev, g.session, g.ttl, g.offer) for name, g in twin.items()}
        assert self.table.token == self.twin.token

    @invariant()
    def sessions_count_the_same(self) -> None:
        """Both count alike what others did to a session (L9)."""
        if hasattr(self, "table"):
            living = [s for s, found in self.twin.sessions.items() if found.live]
            counts = [self.table.session(s) for s in living]
            assert [s and s.count for s in counts] == [self.twin.sessions[s].count for s in living]


TestTables = Tables.TestCase
TestTables.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
