"""The side of a node that clients see: every frame of theirs, and which way each request in it goes.

It owns the frames that came and are not looked at yet, those that a new leader holds back until it serves, and the
decision what is answered here, refused, let in or sent on to the leader (R7). It must not know the log or the disk,
but for whether this node leads and whether there is room.

A turn looks at so much and no more, and each connection has its share of that: one that asks without end waits for
itself, and the others hardly for it.
"""

from collections.abc import Callable
from typing import Any

from raftlock.locks import LockTable
from raftlock.raft import Raft, Role
from raftlock.server import door, peer_codec
from raftlock.server.clients import Clients, goodbye, refused_hello
from raftlock.server.effects import ClientFrame, CloseClient, Effects, PeerFrame
from raftlock.server.fair_queue import FairQueue
from raftlock.server.leading import Leading, read_answer
from raftlock.server.origin import Origin
from raftlock.server.outbox import Outbox
from raftlock.server.records import Records
from raftlock.server.writing import Writing
from raftlock.telemetry.counters import Counters
from raftlock_wire import limits
from raftlock_wire.errors import BadFrame
from raftlock_wire.ids import NO_NODE, NodeId
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

Request = tuple[Any, ...]
Answer = tuple[Any, ...]

REQUESTS_MAX = limits.ORDINARY_REQUESTS_MAX + limits.RESERVED_REQUESTS_MAX
_TRACED_MAX = 16
"""A frame's line in the log names so many of its requests."""


class Front:
    """What stands between the clients of this node and its leadership, or its leader."""

    def __init__(
        self,
        *,
        node_id: NodeId,
        raft: Raft,
        writing: Writing,
        leading: Leading,
        clients: Clients,
        outbox: Outbox,
        effects: Effects,
        counters: Counters | None,
        status: Callable[[], dict[str, int | str | bool]],
        trace: bool,
    ) -> None:
        """Answer NODE_STATUS with `status`. `trace`: note which way each frame goes."""
        self._node_id = node_id
        self._raft = raft
        self._writing = writing
        self._leading = leading
        self._clients = clients
        self._outbox = outbox
        self._effects = effects
        self._counters = counters
        self._status = status
        self._trace = trace
        self.records = Records(clients=clients, outbox=outbox, effects=effects, counters=counters)
        self.heard_us = 0
        """When a message of the leader came last: the table is that old at most."""
        self._waiting: FairQueue[Origin, tuple[bytes, int]] = FairQueue()
        """Frames, each with the stamp of the turn before it came."""
        self._waiting_size = 0
        self._excess: list[tuple[Origin, bytes]] = []
        self._turned_us = 0
        self._gone: list[Origin] = []
        """Connections that closed, until the last frame of theirs is handled."""
        self._unserved: list[tuple[Origin, tuple[bytes, int]]] = []
        self._sent_on: list[tuple[int, str, str, bytes]] = []
        self._pages_left = 0
        self._status_now: dict[str, int | str | bool] | None = None

    # input: kept until the turn

    def closed(self, conn_id: int) -> None:
        """Learn that a client connection is gone. What it sent before is handled yet."""
        origin = self._clients.closed(conn_id)
        if origin is not None:
            self._gone.append(origin)

    def frame(self, conn_id: int, payload: bytes) -> None:
        """Take a client's frame."""
        origin = self._clients.local.get(conn_id)
        if origin is not None:
            self._wait(origin, payload)

    def _wait(self, origin: Origin, payload: bytes) -> None:
        size = len(payload)
        if self._waiting_size + size > limits.WAITING_SIZE_MAX:
            self._excess.append((origin, payload))
            return
        self._waiting_size += size
        origin.waiting_size += size
        self._waiting.add(origin, (payload, self._turned_us), limits.TURN_SHARE)

    def wants_input(self, conn_id: int) -> bool:
        """Return whether more of a connection is welcome: false while too much of it waits or is without an answer."""
        origin = self._clients.local.get(conn_id)
        return origin is None or (
            origin.in_flight < limits.REQUESTS_PER_CONNECTION_MAX
            and origin.waiting_size < limits.CLIENT_WAITING_SIZE_MAX
        )

    def forwarded(self, peer: NodeId, message: peer_codec.Forwarded) -> None:
        """Take what a follower sent on, or what the leader sends back (R7)."""
        code, items = message
        if code == peer_codec.FORWARD:
            for conn_id, principal, address, payload in items:
                self._wait(self._clients.behind(peer, conn_id, principal, address), payload)
        elif code == peer_codec.FORWARD_RESULT:
            for conn_id, payload in items:
                self._clients.result(conn_id, payload)
        elif code == peer_codec.FORWARD_CLOSED:
            for conn_id in items:
                gone = self._clients.closed_behind(peer, conn_id)
                if gone is not None:
                    self._gone.append(gone)

    def peer_lost(self, peer: NodeId) -> None:
        """Forget the connections behind a peer; what was sent on to it as the leader is UNKNOWN."""
        for origin in self._clients.node_lost(peer):
            self._drop(origin)
            self._leading.forget(origin)
        if peer == self._raft.leader_id:
            self._clients.leader_lost()

    def stepped_down(self) -> None:
        """Let what was held back go on to the next leader."""
        # Followers tell their next leader of connections that close: here nobody would ever forget them.
        self._clients.remote.clear()
        self._go_on_with_unserved()

    def _go_on_with_unserved(self) -> None:
        """Let what was held back go before what came after it."""
        later = [self._waiting.take(limits.TURN_SHARE) for _ in range(len(self._waiting))]
        for origin, item in (*self._unserved, *later):
            self._waiting.add(origin, item, limits.TURN_SHARE)
        self._unserved = []

    # the turn

    def turn(self, table: LockTable, receipt_us: int, now_us: int) -> None:
        """Handle the frames that came, each connection in its turn, up to the bound of a turn.

        `receipt_us` lies on the lease clock, `now_us` on the node's own.
        """
        self._pages_left = limits.PAGES_PER_TURN_MAX
        self._status_now = None
        if self._leading.serving and self._unserved:
            self._go_on_with_unserved()
        excess, self._excess = self._excess, []
        for origin, payload in excess:
            self._refuse_whole(origin, payload)
        holds_back = self._raft.role is Role.LEADER and not self._leading.serving
        waiting, left = self._waiting, limits.TURN_WORK_MAX
        while waiting and left > 0:
            origin, item = waiting.take(limits.TURN_SHARE)
            payload = item[0]
            if holds_back and (origin.greeted or not origin.local):
                # Nothing that rests on the table is answered before an entry of the own term is applied (L5).
                self._unserved.append((origin, item))
                continue
            self._waiting_size -= len(payload)
            origin.waiting_size -= len(payload)
            work = self._frame(table, origin, payload, receipt_us, now_us)
            waiting.charge(origin, work)
            left -= work
        self._turned_us = receipt_us
        self.records.turn(table.applied_index)
        self._send_on()

    @property
    def wants_turn(self) -> bool:
        """Return whether frames wait that this turn had no room for."""
        return len(self._waiting) > 0

    def handled_until_us(self, stamp_us: int) -> int:
        """Return until when all that came is handled: what ends by the clock ends only up to there (L3)."""
        return min((seen_us for _, seen_us in self._waiting.heads()), default=stamp_us)

    def _send_on(self) -> None:
        """Send the leader what is for it."""
        leader = self._raft.leader_id
        if self._sent_on:
            frame = peer_codec.encode_forward(self._sent_on)
            self._effects.peer_frames.append(PeerFrame(leader, frame))
            self._sent_on = []
        if self._gone:
            # After its last frame: a client that asked and closed at once would come to life again by its late request,
            # here or on the leader, and never end there.
            gone = [origin for origin in self._gone if not origin.waiting_size]
            self._gone = [origin for origin in self._gone if origin.waiting_size]
            for origin in gone:
                self._leading.forget(origin)
            ours = [origin.conn_id for origin in gone if origin.local]
            if ours and leader not in (NO_NODE, self._node_id):
                frame = peer_codec.encode_forward_closed(ours)
                self._effects.peer_frames.append(PeerFrame(leader, frame))

    def _frame(
        self, table: LockTable, origin: Origin, payload: bytes, receipt_us: int, now_us: int
    ) -> int:
        """Handle a frame. Return how much work it was."""
        try:
            requests = door.decode_frame(payload)
        except BadFrame as error:
            if self._counters is not None:
                self._counters.refusals["bad_frame"] += 1
            self.close(origin, "bad_frame", str(error))
            return door.work((), [])
        if origin.local and not origin.greeted:
            self._greet(origin, requests)
            return door.work(requests, [])
        origin.in_flight += len(requests)
        if self._leading.requests + len(requests) > REQUESTS_MAX:
            self._refuse(origin, [door.overloaded(r, "queue") for r in requests])
            return door.work(requests, [])
        room, reason = self._ordinary_room(origin), "queue"
        if not self._writing.room and self._leading.serving:
            room, reason = 0, "disk"
        attached = origin.attached if origin.local else None
        sorted_ = door.sort_out(payload, requests, attached, room, reason)
        work = door.work(requests, sorted_.others)
        if sorted_.others:
            sorted_ = self._without_pages(sorted_)
        if origin.local and not sorted_.plain:
            sorted_ = self._without_excess(origin, sorted_)
        if sorted_.refused:
            self._refuse(origin, sorted_.refused)
        if sorted_.others and origin.local:
            sorted_ = self._answer_here(table, origin, sorted_, now_us)
        if sorted_.logged or sorted_.others:
            if self._trace:
                self._note_way(origin, requests)
            self._let_in(table, origin, sorted_, receipt_us)
        return work

    def _ordinary_room(self, origin: Origin) -> int:
        """Return how many ordinary requests of a connection are let in: the last quarter is for who asks for little."""
        most = limits.ORDINARY_REQUESTS_MAX
        if origin.in_flight > limits.LIGHT_REQUESTS_MAX:
            most -= most // 4
        return most - self._leading.ordinary

    def _refuse_whole(self, origin: Origin, payload: bytes) -> None:
        """Refuse what came while too much waits already; it was not looked at."""
        try:
            requests = door.decode_frame(payload)
        except BadFrame as error:
            self.close(origin, "bad_frame", str(error))
            return
        origin.in_flight += len(requests)
        self._refuse(origin, [door.overloaded(request, "queue") for request in requests])

    def _let_in(
        self, table: LockTable, origin: Origin, sorted_: door.Sorted, receipt_us: int
    ) -> None:
        """Let this node's leadership take the requests, or the leader, or say that nobody can."""
        if self._leading.serving:
            self._leading.admit(table, origin, sorted_, receipt_us)
        elif origin.local and self._raft.leader_id not in (NO_NODE, self._node_id):
            self._clients.forwarded(origin, sorted_)
            if self._counters is not None:
                self._counters.forwarded += len(sorted_.logged) + len(sorted_.others)
            self._sent_on.append((origin.conn_id, origin.principal, origin.address, sorted_.passed))
        else:
            why = "no leader is known" if origin.local else "this node does not lead"
            refused = [door.no_quorum(r, why) for r in (*sorted_.logged, *sorted_.others)]
            self._refuse(origin, refused)

    def _note_way(self, origin: Origin, requests: tuple[Any, ...]) -> None:
        """Note which way a frame goes: its connection has the same id on the follower and on the leader."""
        leader = self._raft.leader_id
        sent_on = "none" if leader == NO_NODE else str(leader)
        self._effects.notice(
            "request",
            conn=origin.conn_id,
            ids=",".join(str(request[1]) for request in requests[:_TRACED_MAX]),
            came="client" if origin.local else f"node-{origin.node}",
            goes="log" if self._leading.serving else f"node-{sent_on}",
        )

    # what is refused

    def _refuse(self, origin: Origin, answers: list[Answer]) -> None:
        if self._counters is not None:
            self._counters.refused(answers)
        self._outbox.answers(origin, answers)

    def _without_excess(self, origin: Origin, sorted_: door.Sorted) -> door.Sorted:
        """Refuse to open more sessions than a connection may carry."""
        refused = self._clients.note_opening(origin, (*sorted_.logged, *sorted_.others))
        return (
            door.without(sorted_, {answer[0] for answer in refused}, refused)
            if refused
            else sorted_
        )

    def _without_pages(self, sorted_: door.Sorted) -> door.Sorted:
        """Refuse pages beyond what one turn may answer: 20 bytes ask for a megabyte."""
        lists = [request for request in sorted_.others if request[0] == Op.LIST]
        excess = lists[self._pages_left :]
        self._pages_left -= len(lists) - len(excess)
        if not excess:
            return sorted_
        refused = [door.overloaded(request, "queue") for request in excess]
        return door.without(sorted_, {request[1] for request in excess}, refused)

    # what any node answers by itself

    def _answer_here(
        self, table: LockTable, origin: Origin, sorted_: door.Sorted, now_us: int
    ) -> door.Sorted:
        """Answer a second hello, the node's status, stale reads; records are read later. Return the rest."""
        answers: list[Answer] = []
        later: set[int] = set()
        for request in sorted_.others:
            code = request[0]
            if code == Op.HELLO:
                why = "HELLO was answered already"
                answers.append((request[1], int(Status.BAD_REQUEST), False, "request", why))
            elif code == Op.NODE_STATUS:
                if self._status_now is None:
                    self._status_now = self._status()
                answers.append((request[1], int(Status.OK), True, self._status_now))
            elif (code == Op.GET and request[3]) or (code == Op.LIST and request[6]):
                serving = self._leading.serving
                age_ms = 0 if serving else max(0, (now_us - self.heard_us) // 1_000)
                answers.append(
                    read_answer(table, request, age_ms=age_ms, leases=None, now_us=now_us)
                )
            elif code == Op.AUDIT_READ:
                refused = self.records.ask(origin, request)
                if refused is None:
                    later.add(request[1])
                else:
                    answers.append(refused)
        if not answers and not later:
            return sorted_
        if self._counters is not None:
            codes = {request[1]: request[0] for request in sorted_.others}
            for answer in answers:
                if codes[answer[0]] != Op.HELLO:
                    self._counters.operation(codes[answer[0]], answer[1])
        if answers:
            self._outbox.answers(origin, answers)
        if not sorted_.logged and len(answers) + len(later) == len(sorted_.others):
            return door.nothing([])
        return door.without(sorted_, {answer[0] for answer in answers} | later, [])

    def _greet(self, origin: Origin, requests: tuple[Any, ...]) -> None:
        answer = self._clients.hello(origin, requests, self._raft.membership)
        origin.in_flight += 1
        self._outbox.answers(origin, [answer])
        if not origin.greeted:
            reason, text = refused_hello(answer)
            self.close(origin, "hello", text, reason)

    def close(self, origin: Origin, code: str, text: str, reason: str = "") -> None:
        """End a connection of this node, and say why. One behind a follower is that follower's.

        `reason` is what is counted, where the code of the goodbye says too little.
        """
        if origin.local:
            self._outbox.flush(self._raft.leader_id, self._effects)
            self._effects.client_frames.append(ClientFrame(origin.conn_id, goodbye(code, text)))
            self._effects.client_closes.append(CloseClient(origin.conn_id))
            if code != "stopping":
                reason = reason or code
                self._effects.notice(
                    "client_refused", address=origin.address, reason=reason, why=text
                )
            self._drop(origin)
            self.closed(origin.conn_id)

    def _drop(self, origin: Origin) -> None:
        """Forget what waits of a connection that nobody answers any more."""
        size = sum(len(payload) for payload, _ in self._waiting.drop(origin))
        self._waiting_size -= size
        origin.waiting_size -= size

    # looking

    @property
    def unserved_count(self) -> int:
        """Return how many frames are held back until this leader serves."""
        return len(self._unserved)

    def queue_lengths(self) -> dict[str, int]:
        """Return how much waits where: frames, those that are held back included, and pages of the audit."""
        waiting = len(self._waiting) + len(self._unserved)
        return {"waiting_frames": waiting, "audit_pages": len(self.records)}

    @property
    def waiting_size(self) -> int:
        """Return how many bytes these frames have."""
        return self._waiting_size
