"""What an input may do to a decoder, and whether it did: an error that is documented, in bounded memory and time.

It owns the verdict. Time is counted in lines and calls of Python, not in seconds, so that a verdict is the same on any
machine. It must not know which decoders there are.
"""

import random
import re
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, NamedTuple

CRASH, CHANGED, SLOW, LARGE = "crash", "not the same again", "slow", "memory"
MINIMISING_TRIALS = 3_000
MEASURED_TRIALS = 40
"""The same where each trial is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One decoder, and what it promises."""

    name: str
    seeds: Callable[[], list[bytes]]
    """Good inputs, made by the production encoders."""
    run: Callable[[bytes], Any]
    refuses: tuple[type[Exception], ...]
    """The errors that are documented."""
    encode: Callable[[Any], bytes] | None = None
    """Where a decoded value can be encoded: decoding that again gives an equal value."""
    mend: Callable[[bytes, random.Random], bytes] | None = None
    """Puts right checksums on what was changed, so that the rest of the decoder is reached."""
    tree: str = ""
    tokens: tuple[bytes, ...] = ()
    steps_per_byte: int = 40
    """Lines and calls of Python for each byte of input, at most, ..."""
    steps_flat: int = 20_000
    """... and for any input."""
    memory_per_byte: int = 200
    memory_flat: int = 512 << 10


class Judged(NamedTuple):
    """What came of one input."""

    kind: str
    """Inputs of one kind do the same as far as can be told from outside: the outcome, without its numbers and names."""
    refused: bool
    problem: str = ""
    """One of the four kinds of failure; empty if all is well."""
    detail: str = ""
    steps: int = 0
    memory: int = 0
    """Bytes at the peak, of a measured input."""


class _TooManySteps(BaseException):
    """Ends a decoder that is over its bound. Not an Exception, so that no decoder takes it for one of its own."""


class _Steps:
    """Counts lines and calls of Python, and calls into C, until a bound."""

    def __init__(self, steps_max: int) -> None:
        self.count = 0
        self._steps_max = steps_max

    def traced(self, _frame: FrameType, event: str, _arg: Any) -> "Any":
        self.count += 1
        if self.count > self._steps_max:
            raise _TooManySteps
        del event
        return self.traced

    def profiled(self, _frame: FrameType, event: str, _arg: Any) -> None:
        if event == "c_call":
            self.count += 1


def judge(target: Target, data: bytes, *, measured: bool, weighed: bool = False) -> Judged:
    """Give a decoder an input. `measured`: also count its steps and its memory, which takes several times as long.

    `weighed`: its memory only.
    """
    judged = _run(target, data)
    if judged.problem or not (measured or weighed):
        return judged
    size = len(data)
    memory = _memory(target, data)
    judged = judged._replace(memory=memory)
    if memory > target.memory_flat + target.memory_per_byte * size:
        return judged._replace(problem=LARGE, detail=f"{memory} bytes at the peak of {size} bytes")
    if not measured:
        return judged
    steps = _steps(target, data)
    judged = judged._replace(steps=steps)
    if steps > target.steps_flat + target.steps_per_byte * size:
        return judged._replace(problem=SLOW, detail=f"more than {steps - 1} steps of {size} bytes")
    return judged


def _run(target: Target, data: bytes) -> Judged:
    try:
        value = target.run(data)
    except target.refuses as error:
        if not str(error):
            return Judged("refused", True, CRASH, f"{type(error).__name__} without a word")
        return Judged(_kind_of_error(error), True)
    except MemoryError as error:
        return Judged("memory", False, LARGE, f"MemoryError {_where(error.__traceback__)}")
    except Exception as error:  # noqa: BLE001 - any other error is what is looked for
        return Judged("crash", False, CRASH, _told(error))
    kind = "taken " + _shape(value, 2)
    return Judged(kind, False, *_again(target, value))


def _again(target: Target, value: Any) -> tuple[str, str]:
    if target.encode is None:
        return "", ""
    try:
        again = target.run(target.encode(value))
    except Exception as error:  # noqa: BLE001 - whatever was taken must be taken again
        return CHANGED, _told(error)
    return ("", "") if again == value else (CHANGED, f"{value!r:.200} became {again!r:.200}")


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:200]} {_where(error.__traceback__)}"


def _where(traceback: TracebackType | None) -> str:
    """Return the innermost place in our code, which tells failures apart."""
    place = ""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if "raftlock" in code.co_filename:
            file = "/".join(code.co_filename.split("/")[-2:])
            place = f"in {file}, {code.co_name}"
        traceback = traceback.tb_next
    return place


def _memory(target: Target, data: bytes) -> int:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        _run(target, data)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def _steps(target: Target, data: bytes) -> int:
    """Count the steps of an input; just over the bound if it takes more."""
    steps = _Steps(target.steps_flat + target.steps_per_byte * len(data))
    traced, profiled = sys.gettrace(), sys.getprofile()
    sys.setprofile(steps.profiled)
    sys.settrace(steps.traced)
    try:
        target.run(data)
    except _TooManySteps:
        return steps.count
    except target.refuses:
        return steps.count
    finally:
        sys.settrace(traced)
        sys.setprofile(profiled)
    return steps.count


_VARYING = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^ -~]+|\b[0-9a-f]*\d[0-9a-fx.]*")


def _kind_of_error(error: Exception) -> str:
    return f"{type(error).__name__} {_VARYING.sub('#', str(error)[:200])[:60]}"


def _shape(value: Any, depth: int) -> str:
    """Return the types within a value, which tell kinds of accepted inputs apart."""
    name = type(value).__name__
    if isinstance(value, tuple | list) and depth:
        inner = dict.fromkeys(_shape(item, depth - 1) for item in value[:12])
        return f"{name}{len(value).bit_length()}({' '.join(list(inner)[:6])})"
    if isinstance(value, dict | str | bytes):
        return f"{name}{len(value).bit_length()}"
    return name


def minimised(target: Target, data: bytes, judged: Judged) -> bytes:
    """Return a smaller input that fails in the same way: pieces left out, then bytes made zero."""
    measured = judged.problem in (SLOW, LARGE)
    trials_max = MEASURED_TRIALS if measured else MINIMISING_TRIALS
    trials = 0

    def fails(tried: bytes) -> bool:
        nonlocal trials
        trials += 1
        found = judge(target, tried, measured=measured)
        return failure_id(found) == failure_id(judged)

    size = len(data) // 2
    while size and trials < trials_max:
        at = 0
        while at < len(data) and trials < trials_max:
            tried = data[:at] + data[at + size :]
            if fails(tried):
                data = tried
            else:
                at += size
        size //= 2
    for at in range(min(len(data), trials_max - trials)):
        tried = data[:at] + b"\x00" + data[at + 1 :]
        if data[at] and fails(tried):
            data = tried
    return data


def failure_id(judged: Judged) -> tuple[str, str]:
    """Return what tells one failure from another: its kind and, of a crash, the error and its place."""
    if judged.problem != CRASH:
        return judged.problem, ""
    return CRASH, f"{judged.detail.partition(':')[0]} {judged.detail.rpartition(' in ')[2]}"
