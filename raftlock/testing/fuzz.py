"""`python -m raftlock.testing.fuzz`: give every decoder millions of inputs that nobody would send.

Each input is made of earlier ones: bits, lengths and pieces changed, trees of msgpack and JSON bent, checksums put right
again. One that does something new joins those that others are made of. A decoder may take an input or refuse it with
the errors that it documents; its memory and its steps are bounded by the input's size; what it takes and can encode, it
takes again. Everything else is a failure: made smaller, saved, and printed.

The same seed, corpus and numbers give the same inputs. The exit code is 1 if any input failed.
"""

import argparse
import base64
import hashlib
import json
import random
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from raftlock.testing.arguments import positive_count
from raftlock.testing.fuzz_corpus import Corpus
from raftlock.testing.fuzz_files import FILE_TARGETS
from raftlock.testing.fuzz_judge import Judged, Target, failure_id, judge, minimised
from raftlock.testing.fuzz_mutator import Mutator
from raftlock.testing.fuzz_wire import WIRE_TARGETS
from raftlock.testing.sources import source_id

TARGETS: dict[str, Target] = {target.name: target for target in (*WIRE_TARGETS, *FILE_TARGETS)}
THIS = "raftlock.testing.fuzz"
BATCH = 5_000
"""Inputs that are made of each other; batches know nothing of each other, and may run anywhere in any order."""
POOL_MAX = 600
MEASURED_EVERY = 50
LARGE_SIZE, LARGE_MEASURED_EVERY = 2 << 10, 5
"""What costs too much for its size is seen in large inputs, and they are few."""
WEIGHED_EVERY = 8
MEND_SHARE = 0.75
GOOD_SHARE = 0.4
FAILURES_MAX = 20
ADDRESS_SPACE_MAX = 3 << 30
CPU_S_MAX = 60
"""Of one input. No verdict comes from it alone unless a decoder hangs: steps are counted, seconds are not."""


class Batch(NamedTuple):
    """A part of the work."""

    target: str
    seed: int
    number: int
    inputs: int
    corpus: tuple[bytes, ...] = ()


class Failure(NamedTuple):
    """An input that a decoder did not stand."""

    target: str
    problem: str
    detail: str
    data: bytes


class Ran(NamedTuple):
    """What came of a batch."""

    batch: Batch
    refused: int
    kinds: dict[str, bytes]
    """The first input of each kind."""
    failures: tuple[Failure, ...]
    steps_per_byte: float
    """The most, of measured inputs of at least 256 bytes."""
    memory_max: int


class _Hangs(Exception):
    """Ends an input that took far too long."""


def _hangs(_number: int, _frame: FrameType | None) -> None:
    raise _Hangs(f"no end after {CPU_S_MAX} s of processor time")


def limit_process() -> None:
    """Bound what a worker may take, so that a decoder that asks for more gets a MemoryError."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_MAX, ADDRESS_SPACE_MAX))
    signal.signal(signal.SIGVTALRM, _hangs)


def run_batch(batch: Batch) -> Ran:
    """Run a batch."""
    target = TARGETS[batch.target]
    run = _Run(target, random.Random(f"{batch.seed} {batch.target} {batch.number}"), batch.corpus)
    for number in range(batch.inputs):
        run.one(number)
    return Ran(
        batch._replace(corpus=()),
        run.refused,
        run.kinds,
        tuple(run.failures.values()),
        round(run.steps_per_byte, 1),
        run.memory_max,
    )


class _Run:
    """The inputs of one batch, and what they did."""

    def __init__(self, target: Target, rng: random.Random, corpus: Sequence[bytes]) -> None:
        self._target = target
        self._rng = rng
        self._mutator = Mutator(rng, tree=target.tree, tokens=target.tokens)
        self._good = target.seeds()
        self._pool = [*self._good, *corpus][: POOL_MAX // 2]
        self._given = len(self._pool)
        self.refused = 0
        self.kinds: dict[str, bytes] = {}
        self.failures: dict[tuple[str, str], Failure] = {}
        self.steps_per_byte = 0.0
        self.memory_max = 0

    def one(self, number: int) -> None:
        """Make an input and judge it. The first ones are those that others are made of."""
        rng, pool = self._rng, self._pool
        if number < self._given:
            data = pool[number]
        else:
            # Good ones, or any, and then the newer ones more often: what they do is seen less often.
            bases = len(self._good) if rng.random() < GOOD_SHARE else len(pool)
            data = self._mutator.mutate(pool[int(bases * rng.random() ** 0.7)], pool)
            if self._target.mend is not None and rng.random() < MEND_SHARE:
                data = self._target.mend(data, rng)
        every = MEASURED_EVERY if len(data) < LARGE_SIZE else LARGE_MEASURED_EVERY
        self.judge(data, measured=number % every == 0, weighed=number % WEIGHED_EVERY == 0)

    def judge(self, data: bytes, *, measured: bool, weighed: bool) -> None:
        """Judge an input, and keep it if it does something new."""
        judged = _judge(self._target, data, measured=measured, weighed=weighed)
        if judged.kind not in self.kinds:
            self.kinds[judged.kind] = data
            if len(self._pool) < POOL_MAX:
                self._pool.append(data)
            if not measured and not judged.problem:
                judged = _judge(self._target, data, measured=True)
        self.refused += judged.refused
        self.memory_max = max(self.memory_max, judged.memory)
        if len(data) >= 256:
            self.steps_per_byte = max(self.steps_per_byte, judged.steps / len(data))
        if judged.problem:
            self._failed(data, judged)

    def _failed(self, data: bytes, judged: Judged) -> None:
        key = failure_id(judged)
        if key in self.failures or len(self.failures) >= FAILURES_MAX:
            return
        data = minimised(self._target, data, judged)
        again = judge(self._target, data, measured=True)
        self.failures[key] = Failure(self._target.name, judged.problem, again.detail, data)


def _judge(target: Target, data: bytes, *, measured: bool, weighed: bool = False) -> Judged:
    if signal.getsignal(signal.SIGVTALRM) is not _hangs:
        # Not in a worker: a test, which has a timeout of its own.
        return judge(target, data, measured=measured, weighed=weighed)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S_MAX)
    try:
        return judge(target, data, measured=measured, weighed=weighed)
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


# running


def batches(
    names: Sequence[str], *, inputs: int, seed: int, corpus: Corpus | None = None
) -> Iterator[Batch]:
    """Yield batches until there are `inputs`, of one target after the other."""
    size = min(BATCH, -(-inputs // len(names)))
    for number in range(-(-inputs // size)):
        name = names[number % len(names)]
        known = corpus.inputs(name) if corpus is not None else ()
        yield Batch(name, seed, number // len(names), min(size, inputs - number * size), known)


class Progress:
    """What is done, and where it is written down."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._source = source_id(THIS)
        self._done: dict[tuple[Any, ...], dict[str, Any]] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines(keepends=True):
                # The end of a run may have left half a line.
                if line.endswith("\n"):
                    self._note(json.loads(line))
            path.write_text("".join(json.dumps(line) + "\n" for line in self._done.values()))

    def _note(self, line: dict[str, Any]) -> None:
        key = (line["source"], line["target"], line["seed"], line["number"], line["inputs"])
        self._done[key] = line

    def has(self, batch: Batch) -> bool:
        """Return whether a batch was done by this source."""
        return (self._source, *batch[:4]) in self._done

    def add(self, ran: Ran) -> None:
        """Write down what came of a batch."""
        line = {
            "source": self._source,
            **ran.batch._asdict(),
            "refused": ran.refused,
            "kinds": sorted(hashlib.sha256(kind.encode()).hexdigest()[:8] for kind in ran.kinds),
            "failures": [[f.problem, f.detail, f.data.hex()] for f in ran.failures],
            "steps_per_byte": ran.steps_per_byte,
            "memory_max": ran.memory_max,
        }
        del line["corpus"]
        self._note(line)
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def summary(self) -> dict[str, Any]:
        """Return the sums of this source, by target."""
        targets: dict[str, dict[str, Any]] = {}
        for line in self._done.values():
            if line["source"] != self._source:
                continue
            one = targets.setdefault(
                line["target"],
                {"inputs": 0, "refused": 0, "kinds": set(), "failures": 0, "steps_per_byte": 0.0, "memory_max": 0},
            )  # fmt: skip
            one["inputs"] += line["inputs"]
            one["refused"] += line["refused"]
            one["kinds"] |= set(line["kinds"])
            one["failures"] += len(line["failures"])
            for name in ("steps_per_byte", "memory_max"):
                one[name] = max(one[name], line[name])
        for one in targets.values():
            one["kinds"] = len(one["kinds"])
        inputs = sum(one["inputs"] for one in targets.values())
        failures = sum(one["failures"] for one in targets.values())
        ordered = {name: targets[name] for name in TARGETS if name in targets}
        return {"source": self._source, "inputs": inputs, "failures": failures, "targets": ordered}


def table(summary: dict[str, Any]) -> str:
    """Return the sums as people read them."""
    lines = [
        f"{'decoder':<16}{'inputs':>11}{'taken':>11}{'refused':>11}{'kinds':>7}{'failures':>10}"
        f"{'steps a byte':>14}{'memory, KiB':>13}"
    ]
    for name, one in summary["targets"].items():
        lines.append(
            f"{name:<16}{one['inputs']:>11,}{one['inputs'] - one['refused']:>11,}{one['refused']:>11,}"
            f"{one['kinds']:>7}{one['failures']:>10}{one['steps_per_byte']:>14}{one['memory_max'] >> 10:>13,}"
        )
    return "\n".join(lines)


def _shown(failure: Failure, saved: Path, seed: int) -> str:
    text = base64.b64encode(failure.data[:300]).decode()
    return (
        f"{failure.target}: {failure.problem}: {failure.detail}\n  {len(failure.data)} bytes, seed {seed}, base64 {text}\n"
        f"  again: python -m raftlock.testing.fuzz --target {failure.target} --input {saved}"
    )


def _saved(failure: Failure, directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{failure.target}-{hashlib.sha256(failure.data).hexdigest()[:12]}.bin"
    path.write_bytes(failure.data)
    return path


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _one_input(names: Sequence[str], path: Path) -> int:
    data = path.read_bytes()
    worst = 0
    for name in names:
        judged = judge(TARGETS[name], data, measured=True)
        _say(f"{name}: {judged.problem or judged.kind}: {judged.detail or 'as documented'}")
        _say(f"  {len(data)} bytes, {judged.steps} steps, {judged.memory} bytes of memory")
        worst = max(worst, int(bool(judged.problem)))
    return worst


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m raftlock.testing.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--target", action="append", choices=list(TARGETS), metavar="NAME",
        help=f"fuzz this decoder; may be repeated (default: all of {', '.join(TARGETS)})",
    )  # fmt: skip
    parser.add_argument(
        "--inputs",
        type=positive_count,
        default=250_000,
        metavar="N",
        help="in all (default: 250,000)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="another seed, other inputs"
    )
    parser.add_argument("--jobs", type=positive_count, default=1, metavar="N", help="processes")
    parser.add_argument("--resume", type=Path, metavar="FILE", help="a ledger, to go on from later")
    parser.add_argument(
        "--corpus", type=Path, metavar="DIR", help="inputs to begin with; --keep adds the new kinds"
    )
    parser.add_argument("--keep", action="store_true", help="add new kinds of inputs to the corpus")
    parser.add_argument(
        "--failures", type=Path, default=Path("fuzz-failures"), metavar="DIR",
        help="where inputs that fail are saved (default: fuzz-failures)",
    )  # fmt: skip
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write the sums as JSON")
    parser.add_argument("--input", type=Path, metavar="FILE", help="judge this one input")
    options = parser.parse_args(argv)
    if options.keep and options.corpus is None:
        parser.error("--keep needs --corpus")
    if options.corpus is not None and not options.keep and not options.corpus.is_dir():
        parser.error(f"--corpus: {options.corpus} is not a directory")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Return 1 if an input failed."""
    options = _arguments(argv)
    names = options.target or list(TARGETS)
    if options.input is not None:
        return _one_input(names, options.input)
    corpus = Corpus(options.corpus) if options.corpus is not None else None
    progress = Progress(options.resume)
    work = [
        batch
        for batch in batches(names, inputs=options.inputs, seed=options.seed, corpus=corpus)
        if not progress.has(batch)
    ]
    began = time.monotonic()
    shown: set[tuple[str, str, str]] = set()
    # Also one job is a process of its own: it has limits that this one must not have.
    with ProcessPoolExecutor(options.jobs, initializer=limit_process) as pool:
        for ran in pool.map(run_batch, work):
            progress.add(ran)
            if corpus is not None and options.keep:
                corpus.add(ran.batch.target, ran.kinds)
            for failure in ran.failures:
                key = (failure.target, failure.problem, failure.detail.partition(":")[0])
                if key not in shown:
                    shown.add(key)
                    saved = _saved(failure, options.failures)
                    _say(_shown(failure, saved, options.seed))
    if corpus is not None and options.keep:
        corpus.save()
    summary = progress.summary()
    if options.summary is not None:
        options.summary.write_text(json.dumps(summary, indent=1) + "\n")
    took_s = time.monotonic() - began
    ran_now = sum(batch.inputs for batch in work)
    _say(table(summary))
    _say(
        f"\n{summary['inputs']:,} inputs ({ran_now:,} now, {took_s:.0f} s), {summary['failures']} failed"
    )
    return 1 if summary["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
