"""The log on its way to the disk: one write at a time, what waits for it, and the room ahead of it.

It owns the writes that wait and the one under way, the frames held until theirs is durable, when the log is sealed, and
whether there is room for its next segment (decisions 10 to 12). It must not know what is written, nor who leads.
"""

from collections import deque

from raftlock.server.effects import Effects, PeerFrame
from raftlock.server.jobs import PrepareJob, SealJob, WriteDone, WriteJob
from raftlock.storage import Prepared
from raftlock_wire.entry import Write

SEAL_AFTER_US = 20_000
ROOM_EVERY_US = 1_000_000
"""While the disk is full, whether it still is is tried so often."""


class Writing:
    """The writes of the log, as the driver sees them: asked for, under way, durable."""

    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        self._writes: list[Write] = []
        self._held: deque[tuple[int, PeerFrame]] = deque()
        self.since_us: int | None = None
        """When the write began that is under way; None: none is."""
        self.durable = 0
        """All writes up to this number are durable."""
        self.room = True
        """Whether the next segment of the log can be preallocated (decision 12)."""
        self._room_tried_us = 0
        self._preparing = False
        self._sealed = True
        self._last_us = 0

    # writes

    def write(self, write: Write, now_us: int) -> None:
        """Write this after what was asked for before."""
        self._writes.append(write)
        if self.since_us is None:
            self._start(now_us)

    def _start(self, now_us: int) -> None:
        # One write at a time (decision 10): what comes meanwhile is the next record.
        self._effects.jobs.append(WriteJob(tuple(self._writes)))
        self._writes.clear()
        self.since_us = now_us

    def written(self, done: WriteDone, now_us: int) -> None:
        """Learn that the write under way is durable."""
        self.durable = done.number
        self.since_us = None
        self._last_us = now_us
        self._sealed = False
        # At once, before anything that later jobs of this turn lead to: a snapshot of a newer term must not be
        # installed before that term is durable.
        if self._writes:
            self._start(now_us)
        if not done.spare_is_ready:
            self._prepare()

    # what must not leave before a write is durable

    def send(self, frame: PeerFrame, after_write: int) -> None:
        """Send a frame as soon as the write with this number is durable."""
        if after_write <= self.durable:
            self._effects.peer_frames.append(frame)
        else:
            self._held.append((after_write, frame))

    def let_go(self) -> None:
        """Send the frames that waited for what is durable by now."""
        while self._held and self._held[0][0] <= self.durable:
            self._effects.peer_frames.append(self._held.popleft()[1])

    # the next segment

    def _prepare(self) -> None:
        """Let a slice of the next segment be preallocated, one at a time between the writes."""
        if not self._preparing:
            self._preparing = True
            self._effects.jobs.append(PrepareJob())

    def prepared(self, result: Prepared, now_us: int) -> None:
        """Learn whether there was room for a slice of the next segment, and go on with the next one."""
        self._preparing = False
        room = result is not Prepared.NO_ROOM
        self._room_tried_us = now_us
        if room != self.room:
            self.room = room
            self._effects.notice("disk_has_room" if room else "disk_full")
        if result is Prepared.MORE and self.since_us is None:
            self._prepare()

    def try_room(self, now_us: int) -> None:
        """Try a disk again that was full."""
        if not self.room and now_us - self._room_tried_us >= ROOM_EVERY_US:
            self._prepare()

    # the seal

    def seal(self, now_us: int) -> bool:
        """Seal the log when nothing was written for a while (decision 10). Return whether that is now."""
        if self._sealed or self.since_us is not None or now_us - self._last_us < SEAL_AFTER_US:
            return False
        self._sealed = True
        self._effects.jobs.append(SealJob())
        self._prepare()
        return True

    @property
    def wake_us(self) -> int | None:
        """Return when the log is to be sealed; None if it is, or will be later by what comes first."""
        # While a write is under way there is nothing to seal: its end is what wakes the node, and not this time, which
        # may have passed.
        if self._sealed or self.since_us is not None:
            return None
        return self._last_us + SEAL_AFTER_US

    def queue_lengths(self) -> dict[str, int]:
        """Return how much waits where."""
        return {"writes": len(self._writes), "messages_held_for_disk": len(self._held)}
