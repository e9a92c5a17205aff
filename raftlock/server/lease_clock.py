"""The lease clock (rule L7): the leader's monotonic clock without the turns that took too long.

It owns the reading that every deadline, receipt and stamp of a leader is made of. It does not know what they are for.
"""

from raftlock_wire.invariant import check

STALL_US = 50_000
"""A gap between two readings longer than this is not counted: renewals may have lain unread in the sockets."""


class LeaseClock:
    """A clock that never goes back, and stands still over stalls of the loop."""

    def __init__(self) -> None:
        self._stamp_us = 0
        self._read_us: int | None = None
        self.longest_gap_us = 0

    @property
    def stamp_us(self) -> int:
        """Return the latest reading."""
        return self._stamp_us

    def read(self, now_us: int) -> int:
        """Advance to the machine's monotonic time `now_us`, read after the last input of the turn. Return the stamp."""
        if self._read_us is not None:
            gap_us = now_us - self._read_us
            check(gap_us >= 0, "the monotonic clock does not go back")
            self.longest_gap_us = max(self.longest_gap_us, gap_us)
            if gap_us <= STALL_US:
                self._stamp_us += gap_us
        self._read_us = now_us
        return self._stamp_us

    def continue_from(self, stamp_us: int) -> int:
        """Go on from the highest stamp in a new leader's log, never back. Return the stamp."""
        self._stamp_us = max(self._stamp_us, stamp_us)
        return self._stamp_us
