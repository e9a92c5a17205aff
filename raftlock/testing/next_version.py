"""A next version of the state machine, for tests of a change of version only: no build of it exists (decision 7).

It adds one command and changes one rule, and both show in the state: nodes that do not change at the same index differ.
"""

from typing import TYPE_CHECKING, Any

from raftlock.locks import VERSIONS, Versions, commands
from raftlock.locks.versions import VERSION_1
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

if TYPE_CHECKING:
    from raftlock.locks import Applied, LockTable

NEXT = max(VERSIONS) + 1
PASS_OVER = 63
"""[63, 0]: the new command. One number of the token counter is given to nobody."""


def _open_session(
    table: "LockTable", request: tuple[Any, ...], principal: str, address: str, applied: "Applied"
) -> tuple[Any, ...]:
    """The changed rule: after each new session one number of the counter is given to nobody."""
    before = table.session_counter
    answer = commands.open_session(table, request, principal, address, applied)
    table.session_counter += table.session_counter - before
    return answer


def _pass_over(
    table: "LockTable", request: tuple[Any, ...], principal: str, address: str, applied: "Applied"
) -> tuple[Any, ...]:
    del request, principal, address, applied
    table.token += 1
    return (0, int(Status.OK), True)


WITH_NEXT: Versions = {
    **VERSIONS,
    NEXT: {**VERSION_1, Op.OPEN_SESSION: _open_session, PASS_OVER: _pass_over},
}
"""What a build of the next release knows."""
