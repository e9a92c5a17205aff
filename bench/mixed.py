"""`python -m bench mix | skew | follower`: closed loops of other shapes than one name a slot.

mix: 95 % acquire and release, 5 % get and check. skew: names by Zipf's law, so that many are held already: HELD is
counted apart. follower: reads from the nodes that do not lead, stale and linearizable.
"""

import argparse
import os
import random
from collections import Counter
from typing import Any

import uvloop

from bench.arithmetic import Zipf
from bench.closed_loop import ClosedConnection, KindTally, run_closed
from bench.cluster import own_or
from bench.report import add_common, count, machine_line, positive, table, write
from raftlock.client.lean import LeanConnection, open_all
from raftlock.client.load import LEASE_TTL_MS, find_leader
from raftlock_wire.messages import Op
from raftlock_wire.status import Status


class MixConnection(ClosedConnection):
    """Each slot has a name of its own, and looks at it now and then instead of going on."""

    GOOD = frozenset({Status.OK, Status.NOT_HELD})
    """NOT_HELD: a check of the token that was released; `took` sees that it is no release."""

    def __init__(self, depth: int, tally: KindTally, reads: float, rng: random.Random) -> None:
        super().__init__(depth, tally)
        self._reads = reads
        self._rng = rng
        run = os.urandom(4).hex()
        self._names = [f"mix:{run}:{slot}" for slot in range(depth)]
        self._tokens = [0] * depth
        self._last = [1] * depth
        self._n = 0
        self.wrong: Counter[str] = Counter()

    def next_request(self, slot: int) -> tuple[Any, ...]:
        """Read with the given share, half gets and half checks; else release what is held, or acquire."""
        name, token = self._names[slot], self._tokens[slot]
        if self._rng.random() < self._reads:
            if self._rng.random() < 0.5:
                return (int(Op.GET), slot + 1, name, False)
            return (int(Op.CHECK), slot + 1, name, self._last[slot])
        if token:
            return (int(Op.RELEASE), slot + 1, name, token)
        self._n += 1
        key = (self.session, slot, self._n)
        return (int(Op.ACQUIRE), slot + 1, *key, name, "bench", LEASE_TTL_MS, 0, None)

    def took(self, slot: int, request: tuple[Any, ...], message: tuple[Any, ...]) -> None:
        """Keep the token, and hold each read against what this slot knows: it alone uses the name."""
        code, held = request[0], self._tokens[slot]
        if code == Op.ACQUIRE and message[1] == Status.OK:
            self._tokens[slot] = self._last[slot] = message[4]
        elif code == Op.RELEASE:
            self._tokens[slot] = 0
        elif code == Op.CHECK and (message[1] == Status.OK) != bool(held):
            self.wrong["check"] += 1
        elif code == Op.GET and (0 if message[4] is None else message[4][2]) != held:
            self.wrong["get"] += 1


class SkewConnection(ClosedConnection):
    """Slots that acquire names by Zipf's law, and release what they get."""

    def __init__(self, depth: int, tally: KindTally, names: list[str], zipf: Zipf) -> None:
        super().__init__(depth, tally)
        self._names = names
        self._zipf = zipf
        self._held: list[tuple[str, int] | None] = [None] * depth
        self._n = 0

    def next_request(self, slot: int) -> tuple[Any, ...]:
        """Release what the slot holds, else acquire the next name."""
        held = self._held[slot]
        if held is not None:
            return (int(Op.RELEASE), slot + 1, *held)
        self._n += 1
        key, name = (self.session, slot, self._n), self._names[self._zipf.draw()]
        return (int(Op.ACQUIRE), slot + 1, *key, name, "bench", LEASE_TTL_MS, 0, None)

    def took(self, slot: int, request: tuple[Any, ...], message: tuple[Any, ...]) -> None:
        """Keep what was granted."""
        granted = request[0] == Op.ACQUIRE and message[1] == Status.OK
        self._held[slot] = (request[5], message[4]) if granted else None


class ReadConnection(ClosedConnection):
    """Slots that read names, some of them held."""

    def __init__(self, depth: int, tally: KindTally, names: list[str], *, stale: bool) -> None:
        super().__init__(depth, tally)
        self._names = names
        self._stale = stale
        self._next = 0
        self.age_ms_max = 0

    def next_request(self, slot: int) -> tuple[Any, ...]:
        """Read the next name."""
        self._next = (self._next + 1) % len(self._names)
        return (int(Op.GET), slot + 1, self._names[self._next], self._stale)

    def took(self, slot: int, request: tuple[Any, ...], message: tuple[Any, ...]) -> None:  # noqa: ARG002
        """Note how old the answer says that it is."""
        if message[1] == Status.OK:
            self.age_ms_max = max(self.age_ms_max, message[3])


async def mix(endpoints: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Measure the mix on the leader."""
    tally = KindTally()

    def make(number: int) -> MixConnection:
        return MixConnection(options.depth, tally, options.reads, random.Random(number))

    leader = await find_leader(endpoints)
    result, opened = await run_closed(
        [leader], make, connections=options.connections, seconds=options.seconds, tally=tally
    )
    wrong: Counter[str] = sum((connection.wrong for connection in opened), Counter())
    return {"mix": result | {"wrong_reads": dict(wrong)}}


async def skew(endpoints: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Measure names by Zipf's law on the leader."""
    tally = KindTally()
    run = os.urandom(4).hex()
    names = [f"skew:{run}:{number}" for number in range(options.names)]

    def make(number: int) -> SkewConnection:
        zipf = Zipf(options.names, options.exponent, random.Random(number))
        return SkewConnection(options.depth, tally, names, zipf)

    leader = await find_leader(endpoints)
    result, _ = await run_closed(
        [leader], make, connections=options.connections, seconds=options.seconds, tally=tally
    )
    held = result["statuses"].pop("acquire HELD", 0)
    granted = result["by_kind"].get("acquire", {}).get("count", 0)
    return {"skew": result | {"held": held, "held_share": round(held / max(1, held + granted), 4)}}


async def follower(endpoints: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Measure reads on the nodes that do not lead."""
    leader = await find_leader(endpoints)
    others = [endpoint for endpoint in endpoints if endpoint != leader]
    if not others:
        raise SystemExit("follower: give the addresses of all nodes: there is none but the leader")
    run = os.urandom(4).hex()
    names = [f"read:{run}:{number}" for number in range(1_000)]
    # What it is answered does not matter here: a connection without a load of its own takes no notice.
    holder, *_ = await open_all(leader, lambda _: LeanConnection(), 1)
    results: dict[str, Any] = {}
    try:
        # Every second name is held, so that an answer is not always the short one.
        holder.send([
            (int(Op.ACQUIRE), slot + 1, holder.session, slot, 1, name, "bench", 0, 0, None)
            for slot, name in enumerate(names[::2])
        ])  # fmt: skip
        for kind, stale in (("linearizable", False), ("stale", True)):
            tally = KindTally()
            result, opened = await run_closed(
                others,
                lambda _, tally=tally, stale=stale: ReadConnection(options.depth, tally, names, stale=stale),  # type: ignore[misc]
                connections=options.connections,
                seconds=options.seconds,
                tally=tally,
            )  # fmt: skip
            holder.keep_alive()
            results[kind] = result | {"age_ms_max": max(c.age_ms_max for c in opened)}
    finally:
        holder.close()
    return results


def show(results: dict[str, Any]) -> str:
    """Return the table, a line a kind of operation, and what is counted apart."""
    rows = []
    for workload, result in results.items():
        for kind, one in result["by_kind"].items():
            figures = [float(one[key]) for key in ("p50_ms", "p99_ms", "max_ms")]
            rows.append((workload, kind, one["per_second"], *figures))
    lines = [table(("workload", "operation", "op/s", "p50 ms", "p99 ms", "max ms"), rows)]
    for workload, result in results.items():
        apart = [f"{result['operations_per_second']:,} op/s in all"]
        if "held" in result:
            apart.append(f"HELD {result['held']:,} ({result['held_share']:.1%} of acquires)")
        if "age_ms_max" in result:
            apart.append(f"oldest answer {result['age_ms_max']} ms")
        if "wrong_reads" in result:
            apart.append(f"wrong reads {sum(result['wrong_reads'].values())}")
        apart.append("errors " + (", ".join(f"{k} {v:,}" for k, v in result["statuses"].items()) or "none"))  # fmt: skip
        lines.append(f"{workload}: " + "; ".join(apart))
    return "\n".join(lines)


def run(options: argparse.Namespace) -> int:
    """Measure one shape, print its table, write JSON. Return 1 if something was refused or a read was wrong."""
    measure = {"mix": mix, "skew": skew, "follower": follower}[options.command]
    with own_or(options.endpoints) as endpoints:
        results = uvloop.run(measure(endpoints, options))
    print(show(results))
    print(
        f"{options.connections} connections x {options.depth} in flight, {options.seconds:g} s; {machine_line()}"
    )
    write(options, results)
    bad = any(r["statuses"] or any(r.get("wrong_reads", {}).values()) for r in results.values())
    return 1 if bad else 0


HELP = {
    "mix": "95 %% acquire and release, 5 %% get and check",
    "skew": "names by Zipf's law; HELD is counted apart",
    "follower": "reads from followers, stale and linearizable",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of all three commands."""
    command = parser.prog.split()[-1]
    parser.add_argument("--connections", type=count, default=8, help="default: 8")
    parser.add_argument("--depth", type=count, default=32, help="in flight on each (default: 32)")
    if command == "mix":
        parser.add_argument(
            "--reads", type=float, default=0.05, help="their share, 0 to 1 (default: 0.05)"
        )
    if command == "skew":
        parser.add_argument("--names", type=count, default=10_000, help="default: 10000")
        parser.add_argument(
            "--exponent", type=positive, default=1.1, help="of Zipf's law (default: 1.1)"
        )
    add_common(parser, seconds=5.0)
