"""What leaders have promised by answering a renewal, a keep-alive or a change of ttl, and whether they keep it (L3, L4).

A client that holds on to its margin sees a promise broken only when other things go wrong at that very moment. This
sees it when the command that breaks it is applied on the node that promised, in the term in which it did.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from raftlock.testing.invariants import Violation
from raftlock.testing.node import SimNode
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

if TYPE_CHECKING:
    from raftlock.locks import LockTable
    from raftlock.server.leading import Leading
    from raftlock.server.reads import Read, RenewItem

Office = tuple[int, int, int]
"""(node, life, term)"""


class PromiseChecks:
    """For each leadership, until when on its lease clock it has promised what."""

    def __init__(self, nodes: Mapping[int, SimNode]) -> None:
        self._nodes = nodes
        self._office: Office = (0, 0, 0)
        self._until_us: dict[int, int] = {}
        """Of the newest leadership that promised anything: token, or minus a session, to the lease clock's time."""

    def _enter(self, leading: "Leading") -> bool:
        """Turn to a leadership. Return False for one that is older than the newest."""
        for node in self._nodes.values():
            driver = node.driver
            if driver is not None and driver.leading is leading:
                office = (int(node.node_id), node.life, int(driver.raft.term))
                if office != self._office and office[2] > self._office[2]:
                    self._office = office
                    self._until_us = {}
                return office == self._office
        return False

    def renewed(self, leading: "Leading", item: "RenewItem", answer: tuple[Any, ...]) -> None:
        """Learn of an answer to one lease of a renewal."""
        if answer[0] == Status.OK and answer[3] and self._enter(leading):
            self._promise(item.token, item.receipt_us + answer[3] * 1_000)

    def kept_alive(
        self, leading: "Leading", table: "LockTable", read: "Read", answer: tuple[Any, ...]
    ) -> None:
        """Learn of an answer by the state."""
        if read.request[0] == Op.KEEP_ALIVE and answer[1] == Status.OK and self._enter(leading):
            view = table.session(read.request[2])
            assert view is not None
            self._promise(-read.request[2], read.receipt_us + view.ttl_ms * 1_000)

    def _promise(self, key: int, until_us: int) -> None:
        self._until_us[key] = max(until_us, self._until_us.get(key, 0))

    def _is_in_office(self, table: "LockTable") -> bool:
        node_id, life, term = self._office
        node = self._nodes.get(node_id)
        if node is None or node.life != life or node.driver is None:
            return False
        driver = node.driver
        return driver.table is table and driver.serving and driver.raft.term == term

    def applied(
        self, table: "LockTable", request: tuple[Any, ...], before: bool, answer: tuple[Any, ...]
    ) -> None:
        """Check a command that was just applied. `before`: whether there was what an Expire would end."""
        code = request[0]
        if code == Op.CHANGE_TTL and answer[1] == Status.OK and self._is_in_office(table):
            self._until_us[request[3]] = table.stamp_us + request[4] * 1_000
        if code not in (Op.EXPIRE_LOCK, Op.EXPIRE_SESSION) or not before:
            return
        if is_there(table, request) or not self._is_in_office(table):
            return
        key = request[3] if code == Op.EXPIRE_LOCK else -request[2]
        until_us = self._until_us.get(key, 0)
        if table.stamp_us < until_us:
            raise Violation(
                "promises kept",
                f"node {self._office[0]} ends {request[2:]} at {table.stamp_us} us of its lease clock, "
                f"and has answered OK to what keeps it until {until_us}",
            )


def is_there(table: "LockTable", request: tuple[Any, ...]) -> bool:
    """Return whether there is what an Expire names."""
    if request[0] == Op.EXPIRE_LOCK:
        grant = table.lookup(request[2])
        return grant is not None and grant.token == request[3]
    if request[0] == Op.EXPIRE_SESSION:
        session = table.session(request[2])
        return session is not None and not session.ended
    return False
