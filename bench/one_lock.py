"""One lock that many want, on every system of a comparison: handovers a second, and the wait of the next after a release.

On raftlock the same is measured by `bench contended` and `bench handover`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, cast

import uvloop

from bench import contended, handover
from bench.contest import CLIENTS, after_release, connected, contest
from bench.peers.base import Peer, Queued, Running
from bench.peers.raftlock import Raftlock
from bench.ratios import OURS, figure
from bench.report import table
from raftlock.client.load import find_leader

CONTEST_S = 5.0
RELEASES = 40
NO_QUEUE = "no recipe for a lock that is waited for: its users ask again and again"


def measure(
    names: Iterable[str], systems: Sequence[tuple[Peer, Running]], results: dict[str, Any]
) -> bool:
    """Let many want one lock, and measure a pair of clients."""
    contests: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    for peer, running in systems:
        if isinstance(peer, Raftlock):
            measured, gap = uvloop.run(_ours(running, names))
        elif hasattr(peer, "waiters"):
            measured, gap = uvloop.run(_theirs(cast("Queued", peer), running, names))
        else:
            left_out[peer.name] = NO_QUEUE
            continue
        contests[peer.name] = {**measured, "after_release": gap}
    results["one_lock"] = {"clients": CLIENTS, "systems": contests, "left_out": left_out}
    if "contended" in names:
        results["contended"] = figure("contended", {s: one["handovers_per_second"] for s, one in contests.items()})  # fmt: skip
    if "after_release_ms" in names:
        results["after_release_ms"] = figure("after_release_ms", {s: one["after_release"]["p50_ms"] for s, one in contests.items()})  # fmt: skip
    rows = [
        (
            system, one.get("handovers_per_second"), one.get("jain"), one.get("grants_min"), one.get("grants_max"),
            one["after_release"].get("p50_ms"), one["after_release"].get("p99_ms"), str(one.get("errors") or "none"),
        )
        for system, one in contests.items()
    ]  # fmt: skip
    heads = ("one lock", "handovers/s", "Jain", "least", "most", "after release p50 ms", "p99 ms", "errors")  # fmt: skip
    print(table(heads, rows))
    for peer, _ in systems:
        recipe = getattr(peer, "recipe", left_out.get(peer.name))
        print(f"{peer.name}: {recipe or 'a fair queue at the leader'}", flush=True)
    ours = contests[OURS]
    return bool(ours.get("errors") or ours.get("overtaken") or ours.get("token_errors"))


async def _ours(running: Running, names: Iterable[str]) -> tuple[dict[str, Any], dict[str, float]]:
    measured: dict[str, Any] = {}
    gap: dict[str, float] = {}
    if "contended" in names:
        measured = await contended.measure(running.addresses, clients=CLIENTS, seconds=CONTEST_S)
    if "after_release_ms" in names:
        leader = await find_leader(running.addresses)
        gap = (await handover.measure([leader], rounds=RELEASES))["after_release"]
    return measured, gap


async def _theirs(
    peer: Queued, running: Running, names: Iterable[str]
) -> tuple[dict[str, Any], dict[str, float]]:
    measured: dict[str, Any] = {}
    gap: dict[str, float] = {}
    if "contended" in names:
        async with connected(peer, running.addresses, CLIENTS) as waiters:
            measured = await contest(waiters, CONTEST_S)
    if "after_release_ms" in names:
        async with connected(peer, running.addresses, 2) as (first, second):
            gap = await after_release(first, second, rounds=RELEASES)
    return measured, gap
