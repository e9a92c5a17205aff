"""The state machine's versions: which commands each defines, and how the version in force is raised (decision 7).

It owns the table of versions that this build knows. The log holds only what the version in force defines. A later
version is a mapping of its own here: what it changes has another function, or asks for `table.version`. A version stays
as long as a log or a snapshot of it may have to be read.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from raftlock.locks import commands, handover
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

if TYPE_CHECKING:
    from raftlock.locks.table import Applied, LockTable

Handler = Callable[["LockTable", tuple[Any, ...], str, str, "Applied"], tuple[Any, ...]]
Versions = Mapping[int, Mapping[int, Handler]]
"""Version to the code of each command that it defines, and what carries it out."""


class UnknownCommand(Exception):
    """The log holds a command that the version in force does not define: the node stops, it never skips (decision 7)."""


class UnknownVersion(Exception):
    """The cluster's state machine is of a version that this build does not know: the node stops (decision 7)."""

    def __init__(self, *, version: int, index: int, known: list[int]) -> None:
        here = f"{known[0]} to {known[-1]}" if len(known) > 1 else f"{known[0]} alone"
        super().__init__(
            f"version {version} of the state machine is in force from index {index} on, and this build knows {here}: "
            "start a build that knows it, on the same data directory"
        )
        self.version, self.index, self.known = version, index, known


def set_version(
    table: "LockTable",
    request: tuple[Any, ...],
    principal: str,
    address: str,
    applied: "Applied",
) -> tuple[Any, ...]:
    """Raise the version from the next entry on; one that is not higher does nothing. Raise UnknownVersion."""
    del principal, address, applied
    version = request[2]
    if version > table.next_version:
        known(table.versions, version, index=table.applied_index)
        table.next_version = version
    return (0, int(Status.OK), True)


def known(versions: Versions, version: int, *, index: int) -> Mapping[int, Handler]:
    """Return the commands of a version. Raise UnknownVersion if this build does not know it."""
    found = versions.get(version)
    if found is None:
        raise UnknownVersion(version=version, index=index, known=sorted(versions))
    return found


VERSION_1: Mapping[int, Handler] = {
    Op.OPEN_SESSION: commands.open_session,
    Op.CLOSE_SESSION: commands.close_session,
    Op.ACQUIRE: commands.acquire,
    Op.CANCEL: commands.cancel,
    Op.CHANGE_TTL: commands.change_ttl,
    Op.RELEASE: commands.release,
    Op.FORCE_RELEASE: commands.force_release,
    Op.EXPIRE_LOCK: commands.expire_lock,
    Op.EXPIRE_SESSION: commands.expire_session,
    Op.WAIT_TIMEOUT: commands.wait_timeout,
    Op.SWEEP_SESSION: handover.sweep_session,
    Op.SWEEP_RESOURCE: handover.sweep_resource,
    Op.LOGGED_RENEW: commands.logged_renew,
    Op.GENESIS: commands.genesis,
    Op.NEW_LIFE: commands.new_life,
    Op.SET_SETTINGS: commands.set_settings,
    Op.SET_VERSION: set_version,
}

VERSIONS: Versions = {1: VERSION_1}
