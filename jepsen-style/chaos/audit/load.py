"""Many clients that acquire, wait, renew, change, force, cancel and release, and write down what they were told.

`python -m chaos.audit.load`, a process of the run's. Names and the shares of kinds are those of `bench audit-bytes`, so
that bytes an operation mean the same.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import uvloop

from chaos.audit.asks import Ask
from chaos.audit.ledger import Ledger
from chaos.audit.talker import Talker
from raftlock_wire.messages import Op

TTL_MS = 30_000
LONG_TTL_MS = 120_000
"""Of the logged class where nothing else was said at bootstrap."""
HOT_LOCKS = 50
WAIT_MS = 3_000
METADATA = {"region": "us-east-1", "job": "settle"}
KINDS = ("own", "hot", "wait", "long", "change", "session", "forced", "cancelled")
SHARES = (80, 6, 6, 4, 1, 1, 1, 1)
END_S = 60.0

Life = Generator[Ask, Ask, None]


class Clients:
    """The clients of one process."""

    def __init__(self, options: argparse.Namespace, ledger: Ledger) -> None:
        self._options = options
        self._rng = random.Random(f"{options.seed}:{options.name}")
        self._talkers = [
            Talker(options.endpoints.split(","), ledger, random.Random(self._rng.random()))
            for _ in range(options.clients)
        ]
        self._began_s = time.monotonic()
        self._until = self._began_s + options.seconds
        self._n = 0
        self._lives = 0

    async def run(self) -> None:
        """Work until so many operations were acknowledged, or the time is up; then come to an end."""
        tasks = [asyncio.create_task(talker.run()) for talker in self._talkers]
        await asyncio.gather(*(talker.ready.wait() for talker in self._talkers))
        for number, talker in enumerate(self._talkers):
            for slot in range(self._options.depth):
                self._lives += 1
                self._start(talker, self._life(talker, number, slot))
        while self._lives and not any(task.done() for task in tasks):
            await asyncio.sleep(0.2)
            self._show()
            if self._stops and time.monotonic() > self._until + END_S:
                break
        await asyncio.gather(*(talker.close(END_S / 2) for talker in self._talkers))
        self._show()
        for task in tasks:
            if task.done():
                task.result()
            task.cancel()

    @property
    def acknowledged(self) -> int:
        """Return how many logged operations were answered."""
        return sum(talker.acknowledged for talker in self._talkers)

    @property
    def _stops(self) -> bool:
        if time.monotonic() < self._until and self.acknowledged < self._options.operations:
            return False
        self._until = min(self._until, time.monotonic())
        return True

    def _show(self) -> None:
        Path(self._options.progress).write_text(str(self.acknowledged))

    def _early_s(self) -> float:
        """Return by how much the clients are ahead of their rate."""
        ahead_s: float = self.acknowledged / self._options.rate + self._began_s - time.monotonic()
        return min(max(ahead_s, 0.0), 1.0)

    # one slot's life

    def _start(self, talker: Talker, life: Life) -> None:
        self._ask(talker, life, next(life))

    def _ask(self, talker: Talker, life: Life, ask: Ask) -> None:
        def done() -> None:
            try:
                following = life.send(ask)
            except StopIteration:
                self._lives -= 1
            else:
                loop.call_later(self._early_s(), self._ask, talker, life, following)

        loop = asyncio.get_running_loop()
        ask.done = done
        talker.ask(ask)

    def _life(self, talker: Talker, number: int, slot: int) -> Life:
        rng = random.Random(self._rng.random())
        owner = f"checkout-{number % 40:02d}-7f9c{slot:04x}@10.{number % 7}.0.{slot % 199}"
        kinds: dict[str, Callable[[random.Random, Talker, int, str], Life]] = {
            "wait": self._wait, "long": self._long, "change": self._change,
            "session": self._in_session, "forced": self._forced, "cancelled": self._cancelled,
        }  # fmt: skip
        while not self._stops:
            [kind] = rng.choices(KINDS, SHARES)
            if kind in kinds:
                yield from kinds[kind](rng, talker, slot, owner)
            else:
                name = self._hot_name(rng) if kind == "hot" else self._own_name(rng)
                held = yield self._acquire(rng, talker, slot, owner, name)
                if held.status == "OK":
                    if self._options.renew_all and rng.random() < 0.5:
                        yield self._renew(name, held.token, logged=True)
                    yield _release(name, held.token)

    def _hot_name(self, rng: random.Random) -> str:
        return f"job:{rng.randrange(HOT_LOCKS)}"

    def _own_name(self, rng: random.Random) -> str:
        return f"order:{rng.randrange(10**9):09d}"

    def _acquire(
        self, rng: random.Random, talker: Talker, slot: int, owner: str, name: str, *,
        ttl_ms: int = TTL_MS, wait_ms: int = 0,
    ) -> Ask:  # fmt: skip
        self._n += 1
        metadata = METADATA if rng.random() < 0.2 else None
        fields = (talker.session, slot, self._n, name, owner, ttl_ms, wait_ms, metadata)
        return Ask(Op.ACQUIRE, fields)

    def _renew(self, name: str, token: int, *, logged: bool) -> Ask:
        return Ask(Op.RENEW, ([[name, token]],), logged=logged)

    def _wait(self, rng: random.Random, talker: Talker, slot: int, owner: str) -> Life:
        name = self._hot_name(rng)
        held = yield self._acquire(rng, talker, slot, owner, name, wait_ms=WAIT_MS)
        if held.status == "OFFERED":
            # The first renewal of an offer takes it up, and goes through the log.
            held_at_last = yield self._renew(name, held.token, logged=True)
            if held_at_last.status != "OK":
                return
        elif held.status != "OK":
            return
        yield _release(name, held.token)

    def _long(self, rng: random.Random, talker: Talker, slot: int, owner: str) -> Life:
        name = self._own_name(rng)
        held = yield self._acquire(rng, talker, slot, owner, name, ttl_ms=LONG_TTL_MS)
        if held.status == "OK":
            for _ in range(rng.randrange(1, 4)):
                yield self._renew(name, held.token, logged=True)
            yield _release(name, held.token)

    def _change(self, rng: random.Random, talker: Talker, slot: int, owner: str) -> Life:
        name = self._own_name(rng)
        held = yield self._acquire(rng, talker, slot, owner, name)
        if held.status == "OK":
            ttl_ms = rng.randrange(20_000, 29_000)
            yield Ask(Op.CHANGE_TTL, (name, held.token, ttl_ms, held.rev))
            yield _release(name, held.token)

    def _in_session(self, rng: random.Random, talker: Talker, slot: int, owner: str) -> Life:
        name = self._own_name(rng)
        held = yield self._acquire(rng, talker, slot, owner, name, ttl_ms=0)
        if held.status == "OK":
            yield _release(name, held.token)

    def _forced(self, rng: random.Random, talker: Talker, slot: int, owner: str) -> Life:
        name = self._own_name(rng)
        held = yield self._acquire(rng, talker, slot, owner, name)
        if held.status == "OK":
            reason = f"node {rng.randrange(100)} is gone"
            yield Ask(Op.FORCE_RELEASE, (name, held.token, reason, rng.random() < 0.5))
            yield _release(name, held.token)

    def _cancelled(self, rng: random.Random, talker: Talker, slot: int, owner: str) -> Life:
        name = self._own_name(rng)
        held = yield self._acquire(rng, talker, slot, owner, name)
        yield Ask(Op.CANCEL, held.key)


def _release(name: str, token: int) -> Ask:
    return Ask(Op.RELEASE, (name, token))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos.audit.load", description=__doc__)
    parser.add_argument("--endpoints", required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--progress", type=Path, required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--depth", type=int, required=True)
    parser.add_argument("--operations", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--renew-all", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Read the command line and work."""
    options: Any = _options()
    ledger = Ledger(options.ledger)
    uvloop.run(_work(options, ledger))
    ledger.close()


async def _work(options: argparse.Namespace, ledger: Ledger) -> None:
    await Clients(options, ledger).run()


if __name__ == "__main__":
    main()
