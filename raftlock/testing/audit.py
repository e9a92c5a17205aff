"""What must hold of the nodes' audit at the end of a simulated run: chains verify, and segments are the same bytes."""

from collections.abc import Mapping

from raftlock.audit.format import parse_name
from raftlock.audit.verify import Report, verify
from raftlock.testing.disk import SimDisk
from raftlock.testing.invariants import Violation
from raftlock.testing.node import AUDIT_RULE, SimNode


class SimSource:
    """A simulated directory, as `verify` reads it."""

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk

    def list(self) -> list[str]:
        """See Source."""
        return self._disk.list()

    def read(self, name: str) -> bytes:
        """See Source."""
        return self._disk.pread(name, 0, self._disk.size(name))


def check_audit(nodes: Mapping[int, SimNode]) -> dict[int, Report]:
    """Raise Violation unless every node's audit verifies and no two of them differ in a segment."""
    reports: dict[int, Report] = {}
    segments: dict[int, tuple[int, str, bytes]] = {}
    for node_id, node in nodes.items():
        source = SimSource(node.audit_disk)
        reports[node_id] = report = verify(source)
        # What a crash tore of the segment under way is made again at a start: a node that does not start leaves it so.
        damages = [d for d in report.damages if node.up or not d.file.endswith(".open")]
        if damages:
            raise Violation("audit verifies", f"n{node_id}: {damages[0]}")
        for first, last, reason in report.gaps:
            # Only a snapshot from the leader may leave one: no crash may. Where one came, and a crash right after it, the
            # node cannot tell the two apart.
            if reason != "snapshot" and not (reason == "damage" and node.got_snapshot):
                raise Violation("audit verifies", f"n{node_id}: gap {first} to {last}: {reason}")
        for name in source.list():
            parsed = parse_name(name)
            if parsed is None or parsed[2] != "seg":
                continue
            data = source.read(name)
            other, other_name, known = segments.setdefault(parsed[0], (node_id, name, data))
            if (other_name, known) != (name, data):
                raise Violation(
                    "same audit", f"{name} of n{node_id} is not {other_name} of n{other}"
                )
    if not segments and (walls := _walls_us(nodes)) and _windows(walls) > 1:
        raise Violation(
            "audit goes on",
            f"no node has finished an audit segment, from wall time {walls[0]} to {walls[-1]} us",
        )
    return reports


def _walls_us(nodes: Mapping[int, SimNode]) -> list[int]:
    """Return the wall times of what a node has applied and still has in its log, of the node where they reach furthest.

    A run in which nothing could be committed for long, or whose leader's wall clock was set back, has one window only.
    """
    found: list[int] = []
    for node in nodes.values():
        if node.driver is not None:
            entries = node.driver.raft.state.log.entries
            walls = [e.wall_us for e in entries if e.index <= node.driver.applied_index]
            found = max(found, walls, key=_windows)
    return found


def _windows(walls_us: list[int]) -> int:
    return len({wall_us // AUDIT_RULE.span_us for wall_us in walls_us})
