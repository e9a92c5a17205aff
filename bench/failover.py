"""`python -m bench failover`: strike the leader under load, and see how long a client goes without, and whether it lies.

Faults: kill -9, SIGSTOP, and a cut network (in namespaces that the run makes for itself; root). The gap is the longest
time around a fault in which a client was granted nothing, counted for each client. On raftlock every promise is checked
meanwhile: nothing acknowledged is lost, never two holders, tokens only grow. Peers stand beside it.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

from bench import namespaces
from bench.faults import NAMES, Cut, Fault, Kill, Stop
from bench.gaps import Probe, Struck, summary
from bench.peers.base import LOOPBACK, Replicated, Running
from bench.peers.etcd import Etcd
from bench.peers.pysyncobj import PySyncObj
from bench.peers.raftlock import Raftlock
from bench.peers.zookeeper import ZooKeeper
from bench.report import add_common, count, machine_line, table, write

HELP = "strike the leader under load (kill -9, SIGSTOP, a cut network): gaps, and every promise checked"
OURS = "raftlock"
SYSTEMS: dict[str, Callable[[], Replicated]] = {
    "raftlock": Raftlock,
    "etcd": Etcd,
    "zookeeper": ZooKeeper,
    "pysyncobj": PySyncObj,
}
INSIDE = "its clients live in the nodes: those of the leader stand still with it"
CLIENTS = 8
WARM_UP_S = 1.0
SETTLE_S = 60.0
SERVED_WITHIN_S = 30.0
HELD_S = 1.5
"""How long a fault lasts at least; longer until every client is served again."""
BETWEEN_S = (0.5, 1.5)
POLL_S = 0.05


async def _leader(system: Replicated, running: Running) -> int:
    """Wait until all nodes answer and one leads. Return its number."""
    until = time.monotonic() + SETTLE_S
    while time.monotonic() < until:
        roles = await system.roles(running)
        if None not in roles and roles.count(True) == 1:
            return roles.index(True)
        await asyncio.sleep(POLL_S)
    raise TimeoutError(f"the nodes of {system.name} were not all up again within {SETTLE_S:g} s")


async def _served(probe: Probe, struck_at: float) -> None:
    """Return when every client is served again, but not before the fault has lasted for a while."""
    await asyncio.sleep(HELD_S)
    while time.monotonic() < struck_at + SERVED_WITHIN_S:
        if probe.served(time.monotonic()):
            return
        await asyncio.sleep(POLL_S)


async def struck(
    system: Replicated,
    running: Running,
    fault: Fault,
    *,
    times: int,
    victims: str = "leader",
    clients: int = CLIENTS,
    seed: int = 1,
    until: float | None = None,
) -> dict[str, Any]:
    """Strike the leader (or all nodes at once) some times under load. Begin none after `until`, but the first."""
    probe, rng, faults = Probe(), random.Random(seed), list[Struck]()
    load = asyncio.create_task(system.acquire_all_the_time(running, probe, clients))
    try:
        await asyncio.sleep(WARM_UP_S)
        for _ in range(times):
            if faults and until is not None and time.monotonic() > until:
                break
            await asyncio.sleep(rng.uniform(*BETWEEN_S))
            # Asked last: on a busy machine another may lead a second later.
            leader = await _leader(system, running)
            hit = [leader] if victims == "leader" else list(range(len(running.addresses)))
            if load.done():
                await load
            at = time.monotonic()
            for number in hit:
                fault.strike(running, number)
            # All at once: nobody serves before they are back.
            if victims == "leader":
                await _served(probe, at)
            for number in hit:
                fault.heal(running, number)
            await _leader(system, running)
            await _served(probe, time.monotonic())
            faults.append(Struck(at, time.monotonic()))
        probe.over.set()
        await load
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    return summary(probe, faults)


def measure(
    options: argparse.Namespace, systems: tuple[str, ...], names: tuple[str, ...]
) -> tuple[dict[str, Any], list[str]]:
    """Strike each system with each fault, one system at a time. Return the results and the broken promises."""
    results: dict[str, Any] = {}
    broken: list[str] = []
    with contextlib.ExitStack() as stack:
        places, network = list(LOOPBACK), None
        if "cut" in names:
            # All systems and faults of a run are on the same network.
            network = stack.enter_context(namespaces.network(len(LOOPBACK)))
            places = network.places
        faults: dict[str, Fault] = {"kill": Kill(), "stop": Stop()}
        if network is not None:
            faults["cut"] = Cut(network)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="raftlock-failover-")))
        for name in systems:
            system = SYSTEMS[name]()
            system.missing()
            results[name] = {}
            (folder / name).mkdir()
            with system.running(folder / name, places) as running:
                for fault in names:
                    if isinstance(system, PySyncObj) and fault != "kill":
                        print(f"{name} {fault}: left out, {INSIDE}")
                        continue
                    measured = struck(
                        system,
                        running,
                        faults[fault],
                        times=options.kills,
                        victims=options.victims,
                        clients=options.clients,
                        seed=options.seed,
                    )
                    results[name][fault] = uvloop.run(measured)
                    print(line(name, fault, results[name][fault]), flush=True)
                if isinstance(system, Raftlock):
                    broken = uvloop.run(system.broken(running))
                    results[name]["promises"] = uvloop.run(system.account(running))
                results[name]["version"] = system.version
    return results, broken


def line(system: str, fault: str, one: dict[str, Any]) -> str:
    """Say what one fault did to a system, while the run goes on."""
    return (
        f"{system} {fault}: {one['faults']} times; a client's gap median {one['gap_median_ms']:.0f} ms, "
        f"max {one['gap_max_ms']:.0f} ms"
    )


def show(results: dict[str, Any], names: tuple[str, ...]) -> str:
    """Return the table."""
    rows = []
    for fault in names:
        for system, one in results.items():
            if fault in one:
                keys = ("gap_median_ms", "gap_max_ms", "service_gap_median_ms", "service_gap_max_ms", "grants", "refused")  # fmt: skip
                rows.append((fault, system, one[fault]["faults"], *(one[fault][key] for key in keys)))  # fmt: skip
    heads = ("fault", "system", "times", "client's gap ms", "max ms", "any client's ms", "max ms", "grants", "refused")  # fmt: skip
    return table(heads, rows)


def chosen(options: argparse.Namespace) -> list[str] | None:
    """Return the peers that are there. None, after naming them, if one is missing and that is not allowed."""
    found = []
    for name in (name for name in options.peers.split(",") if name):
        if name not in SYSTEMS or name == OURS:
            others = ", ".join(other for other in SYSTEMS if other != OURS)
            print(f"--peers: {name!r} is none of {others}", file=sys.stderr)
            return None
        problem = SYSTEMS[name]().missing()
        if problem is None:
            found.append(name)
            continue
        print(f"missing: {name}: {problem}", file=sys.stderr)
        if not options.allow_missing:
            print("--allow-missing goes on without it; --peers '' without any", file=sys.stderr)
            return None
    return found


def run(options: argparse.Namespace) -> int:
    """Strike raftlock and the peers; print and write what was seen. Return 1 if a promise was broken."""
    peers = chosen(options)
    if peers is None:
        return 2
    left_out = {}
    if options.fault in ("cut", "all"):
        problem = namespaces.enter()
        if problem:
            print(f"a network cannot be cut here: {problem}", file=sys.stderr)
            if options.fault == "cut":
                return 2
            left_out["cut"] = problem
    names = tuple(name for name in NAMES if options.fault in (name, "all") and name not in left_out)
    results, broken = measure(options, (OURS, *peers), names)
    print(show(results, names))
    print(
        f"{options.clients} clients that know all nodes; a gap: the longest time without a grant that ends after the fault; "
        f"any client's: in which no client had one; {machine_line()}"
    )
    promises = results[OURS]["promises"]
    print(
        f"raftlock: {promises['answers']:,} answers; {promises['kept']:,} kept locks all looked for; "
        f"term {promises['term']} after {len(names) * options.kills} faults"
    )
    for violation in broken[:20]:
        print(f"VIOLATION: {violation}")
    write(options, {"systems": results, "violations": broken, "left_out": left_out})
    return 1 if broken else 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--fault", choices=(*NAMES, "all"), default="kill", help="default: kill")
    parser.add_argument(
        "--kills", type=count, default=20, help="how often each fault (default: 20)"
    )
    parser.add_argument(
        "--victims", choices=("leader", "all"), default="leader", help="default: leader"
    )
    parser.add_argument(
        "--peers", default="etcd", help="of etcd, zookeeper, pysyncobj (default: etcd)"
    )
    parser.add_argument(
        "--allow-missing", action="store_true", help="go on without what is not installed"
    )
    parser.add_argument("--clients", type=count, default=CLIENTS, help=f"default: {CLIENTS}")
    parser.add_argument("--seed", type=int, default=1, help="of the pauses (default: 1)")
    add_common(parser, endpoints=False)
