"""One member of a world of consensus: the production Raft core, with an abstract disk and a clock of its own.

The disk keeps what writes made durable, in their order, each when the world says so. The clock moves only by what the
world lets happen: heartbeats that are due, a silence in which the leader counts as not heard any more, an election
timeout. All other differences of time are left out, and no rule of Raft rests on them.
"""

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from raftlock.raft import Message, NotLeader, Raft, RaftConfig, Role
from raftlock.raft.core import MembershipBusy
from raftlock.testing.explore.parts import Input
from raftlock_wire.entry import Entry, EntryKind, HardState, Write
from raftlock_wire.ids import NodeId, Term
from raftlock_wire.membership import Membership, decode_membership

Rename = Callable[[int], int]


class RaftFacts(NamedTuple):
    """What properties and choices need to know of a member."""

    role: Role
    term: Term
    log: tuple[Entry, ...]
    commit_index: int
    voters: frozenset[NodeId]
    disk: tuple[HardState, tuple[Entry, ...]]
    """What a crash leaves."""
    writing: bool
    hears_leader: bool
    may_campaign: bool
    """Whether it is a voter that does not lead."""
    serves: bool
    """Whether it takes proposals."""


class _Middle:
    """Draws the middle: which of two members campaigns first is the world's to choose."""

    def randrange(self, start: int, stop: int) -> int:
        return (start + stop) // 2


class RaftNode:
    """A member that takes inputs and gives messages."""

    def __init__(self, built_of: Input) -> None:
        """Start from (node id, hard state, entries, first membership, whether the disk is slow)."""
        node_id, hard_state, entries, first, self._slow_disk = built_of
        self._now_us = 0
        self._raft = Raft(
            # One entry a message: an old entry and the first of the leader's own term travel apart (figure 8).
            config=RaftConfig(node_id=node_id, append_entries_max=1),
            hard_state=hard_state,
            membership=first,
            snapshot=None,
            entries=entries,
            rng=_Middle(),
            now_us=0,
        )
        self._hard_state: HardState = hard_state
        self._durable: list[Entry] = list(entries)
        self._writes: deque[Write] = deque()
        self._written = 0
        self._held: deque[tuple[int, NodeId, Message]] = deque()
        self._out: list[tuple[NodeId, Message]] = []

    def take(self, given: Input) -> tuple[Any, ...]:
        """Take an input; the first element names it."""
        raft, state = self._raft, self._raft.state
        match given:
            case ("message", sender, message):
                raft.step(sender, message, self._now_us)
            case ("timeout",):
                self._now_us = max(self._now_us, state.election_deadline_us)
                raft.tick(self._now_us)
            case ("silence",):
                assert state.leader_heard_us is not None
                self._now_us = state.leader_heard_us + state.config.election_min_us
            case ("heartbeat",):
                self._now_us = max(self._now_us, state.heartbeat_due_us)
                raft.tick(self._now_us)
            case ("written",):
                self._write_one()
            case ("propose", data):
                raft.propose(EntryKind.BATCH, data, stamp_us=0, wall_us=0)
            case ("members", membership):
                self._change(decode_membership(membership))
            case _:
                raise ValueError(f"{given[0]!r} is no input of a member")
        self._carry_out()
        out, self._out = tuple(self._out), []
        return out

    def _change(self, membership: Membership) -> None:
        try:
            self._raft.change_membership(membership, stamp_us=0, wall_us=0)
        except (MembershipBusy, NotLeader):
            return

    def _carry_out(self) -> None:
        while True:
            ready = self._raft.ready()
            if ready.elected:
                self._raft.begin_term(stamp_us=0, wall_us=0)
            if ready.write is not None:
                self._writes.append(ready.write)
            for to, message, after_write in ready.messages:
                if after_write <= self._written:
                    self._out.append((to, message))
                else:
                    self._held.append((after_write, to, message))
            if self._writes and not self._slow_disk:
                self._write_one()
            elif not ready.elected:
                return

    def _write_one(self) -> None:
        write = self._writes.popleft()
        if write.hard_state is not None:
            self._hard_state = write.hard_state
        if write.entries:
            del self._durable[write.entries[0].index - 1 :]
            self._durable += write.entries
        self._written = write.number
        self._raft.durable(write.number)
        while self._held and self._held[0][0] <= self._written:
            _, to, message = self._held.popleft()
            self._out.append((to, message))

    # looking

    def facts(self) -> RaftFacts:
        """Return what is known of it."""
        raft, state = self._raft, self._raft.state
        heard = state.leader_heard_us
        hears = heard is not None and self._now_us - heard < state.config.election_min_us
        return RaftFacts(
            role=raft.role,
            term=raft.term,
            log=tuple(state.log.entries),
            commit_index=raft.commit_index,
            voters=state.voters,
            disk=(self._hard_state, tuple(self._durable)),
            writing=bool(self._writes),
            hears_leader=hears,
            may_campaign=state.is_voter and raft.role is not Role.LEADER,
            serves=raft.role is Role.LEADER and state.term_begun,
        )

    def picture(self) -> Hashable:
        """Return everything that its future depends on."""
        return self.picture_as(lambda node: node)

    def picture_as(self, name: Rename) -> Hashable:
        """Return the picture with the members renamed. Times are told from now."""
        state = self._raft.state
        return (
            (state.current_term, name(state.voted_for), state.role.name, name(state.leader_id)),
            name(state.config.node_id),
            _entries(state.log.entries, name),
            (state.commit_index, state.handed_index, state.elections, state.round),
            (state.term_begun, state.own_first_index, state.round_wanted, name(state.transfer_to)),
            self._since(state.leader_heard_us),
            self._since(state.election_deadline_us),
            self._since(state.heartbeat_due_us if state.role is Role.LEADER else None),
            self._since(state.ticked_us if state.role is Role.LEADER else None),
            sorted((name(voter), granted) for voter, granted in state.votes.items()),
            self._pictures_of_peers(name),
            sorted(name(voter) for voter in state.voters),
            self._picture_of_disk(name),
        )

    def _since(self, time_us: int | None) -> int | None:
        return None if time_us is None else time_us - self._now_us

    def _pictures_of_peers(self, name: Rename) -> Hashable:
        return tuple(
            sorted(
                (
                    name(peer),
                    (p.next_index, p.match_index, p.mode.name, p.probe_sent, tuple(p.inflight)),
                    (self._since(p.heard_us), self._since(p.acked_us), p.round, p.round_sent),
                )
                for peer, p in self._raft.state.progress.items()
            )
        )

    def _picture_of_disk(self, name: Rename) -> Hashable:
        state = self._raft.state
        return (
            (self._hard_state.term, name(self._hard_state.voted_for)),
            _entries(self._durable, name),
            (state.write_number - self._written, state.durable_index, state.unsaved_from),
            (state.hard_state_unsaved, max(0, state.hard_state_number - self._written)),
            [(p.number - self._written, p.first, p.last) for p in state.placed],
            [
                (
                    write.hard_state and (write.hard_state.term, name(write.hard_state.voted_for)),
                    _entries(write.entries, name),
                )
                for write in self._writes
            ],
            [
                (after - self._written, name(to), picture_of_message(message, name))
                for after, to, message in self._held
            ],
        )


def _entries(entries: "list[Entry] | tuple[Entry, ...]", name: Rename) -> Hashable:
    return tuple(
        (entry.term, sorted(map(name, decode_membership(entry.data).voters)))
        if entry.kind is EntryKind.MEMBERSHIP
        else (entry.term, entry.kind.name, entry.data)
        for entry in entries
    )


def picture_of_message(message: Message, name: Rename) -> Hashable:
    """Return what a message says, with the members renamed."""
    fields: list[Any] = [type(message).__name__]
    for field in type(message).__dataclass_fields__:
        value = getattr(message, field)
        if field == "leader_id":
            value = name(value)
        elif field == "entries":
            value = _entries(value, name)
        fields.append(value)
    return tuple(fields)
