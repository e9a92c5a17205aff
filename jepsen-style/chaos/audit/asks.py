"""One operation of a client on its way: sent, perhaps several times, until its answer is final."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chaos.audit.ledger import UNKNOWN, Said
from raftlock_wire.messages import Op
from raftlock_wire.status import Status

NAMES = {
    Op.ACQUIRE: "acquire", Op.RELEASE: "release", Op.RENEW: "renew", Op.CHANGE_TTL: "change_ttl",
    Op.FORCE_RELEASE: "force_release", Op.CANCEL: "cancel",
}  # fmt: skip


@dataclass(slots=True)
class Ask:
    """One operation. `fields` are those of the request behind its id."""

    op: Op
    fields: tuple[Any, ...]
    logged: bool = True
    """Whether the log, and so the audit, has it: most renewals go past it."""
    attempts: int = 0
    queued: bool = False
    status: str = UNKNOWN
    token: int = 0
    rev: int = 0
    done: Callable[[], None] | None = None
    began_s: float = field(default_factory=time.monotonic)

    @property
    def key(self) -> tuple[int, int, int]:
        """Return (session, slot, n) of an acquire or a cancel."""
        session, slot, n = self.fields[:3]
        return session, slot, n

    def not_taken(self) -> None:
        """Take an answer that says that this attempt has no effect and no record."""
        self.attempts -= 1

    def take(self, message: tuple[Any, ...]) -> bool:
        """Take an answer. Return whether the operation has ended with it."""
        status, final = Status(message[1]), message[2]
        if self.op is Op.RENEW:
            return self._take_renewal(status, message)
        if status is Status.QUEUED:
            self.queued = True
        if final:
            self.status = status.name
            if self.op is Op.ACQUIRE and status in (Status.OK, Status.OFFERED):
                self.token, self.rev = message[4], message[5]
            return True
        if status not in (Status.QUEUED, Status.UNKNOWN):
            self.not_taken()
        return False

    def _take_renewal(self, status: Status, message: tuple[Any, ...]) -> bool:
        item: tuple[Any, ...] = message[3][0] if status is Status.OK else (status,)
        said = Status(item[0])
        if said in (Status.NO_QUORUM, Status.OVERLOADED, Status.BAD_REQUEST):
            self.not_taken()
        if said not in (Status.OK, Status.ENDING, Status.NOT_HELD):
            return False
        self.status = said.name
        if said is Status.OK:
            self.rev = item[2]
        return True

    def said(self) -> Said | None:
        """Return the line of the ledger; None for what leaves no record."""
        name = NAMES[self.op]
        if self.op is Op.ACQUIRE:
            resource, owner = self.fields[3], self.fields[4]
            return Said(
                name, resource, self.token, *self.key, owner, "", self.status, self.attempts
            )
        if self.op is Op.CANCEL:
            return Said(name, "", 0, *self.key, status=self.status, attempts=self.attempts)
        if self.op is Op.RENEW:
            if not self.logged:
                return None
            [(resource, token)] = self.fields[0]
            # A refusal may be answered from the table: then it is no command of the log.
            status = self.status if self.status == "OK" else UNKNOWN
            return Said(name, resource, token, status=status, attempts=self.attempts)
        resource, token = self.fields[:2]
        detail = str(self.fields[2]) if len(self.fields) > 2 else ""
        return Said(
            name, resource, token, detail=detail, status=self.status, attempts=self.attempts
        )
