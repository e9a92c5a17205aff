"""Worlds of consensus: three members, messages in any order, lost or twice, crashes, elections and slow disks.

The network is a set of messages. Any of them may come next, or never. A crash loses what the disk had not been told to
keep; the member starts again at once from the rest.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from raftlock.raft import AppendEntries, AppendEntriesResult, Message, RequestVoteResult, Role
from raftlock.testing.explore.parts import Input, Parts
from raftlock.testing.explore.raft_node import RaftFacts, RaftNode, picture_of_message
from raftlock.testing.explore.search import Choice, State
from raftlock.testing.explore.words import message_in_words
from raftlock.testing.invariants import Violation
from raftlock_wire.entry import Entry, EntryKind, HardState
from raftlock_wire.ids import Index, NodeId, Term
from raftlock_wire.membership import Member, Membership, decode_membership, membership

Sent = tuple[int, int, Message]


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftBounds:
    """How much of everything that could go on for ever."""

    timeouts: int = 2
    proposals: int = 0
    crashes: int = 0
    duplicates: int = 0
    heartbeats: int = 0
    changes: int = 0
    slow_disks: bool = False
    """Whether a write becomes durable by a choice of its own; otherwise it is at once."""

    def words(self) -> str:
        """Return the bounds as text."""
        parts = [
            f"{count} {what}"
            for what, count in (
                ("election timeouts", self.timeouts),
                ("proposals", self.proposals),
                ("crashes", self.crashes),
                ("duplicates", self.duplicates),
                ("heartbeats", self.heartbeats),
                ("membership changes", self.changes),
            )
            if count
        ]
        return ", ".join([*parts, "slow disks" if self.slow_disks else "disks that write at once"])


BUDGETS = ("timeout", "propose", "crash", "again", "heartbeat", "members")
"""What each budget of a state is for, in order."""


class RaftWorld:
    """Members whose logs and terms are given, and everything that may happen to them.

    A state is (members, network, budgets, leaders, committed): the last two remember who led which term, and what was
    ever committed.
    """

    def __init__(
        self,
        name: str,
        *,
        nodes: Sequence[tuple[HardState, tuple[Entry, ...]]],
        first: Membership,
        bounds: RaftBounds,
        changes: Sequence[Membership] = (),
        symmetric: bool = True,
        campaigners: Sequence[int] | None = None,
        led: bool = False,
    ) -> None:
        """Set a world up. `symmetric`: members are told apart only by their logs. `campaigners`: whose timers run.

        `led`: member 1 was just elected by member 2, and the first messages of its term are under way.
        """
        self.name = name
        self.bounds = f"{len(nodes)} members, {bounds.words()}"
        self._nodes = nodes
        self._first = first
        self._bounds = bounds
        self._changes = [change.encode() for change in changes]
        self._led = led
        self._campaigners = list(range(len(nodes)) if campaigners is None else campaigners)
        self._parts: Parts[RaftFacts] = Parts(RaftNode)
        self._messages: list[Sent] = []
        self._message_numbers: dict[Sent, int] = {}
        ids = range(1, len(nodes) + 1)
        self._renamings = list(permutations(ids)) if symmetric else [tuple(ids)]
        self._orders: dict[tuple[int, ...], list[int]] = {}
        self._shapes: dict[Hashable, int] = {}
        self._part_shapes: dict[int, tuple[int, ...]] = {}
        self._message_shapes: dict[int, tuple[tuple[int, int, int], ...]] = {}

    # states

    def start(self) -> State:
        """Return the members as given, and an empty network."""
        bounds = self._bounds
        nodes = tuple(
            self._parts.built(self._built_of(position, *self._nodes[position]))
            for position in range(len(self._nodes))
        )
        budgets = (
            bounds.timeouts,
            bounds.proposals,
            bounds.crashes,
            bounds.duplicates,
            bounds.heartbeats,
            bounds.changes,
        )
        state: State = (nodes, (), budgets, (), ())
        return self._elect_first(state) if self._led else state

    def _elect_first(self, state: State) -> State:
        """Let member 2 elect member 1; what else was sent for that is lost, and nothing of it counts as a choice."""
        budgets = state[2]
        state = (*self.take(state, ("timeout", 0))[:2], budgets, (), ())
        while not self._parts.facts(state[0][0]).serves:
            number = next(m for m in state[1] if {*self._messages[m][:2]} == {1, 2})
            state = self.take(state, ("message", number))
        first = tuple(m for m in state[1] if isinstance(self._messages[m][2], AppendEntries))
        return (state[0], first, budgets, *state[3:])

    def _built_of(self, position: int, hard_state: HardState, entries: tuple[Entry, ...]) -> Input:
        slow = self._bounds.slow_disks
        return (NodeId(position + 1), hard_state, entries, self._first, slow)

    def choices(self, state: State) -> list[Choice]:
        """Return what may happen next: a message comes, or something befalls a member."""
        nodes, network, budgets, _, _ = state
        timeouts, proposals, crashes, duplicates, heartbeats, changes = budgets
        found: list[Choice] = []
        for message in network:
            found.append(("message", message))
            if duplicates:
                found.append(("again", message))
        for position, part in enumerate(nodes):
            facts = self._parts.facts(part)
            if facts.writing:
                found.append(("written", position))
            if facts.hears_leader and timeouts:
                found.append(("silence", position))
            if timeouts and position in self._campaigners and facts.may_campaign:
                found.append(("timeout", position))
            if facts.serves:
                if proposals:
                    found.append(("propose", position))
                if heartbeats:
                    found.append(("heartbeat", position))
                if changes:
                    found += [
                        ("members", position, number)
                        for number, change in enumerate(self._changes)
                        if len(decode_membership(change).voters ^ facts.voters) == 1
                    ]
            if crashes:
                found.append(("crash", position))
        return found

    def take(self, state: State, choice: Choice) -> State:
        """Return the state after a choice."""
        nodes, network, budgets, leaders, committed = state
        kind = choice[0]
        if kind in BUDGETS:
            spent = BUDGETS.index(kind)
            budgets = (*budgets[:spent], budgets[spent] - 1, *budgets[spent + 1 :])
        if kind == "crash":
            position = choice[1]
            part = self._parts.built(
                self._built_of(position, *self._parts.facts(nodes[position]).disk)
            )
            out: tuple[Any, ...] = ()
        else:
            position, given = self._given(choice, budgets)
            part, out, _ = self._parts.step(nodes[position], given)
            if kind == "message":
                network = tuple(m for m in network if m != choice[1])
        nodes = (*nodes[:position], part, *nodes[position + 1 :])
        sent = {self._number_of((position + 1, to, message)) for to, message in out}
        network = self._without_dead({*network, *sent}, nodes)
        leaders, committed = self._remember(position, part, nodes, leaders, committed)
        return (nodes, network, budgets, leaders, committed)

    def _given(self, choice: Choice, budgets: tuple[int, ...]) -> tuple[int, Input]:
        """Return whom a choice concerns, and what it gets."""
        match choice:
            case ("message" | "again", number):
                sender, to, message = self._messages[number]
                return to - 1, ("message", sender, message)
            case ("propose", position):
                # Each proposal is another one, so that a wrong entry shows.
                return position, ("propose", b"p%d" % budgets[1])
            case ("members", position, number):
                return position, ("members", self._changes[number])
            case (kind, position):
                return position, (kind,)
        raise ValueError(f"{choice!r} is no choice")

    def _number_of(self, sent: Sent) -> int:
        number = self._message_numbers.get(sent)
        if number is None:
            number = self._message_numbers[sent] = len(self._messages)
            self._messages.append(sent)
        return number

    def _without_dead(self, network: set[int], nodes: tuple[int, ...]) -> tuple[int, ...]:
        """Leave out answers of a term that is over for good at the one who asked: it never looks at them.

        Only the durable term counts: a crash may take back a term that no disk holds, but not this one.
        """
        living = []
        for number in sorted(network):
            _, to, message = self._messages[number]
            over = self._parts.facts(nodes[to - 1]).disk[0].term
            match message:
                case RequestVoteResult(term=term, asked_term=asked, pre_vote=pre_vote):
                    dead = term <= over and asked < over + pre_vote
                case AppendEntriesResult(term=term):
                    dead = term < over
                case _:
                    dead = False
            if not dead:
                living.append(number)
        return tuple(living)

    # properties

    def _remember(
        self,
        position: int,
        part: int,
        nodes: tuple[int, ...],
        leaders: tuple[tuple[int, int], ...],
        committed: tuple[tuple[int, bytes], ...],
    ) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, bytes], ...]]:
        """Return who led and what was committed, this step included. Raise Violation if they contradict it."""
        facts = self._parts.facts(part)
        if facts.role is Role.LEADER:
            leader = dict(leaders).setdefault(facts.term, position + 1)
            if leader != position + 1:
                raise Violation(
                    "election safety",
                    f"members {leader} and {position + 1} both lead term {facts.term}",
                )
            leaders = tuple(sorted({*leaders, (int(facts.term), position + 1)}))
        for index in range(facts.commit_index):
            entry = facts.log[index]
            seen = (int(entry.term), entry.data)
            if index == len(committed):
                committed = (*committed, seen)
                if facts.role is Role.LEADER:
                    self._check_durable(facts, nodes, index + 1)
            elif committed[index] != seen:
                raise Violation(
                    "state machine safety",
                    f"member {position + 1} commits {seen} at index {index + 1}, where {committed[index]} is committed",
                )
        return leaders, committed

    def _check_durable(self, leader: RaftFacts, nodes: tuple[int, ...], index: int) -> None:
        entry = leader.log[index - 1]
        have = [
            voter
            for voter in leader.voters
            if entry in self._parts.facts(nodes[voter - 1]).disk[1][index - 1 : index]
        ]
        if len(have) * 2 <= len(leader.voters):
            raise Violation(
                "durable on a majority",
                f"entry {index} is committed and durable on {sorted(have)} of {sorted(leader.voters)} only",
            )

    def check(self, state: State) -> None:
        """Check logs against each other, and the leader of the newest term against what is committed."""
        nodes, _, _, leaders, committed = state
        logs = [self._parts.facts(part).log for part in nodes]
        for number, log in enumerate(logs):
            for other in logs[:number]:
                _check_matching(log, other)
        if not leaders:
            return
        term, leader = leaders[-1]
        facts = self._parts.facts(nodes[leader - 1])
        if facts.role is Role.LEADER and facts.term == term:
            have = tuple((int(entry.term), entry.data) for entry in facts.log[: len(committed)])
            if have != committed:
                raise Violation(
                    "leader completeness",
                    f"member {leader} leads term {term} with {have}, and {committed} is committed",
                )

    # symmetry

    def canonical(self, state: State) -> tuple[Any, ...]:
        """Return the least of the states that differ in the members' names only."""
        nodes, network, budgets, leaders, committed = state
        if len(self._renamings) == 1:
            return state
        parts = [self._shapes_of_part(part) for part in nodes]
        messages = [self._shapes_of_message(message) for message in network]
        return (
            min(
                (
                    tuple(sorted([part[r] for part in parts])),
                    tuple(sorted([message[r] for message in messages])),
                    tuple([(term, self._renamings[r][leader - 1]) for term, leader in leaders]),
                )
                for r in self._renamings_of(tuple([min(part) for part in parts]))
            ),
            budgets,
            committed,
        )

    def _renamings_of(self, kinds: tuple[int, ...]) -> list[int]:
        """Return the renamings that put members in the order of their kinds, which are the same under any names.

        Members of different kinds are never each other's image, so only those of one kind are tried in every order.
        """
        known = self._orders.get(kinds)
        if known is None:
            known = self._orders[kinds] = [
                r
                for r, names in enumerate(self._renamings)
                if [kinds[names.index(i + 1)] for i in range(len(kinds))] == sorted(kinds)
            ]
        return known

    def _shape(self, picture: Hashable) -> int:
        return self._shapes.setdefault(repr(picture), len(self._shapes))

    def _shapes_of_part(self, part: int) -> tuple[int, ...]:
        known = self._part_shapes.get(part)
        if known is None:
            core = self._parts.made(part)
            assert isinstance(core, RaftNode)
            known = self._part_shapes[part] = tuple(
                self._shape(core.picture_as(_renamer(names))) for names in self._renamings
            )
        return known

    def _shapes_of_message(self, number: int) -> tuple[tuple[int, int, int], ...]:
        known = self._message_shapes.get(number)
        if known is None:
            sender, to, message = self._messages[number]
            shapes = []
            for names in self._renamings:
                name = _renamer(names)
                shapes.append(
                    (name(sender), name(to), self._shape(picture_of_message(message, name)))
                )
            known = self._message_shapes[number] = tuple(shapes)
        return known

    # for people

    def runs(self) -> int:
        """Return how often the code under test was run."""
        return self._parts.runs

    def words(self, state: State, choice: Choice) -> str:
        """Say what a choice is."""
        del state
        match choice:
            case ("message" | "again" as kind, number):
                sender, to, message = self._messages[number]
                once_more = ", and will come once more" if kind == "again" else ""
                return f"{to} receives from {sender}: {message_in_words(message)}{once_more}"
            case ("written", position):
                return f"{position + 1}: a write becomes durable"
            case ("silence", position):
                return f"{position + 1} has not heard its leader for a while"
            case ("timeout", position):
                return f"{position + 1}: the election timeout passes"
            case ("propose", position):
                return f"{position + 1} proposes an entry"
            case ("heartbeat", position):
                return f"{position + 1}: heartbeats are due"
            case ("crash", position):
                return f"{position + 1} crashes and starts again"
            case ("members", position, number):
                voters = sorted(decode_membership(self._changes[number]).voters)
                return f"{position + 1} is asked for the voters {voters}"
        return str(choice)


def _renamer(names: tuple[int, ...]) -> "Any":
    return lambda node: names[node - 1] if node else 0


def _check_matching(log: tuple[Entry, ...], other: tuple[Entry, ...]) -> None:
    """Entries of the same index and term are the same, and so is all before them."""
    for index in range(min(len(log), len(other)), 0, -1):
        if log[index - 1].term == other[index - 1].term:
            if log[:index] != other[:index]:
                raise Violation(
                    "log matching",
                    f"two logs have term {log[index - 1].term} at {index} and differ: {log[:index]} and {other[:index]}",
                )
            return


def members(*node_ids: int, learners: Sequence[int] = ()) -> Membership:
    """Return a membership of these ids."""
    return membership(
        Member(NodeId(i), f"{i:032x}", f"n{i}:1", f"n{i}:2", i in learners)
        for i in (*node_ids, *learners)
    )


def entry(index: int, term: int, data: bytes = b"") -> Entry:
    """Return an entry; without data the first of a leader's term."""
    kind = EntryKind.BATCH if data else EntryKind.NOOP
    return Entry(Index(index), Term(term), kind, 0, 0, data)
