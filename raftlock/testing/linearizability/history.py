"""Histories: what each process asked and was told, and when, as JSON lines that any checker can read.

    {"process": 3, "type": "invoke", "f": "acquire", "value": {"resource": "r", ...}, "time_ns": 17, "node": 1}
    {"process": 3, "type": "ok", "f": "acquire", "value": {"status": "OK", "token": 41, "deadline_ns": 99}, "time_ns": 23, ...}

A process has one operation at a time. `ok` and `fail` are final; `info` means that the operation may take effect at any
later time, or never. `time_ns` is one monotonic clock for all processes, and so is `deadline_ns`: until when the client
counts on the lock (guarantee 10).
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

NEVER_NS = 1 << 62
"""The return of an operation whose outcome is unknown."""

FUNCTIONS = frozenset(
    ("acquire", "renew", "change_ttl", "release", "cancel", "check", "get", "force_release")
)
_TYPES = frozenset(("invoke", "ok", "fail", "info"))


class HistoryError(ValueError):
    """A line is not an event of a history, or does not follow from the lines before."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")
        self.line, self.problem = line, problem


class Outcome(Enum):
    """How an operation ended, as far as its process knows."""

    OK = "ok"
    FAIL = "fail"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation: from its invocation to its answer."""

    id: int
    """Its place in the history: the order of invocations."""
    process: int | str
    f: str
    outcome: Outcome
    call_ns: int
    return_ns: int
    asked: dict[str, Any] = field(hash=False)
    """The value of the invocation."""
    told: dict[str, Any] = field(hash=False)
    """The value of the answer; empty if none came."""
    node: int | str | None = None

    @property
    def resource(self) -> str:
        """Return what it is about."""
        return str(self.asked["resource"])

    @property
    def status(self) -> str:
        """Return the status of the answer, "" without one."""
        return str(self.told.get("status", ""))

    @property
    def token(self) -> int:
        """Return the token that it names or was given; 0 for none."""
        return int(self.told.get("token") or self.asked.get("token") or 0)

    @property
    def holder_token(self) -> int:
        """Return the token that the answer says holds the resource; 0 for none."""
        return int(self.told.get("holder_token") or 0)

    @property
    def deadline_ns(self) -> int:
        """Return until when the client counts on the lock by this answer; 0 if it says nothing."""
        return int(self.told.get("deadline_ns") or 0)

    def __str__(self) -> str:
        end = "?" if self.return_ns == NEVER_NS else f"{self.return_ns / 1e6:.3f}"
        told = ", ".join(f"{name}={value}" for name, value in self.told.items())
        named = f" token={self.asked['token']}" if self.asked.get("token") else ""
        return (
            f"[{self.call_ns / 1e6:.3f} to {end} ms] process {self.process}: {self.f} {self.resource!r}{named}"
            f" -> {self.outcome.value} {told}".rstrip()
        )


def read_history(path: Path) -> list[Operation]:
    """Read a history from a file of JSON lines. Raise HistoryError that names the line."""
    with path.open(encoding="utf-8") as lines:
        return operations(_events(lines))


def _events(lines: Iterable[str]) -> Iterator[Any]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise HistoryError(number, f"not JSON: {error}") from error


def operations(events: Iterable[Any]) -> list[Operation]:
    """Pair invocations with their answers. An invocation without an answer is of unknown outcome."""
    open_calls: dict[int | str, tuple[int, dict[str, Any]]] = {}
    found: dict[int, Operation] = {}
    count = 0
    for number, event in enumerate(events, 1):
        _check_event(number, event)
        process = event["process"]
        if event["type"] == "invoke":
            if process in open_calls:
                raise HistoryError(number, f"process {process} invokes twice without an answer")
            if not isinstance(event["value"].get("resource"), str):
                raise HistoryError(number, "an invocation names its resource: value.resource")
            open_calls[process] = (count, event)
            count += 1
            continue
        if process not in open_calls:
            raise HistoryError(number, f"process {process} is answered without an invocation")
        place, call = open_calls.pop(process)
        if call["f"] != event["f"]:
            raise HistoryError(number, f"{event['f']} answers {call['f']} of process {process}")
        found[place] = _operation(place, call, event)
    for place, call in open_calls.values():
        found[place] = _operation(place, call, None)
    return [found[place] for place in sorted(found)]


def _check_event(number: int, event: Any) -> None:
    if not isinstance(event, dict):
        raise HistoryError(number, "not an object")
    for name, kinds in (
        ("process", (int, str)),
        ("type", (str,)),
        ("f", (str,)),
        ("value", (dict,)),
        ("time_ns", (int,)),
    ):
        if not isinstance(event.get(name), kinds):
            raise HistoryError(number, f"{name} is {event.get(name)!r}")
    if event["type"] not in _TYPES:
        raise HistoryError(number, f"type is {event['type']!r}: one of {', '.join(sorted(_TYPES))}")
    if event["f"] not in FUNCTIONS:
        raise HistoryError(number, f"f is {event['f']!r}: one of {', '.join(sorted(FUNCTIONS))}")


def _operation(place: int, call: dict[str, Any], answer: dict[str, Any] | None) -> Operation:
    outcome = Outcome.INFO if answer is None else Outcome(answer["type"])
    unknown = answer is None or outcome is Outcome.INFO
    return Operation(
        id=place,
        process=call["process"],
        f=call["f"],
        outcome=outcome,
        call_ns=call["time_ns"],
        return_ns=NEVER_NS if unknown or answer is None else answer["time_ns"],
        asked=call["value"],
        told={} if answer is None else answer["value"],
        node=call.get("node"),
    )
