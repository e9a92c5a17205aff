"""The leases that a client holds: their deadlines, their renewals, and how they end (guarantees 7 and 10).

It owns the handles. It must not know of sessions more than until when one may be believed.
"""

from collections.abc import Callable

from raftlock.client.asking import Answer, Ask, Asking, Result
from raftlock.client.errors import OutcomeUnknown, Unavailable
from raftlock.client.handles import Handle, HandleState, margin_us
from raftlock.client.timetable import Timetable
from raftlock_wire.limits import RENEW_ITEMS_MAX
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

RENEW_RETRY_US = 50_000


class Leases:
    """The handles that are held. A lock that lives in its session has its session's deadline."""

    def __init__(
        self, asking: Asking, *, session_ttl_ms: int, session_alive_us: Callable[[int], int]
    ) -> None:
        """Ask through `asking`; `session_alive_us` says until when a session, by its id, may be believed."""
        self._asking = asking
        self._session_ttl_us = session_ttl_ms * 1_000
        self._session_alive_us = session_alive_us
        self._held: dict[Handle, None] = {}
        self._of_token: dict[int, Handle] = {}
        self._living: dict[int, dict[Handle, None]] = {}
        """By session: the handles whose deadline is the session's, as it stands."""
        self._deadlines: Timetable[Handle] = Timetable()
        """Those of all other handles."""
        self._renewals: Timetable[Handle] = Timetable()
        """When each lease of its own is to be renewed, while no renewal of it is under way."""

    @property
    def held(self) -> list[Handle]:
        """Return the handles that are held."""
        return list(self._held)

    def of_session(self, session_id: int) -> list[Handle]:
        """Return the handles that live in a session."""
        return [h for h in self._held if h.in_session and h.session == session_id]

    def of_token(self, token: int) -> Handle | None:
        """Return the handle that is held under a token."""
        return self._of_token.get(token)

    def deadline_us(self, handle: Handle) -> int:
        """Return until when a handle may be believed: a lock in a session has its session's deadline, as it stands."""
        if not handle.in_session or handle.frozen:
            return handle.own_deadline_us
        return self._session_alive_us(handle.session)

    def add(self, handle: Handle) -> None:
        """Keep a handle, and renew it if it has a lease of its own."""
        self._held[handle] = None
        self._of_token[handle.token] = handle
        self._look_again(handle)

    def _drop(self, handle: Handle) -> None:
        """Keep a handle no longer, if it is kept."""
        self._held.pop(handle, None)
        if self._of_token.get(handle.token) is handle:
            del self._of_token[handle.token]
        self._live(handle, lives=False)
        self._deadlines.drop(handle)
        self._renewals.drop(handle)

    def _look_again(self, handle: Handle) -> None:
        """Keep the times of a handle, as they are now: whatever changes a handle ends with this."""
        if handle not in self._held:
            return
        lives = handle.in_session and not handle.frozen
        self._live(handle, lives=lives)
        self._deadlines.keep(handle, None if lives else self.deadline_us(handle))
        renews = handle.renews and not handle.in_session and not handle.frozen
        self._renewals.keep(
            handle, handle.next_renew_us if renews and not handle.renew_id else None
        )

    def _live(self, handle: Handle, *, lives: bool) -> None:
        """Let a handle's deadline be its session's, or not."""
        if lives:
            self._living.setdefault(handle.session, {})[handle] = None
        elif (living := self._living.get(handle.session)) is not None:
            living.pop(handle, None)
            if not living:
                del self._living[handle.session]

    def freeze(self, handle: Handle) -> None:
        """Keep the deadline that a handle has, for good: its lease runs out (ENDING)."""
        if not handle.frozen:
            handle.own_deadline_us = self.deadline_us(handle)
            handle.frozen = True
            self._look_again(handle)

    def lose(self, handle: Handle, why: str, *, release_owed: bool = True) -> None:
        """Count a handle as lost, and say so. It is not released here: only when its body has ended (L11)."""
        if handle.state is not HandleState.HELD:
            return
        handle.state = HandleState.LOST
        handle.why_lost = why
        handle.release_owed = release_owed
        self._drop(handle)
        if handle.on_lost is not None:
            handle.on_lost(handle)

    def renew_soon(self, session_id: int) -> None:
        """Let the leases of their own that a session acquired be renewed at once: a loss is learned by the answer."""
        for handle in self._held:
            if not handle.in_session and handle.session == session_id:
                handle.next_renew_us = self._asking.now_us
                self._look_again(handle)

    def renew_due(self, now_us: int) -> None:
        """Renew what is due, in as few requests as hold it."""
        if not self._asking.connected:
            return
        due = self._renewals.take_due(now_us)
        for start in range(0, len(due), RENEW_ITEMS_MAX):
            self._renew(due[start : start + RENEW_ITEMS_MAX], now_us)

    def _renew(self, handles: list[Handle], now_us: int) -> None:
        items = [(h.resource, h.token) for h in handles]

        def renewed(ask: Ask, answer: Answer, sent_us: int) -> bool:
            if answer[1] != Status.OK:
                return retry(ask)
            for handle, item in zip(handles, answer[3], strict=True):
                handle.renew_id = 0
                handle.next_renew_us = sent_us + handle.ttl_us // 3
                self._renewed(handle, item, sent_us)
                self._look_again(handle)
            return True

        def retry(ask: Ask) -> bool:
            del ask
            for handle in handles:
                handle.renew_id = 0
                handle.next_renew_us = self._asking.now_us + min(
                    RENEW_RETRY_US, handle.ttl_us // 10
                )
                self._look_again(handle)
            return True

        for handle in handles:
            handle.renew_id = 1
        shortest = min(h.ttl_us for h in handles)
        ask = Ask(
            lambda i: (int(Op.RENEW), i, items),
            renewed,
            lambda ask: (retry(ask), None)[1],
            until_us=now_us + max(shortest // 6, 20_000),
        )
        self._asking.start(ask, now_us)

    def _renewed(self, handle: Handle, item: Answer, sent_us: int) -> None:
        status = item[0]
        if handle.state is not HandleState.HELD:
            return
        if status == Status.OK:
            handle.rev = item[2]
            deadline = sent_us + handle.ttl_us - margin_us(handle.ttl_us)
            handle.own_deadline_us = max(handle.own_deadline_us, deadline)
        elif status == Status.ENDING:
            handle.frozen = True
        elif status == Status.NOT_HELD:
            self.lose(handle, "the server says that it is not held", release_owed=False)
        else:
            handle.next_renew_us = self._asking.now_us + min(RENEW_RETRY_US, handle.ttl_us // 10)

    def release(self, handle: Handle, now_us: int, done: Result | None = None) -> None:
        """Release a lock: asked until answered, or until its lease is over (guarantee 7).

        One that was lost at the client's own deadline too: its body has ended now, and nobody need wait for the lease.
        """
        if handle.state is HandleState.HELD and now_us >= self.deadline_us(handle):
            # Its body kept the loop busy beyond the deadline: it is told that it was lost, not that it let go in time.
            self.lose(handle, "its deadline passed")
        if handle.state is not HandleState.HELD and not handle.release_owed:
            if done is not None:
                done(None)
            return
        handle.release_owed = False
        if handle.state is HandleState.HELD:
            handle.state = HandleState.RELEASED
            self._drop(handle)
        self._ask_release(handle.resource, handle.token, done, now_us, self._lease_end_us(handle))

    def release_token(
        self, resource: str, token: int, now_us: int, until_us: int, done: Result
    ) -> None:
        """Release by token, for a lock that this object did not acquire."""
        self._ask_release(resource, token, done, now_us, until_us)

    def _lease_end_us(self, handle: Handle) -> int:
        """Return until when a release is worth asking: by then the lease has run out by itself."""
        return self._asking.now_us + max(handle.ttl_us or self._session_ttl_us, 1_000_000)

    def _ask_release(
        self, resource: str, token: int, done: Result | None, now_us: int, until_us: int
    ) -> None:
        def answered(ask: Ask, answer: Answer, sent_us: int) -> bool:
            del ask, sent_us
            if not answer[2]:
                return False
            if done is not None:
                done(answer)
            return True

        def given_up(ask: Ask) -> None:
            if done is None:
                return
            if ask.attempts:
                done(OutcomeUnknown(f"the release of {resource!r} was not answered in time"))
            else:
                done(Unavailable("no node could be reached in time"))

        self._asking.start(
            Ask(
                lambda i: (int(Op.RELEASE), i, resource, token),
                answered,
                given_up,
                until_us=until_us,
            ),
            now_us,
        )

    def change_ttl(
        self, handle: Handle, ttl_ms: int, now_us: int, until_us: int, done: Result
    ) -> None:
        """Set the ttl of a lock with a lease of its own."""
        ttl_us = ttl_ms * 1_000
        # From the sending on the shortest counts, until it is known that it was refused (L8). One that is never
        # answered counts for good: it may take effect at any time.
        handle.changes.append(ttl_us)
        if ttl_us < handle.ttl_us:
            shorter = now_us + ttl_us - margin_us(ttl_us)
            handle.own_deadline_us = min(handle.own_deadline_us, shorter)
        handle.count_ttl()
        self._look_again(handle)

        def answered(ask: Ask, answer: Answer, sent_us: int) -> bool:
            del ask
            if not answer[2]:
                return False
            handle.changes.remove(ttl_us)
            if answer[1] == Status.NOT_HELD:
                self.lose(handle, "the server says that it is not held", release_owed=False)
            elif answer[1] in (Status.OK, Status.HELD):
                # HELD: the lease has another rev, and the answer says which, and which ttl.
                handle.rev, handle.known_ttl_us = answer[3], answer[4] * 1_000
            handle.count_ttl()
            if answer[1] == Status.OK:
                deadline = sent_us + handle.ttl_us - margin_us(handle.ttl_us)
                handle.own_deadline_us = max(handle.own_deadline_us, deadline)
            handle.next_renew_us = self._asking.now_us
            self._look_again(handle)
            done(answer)
            return True

        self._asking.bounded(
            lambda i: (int(Op.CHANGE_TTL), i, handle.resource, handle.token, ttl_ms, handle.rev),
            answered,
            until_us,
            done,
            now_us,
        )

    def close(self, now_us: int) -> None:
        """Release what is renewed. What lives in the session ends with it; what is left to run out is left."""
        for handle in self.held:
            if handle.in_session:
                handle.state = HandleState.RELEASED
                self._drop(handle)
            elif handle.renews:
                self.release(handle, now_us)

    def expire(self, now_us: int) -> None:
        """Lose what is past its deadline."""
        due = self._deadlines.take_due(now_us)
        if any(now_us >= self._session_alive_us(session) for session in self._living):
            # A session ends for all that lives in it: then all are looked at, in the order in which they were got.
            due = self.held
        for handle in due:
            if now_us >= self.deadline_us(handle):
                self.lose(handle, "its deadline passed")
            self._look_again(handle)

    def due_us(self) -> list[int]:
        """Return when `expire` and `renew_due` have work."""
        times = [self._session_alive_us(session) for session in self._living]
        own = [self._deadlines.next_us()]
        if self._asking.connected:
            own.append(self._renewals.next_us())
        return times + [time for time in own if time is not None]
