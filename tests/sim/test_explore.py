"""The explorer of small worlds: it finds what is planted, closes what it can, and says what it saw."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import pytest

from raftlock.client import session as client_session
from raftlock.client.acquiring import Acquire
from raftlock.client.asking import Asking
from raftlock.locks import commands, table
from raftlock.raft import core, election, replication
from raftlock.raft.quorum import quorum_value
from raftlock.raft.state import RaftState, Role
from raftlock.server import leases
from raftlock.server.leading import Leading
from raftlock.testing.explore import __main__ as command
from raftlock.testing.explore.lease_client import Act
from raftlock.testing.explore.lease_world import LeaseBounds, LeaseWorld
from raftlock.testing.explore.raft_world import RaftBounds, RaftWorld, members
from raftlock.testing.explore.search import Searched, World, search
from raftlock.testing.explore.worlds import WORLDS, STEP_US, world
from raftlock_wire.entry import EntryKind
from raftlock_wire.ids import Index
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

OWN = Act("acquire", "r", 100)
WAIT = Act("acquire", "r", 100, 60_000)


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


def _gave_up_without_word(self: Acquire, now_us: int) -> None:
    self.given_up = True
    self._finish(commands_result)


def _answered_now(
    self: Asking, message: Any, now_us: int, inner: Callable[..., None] = Asking.answer
) -> None:
    ask = self._attempts.get(message[0])
    if ask is not None:
        ask.first_us = ask.sent_us = now_us
    inner(self, message, now_us)


commands_result: Any = None


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
        "state machine safety",
    ),
    "an entry of an older term committed by counting": Planted(
        lambda: [patch.object(replication, "advance_commit", _commit_by_counting)],
        lambda: world("election-uncommitted"),
        "a check of the code itself",
    ),
    "an answer to entries before they are durable": Planted(
        lambda: [patch.object(RaftState, "fence_for", lambda *_: 0)],
        lambda: world("election-crash"),
        "durable on a majority",
    ),
    "a membership change before the one before it is committed": Planted(
        lambda: [patch.object(core.Raft, "change_membership", _change_at_once)],
        lambda: world("membership-shrinks"),
        "state machine safety",
    ),
    "a renewal answered without a quorum": Planted(
        lambda: [patch.object(Leading, "_renew", _renewed_without_quorum)],
        lambda: world("lease-failover"),
        "never early",
    ),
    "leases that count from before the election": Planted(
        lambda: [patch.object(leases.Leases, "begin", _elected_long_ago)],
        lambda: world("lease-failover"),
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
        lambda: [patch.dict(table._HANDLERS, {Op.CANCEL: _cancelled_only_what_came})],
        lambda: world("cancel"),
        "no orphans",
    ),
    "an Expire that looks at no rev": Planted(
        lambda: [patch.dict(table._HANDLERS, {Op.EXPIRE_LOCK: _expired_without_rev})],
        _leases([[OWN, Act("release")], [WAIT]], step_us=60_000, steps=2, slow=2),
        "never early",
    ),
    "a lock that is cut goes on with its session": Planted(
        lambda: [patch.object(client_session.ClientSession, "_freeze", lambda *_: None)],
        lambda: world("cut"),
        "never early",
    ),
}
