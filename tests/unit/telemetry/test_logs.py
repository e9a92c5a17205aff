"""The log: one event, one line, for people and for programs."""

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from raftlock.telemetry import logs


@pytest.fixture(autouse=True)
def _root() -> Iterator[None]:
    """Leave the root logger as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(log_format: str, level: str = "info", *, tty: bool = False) -> str:
    stream = io.StringIO()
    stream.isatty = lambda: tty  # type: ignore[method-assign]
    logs.configure(level=level, log_format=log_format, node_id=3, stream=stream)
    log = logging.getLogger("raftlock.test")
    logs.event(log, "elected", term=4, why='a line\nand "more"')
    logs.event(log, "request", level=logging.DEBUG, conn=1)
    log.warning("from a library: %d", 5)
    return stream.getvalue()


def test_programs_get_one_json_object_a_line() -> None:
    """Each line is one object with time, level, node, logger, event and the event's fields."""
    lines = [json.loads(line) for line in logged("json").splitlines()]

    assert [{k: v for k, v in line.items() if k != "time"} for line in lines] == [
        {
            "level": "info",
            "node": 3,
            "logger": "raftlock.test",
            "event": "elected",
            "term": 4,
            "why": 'a line\nand "more"',
        },
        {
            "level": "warning",
            "node": 3,
            "logger": "raftlock.test",
            "event": "log",
            "message": "from a library: 5",
        },
    ]
    assert all(line["time"].endswith("Z") for line in lines)


def test_people_get_one_line_an_event() -> None:
    """A value with spaces or line ends is quoted: an event never breaks its line."""
    lines = logged("text").splitlines()

    assert [line.split(" ", 2)[2] for line in lines] == [
        'INFO    raftlock.test event=elected term=4 why="a line\\nand \\"more\\""',
        'WARNING raftlock.test event=log message="from a library: 5"',
    ]


def test_auto_is_text_on_a_terminal_only() -> None:
    """A terminal gets text, a pipe gets JSON."""
    assert ("event=elected" in logged("auto", tty=True), logged("auto")[0]) == (True, "{")


def test_debug_shows_the_way_of_requests() -> None:
    """What costs nothing otherwise is there at debug level."""
    assert '"event": "request"' in logged("json", "debug")


def test_an_exception_stays_on_its_events_line() -> None:
    """A traceback is a field of the JSON object, not lines of its own."""
    stream = io.StringIO()
    logs.configure(level="info", log_format="json", node_id=3, stream=stream)
    try:
        raise ValueError("broken")
    except ValueError:
        logs.event(logging.getLogger("raftlock.test"), "failed", exc_info=True)

    (line,) = stream.getvalue().splitlines()
    assert "ValueError: broken" in json.loads(line)["exception"]


def test_every_event_is_documented() -> None:
    """The events that the code logs are those of the table, and docs/logs.md is the table."""
    root = Path(__file__).resolve().parents[3]
    sources = "".join(path.read_text() for path in (root / "raftlock").rglob("*.py"))
    calls = re.findall(
        r'(?:logs\.event\(\s*\w+,|\.notice\(|complaints\.say\(|_give_up\()\s*"(\w+)"(?: if \w+ else "(\w+)")?',
        sources,
    )
    used = {name for names in calls for name in names if name}
    document = (root / "docs" / "logs.md").read_text()

    assert used == set(logs.EVENTS)
    assert re.findall(r"^\| `(\w+)` \| (.*) \|$", document, re.M) == list(logs.EVENTS.items())
