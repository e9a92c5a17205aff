"""The explorer of small worlds: it finds what is planted, closes what it can, and says what it saw."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest.mock import patch

import pytest

from raftlock.client import leases as client_leases
from raftlock.client.acquiring import Acquire
from raftlock.client.asking import Asking
from raftlock.client.sessions import Sessions
from raftlock.locks import LockTable, commands
from raftlock.locks.reads import RenewalClass
from raftlock.locks.versions import VERSION_1
from raftlock.raft import core, election, replication
from raftlock.raft.quorum import quorum_value
from raftlock.raft.state import RaftState, Role
from raftlock.server import leases
from raftlock.server.driver import Driver
from raftlock.server.leading import Leading
from raftlock.server.reads import Reads
from raftlock.testing.explore import __main__ as command
from raftlock.testing.explore import parts
from raftlock.testing.explore.lease_client import Act
from raftlock.testing.explore.lease_state import LeaseBounds
from raftlock.testing.explore.lease_world import LeaseWorld
from raftlock.testing.explore.parts import Parts
from raftlock.testing.explore.raft_world import RaftBounds, RaftWorld, members
from raftlock.testing.explore.search import Choice, Searched, State, World, search
from raftlock.testing.explore.worlds import SESSION_STEP_US, STEP_US, WORLDS, world
from raftlock.testing.invariants import Violation
from raftlock_wire.entry import EntryKind, HardState
from raftlock_wire.ids import Index, NodeId, Term
from raftlock_wire.invariant import check
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

OWN = Act("acquire", "r", 100)
WAIT = Act("acquire", "r", 100, 60_000)
LONG, WAIT_LONG = Act("acquire", "r", 3_000), Act("acquire", "r", 3_000, 60_000)
IN_SESSION, END_SOFTLY = Act("acquire", "r"), Act("end_softly", "r")


def _vote_for_all(state: RaftState, sender: int, message: Any, now_us: int) -> None:
    if message.term > state.current_term and not message.pre_vote:
        state.become_follower(message.term, 0, now_us)  # type: ignore[arg-type]
    election._answer(state, sender, message, granted=True)  # type: ignore[arg-type]


def _commit_by_counting(state: RaftState) -> None:
    if state.role is Role.LEADER:
        matched = {peer: p.match_index for peer, p in state.progress.items()}
        matched[state.config.node_id] = state.durable_index
        index = min(quorum_value(state.voters, matched), state.log.last_index)  # type: ignore[arg-type]
        state.commit_to(Index(max(index, state.commit_index)))


def _change_at_once(self: core.Raft, new: Any, *, stamp_us: int, wall_us: int) -> Index:
    index = self.propose(EntryKind.MEMBERSHIP, new.encode(), stamp_us=stamp_us, wall_us=wall_us)
    for peer in self.state.peers():
        self.state.progress.setdefault(peer, election.new_progress(self.state, 0))
    return index


def _renewed_without_quorum(
    self: Leading, table: Any, item: Any, inner: Callable[..., None] = Leading._renew
) -> None:
    grant = table.lookup(item.resource)
    if grant is None or grant.offer or self.leases.in_flight(item.token):
        inner(self, table, item)
        return
    self.leases.renew(grant, item.receipt_us)
    self._answer_item(item, table.renewal_answer(item.resource, item.token), item.receipt_us)


def _elected_long_ago(self: leases.Leases, elected_us: int) -> None:
    self.end()
    self._elected_us = elected_us - 80_000


def _cancelled_only_what_came(
    table: Any, request: Any, principal: str, address: str, applied: Any
) -> Any:
    session = table.live_session(request[2])
    outcome = session.slots.get(request[3]) if session is not None else None
    if session is not None and (outcome is None or outcome.n < request[4]):
        return (request[1], int(Status.CANCELLED), True, session.count, commands.NOTHING, 0)
    return commands.cancel(table, request, principal, address, applied)


def _expired_without_rev(
    table: Any, request: Any, principal: str, address: str, applied: Any
) -> Any:
    current = table.lookup(request[2])
    if current is not None and current.token == request[3]:
        request = (*request[:4], current.rev)
    return commands.expire_lock(table, request, principal, address, applied)


def _added_to_a_round_under_way(self: Reads, waiting: Any) -> None:
    (self._asked[-1][1] if self._asked else self._fresh).append(waiting)


def _served_at_once(
    self: Driver, wall_us: int, inner: Callable[..., None] = Driver._elected
) -> None:
    inner(self, wall_us)
    self.leading.serving = True


def _offers_are_in_session(
    self: LockTable, resource: str, token: int, inner: Callable[..., Any] = LockTable.renewal_class
) -> Any:
    kind = inner(self, resource, token)
    return RenewalClass.SESSION if kind is RenewalClass.OFFER else kind


def _started_beside(self: Acquire, ask: Any, now_us: int) -> None:
    self._ask = ask
    self.client.asking.start(ask, now_us)


def _extended_first(
    self: Sessions,
    session: Any,
    count: int,
    alive_us: int,
    inner: Callable[..., None] = Sessions._resync,
) -> None:
    session.alive_us = max(session.alive_us, alive_us)
    inner(self, session, count, alive_us)


def _answered_now(
    self: Asking, message: Any, now_us: int, inner: Callable[..., None] = Asking.answer
) -> None:
    ask = self._attempts.get(message[0])
    if ask is not None:
        ask.first_us = ask.sent_us = now_us
    inner(self, message, now_us)


@dataclass(frozen=True)
class Planted:
    """A bug, and the world that must find it."""

    patches: Callable[[], list[AbstractContextManager[Any]]]
    world: Callable[[], World]
    broken: str


def _leases(
    scripts: list[list[Act]], *, step_us: int = STEP_US, **bounds: int
) -> Callable[[], World]:
    within = LeaseBounds(step_us=step_us, **bounds)
    return lambda: LeaseWorld("planted", scripts=scripts, bounds=within)


PLANTED: dict[str, Planted] = {
    "a vote for a log that is behind": Planted(
        lambda: [patch.object(election, "on_request_vote", _vote_for_all)],
        lambda: world("election-uncommitted"),
        "election safety",
    ),
    "an entry of an older term committed by counting": Planted(
        lambda: [patch.object(replication, "advance_commit", _commit_by_counting)],
        lambda: world("election-uncommitted"),
        "leader completeness",
    ),
    "an answer to entries before they are durable": Planted(
        lambda: [patch.object(RaftState, "fence_for", lambda *_: 0)],
        lambda: world("election-crash"),
        "durable on a majority",
    ),
    "a membership change before the one before it is committed": Planted(
        lambda: [patch.object(core.Raft, "change_membership", _change_at_once)],
        lambda: world("membership-shrinks"),
        "leader completeness",
    ),
    "a renewal answered without a quorum": Planted(
        lambda: [patch.object(Leading, "_renew", _renewed_without_quorum)],
        _leases([[OWN]], steps=3, elections=1),
        "never early",
    ),
    "leases that count from before the election": Planted(
        lambda: [patch.object(leases.Leases, "begin", _elected_long_ago)],
        _leases([[OWN]], steps=3, elections=1),
        "never early",
    ),
    "a renewal that re-arms nothing": Planted(
        lambda: [patch.object(leases.Leases, "renew", lambda *_: None)],
        lambda: world("lease"),
        "never early",
    ),
    "a client that counts from the answer": Planted(
        lambda: [patch.object(Asking, "answer", _answered_now)],
        _leases([[OWN]], steps=3, slow=2),
        "never early",
    ),
    "a cancel that forgets an acquire on its way": Planted(
        lambda: [patch.dict(VERSION_1, {Op.CANCEL: _cancelled_only_what_came})],
        lambda: world("cancel"),
        "no orphans",
    ),
    "an Expire that looks at no rev": Planted(
        lambda: [patch.dict(VERSION_1, {Op.EXPIRE_LOCK: _expired_without_rev})],
        _leases([[OWN, Act("release")], [WAIT]], step_us=60_000, steps=2, slow=2),
        "never early",
    ),
    "a renewal answered by a round that was sent before it came": Planted(
        lambda: [patch.object(Reads, "add", _added_to_a_round_under_way)],
        _leases([[OWN, Act("look")]], steps=3, elections=1),
        "never early",
    ),
    "a leader that serves before it has applied an entry of its term": Planted(
        lambda: [patch.object(Driver, "_elected", _served_at_once)],
        _leases([[OWN, Act("acquire", "s", 100)]], steps=3, elections=1),
        "never early",
    ),
    "an offer that is taken up outside the log": Planted(
        lambda: [patch.object(LockTable, "renewal_class", _offers_are_in_session)],
        # An offer of 3 s is over after 2 s if it is not taken up: the log must know that it was.
        _leases([[LONG, Act("release")], [WAIT_LONG]], step_us=1_050_000, steps=2),
        "never early",
    ),
    "an answer to an acquire believed after its cancel": Planted(
        lambda: [patch.object(Acquire, "_start", _started_beside)],
        lambda: world("cancel"),
        "never early",
    ),
    "a keep-alive that extends before it looks at the count": Planted(
        lambda: [patch.object(Sessions, "_resync", _extended_first)],
        _leases(
            [[IN_SESSION, END_SOFTLY]], step_us=700_000, steps=2, moves=1, session_ttl_ms=1_000
        ),
        "never early",
    ),
    "a lock that is cut goes on with its session": Planted(
        lambda: [patch.object(client_leases.Leases, "freeze", lambda *_: None)],
        _leases([[IN_SESSION, END_SOFTLY]], step_us=SESSION_STEP_US, steps=3, session_ttl_ms=1_000),
        "never early",
    ),
}


@cache
def _planted(name: str) -> Searched:
    bug = PLANTED[name]
    with ExitStack() as stack:
        for change in bug.patches():
            stack.enter_context(change)
        return search(bug.world(), states_max=100_000)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str) -> None:
    """Each planted bug breaks the property that it must break, and the search says by which way."""
    found = _planted(name)

    assert (found.broken, bool(found.way)) == (PLANTED[name].broken, True), command.report(found)


@pytest.mark.parametrize("name", PLANTED)
def test_without_the_bug_its_world_is_well(name: str) -> None:
    """Where a planted bug is found, the code as it is breaks nothing."""
    found = search(PLANTED[name].world(), states_max=1_500)

    assert found.broken == "", command.report(found)


@pytest.mark.parametrize("name", WORLDS)
def test_the_named_worlds_hold(name: str) -> None:
    """No property breaks in the first states of any named world."""
    found = search(world(name), states_max=1_000)

    assert found.broken == "", command.report(found)


def test_figure_8_is_found_by_a_short_way() -> None:
    """The way to the loss of an entry that was committed by counting is the shortest there is: eleven choices."""
    found = _planted("an entry of an older term committed by counting")

    assert (found.broken, len(found.way)) == ("leader completeness", 11)


# what closes


def _one_lease() -> LeaseWorld:
    bounds = LeaseBounds(step_us=STEP_US, steps=3, slow=1)
    return LeaseWorld("one", scripts=[[OWN, Act("release")]], bounds=bounds)


def _one_election(*, symmetric: bool) -> RaftWorld:
    return RaftWorld(
        "one",
        nodes=[(HardState(Term(0), NodeId(0)), ())] * 3,
        first=members(1, 2, 3),
        bounds=RaftBounds(timeouts=1, crashes=1),
        symmetric=symmetric,
    )


@pytest.mark.parametrize("make", [_one_lease, lambda: _one_election(symmetric=True)])
def test_a_small_world_closes_the_same_each_time(make: Callable[[], World]) -> None:
    """A world within small bounds closes, and two searches of it meet as many states by as many choices."""
    first, again = (search(make(), states_max=100_000) for _ in range(2))

    assert (first.closed, first.broken, first.states, first.transitions, first.depth) == (
        True,
        "",
        again.states,
        again.transitions,
        again.depth,
    )


def test_states_alike_but_for_names_are_met_once() -> None:
    """Three members that are alike are six worlds in one, less those that are their own image."""
    alike = search(_one_election(symmetric=True), states_max=100_000)
    apart = search(_one_election(symmetric=False), states_max=100_000)

    assert alike.closed
    assert apart.closed
    assert 2 * alike.states < apart.states <= 6 * alike.states


def test_a_bound_is_said() -> None:
    """A search that meets its bound does not say that it closed."""
    found = search(_one_election(symmetric=True), states_max=50)

    assert (found.closed, found.broken, found.states >= 50) == (False, "", True)


# what states are made of


def test_a_core_made_again_is_the_core_that_went_on() -> None:
    """Keeping cores at hand changes nothing: the same states are met when each is made again from its inputs."""
    with patch.object(parts, "WARM_MAX", 0):
        again = search(_one_lease(), states_max=100_000)

    assert again.states == search(_one_lease(), states_max=100_000).states


def _ways_that_meet(of: Parts[Any]) -> int:
    """Go on from each state by another way than the one it is known by. Return how many steps were compared."""
    steps_from: dict[int, list[tuple[Any, int]]] = {}
    for (part, given), step in of._steps.items():
        if not step.broken:
            steps_from.setdefault(part, []).append((given, step.part))
    compared = 0
    for (part, given), step in list(of._steps.items()):
        if step.broken or of._came_by[step.part] == (part, given):
            continue
        for following, expected in steps_from.get(step.part, []):
            core = of.made(part)
            core.take(given)
            core.take(following)
            assert of._number(core, step.part, following) == expected
            compared += 1
    return compared


def test_a_picture_tells_all_that_the_future_depends_on() -> None:
    """Two ways that lead to the same picture of a core go on alike, for nodes, clients and members."""
    leases_, election_ = _one_lease(), _one_election(symmetric=False)
    search(leases_, states_max=100_000)
    search(election_, states_max=10_000)

    compared = [_ways_that_meet(of) for of in (leases_._nodes, leases_._clients, election_._parts)]

    assert min(compared) > 10


# the search itself


class _Numbers:
    """From 1, add one or double: 10 is forbidden."""

    name, bounds = "numbers", "up to 20"

    def start(self) -> State:
        return (1,)

    def choices(self, state: State) -> list[Choice]:
        return [("add",), ("double",)] if state[0] < 20 else []

    def take(self, state: State, choice: Choice) -> State:
        return (state[0] + 1,) if choice == ("add",) else (state[0] * 2,)

    def check(self, state: State) -> None:
        if state == (10,):
            raise Violation("one holder", "ten")

    def canonical(self, state: State) -> State:
        return state

    def words(self, state: State, choice: Choice) -> str:
        return f"{choice[0]} to {state[0]}"

    def runs(self) -> int:
        return 0


def test_the_way_to_a_violation_is_the_shortest() -> None:
    """The way that is told is one of the shortest, choice by choice from the first state."""
    found = search(_Numbers(), states_max=100)

    assert (found.broken, found.text, found.way) == (
        "one holder",
        "ten",
        ("add to 1", "double to 2", "add to 4", "double to 5"),
    )


class _Checked(_Numbers):
    """Numbers whose own code stops at 10."""

    def take(self, state: State, choice: Choice) -> State:
        following = super().take(state, choice)
        check(following != (10,), "ten is never met")
        return following


def test_a_failed_check_of_the_code_is_a_violation() -> None:
    """What the production code's own checks stop at is told like a broken property."""
    found = search(_Checked(), states_max=100)

    assert (found.broken, found.text, len(found.way)) == (
        "a check of the code itself",
        "ten is never met",
        4,
    )


# the command


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a violation the command says how each search ended, and exits with 0."""
    code = command.main(["--world", "lease", "--world", "election", "--states-max", "300"])

    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert [line.split()[0] for line in lines[-3:]] == ["world", "lease", "election"]
    assert [line.split()[-1] for line in lines[-2:]] == ["stopped", "stopped"]


def test_the_command_tells_a_violation(capsys: pytest.CaptureFixture[str]) -> None:
    """A violation is told choice by choice, and the exit code is that of safety."""
    with patch.object(Acquire, "_start", _started_beside):
        code = command.main(["--world", "cancel", "--states-max", "1000"])

    said = capsys.readouterr().out
    assert (code, "   6. 0 ms: c1 gets: OK" in said, "never early" in said) == (129, True, True)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--states-max", "many"], "'many' is not a whole number of 1 or more"),
        (["--world", "flat"], "invalid choice: 'flat'"),
    ],
)
def test_the_command_refuses_what_it_does_not_know(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong argument gets an error that says what is allowed."""
    with pytest.raises(SystemExit) as ended:
        command.main(argv)

    assert (ended.value.code, said in capsys.readouterr().err) == (2, True)
