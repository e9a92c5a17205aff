"""Worlds of leases: clients with scripts, nodes that lead one after the other, connections that break, steps of time.

A connection keeps order. One that broke gives its client nothing more, but what was sent over it may still arrive, at
any time after, or never. A leader whose successor was elected goes on as if nothing had happened until it hears of it.
Time goes on in steps, for all at once; a client's timers run when the world lets them, at their time or at any later.
"""

from collections.abc import Sequence
from typing import Any

from raftlock.client.session import ClientSession
from raftlock.testing.explore.lease_client import Act, ClientFacts, LeaseClient
from raftlock.testing.explore.lease_node import LeaseNode, NodeFacts, hello_frame
from raftlock.testing.explore.lease_state import LeaseBounds, LeaseState, Line
from raftlock.testing.explore.parts import Parts
from raftlock.testing.explore.search import Choice, State
from raftlock.testing.explore.words import act_in_words, answers_in, requests_in
from raftlock.testing.invariants import Violation
from raftlock_wire.entry import Entry
from raftlock_wire.ids import NodeId, Term

NODES = 3
NO_PART = -1
UNDER_WAY = frozenset({"up", "down", "tick", "agree"})
"""What comes within a step of time, but for the slow ones."""


class LeaseWorld:
    """A cluster that has a leader, clients whose sessions are open, and everything that may happen to them."""

    def __init__(self, name: str, *, scripts: Sequence[Sequence[Act]], bounds: LeaseBounds) -> None:
        self.name = name
        self.bounds = f"3 nodes, {len(scripts)} clients, {bounds.words()}"
        self._scripts = scripts
        self._bounds = bounds
        self._nodes: Parts[NodeFacts] = Parts(LeaseNode)
        self._clients: Parts[ClientFacts] = Parts(LeaseClient)
        self._hello = hello_frame(ClientSession.hello("small"))
        self._horizon_us = bounds.step_us * bounds.steps

    # states

    def start(self) -> State:
        """Return the world where node 1 leads and every client has its session."""
        bounds = self._bounds
        node = self._nodes.built((NodeId(1),))
        lines = tuple(
            Line(self._clients.built((c + 1, bounds.session_ttl_ms)), 0, 0, (), (), 0)
            for c in range(len(self._scripts))
        )
        state = LeaseState(
            now_us=0,
            term=1,
            leader=0,
            nodes=(self._nodes.step(node, ("win", Term(1), (), 0)).part, NO_PART, NO_PART),
            agreed=((0, 0),) * NODES,
            stable=0,
            lines=lines,
            late=(),
            elections=bounds.elections,
            moves=bounds.moves,
            slow=bounds.slow,
            conns=0,
            tokens=(),
        )
        state = self._settle(state)
        for c in range(len(lines)):
            state = self._settle(self._connect(state, c, 0))
        return state

    def _settle(self, state: LeaseState) -> LeaseState:
        """Let everything arrive that is under way: the world begins when all is quiet."""
        while True:
            choices = [c for c in self.choices(state) if c[0] in ("up", "down", "agree")]
            if not choices:
                return state
            state = LeaseState(*self.take(state, choices[0]))

    def choices(self, state: State) -> list[Choice]:
        """Return what may happen next."""
        world = LeaseState(*state)
        found: list[Choice] = []
        for c, line in enumerate(world.lines):
            facts = self._clients.facts(line.part)
            if line.down:
                found.append(("down", c))
            if line.up:
                found.append(("up", c))
            if self._may_act(world, c, facts):
                found.append(("act", c))
            if facts.next_us <= world.now_us:
                found.append(("tick", c))
            if world.moves:
                found.append(("move", c))
        found += self._choices_of_nodes(world)
        if world.now_us < self._horizon_us:
            waits = any(choice[0] in UNDER_WAY for choice in found)
            if not waits or world.slow:
                found.append(("time", int(waits)))
        found += [("late", number) for number in range(len(world.late))]
        return found

    def _choices_of_nodes(self, world: LeaseState) -> list[Choice]:
        found: list[Choice] = []
        for i, part in enumerate(world.nodes):
            facts = self._nodes.facts(part) if part != NO_PART else None
            if facts is None or not facts.leads:
                continue
            if world.agreed[i] > (facts.commit_index, facts.answered):
                found.append(("hear", i))
            if i != world.leader:
                found.append(("depose", i))
            elif world.agreed[i] < (len(facts.log), facts.round):
                found.append(("agree",))
                if world.elections:
                    found.append(("accept",))
        if world.elections:
            found += self._elections(world)
        return found

    def _elections(self, world: LeaseState) -> list[Choice]:
        """Return who may lead next, and with how much of which node's log."""
        found: list[Choice] = []
        logs: set[tuple[Entry, ...]] = set()
        fresh = True
        for j, part in enumerate(world.nodes):
            if part == NO_PART:
                # Nodes that did nothing yet are alike: the first of them stands for all.
                if not fresh:
                    continue
                fresh = False
            elif self._nodes.facts(part).leads:
                continue
            logs.clear()
            for i, other in enumerate(world.nodes):
                log = self._nodes.facts(other).log if other != NO_PART else ()
                for keep in range(world.stable, len(log) + 1):
                    if log[:keep] not in logs:
                        logs.add(log[:keep])
                        found.append(("elect", j, i, keep))
        return found

    def _may_act(self, world: LeaseState, c: int, facts: ClientFacts) -> bool:
        script, done = self._scripts[c], world.lines[c].done
        if done >= len(script):
            return False
        verb = script[done].verb
        if verb == "release":
            return bool(facts.beliefs)
        if verb == "give_up":
            return facts.wants > 0
        return verb != "end_softly" or self._held_token(world, script[done].resource) > 0

    def _held_token(self, world: LeaseState, resource: str) -> int:
        """Return what an administrator sees as the holder's token."""
        for line in world.lines:
            for name, token, _ in self._clients.facts(line.part).beliefs:
                if name == resource:
                    return token
        return 0

    def take(self, state: State, choice: Choice) -> State:
        """Return the state after a choice."""
        world = LeaseState(*state)
        now_us = world.now_us
        match choice:
            case ("time", slow):
                world = world._replace(slow=world.slow - slow)
                world = self._time(world, now_us + self._bounds.step_us)
            case ("up", c):
                line = world.lines[c]
                frame, rest = line.up[0], line.up[1:]
                world = self._with_line(world, c, line._replace(up=rest))
                world = self._to_node(world, line.node, ("frame", line.conn, frame, now_us))
            case ("down", c):
                line = world.lines[c]
                frame = line.down[0]
                world = self._with_line(world, c, line._replace(down=line.down[1:]))
                world = self._to_client(world, c, ("frame", frame, now_us))
            case ("tick", c):
                world = self._to_client(world, c, ("tick", now_us))
            case ("act", c):
                line = world.lines[c]
                act = self._scripts[c][line.done]
                token = self._held_token(world, act.resource)
                world = self._with_line(world, c, line._replace(done=line.done + 1))
                world = self._to_client(world, c, ("do", act, token, now_us))
            case ("move", c):
                world = self._move(world._replace(moves=world.moves - 1), c)
            case ("late", number):
                world = self._late(world, number)
            case ("agree",):
                world = self._hear(self._accept(world), world.leader)
            case ("accept",):
                world = self._accept(world)
            case ("hear", i):
                world = self._hear(world, i)
            case ("depose", i):
                world = self._to_node(world, i, ("deposed", Term(world.term), now_us))
            case ("elect", j, i, keep):
                world = self._elect(world, j, self._nodes.facts(world.nodes[i]).log[:keep])
        return self._remember(world)

    def _with_line(self, world: LeaseState, c: int, line: Line) -> LeaseState:
        return world._replace(lines=(*world.lines[:c], line, *world.lines[c + 1 :]))

    def _to_client(self, world: LeaseState, c: int, given: tuple[object, ...]) -> LeaseState:
        line = world.lines[c]
        part, out, _ = self._clients.step(line.part, given)
        return self._with_line(world, c, line._replace(part=part, up=line.up + out))

    def _to_node(self, world: LeaseState, i: int, given: tuple[object, ...]) -> LeaseState:
        part, out, _ = self._nodes.step(world.nodes[i], given)
        world = world._replace(nodes=(*world.nodes[:i], part, *world.nodes[i + 1 :]))
        for conn, frame in out:
            # What goes to a connection that broke is gone.
            for c, line in enumerate(world.lines):
                if line.conn == conn:
                    world = self._with_line(world, c, line._replace(down=(*line.down, frame)))
        return world

    def _time(self, world: LeaseState, now_us: int) -> LeaseState:
        for i, part in enumerate(world.nodes):
            if part != NO_PART:
                world = self._to_node(world, i, ("pass", now_us))
        return world._replace(now_us=now_us)

    def _connect(self, world: LeaseState, c: int, i: int) -> LeaseState:
        """Open a connection; its hello rests on nothing that others do, and so happens at once."""
        conn = world.conns + 1
        part, ((_, answer),), _ = self._nodes.step(
            world.nodes[i], ("open", conn, self._hello, world.now_us)
        )
        world = world._replace(conns=conn, nodes=(*world.nodes[:i], part, *world.nodes[i + 1 :]))
        line = world.lines[c]._replace(node=i, conn=conn, up=(), down=())
        world = self._with_line(world, c, line)
        world = self._to_client(world, c, ("connected", answer, world.now_us))
        if not self._clients.facts(line.part).session and not line.done:
            # The first connection: the session is opened by an acquire that its caller gives up at once.
            world = self._open_session(world, c)
        return world

    def _open_session(self, world: LeaseState, c: int) -> LeaseState:
        act = Act("acquire", f"own {c + 1}", 1_000)
        world = self._to_client(world, c, ("do", act, 0, world.now_us))
        return self._to_client(world, c, ("do", Act("give_up"), 0, world.now_us))

    def _move(self, world: LeaseState, c: int) -> LeaseState:
        """Break a connection, and make another one to the leader."""
        line = world.lines[c]
        if line.up:
            world = world._replace(late=(*world.late, (line.node, line.conn, line.up)))
        world = self._to_client(world, c, ("disconnected", world.now_us))
        return self._connect(world, c, world.leader)

    def _late(self, world: LeaseState, number: int) -> LeaseState:
        i, conn, frames = world.late[number]
        rest = ((i, conn, frames[1:]),) if frames[1:] else ()
        world = world._replace(late=(*world.late[:number], *rest, *world.late[number + 1 :]))
        if self._nodes.facts(world.nodes[i]).leads:
            return self._to_node(world, i, ("frame", conn, frames[0], world.now_us))
        # A node that does not lead sends it on, once (R7).
        given = ("forwarded", NodeId(i + 1), conn, frames[0], world.now_us)
        return self._to_node(world, world.leader, given)

    def _accept(self, world: LeaseState) -> LeaseState:
        i = world.leader
        facts = self._nodes.facts(world.nodes[i])
        agreed = (*world.agreed[:i], (len(facts.log), facts.round), *world.agreed[i + 1 :])
        return world._replace(agreed=agreed, stable=max(world.stable, len(facts.log)))

    def _hear(self, world: LeaseState, i: int) -> LeaseState:
        return self._to_node(world, i, ("heard", *world.agreed[i], world.now_us))

    def _elect(self, world: LeaseState, j: int, log: tuple[Entry, ...]) -> LeaseState:
        term = world.term + 1
        if world.nodes[j] == NO_PART:
            part = self._nodes.built((NodeId(j + 1),))
            world = world._replace(nodes=(*world.nodes[:j], part, *world.nodes[j + 1 :]))
        agreed = (*world.agreed[:j], (0, 0), *world.agreed[j + 1 :])
        world = world._replace(term=term, leader=j, elections=world.elections - 1, agreed=agreed)
        return self._to_node(world, j, ("win", Term(term), log, world.now_us))

    # properties

    def _believed(self, world: LeaseState) -> list[tuple[str, int, int]]:
        """Return (resource, token, client) of every lock that a client counts on now."""
        return [
            (resource, token, c)
            for c, line in enumerate(world.lines)
            for resource, token, deadline_us in self._clients.facts(line.part).beliefs
            if world.now_us < deadline_us
        ]

    def _remember(self, world: LeaseState) -> LeaseState:
        """Note new tokens. Raise Violation for one that is not above all before it."""
        tokens = dict(world.tokens)
        before = dict(tokens)
        for resource, token, c in self._believed(world):
            if token > tokens.get(resource, 0):
                tokens[resource] = token
            elif token < before.get(resource, 0):
                raise Violation(
                    "tokens grow",
                    f"c{c + 1} counts on {resource} {token}, and {before[resource]} was believed in before",
                )
        return world._replace(tokens=tuple(sorted(tokens.items()))) if tokens != before else world

    def check(self, state: State) -> None:
        """Check what clients believe against each other and against every node's table."""
        world = LeaseState(*state)
        believed = self._believed(world)
        holders: dict[str, tuple[int, int]] = {}
        for resource, token, c in believed:
            other = holders.setdefault(resource, (token, c))
            if other != (token, c):
                raise Violation(
                    "one holder",
                    f"c{other[1] + 1} counts on {resource} {other[0]} and c{c + 1} on {token}",
                )
        for i, part in enumerate(world.nodes):
            if part == NO_PART:
                continue
            facts = self._nodes.facts(part)
            if facts.forgotten and i == world.leader:
                raise Violation("no orphans", f"node {i + 1} waits for no end: {facts.forgotten}")
            shown = {grant.resource: grant.token for grant in facts.grants}
            for resource, token, c in believed:
                if facts.token >= token and shown.get(resource) != token:
                    raise Violation(
                        "never early",
                        f"node {i + 1} has ended {resource} {token}, and c{c + 1} still counts on it",
                    )
        self._check_orphans(world)

    def _check_orphans(self, world: LeaseState) -> None:
        """When all is quiet, every grant and waiter is one that its client knows of (guarantee 7)."""
        facts = self._nodes.facts(world.nodes[world.leader])
        if not facts.serving or world.agreed[world.leader] < (len(facts.log), facts.round):
            return
        if facts.commit_index < len(facts.log) or world.late:
            return
        for line in world.lines:
            client = self._clients.facts(line.part)
            quiet = line.node == world.leader and not (line.up or line.down or client.busy)
            if not quiet or client.next_us <= world.now_us or not client.session:
                continue
            known = {token for _, token, _ in client.beliefs}
            for grant in facts.grants:
                if grant.session == client.session and grant.token not in known:
                    raise Violation(
                        "no orphans",
                        f"{grant.resource} {grant.token} is granted to a client that does not know of it",
                    )
            for session, resource in facts.waiting:
                if session == client.session:
                    raise Violation(
                        "no orphans", f"a client that wants nothing waits for {resource}"
                    )

    def canonical(self, state: State) -> tuple[Any, ...]:
        """Return the state as plain tuples. Nodes that did nothing yet are alike by how they are elected."""
        world = LeaseState(*state)
        return (*state[:6], tuple([tuple(line) for line in world.lines]), *state[7:])

    # for people

    def runs(self) -> int:
        """Return how often the code under test was run."""
        return self._nodes.runs + self._clients.runs

    def words(self, state: State, choice: Choice) -> str:
        """Say what a choice is, and what it carries."""
        world = LeaseState(*state)
        at = f"{world.now_us // 1_000} ms"
        match choice:
            case ("time", _):
                return f"time passes to {(world.now_us + self._bounds.step_us) // 1_000} ms"
            case ("up", c):
                line = world.lines[c]
                return f"{at}: node {line.node + 1} gets from c{c + 1}: {requests_in(line.up[0])}"
            case ("down", c):
                return f"{at}: c{c + 1} gets: {answers_in(world.lines[c].down[0])}"
            case ("tick", c):
                return f"{at}: timers of c{c + 1} run"
            case ("act", c):
                act = self._scripts[c][world.lines[c].done]
                return f"{at}: c{c + 1} does {act_in_words(act)}"
            case ("move", c):
                return f"{at}: the connection of c{c + 1} breaks; it connects to node {world.leader + 1}"
            case ("late", number):
                i, _, frames = world.late[number]
                return f"{at}: node {i + 1} gets late: {requests_in(frames[0])}"
            case ("agree",):
                return f"{at}: a majority agrees, and node {world.leader + 1} hears it"
            case ("accept",):
                return (
                    f"{at}: a majority agrees; its answers to node {world.leader + 1} are under way"
                )
            case ("hear", i):
                return f"{at}: node {i + 1} hears the majority's answers"
            case ("depose", i):
                return f"{at}: node {i + 1} learns that it does not lead any more"
            case ("elect", j, i, keep):
                return f"{at}: node {j + 1} is elected, with {keep} entries of node {i + 1}"
        return str(choice)
