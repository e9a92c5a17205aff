"""A fault that changes the members: a voter is removed and comes back with an empty disk, under whatever else goes wrong.

It owns which nodes are out. The command is `raftlock members`, as an administrator gives it; where the cluster has no
majority at that moment it is refused, or its outcome is not known, and that is part of the fault.
"""

import random
import shutil
import sys
import time

from chaos.nodes import Nodes
from chaos.shell import ToolFailed, run

BACK_S = 25.0
"""How long a node may take to catch up when all faults are undone."""
TOOL_S = 90.0
"""Longer than the command may take by its own limits, so that it says itself what it waited for."""
LATE_S = 1.0
"""A request that a node held while it was paused has its effect, if any, within this time of its going on."""


class Membership:
    """Removes nodes for the length of a fault, and adds them again when it is over."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._touched: set[int] = set()
        self.findings: list[str] = []
        """What must not be: a node that could not come back although nothing was wrong any more."""

    def replace(self, node_id: int, rng: random.Random) -> str:
        """Remove a member and replace its disk; half of the time while its process is down."""
        self._touched.add(node_id)
        if rng.random() < 0.5:
            self._nodes.kill(node_id)
        try:
            self._members("remove", str(node_id), "--timeout", "5s")
        except ToolFailed as failed:
            return f"node {node_id} may not be removed now: {failed}"
        self._empty(node_id)
        return f"node {node_id} is removed, and starts again with an empty disk"

    def finish(self) -> None:
        """Bring everybody back as a voter, when the other faults are undone and all nodes run."""
        touched, self._touched = sorted(self._touched), set()
        if not touched:
            return
        time.sleep(LATE_S)
        for node_id in touched:
            try:
                self._bring_back(node_id)
            except ToolFailed as failed:
                self.findings.append(f"node {node_id} cannot be a member again: {failed}")

    def _bring_back(self, node_id: int) -> None:
        peer = self._nodes.network.addresses(node_id).peer
        back = ("add", peer, "--promote", "--wait", f"{BACK_S:.0f}s", "--timeout", "10s")
        try:
            self._members(*back)
        except ToolFailed as failed:
            # Its removal had no answer, and took effect: the directory that it has is out for good.
            if "empty its data directory" not in str(failed):
                raise
            self._empty(node_id)
            self._members(*back)

    def _empty(self, node_id: int) -> None:
        self._nodes.kill(node_id)
        shutil.rmtree(self._nodes.data(node_id), ignore_errors=True)
        self._nodes.start(node_id)

    def _members(self, *arguments: str) -> None:
        endpoints = ",".join(self._nodes.endpoints)
        run(
            sys.executable, "-m", "raftlock.cli.main", "members", *arguments,
            "--endpoints", endpoints, limit_s=TOOL_S,
        )  # fmt: skip
