"""What one turn of the driver wants done, as data: the wiring and the simulator carry it out."""

from dataclasses import dataclass, field
from typing import NamedTuple

from raftlock.server.audit_jobs import AuditJob
from raftlock.server.jobs import Job
from raftlock.server.record_jobs import RecordsJob
from raftlock_wire.ids import NodeId


class ClientFrame(NamedTuple):
    """A payload for one client connection of this node."""

    conn_id: int
    payload: bytes


class CloseClient(NamedTuple):
    """End a client connection, after what was sent to it."""

    conn_id: int


class PeerFrame(NamedTuple):
    """A payload for a peer, over this node's link to it. Lost if the link is down."""

    peer: NodeId
    payload: bytes


class Notice(NamedTuple):
    """Something that an operator wants to know, for the log."""

    event: str
    fields: dict[str, int | str]


@dataclass(slots=True)
class Effects:
    """Everything that a turn decided. The order between the lists does not matter; within each it does."""

    client_frames: list[ClientFrame] = field(default_factory=list)
    client_closes: list[CloseClient] = field(default_factory=list)
    peer_frames: list[PeerFrame] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    audit_jobs: list[AuditJob] = field(default_factory=list)
    record_jobs: list[RecordsJob] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    wake_us: int = 0
    """Monotonic time of the next turn, if nothing happens before."""

    def notice(self, event: str, **fields: int | str) -> None:
        """Add something that an operator wants to know."""
        self.notices.append(Notice(event, fields))

    def take(self, wake_us: int) -> "Effects":
        """Return everything so far, and begin anew: who adds to these effects goes on with the same object."""
        taken = Effects(
            client_frames=self.client_frames,
            client_closes=self.client_closes,
            peer_frames=self.peer_frames,
            jobs=self.jobs,
            audit_jobs=self.audit_jobs,
            record_jobs=self.record_jobs,
            notices=self.notices,
            wake_us=wake_us,
        )
        self.client_frames, self.client_closes, self.peer_frames = [], [], []
        self.jobs, self.audit_jobs, self.record_jobs, self.notices = [], [], [], []
        return taken
