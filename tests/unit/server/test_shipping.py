"""The thread that keeps a shipper running: started again, told who leads, ended with the node. With small programs as shippers."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raftlock.server.config import ConfigError, ServerConfig
from raftlock.server.shipping import Shipping, shipper_command

ECHO = """
import json, sys
for line in sys.stdin:
    print(json.dumps({"event": "shipped", "key": line.strip()}), flush=True)
"""
NOISE = """
import json, sys
print("a library says something", flush=True)
for kind in ("unavailable", "unavailable", "conflict"):
    print(json.dumps({"event": "failed", "kind": kind, "why": "w"}), flush=True)
sys.stdin.read()
"""
DEAF = "import time; time.sleep(1000)"


def program(text: str) -> list[str]:
    """Return a command."""
    return [sys.executable, "-c", text]


def soon(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_shipper_is_told_each_change_of_who_leads() -> None:
    """First that it stands by, then each change; and it is ended by stop."""
    shipping = Shipping(program(ECHO))
    shipping.start()
    try:
        for told, leads in enumerate((False, True, False), 1):
            shipping.lead(leads=leads)
            soon(lambda n=told: shipping.shipped == n)
    finally:
        shipping.stop()

    assert (shipping.pid, shipping.restarts) == (0, 0)


def test_a_shipper_that_ends_is_started_again() -> None:
    """Again and again, each counted; a program that is not there as well."""
    for command in (program("raise SystemExit(3)"), ["/nowhere/raftlock"]):
        shipping = Shipping(command)
        shipping.start()
        soon(lambda s=shipping: s.restarts >= 2)
        shipping.stop()

        assert shipping.pid == 0


def test_failures_are_counted_by_kind_and_noise_is_passed_over() -> None:
    """Each failed pass counts; what is no line of a shipper changes nothing."""
    shipping = Shipping(program(NOISE))
    shipping.start()
    soon(lambda: shipping.failures["conflict"])
    shipping.stop()

    assert shipping.failures == {"unavailable": 2, "refused": 0, "conflict": 1, "damaged": 0}


def test_a_shipper_that_does_not_listen_delays_nobody() -> None:
    """Changes are noted without waiting for it, and stop ends it."""
    shipping = Shipping(program(DEAF))
    shipping.start()
    soon(lambda: shipping.pid)
    for number in range(20_000):
        shipping.lead(leads=number % 2 == 0)
    shipping.stop()

    assert shipping.pid == 0


def test_a_wrong_tier_is_named(tmp_path: Path) -> None:
    """An address that is none, and a tier without an audit, are errors of the field; a right one is in the command."""
    for changes in ({"audit_tier": "http://x/"}, {"audit_tier": "s3://b/p", "audit": "off"}):
        with pytest.raises(ConfigError, match="audit_tier"):
            ServerConfig(node_id=1, data_dir=tmp_path, **changes)  # type: ignore[arg-type]

    assert (
        "s3://b/p"
        in shipper_command(ServerConfig(node_id=1, data_dir=tmp_path, audit_tier="s3://b/p"))[-1]
    )
