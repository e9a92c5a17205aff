"""What only a leader does: it lets requests in, keeps their leases, and sends results and events back.

It owns the batcher, the reads, the leases and the push routes of one leadership, and whether it serves. It must not know
about the disk, the network or elections: the driver tells it when leadership begins and ends.
"""

from collections.abc import Sequence
from itertools import repeat
from typing import Any, NamedTuple

from raftlock.locks import Applied, LockTable, RenewalClass
from raftlock.server.batcher import Batch, Batcher, Group
from raftlock.server.door import Sorted, no_quorum, unknown
from raftlock.server.leases import Due, Leases
from raftlock.server.origin import Origin
from raftlock.server.outbox import Outbox
from raftlock.server.reads import Read, Reads, Renewal, RenewItem, Waiting
from raftlock.telemetry.counters import Counters
from raftlock_wire.ids import Index
from raftlock_wire.messages import Event, Op
from raftlock_wire.status import Status

Request = tuple[Any, ...]

OPENING = frozenset({int(Op.OPEN_SESSION), int(Op.ATTACH)})
_ON_LEASE = frozenset({int(Op.CHANGE_TTL), int(Op.FORCE_RELEASE)})
OF_MEMBERS = frozenset(
    {int(Op.MEMBERS), int(Op.ADD_MEMBER), int(Op.PROMOTE_MEMBER), int(Op.REMOVE_MEMBER)}
)
"""Requests that rest on consensus and not on the table."""
_NOT_LEADING = "this node does not lead any more"


class SweepHook(NamedTuple):
    """Marks a Sweep of the leader's own: the next ones are proposed when these are applied."""


class Leading:
    """The leader's side of the lock table."""

    def __init__(self, outbox: Outbox, counters: Counters | None = None) -> None:
        self._outbox = outbox
        self._counters = counters
        self.batcher = Batcher()
        self.reads = Reads()
        self.leases = Leases()
        self.serves_from: Index | None = None
        """The first entry of the own term; None: this node does not lead."""
        self.serving = False
        """Whether that entry is applied, so that the table may be spoken for (L5)."""
        self.routes: dict[int, Origin] = {}
        """Session to the connection that last spoke for it: a hint, for pushed events (R6)."""
        self.ordinary = 0
        """Requests of the ordinary budget in the log without an answer (decision 16)."""
        self.requests = 0
        """All requests without an answer, each item of a renew counted."""
        self.of_members: list[Read] = []
        """Confirmed requests about the members: the driver hands them on."""
        self._blocked: dict[int, list[Waiting]] = {}
        self._sweeps_in_flight = 0

    # requests

    def admit(self, table: LockTable, origin: Origin, sorted_: Sorted, receipt_us: int) -> None:
        """Take in what the door let through. `receipt_us` was read after the last input of the turn (L4)."""
        self.requests += len(sorted_.logged) + len(sorted_.others)
        if sorted_.logged:
            if self._counters is not None:
                self._counters.request_came()
            self.batcher.add(
                origin, sorted_.logged, sorted_.body, ordinary=sorted_.ordinary, plain=sorted_.plain
            )
            self.ordinary += sorted_.ordinary
            if sorted_.session > 0:
                self._touch(table, origin, sorted_.session, receipt_us)
            elif sorted_.session < 0:
                for session in {r[2]: None for r in sorted_.logged if r[0] == Op.ACQUIRE}:
                    self._touch(table, origin, session, receipt_us)
            if not sorted_.plain:
                for request in sorted_.logged:
                    if request[0] in _ON_LEASE:
                        self.leases.command_begins(request[3])
        for request in sorted_.others:
            self._other(table, origin, request, receipt_us)

    def _touch(self, table: LockTable, origin: Origin, session: int, receipt_us: int) -> None:
        """Let a logged request of a session keep it alive, from its receipt (L4)."""
        self.routes[session] = origin
        view = table.session(session)
        if view is not None and not view.ended:
            self.leases.keep_alive(session, view.ttl_ms, receipt_us)

    def _other(self, table: LockTable, origin: Origin, request: Request, receipt_us: int) -> None:
        code = request[0]
        if code == Op.RENEW:
            renewal = Renewal(origin, request)
            self.requests += len(request[2]) - 1
            for position, (resource, token) in enumerate(request[2]):
                self._renew(table, RenewItem(renewal, position, resource, token, receipt_us, 0))
        elif code == Op.KEEP_ALIVE:
            self.routes[request[2]] = origin
            self._keep_alive(table, Read(origin, request, receipt_us))
        else:
            self.reads.add(Read(origin, request, receipt_us))

    def _keep_alive(self, table: LockTable, read: Read) -> None:
        session = read.request[2]
        # An Expire of the session is in flight: the keep-alive goes on by the state after it (L3).
        if self.leases.in_flight(-session):
            self._blocked.setdefault(-session, []).append(read)
            return
        view = table.session(session)
        if view is not None and not view.ended:
            self.leases.keep_alive(session, view.ttl_ms, read.receipt_us)
        self.reads.add(read)

    def _renew(self, table: LockTable, item: RenewItem) -> None:
        # Expire, change of ttl, logged renewal or force-release of this lease is in flight: wait for it (L3).
        if self.leases.in_flight(item.token):
            self._blocked.setdefault(item.token, []).append(item)
            return
        kind = table.renewal_class(item.resource, item.token)
        if kind in (RenewalClass.OFFER, RenewalClass.LOGGED):
            self.leases.command_begins(item.token)
            self.batcher.command((int(Op.LOGGED_RENEW), 0, item.resource, item.token), item)
            return
        rev = 0
        if kind is RenewalClass.OWN:
            grant = table.lookup(item.resource)
            if grant is not None:
                self.leases.renew(grant, item.receipt_us)
                rev = grant.rev
        self.reads.add(item._replace(rev=rev))

    # answers by the state, after a confirmed round

    def confirmed(self, table: LockTable, number: int, now_us: int) -> None:
        """Answer what waited for rounds up to `number`, by the state now (L4)."""
        counters = self._counters
        if counters is not None:
            counters.round_confirmed(number)
        answers: dict[Origin, list[Any]] = {}
        for waiting in self.reads.confirmed(number):
            if isinstance(waiting, RenewItem):
                self._renewed(table, waiting, now_us)
                continue
            if waiting.request[0] in OF_MEMBERS:
                self.of_members.append(waiting)
                continue
            answer = self._answer(table, waiting, now_us)
            if counters is not None:
                counters.operation(waiting.request[0], answer[1])
            answers.setdefault(waiting.origin, []).append(answer)
        for origin, batch in answers.items():
            self._send(origin, batch)

    def _renewed(self, table: LockTable, item: RenewItem, now_us: int) -> None:
        kind = table.renewal_class(item.resource, item.token)
        if kind is RenewalClass.OWN or item.rev:
            grant = table.lookup(item.resource)
            # The lease was changed in the log since the receipt, perhaps into the logged class, whose end an unlogged
            # renewal does not move: answering OK now would let the client count past the lease's end.
            if grant is not None and grant.token == item.token and grant.rev != item.rev:
                self._renew(table, item)
                return
        elif kind in (RenewalClass.OFFER, RenewalClass.LOGGED):
            self._renew(table, item)
            return
        self._answer_item(item, table.renewal_answer(item.resource, item.token), now_us)

    def _answer_item(self, item: RenewItem, answer: tuple[Any, ...], now_us: int) -> None:
        if answer[0] in (Status.OK, Status.ENDING):
            answer = (*answer[:4], self.leases.expires_in_ms(item.token, now_us))
        self._item_done(item, answer)

    def _item_done(self, item: RenewItem, answer: tuple[Any, ...]) -> None:
        """Take the answer to one item; the last one sends the whole."""
        if self._counters is not None:
            self._counters.operation(int(Op.RENEW), answer[0])
        renewal = item.renewal
        if renewal.answer(item.position, answer):
            self._send(renewal.origin, [renewal.result()])
        else:
            self.requests -= 1

    def _send(self, origin: Origin, answers: list[Any], encoded: bytes | None = None) -> None:
        self.requests -= len(answers)
        self._outbox.answers(origin, answers, encoded)

    def finish(self, read: Read, answer: tuple[Any, ...]) -> None:
        """Send the answer to a request that was handed on."""
        if self._counters is not None:
            self._counters.operation(read.request[0], answer[1])
        self._send(read.origin, [answer])

    def _answer(self, table: LockTable, read: Read, now_us: int) -> tuple[Any, ...]:
        request = read.request
        code, request_id = request[0], request[1]
        if code == Op.KEEP_ALIVE:
            view = table.session(request[2])
            if view is None or view.ended:
                return (request_id, int(Status.SESSION_EXPIRED), True)
            return (request_id, int(Status.OK), True, view.count)
        if code == Op.ATTACH:
            view = table.session(request[2])
            if view is None or view.ended:
                return (request_id, int(Status.SESSION_EXPIRED), True)
            if view.nonce != request[3]:
                return (request_id, int(Status.FORBIDDEN), True, "the nonce is not this session's")
            # Only who knows the nonce gets the session's events.
            self.routes[request[2]] = read.origin
            return (request_id, int(Status.OK), True, request[2], view.ttl_ms, view.count)
        if code == Op.CHECK:
            return table.check(request_id, request[2], request[3])
        return read_answer(table, request, age_ms=0, leases=self.leases, now_us=now_us)

    # what apply did

    def applied(
        self,
        table: LockTable,
        batch: Batch | None,
        applied: Applied,
        encoded: Sequence[bytes] | None,
        now_us: int,
    ) -> None:
        """Send back the results of an entry, and keep deadlines and routes as it says.

        `encoded` are the answers to each group as `pack` encodes them, where the audit has done that.
        """
        leases = self.leases
        if applied.granted:
            leases.granted(table, applied.granted, now_us)
        if applied.ended:
            leases.ended(applied.ended)
        if applied.queued or applied.unqueued:
            leases.waits_changed(applied.queued, applied.unqueued, now_us)
        for session, ttl_ms in applied.opened:
            leases.keep_alive(session, ttl_ms, now_us)
        for session in applied.sessions_ended:
            leases.sessions.disarm(session)
        if batch is not None:
            packed = repeat(None, len(batch.groups)) if encoded is None else encoded
            for group, answers, body in zip(batch.groups, applied.answers, packed, strict=True):
                self._group_applied(table, group, answers, body, now_us)
        for event in applied.events:
            self._push(event)
        for session in applied.sessions_ended:
            self._push((0, int(Event.SESSION_ENDED), session, 0))
            self.routes.pop(session, None)

    def _group_applied(
        self,
        table: LockTable,
        group: Group,
        answers: list[Any],
        encoded: bytes | None,
        now_us: int,
    ) -> None:
        if group.origin is None:
            for hook, answer in zip(group.hooks, answers, strict=True):
                self._own_applied(table, hook, answer, now_us)
            return
        self.ordinary -= group.ordinary
        if self._counters is not None:
            count = self._counters.plain_group if group.plain else self._counters.group
            count(group.requests, answers)
        if not group.plain:
            for request, answer in zip(group.requests[2:], answers, strict=True):
                if request[0] in _ON_LEASE:
                    self._command_ended(table, request[3])
                elif request[0] == Op.OPEN_SESSION and answer[1] == Status.OK:
                    self.routes[answer[3]] = group.origin
        self._send(group.origin, answers, encoded)

    def _own_applied(
        self, table: LockTable, hook: Any, answer: tuple[Any, ...], now_us: int
    ) -> None:
        if isinstance(hook, RenewItem):
            self._command_ended(table, hook.token)
            self._answer_item(hook, answer, now_us)
        elif isinstance(hook, Due):
            if self.leases.expire_applied(table, hook):
                self._unblock(table, hook.key)
        elif isinstance(hook, SweepHook):
            self._sweeps_in_flight -= 1

    def _command_ended(self, table: LockTable, key: int) -> None:
        if self.leases.command_ends(key):
            self._unblock(table, key)

    def _unblock(self, table: LockTable, key: int) -> None:
        """Let waiting renewals go on, by the new state, each with its own receipt (L3)."""
        for waiting in self._blocked.pop(key, ()):
            if isinstance(waiting, RenewItem):
                self._renew(table, waiting)
            else:
                self._keep_alive(table, waiting)

    def _push(self, event: tuple[Any, ...]) -> None:
        origin = self.routes.get(event[2])
        if origin is not None:
            if self._counters is not None:
                self._counters.events[event[1]] += 1
            self._outbox.event(origin, event)

    # the leader's own commands

    def propose_due(self, table: LockTable, now_us: int, handled_until_us: int) -> None:
        """Add Expire, WaitTimeout and Sweep for what is due, after the input before it was handled (L3).

        `handled_until_us`: what came up to this time is handled. A renewal that came before its lease was due and still
        waits for its turn is not overtaken by the Expire.
        """
        due = self.leases.due(table, min(now_us, handled_until_us))
        waits = self.leases.waits_due(now_us)
        for item in due:
            self.batcher.command(item.command, item)
        for command in waits:
            self.batcher.command(command)
        if self._counters is not None and (due or waits):
            sessions = sum(item.key < 0 for item in due)
            self._counters.expiries["session"] += sessions
            self._counters.expiries["lock"] += len(due) - sessions
            self._counters.expiries["wait"] += len(waits)
        if not self._sweeps_in_flight:
            for command in table.open_sweeps():
                self._sweeps_in_flight += 1
                if self._counters is not None:
                    self._counters.sweeps += 1
                self.batcher.command(command, SweepHook())

    # the ends of leadership and of connections

    def begin(self, elected_us: int) -> None:
        """Start a leadership: nothing is armed, nothing is in flight."""
        self.leases.begin(elected_us)
        self._sweeps_in_flight = 0

    def serve(self, table: LockTable) -> None:
        """Begin to answer: the first entry of the own term is applied (L5)."""
        self.serving = True
        self.leases.start_arming(table)

    def end(self, appended: list[Batch]) -> None:
        """Answer everything that is open: UNKNOWN for what was appended, "not taken" for the rest (R4)."""
        if self._counters is not None:
            self._counters.gave_up()
        for batch in appended:
            for group in batch.groups:
                self._give_up(group, appended=True)
        for group in self.batcher.drain():
            self._give_up(group, appended=False)
        for waiting in (*self.of_members, *self.reads.drain()):
            self._give_up_waiting(waiting, (int(Status.NO_QUORUM),))
        for blocked in self._blocked.values():
            for waiting in blocked:
                self._give_up_waiting(waiting, (int(Status.UNKNOWN),))
        self._blocked.clear()
        self.of_members.clear()
        self.routes.clear()
        self.leases.end()
        self.ordinary = self.requests = 0
        self._sweeps_in_flight = 0
        self.serving = False
        self.serves_from = None

    def _give_up(self, group: Group, *, appended: bool) -> None:
        status = Status.UNKNOWN if appended else Status.NO_QUORUM
        if group.origin is None:
            for hook in group.hooks:
                if isinstance(hook, RenewItem):
                    self._give_up_waiting(hook, (int(status),))
            return
        requests = group.requests[2:]
        answers: list[Any] = [
            unknown(r[1]) if appended else no_quorum(r, _NOT_LEADING) for r in requests
        ]
        if self._counters is not None:
            self._counters.group(group.requests, answers)
        self._send(group.origin, answers)

    def _give_up_waiting(self, waiting: Waiting, item: tuple[Any, ...]) -> None:
        if isinstance(waiting, RenewItem):
            self._item_done(waiting, item)
            return
        if self._counters is not None:
            self._counters.operation(waiting.request[0], item[0])
        if item[0] == Status.UNKNOWN:
            self._send(waiting.origin, [unknown(waiting.request[1])])
        else:
            self._send(waiting.origin, [no_quorum(waiting.request, _NOT_LEADING)])

    def queue_lengths(self) -> dict[str, int]:
        """Return how much waits where."""
        return {
            "groups_to_propose": len(self.batcher),
            "reads": len(self.reads) + len(self.of_members),
            "renewals_blocked": sum(map(len, self._blocked.values())),
            "requests_unanswered": self.requests,
            "ordinary_in_log": self.ordinary,
        }

    def forget(self, origin: Origin) -> None:
        """Forget the routes to a connection that is gone."""
        for session in origin.attached:
            if self.routes.get(session) is origin:
                del self.routes[session]


def read_answer(
    table: LockTable, request: Request, *, age_ms: int, leases: Leases | None, now_us: int
) -> tuple[Any, ...]:
    """Answer a get or a list from the table. Only a leader has `leases` to say when something expires."""

    def fill(info: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*info[:14], None if leases is None else leases.expires_in_ms(info[2], now_us))

    if request[0] == Op.GET:
        info = table.get_info(request[2])
        return (request[1], int(Status.OK), True, age_ms, None if info is None else fill(info))
    _, request_id, by, what, cursor, limit, _ = request
    infos, following = table.list_page(by, what, cursor, limit)
    return (request_id, int(Status.OK), True, age_ms, [fill(info) for info in infos], following)
