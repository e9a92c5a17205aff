"""Which rare situations a command of the log meets, seen from the table before it and from its answer."""

from typing import TYPE_CHECKING, Any

from raftlock.locks.records import Outcome
from raftlock.testing.world import World
from raftlock_wire.messages import GrantState, Op
from raftlock_wire.status import Status

if TYPE_CHECKING:
    from raftlock.locks import LockTable

GRANT_WITHDRAWN, WAITER_WITHDRAWN = 2, 1


def note_command(world: World, table: "LockTable", request: tuple[Any, ...]) -> None:
    """Count what a command is about to meet."""
    note = _NOTES.get(request[0])
    if note is not None:
        note(world, table, request)


def _expire_lock(world: World, table: "LockTable", request: tuple[Any, ...]) -> None:
    _, _, resource, token, rev = request
    grant = table.lookup(resource)
    if grant is None or grant.token != token:
        world.saw("an Expire finds another token or none")
    elif grant.rev != rev:
        world.saw("an Expire finds another rev")
    elif grant.offer and grant.state is GrantState.OFFERED:
        world.saw("an offer is not taken up and passes on")


def _expire_session(world: World, table: "LockTable", request: tuple[Any, ...]) -> None:
    session = table.session(request[2])
    if session is None or session.ended:
        world.saw("an Expire of a session finds it over")
    elif session.waiting:
        world.saw("a session ends with waiters")


def _close_session(world: World, table: "LockTable", request: tuple[Any, ...]) -> None:
    session = table.session(request[2])
    if session is not None and not session.ended and session.waiting:
        world.saw("a session ends with waiters")


def _acquire(world: World, table: "LockTable", request: tuple[Any, ...]) -> None:
    session_id, slot, n, resource = request[2:6]
    session = table.session(session_id)
    outcome: Outcome | None = session.slots.get(slot) if session is not None else None
    if outcome is not None and outcome.n == n:
        grant = table.lookup(resource)
        if outcome.status is Status.OK and grant is not None and grant == outcome.of:
            world.saw("a repeated acquire gets its recorded OK")
        return
    if table.grant(resource) is not None and table.lookup(resource) is None:
        world.saw("an acquire meets a lock of an ended session")


def _cancel(world: World, table: "LockTable", request: tuple[Any, ...]) -> None:
    session = table.session(request[2])
    if session is None or session.ended:
        return
    outcome = session.slots.get(request[3])
    if outcome is None or request[4] > outcome.n:
        world.saw("a cancel overtakes its acquire")


def _wait_timeout(world: World, table: "LockTable", request: tuple[Any, ...]) -> None:
    _, _, session_id, slot, n = request
    session = table.session(session_id)
    outcome = session.slots.get(slot) if session is not None else None
    waits = session is not None and not session.ended and slot in session.waiting
    if waits and outcome is not None and outcome.n == n:
        world.saw("a wait times out")
    else:
        world.saw("a WaitTimeout finds the wait over")


def _logged_renew(world: World, table: "LockTable", request: tuple[Any, ...]) -> None:
    grant = table.lookup(request[2])
    if grant is None or grant.token != request[3]:
        return
    if grant.state is GrantState.OFFERED:
        world.saw("an offer is taken up")
    elif grant.state is GrantState.HELD and table.is_logged_class(grant):
        world.saw("a lease of the logged class is renewed")


def _change_ttl(world: World, table: "LockTable", request: tuple[Any, ...]) -> None:
    _, _, resource, token, ttl_ms, rev = request
    grant = table.lookup(resource)
    if (
        grant is None
        or grant.token != token
        or grant.state is not GrantState.HELD
        or not grant.ttl_ms
    ):
        return
    if grant.rev != rev:
        world.saw("a change of ttl is refused for its rev")
    elif not table.is_logged_class(grant) and table.is_logged_class(grant._replace(ttl_ms=ttl_ms)):
        world.saw("a change of ttl moves a lease into the logged class")


def _force_release(world: World, table: "LockTable", request: tuple[Any, ...]) -> None:
    _, _, resource, token, _, now = request
    grant = table.lookup(resource)
    if grant is None or grant.token != token:
        return
    if now:
        world.saw("a lock is taken away at once")
    elif grant.offer:
        world.saw("an offer is set to end")
    elif not grant.ttl_ms:
        world.saw("a lock is cut out of its session")


def _sweep_resource(world: World, table: "LockTable", request: tuple[Any, ...]) -> None:
    if request[2] in table.handing_on:
        world.saw("a resource has more dead waiters than one command passes over")


def _open_session(world: World, table: "LockTable", request: tuple[Any, ...]) -> None:
    if request[2] in table.nonces:
        world.saw("a session is opened twice with one nonce")


_NOTES = {
    int(Op.EXPIRE_LOCK): _expire_lock,
    int(Op.EXPIRE_SESSION): _expire_session,
    int(Op.CLOSE_SESSION): _close_session,
    int(Op.ACQUIRE): _acquire,
    int(Op.CANCEL): _cancel,
    int(Op.WAIT_TIMEOUT): _wait_timeout,
    int(Op.LOGGED_RENEW): _logged_renew,
    int(Op.CHANGE_TTL): _change_ttl,
    int(Op.FORCE_RELEASE): _force_release,
    int(Op.SWEEP_RESOURCE): _sweep_resource,
    int(Op.OPEN_SESSION): _open_session,
}


def note_answer(world: World, request: tuple[Any, ...], answer: tuple[Any, ...]) -> None:
    """Count what an answer of apply tells."""
    code = request[0]
    if code == Op.LOGGED_RENEW:
        return
    status = answer[1]
    if status == Status.QUOTA_EXCEEDED:
        world.saw("a quota is exceeded")
    elif code == Op.CANCEL and status == Status.CANCELLED:
        if answer[4] == GRANT_WITHDRAWN:
            world.saw("a cancel releases a grant")
        elif answer[4] == WAITER_WITHDRAWN:
            world.saw("a cancel removes a waiter")
    elif code == Op.ACQUIRE:
        if status == Status.OFFERED:
            world.saw("a repeated acquire gets its recorded OFFERED")
        elif status == Status.NOT_HELD:
            world.saw("a repeated acquire finds its grant over")
