"""Carries out a schedule of faults, and undoes each after a while.

It owns what each kind of fault means. When they strike is drawn before (profiles).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from raftlock.testing.faulty_disk import FaultyDisk
from raftlock.testing.members import MemberChanges
from raftlock.testing.network import NetworkFaults
from raftlock.testing.node import WALL_START_US, SimNode
from raftlock.testing.profiles import Fault
from raftlock_wire.messages import Op

if TYPE_CHECKING:
    from raftlock.testing.cluster import SimCluster

HOUR_US = 3_600_000_000


def _long(amount: float, low_us: int, high_us: int) -> int:
    return int(low_us + amount * (high_us - low_us))


class Nemesis:
    """What goes wrong in one run."""

    def __init__(self, cluster: "SimCluster", faults: Sequence[Fault]) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._members = MemberChanges(cluster)
        self._rng = cluster.world.stream("nemesis")
        self.crashes = 0
        for fault in faults:
            self._world.at(fault.at_us, lambda fault=fault: self._strike(fault))  # type: ignore[misc]

    def _strike(self, fault: Fault) -> None:
        self._world.note(f"fault {fault.kind}")
        strike: Callable[[Fault], None] = getattr(self, f"_{fault.kind}")
        strike(fault)

    # who

    def _nodes(self) -> list[SimNode]:
        """Return the members, in order of their ids."""
        members = self._cluster.members()
        return [self._cluster.nodes[m.node_id] for m in members.members]

    def _any(self, pick: float) -> SimNode:
        nodes = self._nodes()
        return nodes[int(pick * len(nodes))]

    def _leader_or_any(self, pick: float) -> SimNode:
        return self._cluster.leader() or self._any(pick)

    def _may_lose_a_disk(self, node: SimNode) -> bool:
        """Return whether a majority keeps its disks without this one too (guarantee 8)."""
        lost = [n for n in self._cluster.nodes.values() if n.out_of_service or n.rotten]
        voters = self._cluster.members().voters
        return (
            not lost
            and node.node_id in voters
            and not self._members.busy
            and not self._members.shrank
        )

    # processes

    def _down(self, node: SimNode, amount: float, *, power: bool) -> None:
        if not node.up:
            return
        self.crashes += 1
        if power:
            node.cut_power()
        else:
            node.kill()
        self._start_later(node, _long(amount, 1_000, 3_000_000))

    def _start_later(self, node: SimNode, delay_us: int) -> None:
        self._world.after(delay_us, node.start)

    def _crash(self, fault: Fault) -> None:
        self._down(self._any(fault.pick), fault.amount, power=True)

    def _crash_leader(self, fault: Fault) -> None:
        self._down(self._leader_or_any(fault.pick), fault.amount, power=True)

    def _kill(self, fault: Fault) -> None:
        node = self._leader_or_any(fault.pick) if fault.way < 0.5 else self._any(fault.pick)
        self._down(node, fault.amount, power=False)

    def _crash_all(self, fault: Fault) -> None:
        for number, node in enumerate(self._cluster.nodes.values()):
            self._down(node, (fault.amount + number * fault.way) % 1, power=True)

    def _crash_in_disk(self, fault: Fault) -> None:
        """Die between two calls to the disk."""
        node = self._any(fault.pick)
        if node.up:
            self.crashes += 1
            disk = node.audit_disk if fault.way < 0.3 else node.disk
            disk.crash_after(int(fault.amount * 30))

    def _crash_in_start(self, fault: Fault) -> None:
        """Lose power, and once more between two calls of the next start."""
        node = self._any(fault.pick)
        self._down(node, fault.amount, power=True)
        if not node.up:
            node.disk.crash_after(int(fault.way * 12))

    def _crash_in_turn(self, fault: Fault) -> None:
        """Die with only a part of the effects of a turn carried out."""
        node = self._leader_or_any(fault.pick) if fault.way < 0.5 else self._any(fault.pick)
        if node.up:
            self.crashes += 1
            node.tear_next_turn = True

    def _stop(self, node: SimNode, time_us: int, *, asleep: bool = False) -> None:
        if not node.up or node.paused:
            return
        life = node.life
        node.pause()

        def resume() -> None:
            if node.paused and node.life == life:
                node.resume(slept_us=time_us if asleep else 0)

        self._world.after(time_us, resume)

    def _pause(self, fault: Fault) -> None:
        self._stop(self._any(fault.pick), _long(fault.amount, 20_000, 4_000_000))

    def _pause_leader(self, fault: Fault) -> None:
        self._stop(self._leader_or_any(fault.pick), _long(fault.amount, 20_000, 4_000_000))

    def _stall_leader(self, fault: Fault) -> None:
        """Stop for about as long as the lease clock still counts, and no election begins."""
        self._stop(self._leader_or_any(fault.pick), _long(fault.amount, 30_000, 140_000))

    def _sleep(self, fault: Fault) -> None:
        self._stop(self._any(fault.pick), _long(fault.amount, 50_000, 6_000_000), asleep=True)

    def _sleep_leader(self, fault: Fault) -> None:
        node = self._leader_or_any(fault.pick)
        self._stop(node, _long(fault.amount, 50_000, 6_000_000), asleep=True)

    def _wall_jump(self, fault: Fault) -> None:
        node = self._leader_or_any(fault.pick) if fault.way < 0.5 else self._any(fault.pick)
        node.wall_offset_us = WALL_START_US + int((fault.amount - 0.5) * 20 * HOUR_US)

    def _transfer(self, fault: Fault) -> None:
        """Hand leadership over; sometimes to a successor that does not hear of it."""
        leader = self._cluster.leader()
        if leader is not None and leader.driver is not None:
            target = leader.driver.raft.transfer_target()
            if target and fault.way < 0.4:
                self._clog_for(leader.node_id, target, _long(fault.amount, 100_000, 800_000))
            leader.driver.hand_over(leader.now_us())
            leader.wake()

    def _snapshot(self, fault: Fault) -> None:
        """Let a node save a snapshot at its next turn, however short its log is."""
        self._save_snapshot(self._any(fault.pick))

    @staticmethod
    def _save_snapshot(node: SimNode) -> None:
        if node.driver is not None and node.driver.snapshots._stream is None:
            node.driver.snapshots._log_size = 1 << 40
            node.wake()

    def _in_transfer(self, fault: Fault, tries: int = 2_000) -> None:
        """When a follower next receives a snapshot: crash its leader, or let the leader save a newer one."""
        receives = any(
            n.driver is not None and n.driver.raft.state.incoming is not None for n in self._nodes()
        )
        if receives and fault.way < 0.5:
            self._down(self._leader_or_any(fault.pick), fault.amount, power=True)
        elif receives:
            self._save_snapshot(self._leader_or_any(fault.pick))
        elif tries:
            self._world.after(2_000, lambda: self._in_transfer(fault, tries - 1))

    def _diverge(self, fault: Fault) -> None:
        """Let a leader without followers go on writing, slowly or not, while the others go on and compact their logs."""
        leader = self._leader_or_any(fault.pick)
        self._cluster.abandon(leader.node_id)
        if fault.way < 0.5:
            leader.disk.slow = 200.0
            self._world.after(800_000, lambda: setattr(leader.disk, "slow", 1.0))
        others = [node for node in self._nodes() if node is not leader]
        for node in others:
            saves = partial(self._save_snapshot, node)
            self._world.after(_long(fault.pick, 60_000, 250_000), saves)
        self._world.after(_long(fault.amount, 100_000, 600_000), self._cluster.heal)

    # the network

    def _heal_later(self, amount: float) -> None:
        self._world.after(_long(amount, 100_000, 3_000_000), self._cluster.heal)

    def _cut_off(self, side: set[int], fault: Fault) -> None:
        clients = {c.number for c in self._cluster.clients if self._rng.random() < 0.4}
        both_ways = fault.way < 0.7
        self._world.note(f"cut {sorted(side)} both_ways={both_ways}")
        self._cluster.cut(side, both_ways=both_ways, clients=clients)
        self._heal_later(fault.amount)

    def _cut(self, fault: Fault) -> None:
        nodes = sorted(self._cluster.nodes)
        count = 1 + int(fault.pick * (len(nodes) - 1))
        self._cut_off(set(self._rng.sample(nodes, count)), fault)

    def _cut_leader(self, fault: Fault) -> None:
        self._cut_off({self._leader_or_any(fault.pick).node_id}, fault)

    def _abandon_leader(self, fault: Fault) -> None:
        node = self._leader_or_any(fault.pick)
        self._world.note(f"abandon n{node.node_id}")
        self._cluster.abandon(node.node_id)
        self._heal_later(fault.amount)

    def _bridge(self, fault: Fault) -> None:
        """Two halves that reach each other only through one node."""
        nodes = [n.node_id for n in self._nodes()]
        bridge = nodes.pop(int(fault.pick * len(nodes)))
        middle = (len(nodes) + 1) // 2
        self._world.note(f"bridge n{bridge} between {nodes[:middle]} and {nodes[middle:]}")
        self._split([(a, b) for a in nodes[:middle] for b in nodes[middle:]], fault)

    def _ring(self, fault: Fault) -> None:
        """Every node reaches a majority, and no two the same one."""
        nodes = [n.node_id for n in self._nodes()]
        count = len(nodes)
        reach = count // 2
        cut = [
            (a, b)
            for i, a in enumerate(nodes)
            for j, b in enumerate(nodes)
            if i < j and min(j - i, count - (j - i)) > max(1, reach // 2)
        ]
        self._split(cut or [(nodes[0], nodes[-1])], fault)

    def _split(self, pairs: Sequence[tuple[int, int]], fault: Fault) -> None:
        for a, b in pairs:
            self._cluster.network.cut([a], [b], both_ways=fault.way < 0.8)
            self._cluster.lose_links_late(a, b)
        self._heal_later(fault.amount)

    def _clog(self, fault: Fault) -> None:
        """Keep back everything on one way between two nodes, and let it all go at once."""
        a = self._leader_or_any(fault.pick).node_id
        others = [n.node_id for n in self._nodes() if n.node_id != a]
        if not others:
            return
        b = others[int(fault.pick * len(others))]
        source, target = (a, b) if fault.way < 0.5 else (b, a)
        self._clog_for(source, target, _long(fault.amount, 20_000, 2_000_000))

    def _clog_for(self, source: int, target: int, time_us: int) -> None:
        network = self._cluster.network
        network.clog(source, target)
        self._world.after(time_us, lambda: network.unclog(source, target))

    def _slow_peer(self, fault: Fault) -> None:
        node_id = self._any(fault.pick).node_id
        slow_us = self._cluster.network.slow_us
        slow_us[node_id] = _long(fault.amount, 5_000, 120_000)
        self._world.after(_long(fault.way, 200_000, 4_000_000), lambda: slow_us.pop(node_id, None))

    def _slow_client(self, fault: Fault) -> None:
        """Let some clients' messages take so long that keep-alives and renewals come at the last moment."""
        slow_us = self._cluster.network.slow_us
        for client in self._cluster.clients:
            if self._rng.random() < 0.4:
                slow_us[-client.number] = _long(fault.amount, 20_000, 500_000)
        self._world.after(_long(fault.way, 1_000_000, 4_000_000), slow_us.clear)

    def _lossy(self, fault: Fault) -> None:
        rng = self._rng
        self._cluster.network.faults = NetworkFaults(
            loss=rng.choice([0.0, 0.01, 0.1]),
            duplicate=rng.choice([0.0, 0.01, 0.1]),
            delay_max_us=rng.choice([500, 5_000, 30_000]),
            tail=rng.choice([0.0, 0.01]),
            echo=rng.choice([0.0, 0.01]),
            torn=rng.choice([0.0, 0.0, 0.01]),
        )
        del fault

    # disks

    def _sync_fails(self, fault: Fault) -> None:
        node = self._leader_or_any(fault.pick) if fault.way < 0.5 else self._any(fault.pick)
        node.disk.fail_once("fdatasync")

    def _disk_full(self, fault: Fault) -> None:
        """Leave hardly any room on one disk, or on all of them, so that no hand-over helps."""
        node = self._leader_or_any(fault.pick) if fault.way < 0.6 else self._any(fault.pick)
        nodes = self._nodes() if fault.pick < 0.3 else [node]
        for full in nodes:
            self._fill(
                full.disk, int(fault.way * (1 << 13)), _long(fault.amount, 300_000, 4_000_000)
            )

    def _fill(self, disk: FaultyDisk, left: int, time_us: int) -> None:
        if disk.capacity is None:
            disk.capacity = sum(disk.size(name) for name in disk.list()) + left
            self._world.after(time_us, lambda: setattr(disk, "capacity", None))

    def _slow_disk(self, fault: Fault) -> None:
        disk = (self._leader_or_any(fault.pick) if fault.way < 0.5 else self._any(fault.pick)).disk
        disk.slow = 10 ** (0.5 + 2.5 * fault.amount)

        def fast() -> None:
            disk.slow = 1.0

        self._world.after(_long(fault.way, 200_000, 3_000_000), fast)

    def _rot(self, fault: Fault) -> None:
        """Flip a bit of a node's data while it is down."""
        node = self._any(fault.pick)
        if not self._may_lose_a_disk(node):
            return
        if node.up:
            self.crashes += 1
            node.cut_power()
        where = node.disk.rot(fault.amount)
        if where:
            self._world.note(f"n{node.node_id} rots: {where}")
            node.rotten = True
        self._start_later(node, 50_000)

    def _empty(self, fault: Fault) -> None:
        """Give a node an empty directory."""
        node = self._any(fault.pick)
        if not self._may_lose_a_disk(node):
            return
        if node.up:
            self.crashes += 1
            node.cut_power()
        self._cluster.links_are_checked = True
        node.replace_disk()
        node.start()
        self._cluster.check_is_refused(node)

    # members

    def _add_learner(self, fault: Fault) -> None:
        self._members.add_learner(fault.pick)
        if fault.way < 0.6:
            later_us = _long(fault.amount, 300_000, 2_000_000)
            self._world.after(later_us, lambda: self._members.promote(fault.pick))

    def _lonely_change(self, fault: Fault) -> None:
        """Let a leader that has just lost its followers begin a change, which its successor undoes."""
        leader = self._cluster.leader()
        if leader is None or self._cluster.members().learners:
            return
        self._cluster.abandon(leader.node_id)
        self._members.begin_on(leader, fault.pick)
        self._world.after(2_000, lambda: self._save_snapshot(leader))
        self._world.after(_long(fault.amount, 200_000, 1_500_000), self._cluster.heal)

    def _promote(self, fault: Fault) -> None:
        self._members.promote(fault.pick)

    def _remove(self, fault: Fault) -> None:
        self._members.remove(self._any(fault.pick))

    def _remove_leader(self, fault: Fault) -> None:
        self._members.remove(self._leader_or_any(fault.pick))

    def _replace(self, fault: Fault) -> None:
        del fault
        self._members.replace_lost()

    def _quota(self, fault: Fault) -> None:
        """Lower replicated limits by a logged command, as an administrator's tool will."""
        leader = self._cluster.leader()
        if leader is None or leader.driver is None:
            return
        small = {"waiters_per_resource_max": 2, "sessions_max": 6, "slots_max": 2}
        large = {"waiters_per_resource_max": 1_000, "sessions_max": 1_000, "slots_max": 4_096}
        leader.driver.leading.batcher.command(
            (int(Op.SET_SETTINGS), 0, small if fault.way < 0.5 else large)
        )
        leader.wake()

    # versions: nothing where all nodes have the same build

    def _restart(self, node: SimNode | None, fault: Fault) -> None:
        """Stop a process in good order or not, and start it with the build that it has now."""
        if node is not None:
            self._down(node, fault.amount / 4, power=fault.way < 0.3)

    def _upgrade(self, fault: Fault) -> None:
        if self._cluster.mixed is not None:
            self._restart(self._cluster.mixed.upgrade(fault.pick), fault)

    def _downgrade(self, fault: Fault) -> None:
        if self._cluster.mixed is not None:
            self._restart(self._cluster.mixed.downgrade(fault.pick), fault)

    def _in_switch(self, fault: Fault) -> None:
        """While the command that raises the version is on its way: end a process, and perhaps start it with the older build."""
        mixed = self._cluster.mixed
        if mixed is None:
            return

        def strike() -> None:
            node = mixed.downgrade(fault.pick) if fault.way < 0.7 else self._any(fault.pick)
            self._restart(node, fault)

        mixed.when_proposed = strike

    def _new_command(self, fault: Fault) -> None:
        del fault
        if self._cluster.mixed is not None:
            self._cluster.mixed.use_new_command()

    # clients

    def _client_dies(self, fault: Fault) -> None:
        clients = self._cluster.clients
        clients[int(fault.pick * len(clients))].die()

    def _client_pauses(self, fault: Fault) -> None:
        clients = self._cluster.clients
        client = clients[int(fault.pick * len(clients))]
        if not client.paused:
            client.pause()
            self._world.after(_long(fault.amount, 50_000, 6_000_000), client.resume)

    # the end

    def end(self) -> None:
        """Stop all that goes wrong; what cannot be mended stays as it is."""
        cluster = self._cluster
        cluster.network.faults = NetworkFaults()
        for node in cluster.nodes.values():
            node.disk.crash_after(None)
            node.audit_disk.crash_after(None)
            node.disk.fail_no_more()
            node.disk.slow = 1.0
            node.disk.capacity = None
            node.tear_next_turn = False
        cluster.heal()
        for node in cluster.nodes.values():
            if node.paused:
                node.resume()
            elif node.store is not None and not node.up:
                node.start()
        for client in cluster.clients:
            if client.paused:
                client.resume()
