"""What goes wrong: each fault by its name, how it begins and how it ends; and a schedule of them from a seed.

A fault is drawn with everything that it needs (which node, how long, how much) before the run begins, so the same seed
gives the same schedule. Which node leads at that moment is the cluster's own doing, and is looked up when it strikes.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from chaos.membership import Membership
from chaos.nodes import Nodes
from chaos.wiring import Wiring

CLIENTS = 0
"""What a wiring calls those that are no nodes."""
FAULT_S = (2.0, 6.0)
QUIET_S = (2.0, 5.0)
COMBINED = 0.25
"""How often a second fault joins the first."""


class Leader(Protocol):
    """Who leads, as the observer saw it last."""

    def __call__(self) -> int:
        """Return a node's id."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault of the schedule: when it begins and for how long it lasts, in seconds of the run."""

    name: str
    at_s: float
    lasts_s: float
    seed: int


def schedule(seed: int, seconds: float, names: list[str]) -> list[Strike]:
    """Draw the faults of a run. Every fault comes once before any comes twice."""
    rng = random.Random(seed)
    strikes: list[Strike] = []
    at_s = 3.0
    bag: list[str] = []
    while True:
        lasts_s = rng.uniform(*FAULT_S)
        if at_s + lasts_s > seconds:
            return strikes
        for _ in range(2 if rng.random() < COMBINED else 1):
            if not bag:
                bag = rng.sample(names, len(names))
            strikes.append(Strike(bag.pop(), at_s, lasts_s, rng.randrange(1 << 32)))
        at_s += lasts_s + rng.uniform(*QUIET_S)


class Nemesis:
    """Carries faults out and takes them back."""

    def __init__(self, network: Wiring, nodes: Nodes, leader: Leader) -> None:
        self._network, self._nodes, self._leader = network, nodes, leader
        self._members = Membership(nodes)
        self.findings = self._members.findings
        """What a fault itself saw that must not be."""
        self._begin: dict[str, Callable[[random.Random, float], str]] = {
            "cut off one node": self._cut_one,
            "cut off the leader": self._cut_leader,
            "leader with clients alone": self._leader_and_clients,
            "bridge": self._bridge,
            "one way to the leader": self._deaf_leader,
            "one way from the leader": self._mute_leader,
            "kill -9 one": self._kill_one,
            "kill -9 leader": self._kill_leader,
            "kill -9 all": self._kill_all,
            "pause one": self._pause_one,
            "pause leader": self._pause_leader,
            "lose packets": self._lose,
            "slow link": self._slow,
            "latency": self._latency,
            "links reset": self._reset_links,
            "tails lost": self._lose_tails,
            "rolling restart": self._rolling,
            "clock jumps": self._clock,
            "disk full": self._disk_full,
            "slow disk": self._slow_disk,
            "flipped bit": self._flip,
            "cut file": self._cut_file,
            "replaced node": self._replace,
        }
        self._until_end: list[Callable[[], None]] = []

    @property
    def all_names(self) -> list[str]:
        """Return all faults."""
        return list(self._begin)

    @property
    def left_out(self) -> dict[str, str]:
        """Return the faults that this machine cannot do, each with the reason."""
        reasons = dict(self._network.left_out)
        if not self._nodes.has_faults:
            reasons |= dict.fromkeys(("clock jumps", "slow disk"), "needs a C compiler")
        if not self._nodes.has_disks:
            reasons.setdefault("disk full", "this machine mounts no file system for each node")
        return reasons

    @property
    def names(self) -> list[str]:
        """Return the faults that this machine can do."""
        return [name for name in self._begin if name not in self.left_out]

    def begin(self, strike: Strike) -> str:
        """Begin a fault. Return what it did, in words."""
        return self._begin[strike.name](random.Random(strike.seed), strike.lasts_s)

    def end(self) -> None:
        """Take everything back: heal the network, and let every node run."""
        ends, self._until_end = self._until_end, []
        # The last first: two faults may have damaged the same file.
        for undo in reversed(ends):
            undo()
        self._network.heal()
        self._nodes.heal()
        self._members.finish()

    def _replace(self, rng: random.Random, _: float) -> str:
        node_id = self._leader() if rng.random() < 0.5 else self._any(rng)
        return self._members.replace(node_id, rng)

    def _others(self, node_id: int) -> list[int]:
        return [other for other in self._nodes.ids if other != node_id]

    def _any(self, rng: random.Random) -> int:
        return rng.choice(self._nodes.ids)

    # partitions

    def _cut(self, node_id: int, *, clients_too: bool) -> None:
        others = self._others(node_id)
        pairs = [(node_id, other) for other in others] + [(other, node_id) for other in others]
        self._network.drop(pairs, also_clients=[node_id] if clients_too else [])

    def _cut_one(self, rng: random.Random, _: float) -> str:
        node_id = self._any(rng)
        self._cut(node_id, clients_too=rng.random() < 0.5)
        return f"node {node_id}"

    def _cut_leader(self, rng: random.Random, _: float) -> str:
        node_id = self._leader()
        self._cut(node_id, clients_too=True)
        del rng
        return f"node {node_id}"

    def _leader_and_clients(self, rng: random.Random, _: float) -> str:
        del rng
        node_id = self._leader()
        self._cut(node_id, clients_too=False)
        return f"node {node_id} has clients and no peers"

    def _bridge(self, rng: random.Random, _: float) -> str:
        a, b, *_rest = rng.sample(self._nodes.ids, len(self._nodes.ids))
        self._network.drop([(a, b), (b, a)])
        return f"nodes {a} and {b} do not hear each other, all others do"

    def _deaf_leader(self, rng: random.Random, _: float) -> str:
        del rng
        node_id = self._leader()
        self._network.drop([(other, node_id) for other in self._others(node_id)])
        return f"node {node_id} hears nobody"

    def _mute_leader(self, rng: random.Random, _: float) -> str:
        del rng
        node_id = self._leader()
        self._network.drop([(node_id, other) for other in self._others(node_id)])
        return f"nobody hears node {node_id}"

    def _lose(self, rng: random.Random, _: float) -> str:
        percent = rng.choice([5, 15, 30])
        nodes = rng.sample(self._nodes.ids, rng.randint(1, len(self._nodes.ids)))
        self._network.lose(nodes, percent)
        return f"{percent} % of what comes to nodes {sorted(nodes)}"

    def _slow(self, rng: random.Random, _: float) -> str:
        node_id, kilobits = self._any(rng), rng.choice([64, 256, 1_000])
        self._network.slow(node_id, kilobits)
        return f"node {node_id} sends {kilobits} kbit/s"

    def _latency(self, rng: random.Random, _: float) -> str:
        low_ms = rng.choice([50, 100, 150])
        high_ms = rng.choice([2, 3]) * low_ms if low_ms < 150 else 300
        a, b, *rest = rng.sample(self._nodes.ids, len(self._nodes.ids))
        if rng.random() < 0.5:
            self._network.delay([(a, b), (b, a)], low_ms, high_ms)
            return f"{low_ms} to {high_ms} ms each way between nodes {a} and {b}"
        others = [CLIENTS, b, *rest]
        pairs = [(a, other) for other in others] + [(other, a) for other in others]
        self._network.delay(pairs, low_ms, high_ms)
        return f"{low_ms} to {high_ms} ms each way between node {a} and all others"

    def _reset_links(self, rng: random.Random, _: float) -> str:
        a, b, *_rest = rng.sample(self._nodes.ids, len(self._nodes.ids))
        self._network.reset([(a, b), (b, a)])
        return f"connections between nodes {a} and {b} are reset, again and again"

    def _lose_tails(self, rng: random.Random, _: float) -> str:
        nodes = rng.sample(self._nodes.ids, rng.randint(1, len(self._nodes.ids)))
        self._network.lose_tails(nodes)
        return f"all connections of nodes {sorted(nodes)} end, and what was under way is lost"

    # processes

    def _kill_one(self, rng: random.Random, _: float) -> str:
        node_id = self._any(rng)
        self._nodes.kill(node_id)
        return f"node {node_id}"

    def _kill_leader(self, rng: random.Random, _: float) -> str:
        del rng
        node_id = self._leader()
        self._nodes.kill(node_id)
        return f"node {node_id}"

    def _kill_all(self, rng: random.Random, _: float) -> str:
        del rng
        for node_id in self._nodes.ids:
            self._nodes.kill(node_id)
        time.sleep(0.5)
        self._nodes.heal()
        return "all nodes, started again after half a second"

    def _pause_one(self, rng: random.Random, _: float) -> str:
        node_id = self._any(rng)
        self._nodes.pause(node_id)
        return f"node {node_id}"

    def _pause_leader(self, rng: random.Random, _: float) -> str:
        del rng
        node_id = self._leader()
        self._nodes.pause(node_id)
        return f"node {node_id}"

    def _rolling(self, rng: random.Random, lasts_s: float) -> str:
        order = rng.sample(self._nodes.ids, len(self._nodes.ids))
        for node_id in order:
            self._nodes.terminate(node_id)
            self._nodes.start(node_id)
            time.sleep(lasts_s / (len(order) + 1))
        return f"nodes {order}, one after the other"

    # machines

    def _clock(self, rng: random.Random, _: float) -> str:
        node_id, offset_s = self._any(rng), rng.choice([-7_200, -60, 60, 7_200])
        self._nodes.set_clock(node_id, offset_s)
        self._until_end.append(lambda: self._nodes.set_clock(node_id, 0))
        return f"node {node_id} by {offset_s:+d} s"

    def _disk_full(self, rng: random.Random, _: float) -> str:
        node_id = self._any(rng)
        self._nodes.fill_disk(node_id)
        self._until_end.append(lambda: self._nodes.free_disk(node_id))
        return f"node {node_id}"

    def _slow_disk(self, rng: random.Random, _: float) -> str:
        node_id, ms = self._any(rng), rng.choice([20, 100, 500])
        self._nodes.slow_disk(node_id, ms)
        self._until_end.append(lambda: self._nodes.slow_disk(node_id, 0))
        return f"node {node_id}: each sync takes {ms} ms longer"

    def _flip(self, rng: random.Random, _: float) -> str:
        return self._damage(rng, cut=False)

    def _cut_file(self, rng: random.Random, _: float) -> str:
        return self._damage(rng, cut=True)

    def _damage(self, rng: random.Random, *, cut: bool) -> str:
        """Damage a node's log while it is down. It must refuse to start; then the damage is taken back."""
        node_id = self._any(rng)
        self._nodes.kill(node_id)
        damaged = self._nodes.damage(node_id, rng, cut=cut)
        if damaged is None:
            return f"node {node_id} has no log to damage yet"
        file, whole = damaged
        if not self._nodes.refuses_to_start(node_id):
            self.findings.append(f"node {node_id} started although {file.name} was damaged")
        self._until_end.append(lambda: _put_back(file, whole))
        return f"node {node_id}: {file.name}; it refused to start"


def _put_back(file: Path, whole: bytes) -> None:
    file.write_bytes(whole)
