"""The log: one event, one line; text for people, one JSON object a line for programs.

It owns the names of the events and how a line reads. A line never holds a session's nonce or a client's credentials.
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

EVENTS = {
    "starting": "The process has read its configuration and opens its data directory.",
    "listening": "The node takes connections.",
    "waiting": "The node has no cluster yet: it waits for `raftlock bootstrap`, or `raftlock members add`.",
    "elected": "This node won an election.",
    "serving": "This node leads and has applied an entry of its term: it answers.",
    "stepped_down": "This node leads no more.",
    "leader": "This node learned who leads.",
    "members": "A change of the members was applied: who votes, and who learns.",
    "removed": "This node was removed from the cluster, its log or a member says: it can be stopped.",
    "snapshot_saved": "The state was saved; the log before it is no longer needed.",
    "snapshot_installed": "The leader's snapshot replaced this node's state.",
    "snapshot_refused": "What the leader sent was not the snapshot that it named.",
    "audit_segment": "A segment of the audit is complete and durable; its digest is the same on every node.",
    "audit_gap": "Entries are not in this node's audit, and why; the other nodes have them.",
    "shipper_started": "The process that ships the audit was started.",
    "shipper_ended": "That process ended, with its exit code or signal; it is started again.",
    "ships": "This node leads: its shipper is the one that ships.",
    "ships_not": "This node does not lead: its shipper stands by.",
    "shipped": "A segment of the audit is in the store.",
    "ship_failed": "A pass of the shipper did not end well: `kind` as metrics count it, `why` in words. At most one a minute of each kind.",
    "version_proposed": "Every member's build knows a later version of the state machine: the leader raises it.",
    "version_raised": "A later version of the state machine is in force from the next entry on.",
    "version_unknown": "This build does not know the version that is in force: the node ends. Start the newer build.",
    "bad_peer_frame": "A member sent what is no message, or claims a term that it cannot have; its link is closed.",
    "client_refused": "A client is turned away or closed: `reason` as metrics count it, `why` in words. At most ten lines a second, then `left_out` counts.",
    "peer_refused": "A caller of the peer port is turned away, and why. Bounded like `client_refused`.",
    "refused_by_peer": "A member does not take this node's call, and why. Bounded like `client_refused`.",
    "peer_lost": "A link with a member is given up: it reads nothing.",
    "disk_full": "There is no room for the next part of the log: new locks are refused.",
    "disk_has_room": "There is room again.",
    "request": "At debug level: a frame of requests, where it came in, was sent on, or was let in at the leader.",
    "http_request": "At debug level: an HTTP request was answered.",
    "http_failed": "A bug: a handler of HTTP raised; the caller got 500 with the `request_id`.",
    "failed": "The node ends: a bug, or the disk.",
    "stopping": "A signal asked the node to stop.",
    "stopped": "The node has stopped.",
}
"""Event to meaning. Everything else that is logged (by libraries) is event `log`."""


def event(
    logger: logging.Logger,
    name: str,
    *,
    level: int = logging.INFO,
    exc_info: bool = False,
    **fields: object,
) -> None:
    """Log one event with its fields. Nothing is formatted when the level is off."""
    if logger.isEnabledFor(level):
        logger.log(level, "", exc_info=exc_info, extra={"event": name, "fields": fields})


def notice(
    logger: logging.Logger, name: str, fields: Mapping[str, object], *, level: int = logging.INFO
) -> None:
    """Log an event whose fields are data already."""
    if logger.isEnabledFor(level):
        logger.log(level, "", extra={"event": name, "fields": fields})


def configure(*, level: str, log_format: str, node_id: int, stream: TextIO | None = None) -> None:
    """Send the log to `stream` (stderr), in the format that the configuration names: auto, text or json."""
    stream = sys.stderr if stream is None else stream
    as_text = log_format == "text" or (log_format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter(node_id))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # asyncio's own debug line (its selector) and one line a request of HTTP are no events.
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


def _parts(record: logging.LogRecord) -> tuple[str, dict[str, object]]:
    name = getattr(record, "event", None)
    if name is None:
        return "log", {"message": record.getMessage()}
    return name, dict(record.fields)  # type: ignore[attr-defined]


class TextFormatter(logging.Formatter):
    """A line for a person: time, level, logger, event=name, then field=value."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; an exception's lines follow it."""
        name, fields = _parts(record)
        when = datetime.fromtimestamp(record.created).isoformat(" ", "milliseconds")
        words = " ".join(f"{key}={_word(value)}" for key, value in fields.items())
        line = f"{when} {record.levelname:<7} {record.name} event={name} {words}".rstrip()
        return line if not record.exc_info else f"{line}\n{self.formatException(record.exc_info)}"


def _word(value: object) -> str:
    text = str(value)
    return json.dumps(text) if not text or any(c in text for c in ' \n\t"') else text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, node, logger, event, and the event's fields."""

    def __init__(self, node_id: int) -> None:
        super().__init__()
        self._node_id = node_id

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. It is one line whatever the fields hold."""
        name, fields = _parts(record)
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": when.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "node": self._node_id,
            "logger": record.name,
            "event": name,
            **fields,
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
