"""The lease clock (rule L7): the leader's monotonic clock without the turns that took too long.

It owns the reading that every deadline, receipt and stamp of a leader is made of. It does not know what they are for.
"""

from raftlock_wire.invariant import check

STALL_US = 50_000
"""A gap between two readings longer than this is not counted: renewals may have lain unread in the sockets."""


class LeaseClock:
    """A clock that stands still over stalls of the loop, and never goes back within a leadership."""

    def __init__(self) -> None:
        self._stamp_us = 0
        self.read_us: int | None = None
        """The machine's time at the latest reading."""
        self.longest_gap_us = 0

    @property
    def stamp_us(self) -> int:
        """Return the latest reading."""
        return self._stamp_us

    def read(self, now_us: int) -> int:
        """Advance to the machine's monotonic time `now_us`, read after the last input of the turn. Return the stamp."""
        if self.read_us is not None:
            gap_us = now_us - self.read_us
            check(gap_us >= 0, "the monotonic clock does not go back")
            self.longest_gap_us = max(self.longest_gap_us, gap_us)
            if gap_us <= STALL_US:
                self._stamp_us += gap_us
        self.read_us = now_us
        return self._stamp_us

    def continue_from(self, stamp_us: int) -> int:
        """Go on from the highest stamp in a new leader's log. Return the stamp.

        Also when this node's own clock is ahead: it ran on since this node led last, while the cluster's stood still
        over stalls and elections, and a lease of the logged class would end early by the difference (seed 0 of the
        simulator: 62 ms).
        """
        self._stamp_us = stamp_us
        return self._stamp_us
