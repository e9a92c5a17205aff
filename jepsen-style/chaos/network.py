"""A network of its own for each node: namespaces, veth pairs and a bridge, all inside this run's namespace.

The run itself lives in an anonymous network and mount namespace, entered before anything else starts (`enter`). So all
of it is gone when the run has ended, however it ended, and nothing else on the machine is touched.
"""

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from chaos.shell import ToolFailed, run
from chaos.wiring import Addresses

CLIENT_PORT, PEER_PORT, HTTP_PORT = 7401, 7411, 7421
SUBNET = "10.77.0"
LAB = f"{SUBNET}.254"
"""The address of the clients."""
MARK = "RAFTLOCK_CHAOS_NAMESPACE"
TOOLS = ("unshare", "nsenter", "ip", "nft", "tc")
PR_SET_PDEATHSIG, SIGKILL = 1, 9


def enter() -> str:
    """Go on in namespaces of our own: returns "" there; otherwise why the machine forbids it."""
    if os.environ.get(MARK):
        return ""
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        for tool in TOOLS:
            run("sh", "-c", f"command -v {tool}")
        run("unshare", "--net", "--mount", "true")
    except ToolFailed as error:
        return str(error)
    os.environ[MARK] = "1"
    # Mounts of this run are private to it. This call does not return.
    return os.execvp("unshare", ["unshare", "--net", "--mount", sys.executable, *sys.orig_argv[1:]])


def address(node_id: int) -> str:
    """Return a node's address."""
    return f"{SUBNET}.{node_id}"


def die_with_parent() -> None:
    """Let the kernel kill this child when the run is gone."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)


class Network:
    """The bridge, and one namespace a node, held open by a process that only sleeps."""

    def __init__(self, node_ids: Iterable[int]) -> None:
        self.node_ids = list(node_ids)
        self._holders: dict[int, subprocess.Popen[bytes]] = {}
        self._left_out = {"tails lost": "only a proxy can end a connection without what was sent"}

    @property
    def left_out(self) -> dict[str, str]:
        """See Wiring."""
        return self._left_out

    def addresses(self, node_id: int) -> Addresses:
        """See Wiring."""
        host = address(node_id)
        return Addresses(
            client=f"{host}:{CLIENT_PORT}", peer=f"{host}:{PEER_PORT}", http=f"{host}:{HTTP_PORT}"
        )

    def up(self) -> None:
        """Build it."""
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "bridge0", "type", "bridge")
        run("ip", "addr", "add", f"{LAB}/24", "dev", "bridge0")
        run("ip", "link", "set", "bridge0", "up")
        for node_id in self.node_ids:
            holder = subprocess.Popen(
                ["unshare", "--net", "sleep", "infinity"], preexec_fn=die_with_parent
            )
            self._holders[node_id] = holder
            self._wait_for_namespace(holder.pid)
            outside, inside = f"veth{node_id}", f"peer{node_id}"
            run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside)
            run("ip", "link", "set", inside, "netns", str(holder.pid))
            run("ip", "link", "set", outside, "master", "bridge0", "up")
            self.inside(node_id, "ip", "link", "set", "lo", "up")
            self.inside(node_id, "ip", "addr", "add", f"{address(node_id)}/24", "dev", inside)
            self.inside(node_id, "ip", "link", "set", inside, "up")
        try:
            self._netem(self.node_ids[0], 1, 2)
        except ToolFailed:
            self._left_out["latency"] = "this kernel has no netem"
        self.heal()

    @staticmethod
    def _wait_for_namespace(pid: int) -> None:
        mine = Path("/proc/self/ns/net").readlink()
        # `unshare` has entered its namespace before it becomes the sleeper.
        while Path(f"/proc/{pid}/ns/net").readlink() == mine:
            os.sched_yield()

    def down(self) -> None:
        """End the holders; the namespaces end with them."""
        for holder in self._holders.values():
            holder.kill()
            holder.wait()

    def prefix(self, node_id: int) -> list[str]:
        """Return what to put before a command so that it runs in a node's namespace."""
        return ["nsenter", "--target", str(self._holders[node_id].pid), "--net"]

    def inside(self, node_id: int, *command: str, given: str | None = None) -> str:
        """Run a tool in a node's namespace."""
        return run(*self.prefix(node_id), *command, given=given)

    # faults

    def heal(self) -> None:
        """Let everything through at full speed."""
        for node_id in self.node_ids:
            self._rules(node_id, [])
            self.inside(
                node_id, "sh", "-c", f"tc qdisc del dev peer{node_id} root 2>/dev/null || true"
            )

    def drop(self, pairs: Iterable[tuple[int, int]], *, also_clients: Iterable[int] = ()) -> None:
        """Drop what goes from the first to the second of each pair; and all clients' packets to some nodes."""
        rules: dict[int, list[str]] = {node_id: [] for node_id in self.node_ids}
        for source, target in pairs:
            rules[target].append(f"ip saddr {address(source)} drop")
        for node_id in also_clients:
            rules[node_id].append(f"ip saddr {LAB} drop")
        for node_id, lines in rules.items():
            self._rules(node_id, lines)

    def lose(self, node_ids: Iterable[int], percent: int) -> None:
        """Lose some of what arrives at these nodes, from anybody."""
        for node_id in node_ids:
            self._rules(node_id, [f"numgen random mod 100 < {percent} drop"])

    def slow(self, node_id: int, kilobits: int) -> None:
        """Let a node send no faster than this."""
        self.inside(
            node_id, "tc", "qdisc", "replace", "dev", f"peer{node_id}", "root", "tbf",
            "rate", f"{kilobits}kbit", "burst", "16kb", "latency", "400ms",
        )  # fmt: skip

    def delay(self, pairs: Iterable[tuple[int, int]], low_ms: int, high_ms: int) -> None:
        """See Wiring; here all that the first of each pair sends is late."""
        for source in {source for source, _ in pairs if source in self._holders}:
            self._netem(source, low_ms, high_ms)

    def _netem(self, node_id: int, low_ms: int, high_ms: int) -> None:
        middle, jitter = (low_ms + high_ms) / 2, (high_ms - low_ms) / 2
        self.inside(
            node_id, "tc", "qdisc", "replace", "dev", f"peer{node_id}", "root", "netem",
            "delay", f"{middle}ms", f"{jitter}ms",
        )  # fmt: skip

    def reset(self, pairs: Iterable[tuple[int, int]]) -> None:
        """See Wiring."""
        rules: dict[int, list[str]] = {}
        for source, target in pairs:
            line = f"ip saddr {address(source)} meta l4proto tcp reject with tcp reset"
            rules.setdefault(target, []).append(line)
        for node_id, lines in rules.items():
            self._rules(node_id, lines)

    def lose_tails(self, node_ids: Iterable[int]) -> None:
        """See Wiring."""
        raise NotImplementedError(self._left_out["tails lost"])

    def _rules(self, node_id: int, lines: list[str]) -> None:
        body = "\n".join(f"    {line}" for line in lines)
        self.inside(
            node_id, "nft", "--file", "-",
            given=(
                "add table inet chaos\ndelete table inet chaos\n"
                "table inet chaos {\n  chain input {\n    type filter hook input priority 0;\n"
                f"{body}\n  }}\n}}\n"
            ),
        )  # fmt: skip
