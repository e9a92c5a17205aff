"""Bugs of the kind that real systems had, as patches of the production code: the simulator must catch each.

`python -m tests.sim.planted` runs them all and prints by what and at which seed each was caught.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from unittest.mock import patch

from raftlock.audit import AuditLog
from raftlock.client import asking
from raftlock.raft import election, replication, state
from raftlock.server import leading, lease_clock, leases
from raftlock.server.auditing import Auditing
from raftlock.storage.small_files import VoteFile
from raftlock.testing.disk import SimDisk
from raftlock.testing.run import SeedResult, run_seed

PROFILES = ("default", "clock")
"""Each seed is run under both: a wrong clock shows where clocks are worst."""

Patches = Callable[[], list[AbstractContextManager[object]]]


def _no_sync(disk: SimDisk, name: str) -> None:
    del name
    disk._mutate()


def _elected_long_ago(self: leases.Leases, elected_us: int) -> None:
    self.end()
    self._elected_us = elected_us - 5_000_000


def _due_early(
    self: object, now_us: int, count_max: int, inner: Callable[..., object] = leases.Timers.due
) -> object:
    return inner(self, now_us + 400_000, count_max)


def _count_from_retry(
    self: asking.Asking,
    ask: asking.Ask,
    now_us: int,
    inner: Callable[..., None] = asking.Asking._try,
) -> None:
    inner(self, ask, now_us)
    ask.first_us = ask.sent_us


def _vote_for_all(
    message_state: state.RaftState, sender: int, message: object, now_us: int
) -> None:
    if message.term > message_state.current_term and not message.pre_vote:  # type: ignore[attr-defined]
        message_state.become_follower(message.term, 0, now_us)  # type: ignore[attr-defined,arg-type]
    election._answer(message_state, sender, message, granted=True)  # type: ignore[arg-type]


def _own_clock(self: lease_clock.LeaseClock, stamp_us: int) -> int:
    self._stamp_us = max(self._stamp_us, stamp_us)
    return self._stamp_us


def _propose_nothing(self: leading.Leading, table: object, now_us: int) -> None:
    del self, table, now_us


def _vote_once(
    self: VoteFile, hard_state: object, inner: Callable[..., None] = VoteFile.write
) -> None:
    if self._sequence == 0:
        inner(self, hard_state)


PLANTED: dict[str, Patches] = {
    "a sync that does not sync": lambda: [patch.object(SimDisk, "fdatasync", _no_sync)],
    "a renewal that re-arms nothing": lambda: [
        patch.object(leases.Leases, "renew", lambda *a: None)
    ],
    "a keep-alive that re-arms nothing": lambda: [
        patch.object(leases.Leases, "keep_alive", lambda *a: None)
    ],
    "leases that count from before the election": lambda: [
        patch.object(leases.Leases, "begin", _elected_long_ago)
    ],
    "leases that end 400 ms early": lambda: [patch.object(leases.Timers, "due", _due_early)],
    "a client that counts from its retry": lambda: [
        patch.object(asking.Asking, "_try", _count_from_retry)
    ],
    "votes for anybody": lambda: [patch.object(election, "on_request_vote", _vote_for_all)],
    "a vote that is not persisted": lambda: [patch.object(VoteFile, "write", _vote_once)],
    "an answer to entries that does not wait for the disk": lambda: [
        patch.object(state.RaftState, "fence_for", lambda *a: 0)
    ],
    "renewals answered without a quorum": lambda: [
        patch.object(
            replication, "confirmed_round", lambda s: s.round if s.role.name == "LEADER" else 0
        )
    ],
    "a lease clock that is the node's own": lambda: [
        patch.object(lease_clock.LeaseClock, "continue_from", _own_clock)
    ],
    "a snapshot that does not wait for the audit": lambda: [
        patch.object(Auditing, "awaits_checkpoint", False)
    ],
    "an audit that is never synced": lambda: [patch.object(AuditLog, "_sync", lambda *a: None)],
    "nothing is ever expired": lambda: [
        patch.object(leading.Leading, "propose_due", _propose_nothing)
    ],
}


def hunt(name: str, seeds: range) -> SeedResult | None:
    """Run seeds with a bug planted until one fails. Return that one, or None."""
    with ExitStack() as stack:
        for change in PLANTED[name]():
            stack.enter_context(change)
        for seed in seeds:
            for profile in PROFILES:
                result = run_seed(seed, profile)
                if result.failure:
                    return result
    return None


def main() -> int:
    """Hunt, and print a line a bug. Return 1 if one was missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.planted", description=__doc__)
    parser.add_argument("--seeds", default="0-11", help="FIRST-LAST (default: 0-11)")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    missed = 0
    for name in PLANTED:
        caught = hunt(name, range(int(first), int(last or first) + 1))
        missed += caught is None
        said = "NOT CAUGHT"
        if caught is not None:
            said = f"seed {caught.seed} {caught.profile}: {caught.kind}: {caught.failure.strip().splitlines()[-1]}"
        print(f"{name:<55} {said[:140]}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
