"""A network namespace for each node, all inside one of this run: what is cut here is cut nowhere else.

The run enters an anonymous namespace before anything else starts (`enter`), so all of it is gone when the run has
ended, however it ended.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from bench.peers.base import Place
from raftlock.cli.child import die_with_parent

SUBNET = "10.78.0"
CLIENTS = f"{SUBNET}.254"
MARK = "RAFTLOCK_BENCH_NAMESPACE"
TOOLS = ("unshare", "nsenter", "ip", "nft")
SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def enter() -> str:
    """Go on in a namespace of our own: return "" there; otherwise why the machine forbids it."""
    if os.environ.get(MARK):
        return ""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for tool in TOOLS:
        if shutil.which(tool, path=SEARCHED) is None:
            return f"{tool} is not installed"
    try:
        run("unshare", "--net", "true")
    except OSError as error:
        return str(error)
    os.environ |= {MARK: "1", "PATH": SEARCHED}
    # This call does not return.
    return os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.orig_argv[1:]])


def run(*command: str, given: str | None = None) -> None:
    """Run a tool. Raise OSError with what it said if it fails."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")


class Network:
    """A bridge for the clients, and a namespace a node, held open by a process that only sleeps."""

    def __init__(self, nodes: int) -> None:
        self._nodes = range(nodes)
        self._holders: list[subprocess.Popen[bytes]] = []

    @property
    def places(self) -> list[Place]:
        """Return where each node runs."""
        return [Place(host=_host(node), prefix=self._inside(node)) for node in self._nodes]

    def _inside(self, node: int) -> tuple[str, ...]:
        return ("nsenter", "--target", str(self._holders[node].pid), "--net")

    def up(self) -> None:
        """Build it."""
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "bench0", "type", "bridge")
        run("ip", "addr", "add", f"{CLIENTS}/24", "dev", "bench0")
        run("ip", "link", "set", "bench0", "up")
        for node in self._nodes:
            # The shell says when it is there, and then only waits.
            holder = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"],
                stdout=subprocess.PIPE,
                preexec_fn=die_with_parent(os.getpid()),
            )
            self._holders.append(holder)
            assert holder.stdout is not None
            holder.stdout.readline()
            outside, inside = f"bench-{node}", f"node-{node}"
            run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside)
            run("ip", "link", "set", inside, "netns", str(holder.pid))
            run("ip", "link", "set", outside, "master", "bench0", "up")
            enter_it = self._inside(node)
            run(*enter_it, "ip", "link", "set", "lo", "up")
            run(*enter_it, "ip", "addr", "add", f"{_host(node)}/24", "dev", inside)
            run(*enter_it, "ip", "link", "set", inside, "up")

    def down(self) -> None:
        """End the holders; the namespaces end with them."""
        for holder in self._holders:
            holder.kill()
            holder.wait()
            assert holder.stdout is not None
            holder.stdout.close()

    def cut(self, node: int) -> None:
        """Drop all that reaches a node or leaves it, without a word to anybody."""
        run(*self._inside(node), "nft", "--file", "-", given=CUT)

    def join(self, node: int) -> None:
        """Let everything through again."""
        run(*self._inside(node), "nft", "delete", "table", "inet", "bench")


CUT = """
table inet bench {
  chain input { type filter hook input priority 0; iif lo accept; drop; }
  chain output { type filter hook output priority 0; oif lo accept; drop; }
}
"""


def _host(node: int) -> str:
    return f"{SUBNET}.{node + 1}"


@contextmanager
def network(nodes: int) -> Iterator[Network]:
    """Run a network for some nodes."""
    built = Network(nodes)
    try:
        built.up()
        yield built
    finally:
        built.down()
