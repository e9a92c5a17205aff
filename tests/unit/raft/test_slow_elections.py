"""Elections where votes take longer than an election timeout."""

import heapq
import random

import pytest

from raftlock.raft import Message, Raft, Role
from raftlock_wire.ids import Index, NodeId
from tests.unit.raft.kit import ELECTION_US, leader, log_of, members, node

STEP_US, NETWORK_US = 5_000, 1_000


def first_commit_us(seed: int, *, sync_us: int, until_us: int) -> int:
    """Run three fresh nodes whose writes take `sync_us`. Return when the first entry was committed; 0 if never."""
    rng = random.Random(seed)
    nodes = {
        i: node(i, of=members(1, 2, 3), term=0, seed=rng.randrange(1 << 30)) for i in (1, 2, 3)
    }
    held: dict[int, list[tuple[int, int, Message]]] = {i: [] for i in nodes}
    disk_free_us = dict.fromkeys(nodes, 0)
    events: list[tuple[int, int, int, object]] = []
    count = 0

    def ready(i: int, raft: Raft, now_us: int) -> None:
        nonlocal count
        while True:
            found = raft.ready()
            if found.write is not None:
                # One write at a time: the next one waits for the one before.
                disk_free_us[i] = max(disk_free_us[i], now_us) + sync_us
                count += 1
                heapq.heappush(events, (disk_free_us[i], count, i, found.write.number))
            held[i] += [(after, to, message) for to, message, after in found.messages]
            if not found.elected:
                break
            raft.begin_term(stamp_us=0, wall_us=0)
        durable = raft.state.durable_number
        for after, to, message in held[i]:
            if after <= durable:
                count += 1
                heapq.heappush(events, (now_us + NETWORK_US, count, to, (i, message)))
        held[i] = [h for h in held[i] if h[0] > durable]

    for now_us in range(0, until_us, STEP_US):
        while events and events[0][0] <= now_us:
            _, _, i, what = heapq.heappop(events)
            if isinstance(what, int):
                nodes[i].durable(what)
            else:
                sender, message = what  # type: ignore[misc]
                nodes[i].step(NodeId(sender), message, now_us)
            ready(i, nodes[i], now_us)
        for i, raft in nodes.items():
            raft.tick(now_us)
            ready(i, raft, now_us)
            if raft.role is Role.LEADER and raft.commit_index:
                return now_us
    return 0


@pytest.mark.parametrize("seed", range(10))
def test_a_leader_is_found_where_a_vote_takes_longer_than_a_timeout(seed: int) -> None:
    """With disks of 400 ms and timeouts of 150 to 300 ms, some term has a leader that commits, within 20 s."""
    assert first_commit_us(seed, sync_us=400_000, until_us=20_000_000) > 0


def test_patience_doubles_and_ends_with_a_commit() -> None:
    """From the second election without a commit on, timeouts double, up to eight times; a commit ends that."""
    raft = node(log=log_of(1))
    seen = []
    for elections in range(7):
        raft.state.elections = elections
        seen.append(raft.state.patience)
    raft.state.commit_to(Index(1))
    seen.append(raft.state.patience)

    assert seen == [1, 1, 2, 4, 8, 8, 8, 1]


def test_a_leader_that_stalled_does_not_step_down_for_it() -> None:
    """A leader that did not run for longer than an election timeout gives its peers the time to answer."""
    raft = leader()

    raft.tick(ELECTION_US + 10_000_000)

    assert raft.role is Role.LEADER


def test_a_leader_whose_every_turn_stalls_still_steps_down() -> None:
    """Stalls are left out, but not without end: a leader without its majority is gone after a few turns."""
    raft = leader()
    turns = 0
    while raft.role is Role.LEADER and turns < 100:
        turns += 1
        raft.tick(ELECTION_US + turns * 1_000_000)

    assert turns == 5
