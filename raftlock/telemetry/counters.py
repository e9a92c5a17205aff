"""What the core counts while it works: plain integers that the wiring reads when somebody asks.

It owns numbers only. Pure: the driver runs with it in the simulator as it does in production, and reads no clock for
it. The hot path counts by group of requests, a large group in two passes at the speed of C; everything else is one
addition.
"""

from collections.abc import Sequence
from typing import Any

from raftlock.telemetry.histogram import COUNT, DURATION_US, SIZE, Histogram
from raftlock_wire.messages import Event, Op
from raftlock_wire.status import Status

OPERATIONS = {int(op): op.name.lower() for op in Op if Op.OPEN_SESSION <= op <= Op.AUDIT_READ}
STATUSES = tuple(status.name.lower() for status in Status)
EVENTS = {int(event): event.name.lower() for event in Event}
REFUSALS = ("bad_request", "queue", "disk", "no_leader", "sessions", "bad_frame")
"""Why this node did not take an attempt: it was not appended (rule R4)."""
LARGE_GROUP = 16
SAMPLES_MAX = 1_024
"""Batches whose end the wiring has not timed yet; what is beyond that is not timed."""

_WIDTH = len(STATUSES)
_ACQUIRE, _RELEASE = int(Op.ACQUIRE), int(Op.RELEASE)
_ACQUIRE_LENGTH, _RELEASE_LENGTH = 10, 4


class Counters:
    """Everything that happened in one node's core since it started."""

    def __init__(self) -> None:
        self.now_us = 0
        """When the turn began, on the machine's monotonic clock: the driver sets it."""
        self.operations = [0] * (_WIDTH * (max(OPERATIONS) + 1))
        self.refusals = dict.fromkeys(REFUSALS, 0)
        self.events = [0] * (max(EVENTS) + 1)
        self.forwarded = 0
        self.expiries = {"lock": 0, "session": 0, "wait": 0}
        self.sweeps = 0
        self.batch_requests = Histogram(COUNT)
        self.batch_bytes = Histogram(SIZE)
        self.log_requests = Histogram(DURATION_US)
        self.rounds = Histogram(DURATION_US)
        self.entries_applied = 0
        self.answered_since: list[int] = []
        """When the first request came of each batch that was answered in this turn: the wiring times them."""
        self._batch_since_us: int | None = None
        self._proposed: dict[int, int] = {}
        self._round: tuple[int, int] | None = None

    # operations

    def operation(self, code: int, status: int) -> None:
        """Count one answer; of a renew: one lease's."""
        self.operations[code * _WIDTH + status] += 1

    def plain_group(self, group: Sequence[Any], answers: Sequence[tuple[Any, ...]]) -> None:
        """Count the answers of a group (principal, address, *requests) of nothing but acquires and releases."""
        count = len(answers)
        # Nearly always all are OK: two passes in C take half of the loop's time from about 100 requests on, and are
        # what loses below 16.
        if count >= LARGE_GROUP and [answer[1] for answer in answers].count(0) == count:
            elements = sum(map(len, group)) - len(group[0]) - len(group[1])
            acquires = (elements - _RELEASE_LENGTH * count) // (_ACQUIRE_LENGTH - _RELEASE_LENGTH)
            self.operations[_ACQUIRE * _WIDTH] += acquires
            self.operations[_RELEASE * _WIDTH] += count - acquires
        else:
            self.group(group, answers)

    def group(self, group: Sequence[Any], answers: Sequence[tuple[Any, ...]]) -> None:
        """Count the answers of a group (principal, address, *requests)."""
        operations = self.operations
        for position, answer in enumerate(answers, 2):
            operations[group[position][0] * _WIDTH + answer[1]] += 1

    def refused(self, answers: Sequence[tuple[Any, ...]]) -> None:
        """Count attempts that the door did not take, by reason."""
        for answer in answers:
            status = answer[1]
            if status == Status.OVERLOADED:
                reason = str(answer[4])
            elif status == Status.NO_QUORUM:
                reason = "no_leader"
            else:
                reason = "sessions" if status == Status.QUOTA_EXCEEDED else "bad_request"
            self.refusals[reason] = self.refusals.get(reason, 0) + 1

    def by_operation(self) -> dict[tuple[str, ...], float]:
        """Return what was answered, by operation and status; what never was is left out."""
        return {
            (name, STATUSES[status]): self.operations[code * _WIDTH + status]
            for code, name in OPERATIONS.items()
            for status in range(_WIDTH)
            if self.operations[code * _WIDTH + status]
        }

    # time: the driver says which batch, the wiring when

    def request_came(self) -> None:
        """Note that the batch being gathered has begun, unless it had."""
        if self._batch_since_us is None:
            self._batch_since_us = self.now_us

    def proposed(self, index: int, requests: int, size: int) -> None:
        """Note a batch that became an entry."""
        self.batch_requests.observe(requests)
        self.batch_bytes.observe(size)
        if self._batch_since_us is not None:
            self._proposed[index] = self._batch_since_us
            self._batch_since_us = None

    def applied(self, index: int) -> None:
        """Note an entry that was applied, and answered if it was this node's."""
        self.entries_applied += 1
        since_us = self._proposed.pop(index, None)
        if since_us is not None and len(self.answered_since) < SAMPLES_MAX:
            self.answered_since.append(since_us)

    def gave_up(self) -> None:
        """Forget batches and rounds under way: leadership is lost."""
        self._proposed.clear()
        self._batch_since_us = None
        self._round = None

    def turn_ended(self, now_us: int) -> None:
        """Time the batches that were answered in the turn that ends now, its writes included."""
        for since_us in self.answered_since:
            self.log_requests.observe(now_us - since_us)
        self.answered_since.clear()

    def round_began(self, number: int) -> None:
        """Note a quorum round for reads and renewals (rule L4)."""
        self._round = (number, self.now_us)

    def round_confirmed(self, number: int) -> None:
        """Note that rounds up to `number` are confirmed."""
        if self._round is not None and self._round[0] <= number:
            self.rounds.observe(self.now_us - self._round[1])
            self._round = None
