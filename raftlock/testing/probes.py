"""Looks into production code from outside for the length of a run: functions are wrapped, and put back afterwards.

It owns which functions are looked at. A probe sees the arguments, passes them on, and changes nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from raftlock.client.acquiring import Acquire
from raftlock.client.leases import Leases as ClientLeases
from raftlock.client.sessions import Sessions
from raftlock.locks import LockTable
from raftlock.locks.snapshot import SnapshotLoader
from raftlock.raft import Role, replication, snapshots, transfer
from raftlock.raft.state import RaftState
from raftlock.server import door
from raftlock.server.clients import Clients
from raftlock.server.driver import Driver
from raftlock.server.leading import Leading
from raftlock.server.leases import Leases
from raftlock.server.versions import MemberVersions
from raftlock.server.writing import Writing
from raftlock.testing.promise_checks import PromiseChecks, is_there
from raftlock.testing.world import World
from raftlock_wire.messages import GrantState
from raftlock_wire.status import Status

if TYPE_CHECKING:
    from raftlock.testing.cluster import SimCluster

Note = Callable[..., None]


@contextmanager
def watching(cluster: "SimCluster") -> Iterator[None]:
    """Let the monitor see every apply of this cluster, and count rare situations."""
    checks = cluster.monitor.table
    with ExitStack() as stack:

        def around(owner: Any, name: str, check: Callable[..., Any]) -> None:
            inner = getattr(owner, name)

            def probe(*args: Any, **kwargs: Any) -> Any:
                return check(inner, *args, **kwargs)

            stack.enter_context(patch.object(owner, name, probe))

        if cluster.mixed is not None:
            checks.mixed = cluster.mixed.applied
        around(LockTable, "apply", checks.apply)
        around(LockTable, "_command", checks.command)
        for owner, name, check in _promises(cluster.monitor.promises):
            around(owner, name, check)
        around(LockTable, "begin_snapshot", checks.begin_snapshot)

        def finish(inner: Callable[..., LockTable], loader: SnapshotLoader) -> LockTable:
            table = inner(loader)
            checks.loaded(table)
            return table

        around(SnapshotLoader, "finish", finish)
        if cluster.mixed is not None:
            around(MemberVersions, "to_raise", cluster.mixed.proposed)
        for owner, name, note in _notes(cluster.world):
            _before(stack, owner, name, note)
        yield


def _promises(promises: PromiseChecks) -> list[tuple[Any, str, Callable[..., Any]]]:
    """Return what the promises of leaders are learned and checked by."""

    def renewed(
        inner: Callable[..., None], leading: Leading, item: Any, answer: Any, now_us: int
    ) -> None:
        promises.renewed(leading, item, answer)
        inner(leading, item, answer, now_us)

    def answered(
        inner: Callable[..., Any], leading: Leading, table: LockTable, read: Any, now_us: int
    ) -> Any:
        answer = inner(leading, table, read, now_us)
        promises.kept_alive(leading, table, read, answer)
        return answer

    def command(inner: Callable[..., Any], table: LockTable, request: Any, *rest: Any) -> Any:
        before = is_there(table, request)
        answer = inner(table, request, *rest)
        promises.applied(table, request, before, answer)
        return answer

    return [
        (Leading, "_answer_item", renewed),
        (Leading, "_answer", answered),
        (LockTable, "_command", command),
    ]


def _before(stack: ExitStack, owner: Any, name: str, note: Note) -> None:
    inner = getattr(owner, name)
    static = isinstance(owner.__dict__.get(name), staticmethod)

    def probe(*args: Any, **kwargs: Any) -> Any:
        note(*args, **kwargs)
        return inner(*args, **kwargs)

    stack.enter_context(patch.object(owner, name, staticmethod(probe) if static else probe))


def _notes(world: World) -> list[tuple[Any, str, Note]]:
    """Return what is looked at, and what each call tells."""
    return [*_consensus(world), *_leaders(world), *_clients(world)]


def _consensus(world: World) -> list[tuple[Any, str, Note]]:
    saw = world.saw

    def truncate(state: RaftState, from_index: int) -> None:
        saw("entries of a deposed leader are cut off")
        if any(placed.last >= from_index for placed in state.placed):
            saw("entries are cut off while the write that placed them is under way")
        if state.memberships and state.memberships[-1][0] >= from_index:
            saw("a membership change is undone")

    def become_follower(state: RaftState, term: int, *_: Any) -> None:
        if state.role is Role.LEADER:
            newer = term > state.current_term
            saw(
                "a leader steps down for a newer term"
                if newer
                else "a leader steps down because it hears no majority"
            )
            if state.log.last_index > state.commit_index:
                saw("a leader is deposed with uncommitted entries")
        if state.incoming is not None and term > state.current_term:
            saw("a snapshot's transfer outlives its leader")

    def append_entries(state: RaftState, _: int, message: Any, __: int) -> None:
        entries = message.entries
        if entries and state.log.term_at(entries[-1].index) == entries[-1].term:
            saw("entries arrive that were there already")

    def advance(state: RaftState, now_us: int) -> None:
        if state.transfer_to and now_us >= state.transfer_deadline_us:
            saw("a hand-over is given up")

    def installed(state: RaftState, meta: Any) -> None:
        saw("a follower installs a snapshot")
        ours = state.log.term_at(meta.index)
        if ours is not None and ours != meta.term:
            saw("a follower's diverging log is dropped for a snapshot")

    def compact(state: RaftState, _: Any) -> None:
        if state.memberships and state.memberships[-1][0] > state.commit_index:
            saw("a snapshot begins while a membership change is under way")

    return [
        (RaftState, "truncate", truncate),
        (RaftState, "become_follower", become_follower),
        (replication, "stale_append", lambda *_: saw("a message of an older leader arrives")),
        (replication, "on_append_entries", append_entries),
        (transfer, "advance", advance),
        (transfer, "on_timeout_now", lambda *_: saw("leadership is handed over")),
        (snapshots, "installed", installed),
        (snapshots, "restart", lambda *_: saw("a snapshot file goes while a peer reads it")),
        (snapshots, "compact", compact),
    ]


def _leaders(world: World) -> list[tuple[Any, str, Note]]:
    saw = world.saw

    def renew(leases: Leases, grant: Any, _: int) -> None:
        if grant.token not in leases.locks.deadlines:
            saw("a new leader renews a lease that it has not armed yet")

    def renew_item(leading: Leading, _: Any, item: Any) -> None:
        if leading.leases.in_flight(item.token):
            saw("a renewal waits for a command on its lease")

    def item_answered(_: Leading, __: Any, answer: tuple[Any, ...], ___: Any) -> None:
        if answer[0] == Status.ENDING:
            saw("a renewal is answered ENDING")

    def renewed(_: Leading, table: LockTable, item: Any, __: int) -> None:
        grant = table.lookup(item.resource)
        if item.rev and grant is not None and grant.token == item.token and grant.rev != item.rev:
            saw("a renewal is made again because its lease changed")

    def keep_alive(leading: Leading, _: Any, read: Any) -> None:
        if leading.leases.in_flight(-read.request[2]):
            saw("a keep-alive waits for an Expire of its session")

    def end(leading: Leading, appended: list[Any]) -> None:
        if any(group.origin is not None for batch in appended for group in batch.groups):
            saw("what was appended is answered UNKNOWN")
        if leading.batcher:
            saw("what was not appended is answered NO_QUORUM")

    def leader_lost(clients: Clients) -> None:
        if any(origin.outstanding for origin in clients._forwarding.values()):
            saw("a follower loses the leader before an answer")

    def start_arming(_: Leases, table: LockTable) -> None:
        for bucket in range(table.bucket_count):
            for grant in table.iter_grants(bucket):
                if grant.state is GrantState.OFFERED:
                    saw("an offer outlives its leader")
                elif table.is_logged_class(grant):
                    logged_before.add(grant.token)

    logged_before: set[int] = set()

    def ended(_: Leases, tokens: list[int]) -> None:
        if not logged_before.isdisjoint(tokens):
            saw("a lease of the logged class ends after a change of leader")

    def hold_back(driver: Driver, *_: Any) -> None:
        if driver.front.unserved_count:
            saw("a new leader holds requests until it serves")

    def try_room(writing: Writing, _: int) -> None:
        if not writing.room:
            saw("a node is without room for the next segment")

    def hand_over(driver: Driver, now_us: int) -> None:
        since = driver.writing.since_us
        stuck = since is not None and now_us - since > driver.config.stall_us
        if driver.is_leader and (stuck or not driver.writing.room):
            saw("a leader hands over because of its disk")

    def overloaded(_: Any, reason: str) -> None:
        saw("OVERLOADED for the disk" if reason == "disk" else "OVERLOADED for the queue")

    return [
        (Leases, "renew", renew),
        (Leases, "start_arming", start_arming),
        (Leases, "ended", ended),
        (Leading, "_renew", renew_item),
        (Leading, "_renewed", renewed),
        (Leading, "_answer_item", item_answered),
        (Leading, "_keep_alive", keep_alive),
        (Leading, "end", end),
        (Clients, "leader_lost", leader_lost),
        (Driver, "_leader_changed", hold_back),
        (Writing, "try_room", try_room),
        (Driver, "hand_over", hand_over),
        (door, "overloaded", overloaded),
    ]


def _clients(world: World) -> list[tuple[Any, str, Note]]:
    saw = world.saw

    def lose(_: ClientLeases, __: Any, why: str, **___: Any) -> None:
        if why == "its deadline passed":
            saw("a client loses a lock at its own deadline")
        elif why == "it was taken away":
            saw("a client learns that its lock was taken away")

    def freeze(_: ClientLeases, handle: Any) -> None:
        if not handle.frozen:
            saw("a handle is frozen until its deadline")

    return [
        (ClientLeases, "lose", lose),
        (ClientLeases, "freeze", freeze),
        (Sessions, "_resync", lambda *_: saw("a client misses an event and lists its session")),
        (
            Sessions, "over",
            lambda _, __, *, expired: None if expired else saw("a client counts its session as over before the server does"),
        ),
        (Acquire, "_release", lambda *_: saw("a lost grant of an ended session is found and released")),
    ]  # fmt: skip
