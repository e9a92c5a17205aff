"""A lock table as simple as can be: lists, loops and copies, written from the contract and not from the code.

It does what the contract says of sessions, acquires, waiters, offers and releases, and it is slow. What it leaves out is
in `locks` for other reasons than meaning: buckets, the hot path, snapshots, bounded steps.
"""

from dataclasses import dataclass, field
from typing import Any

Answer = tuple[Any, ...]

OK, OFFERED, QUEUED, HELD, NOT_HELD, ENDING, SESSION_EXPIRED, TIMEOUT, CANCELLED = range(9)
BAD_REQUEST = 15


@dataclass
class TwinSession:
    """A session: its count, and what its slots remember."""

    count: int = 0
    live: bool = True
    slots: dict[int, dict[str, Any]] = field(default_factory=dict)


@dataclass
class TwinGrant:
    """Who holds a resource, or to whom it is offered."""

    token: int
    rev: int
    session: int
    slot: int
    n: int
    owner: str
    ttl: int
    wall: int
    offer: bool
    ending: bool = False
    cut: bool = False


class Twin:
    """The simple table. `index` and `wall` are those of the entry being applied."""

    def __init__(self, token: int) -> None:
        self.token = token
        self.sessions: dict[int, TwinSession] = {}
        self.grants: dict[str, TwinGrant] = {}
        self.waiters: list[dict[str, Any]] = []
        """All waiters of all resources, in the order of the log."""
        self.index = self.wall = 0
        self._ended: list[int] = []
        self.events: list[Answer] = []

    def _live(self, session: int) -> TwinSession | None:
        found = self.sessions.get(session)
        return found if found is not None and found.live else None

    def current(self, name: str) -> TwinGrant | None:
        """Return who holds or is offered a resource; a lock in a dead session is nobody's."""
        grant = self.grants.get(name)
        if grant is not None and not grant.ttl and self._live(grant.session) is None:
            return None
        return grant

    def _push(self, session: int, code: int, *fields: Any) -> None:
        found = self._live(session)
        if found is not None:
            found.count += 1
            self.events.append((0, code, session, found.count, *fields))

    def _pass_on(self, name: str) -> None:
        del self.grants[name]
        for waiter in [w for w in self.waiters if w["name"] == name]:
            self.waiters.remove(waiter)
            if self._live(waiter["session"]) is None:
                continue
            self.token += 1
            self.grants[name] = TwinGrant(
                self.token, self.index, waiter["session"], waiter["slot"], waiter["n"], waiter["owner"],
                waiter["ttl"], self.wall, offer=True,
            )  # fmt: skip
            slot = self.sessions[waiter["session"]].slots[waiter["slot"]]
            slot["outcome"], slot["token"] = OFFERED, self.token
            self._push(
                waiter["session"], 1, waiter["slot"], waiter["n"], name, self.token, self.index
            )
            return

    def open(self, session: int) -> None:
        """Open a session."""
        self.sessions[session] = TwinSession()

    def end(self, session: int) -> bool:
        """End a session: what lived in it is nobody's from now on, and passes on when it is swept."""
        found = self._live(session)
        if found is None:
            return False
        found.live = False
        self._ended.append(session)
        return True

    def sweep(self) -> None:
        """Hand on what dead sessions left: the one that ended first first, oldest tokens first."""
        for session in self._ended:
            left = [
                (g.token, name)
                for name, g in self.grants.items()
                if not g.ttl and g.session == session
            ]
            for _, name in sorted(left):
                self._pass_on(name)
        self._ended.clear()
        self.waiters = [w for w in self.waiters if self._live(w["session"]) is not None]

    def acquire(
        self, session: int, slot: int, n: int, name: str, owner: str, ttl: int, wait: int
    ) -> Answer:
        """Return the answer without its id."""
        found = self._live(session)
        if found is None:
            return (SESSION_EXPIRED,)
        content = (name, owner, ttl, wait)
        known = found.slots.get(slot)
        if known is not None and n < known["n"]:
            return (BAD_REQUEST,)
        if known is not None and n == known["n"]:
            return self._again(found, known, content)
        self.waiters = [w for w in self.waiters if (w["session"], w["slot"]) != (session, slot)]
        if name in self.grants and self.current(name) is None:
            self._pass_on(name)
        holder = self.grants.get(name)
        mine = found.slots[slot] = {"n": n, "content": content, "outcome": OK, "token": 0}
        if holder is None:
            self.token += 1
            mine["token"] = self.token
            self.grants[name] = TwinGrant(
                self.token, self.index, session, slot, n, owner, ttl, self.wall, offer=False
            )
            return (OK, found.count, self.token, self.index)
        if wait:
            mine["outcome"] = QUEUED
            self.waiters.append(
                {"session": session, "slot": slot, "n": n, "name": name, "owner": owner, "ttl": ttl}
            )
            return (QUEUED, found.count, self._place(name))
        mine["outcome"], mine["holder"] = HELD, (holder.owner, holder.token, holder.wall)
        return (HELD, found.count, *mine["holder"])

    def _place(self, name: str) -> int:
        return sum(w["name"] == name for w in self.waiters)

    def _again(self, found: TwinSession, known: dict[str, Any], content: tuple[Any, ...]) -> Answer:
        if known["content"] is not None and known["content"] != content:
            return (BAD_REQUEST,)
        outcome, count = known["outcome"], found.count
        if outcome in (OK, OFFERED):
            grant = self.current(content[0])
            if grant is None or grant.token != known["token"]:
                return (NOT_HELD, count, grant.token if grant else 0)
            if grant.cut:
                return (ENDING, count, grant.token)
            return (outcome, count, grant.token, grant.rev)
        if outcome == QUEUED:
            return (QUEUED, count, self._place(content[0]))
        return (outcome, count, *known.get("holder", ()))

    def cancel(self, session: int, slot: int, n: int) -> Answer:
        """Withdraw an acquire, arrived or not."""
        found = self._live(session)
        if found is None:
            return (SESSION_EXPIRED,)
        known = found.slots.get(slot)
        what = token = 0
        if known is None or n > known["n"]:
            self.waiters = [w for w in self.waiters if (w["session"], w["slot"]) != (session, slot)]
            found.slots[slot] = {"n": n, "content": None, "outcome": CANCELLED}
        elif n == known["n"]:
            before = len(self.waiters)
            self.waiters = [
                w for w in self.waiters if (w["session"], w["slot"], w["n"]) != (session, slot, n)
            ]
            if len(self.waiters) < before:
                what = 1
            elif known["outcome"] in (OK, OFFERED):
                name = known["content"][0]
                grant = self.current(name)
                if grant is not None and grant.token == known["token"]:
                    what, token = 2, grant.token
                    self._pass_on(name)
            known["outcome"] = CANCELLED
            known.pop("holder", None)
        return (CANCELLED, found.count, what, token)

    def _held(self, name: str, token: int) -> TwinGrant | None:
        grant = self.current(name)
        return grant if grant is not None and grant.token == token else None

    def _not_held(self, name: str) -> Answer:
        grant = self.current(name)
        return (NOT_HELD, grant.token if grant else 0)

    def release(self, name: str, token: int) -> Answer:
        """Free a resource."""
        if self._held(name, token) is None:
            return self._not_held(name)
        self._pass_on(name)
        return (OK,)

    def renew(self, name: str, token: int) -> Answer:
        """Take up an offer, or renew in the log."""
        grant = self._held(name, token)
        if grant is None:
            return self._not_held(name)
        if grant.ending:
            return (ENDING, grant.rev)
        grant.rev, grant.offer = self.index, False
        return (OK, grant.rev)

    def change_ttl(self, name: str, token: int, ttl: int, rev: int) -> Answer:
        """Compare rev and set the ttl."""
        grant = self._held(name, token)
        if grant is None:
            return self._not_held(name)
        if grant.ending:
            return (ENDING,)
        if not grant.ttl or grant.offer:
            return (BAD_REQUEST,)
        if grant.rev != rev:
            return (HELD, grant.rev, grant.ttl)
        grant.rev, grant.ttl = self.index, ttl
        return (OK, grant.rev, ttl)

    def force(self, name: str, token: int, now: bool) -> Answer:
        """End a lock for its holder."""
        grant = self._held(name, token)
        if grant is None:
            return self._not_held(name)
        if now:
            self._pass_on(name)
            self._push(grant.session, 3, name, token)
        elif not grant.ending:
            grant.ending = True
            if not grant.ttl and not grant.offer:
                grant.cut, grant.ttl = True, 10_000
                self._push(grant.session, 4, name, token)
        return (OK, now)

    def expire(self, name: str, token: int, rev: int) -> None:
        """End a lease if token and rev are its own."""
        grant = self._held(name, token)
        if grant is not None and grant.rev == rev:
            self._pass_on(name)
            if grant.offer or grant.cut:
                self._push(grant.session, 3, name, token)

    def time_out(self, session: int, slot: int, n: int) -> None:
        """End a wait."""
        found = self._live(session)
        for waiter in list(self.waiters):
            if found and (waiter["session"], waiter["slot"], waiter["n"]) == (session, slot, n):
                self.waiters.remove(waiter)
                found.slots[slot]["outcome"] = TIMEOUT
                self._push(session, 2, slot, n)
