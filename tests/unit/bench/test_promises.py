"""What the load of a failover calls a broken promise, and what it does not."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench.gaps import Probe
from bench.promises import Load, Seen
from raftlock.client import AsyncClient, Lock
from raftlock.client.acquiring import AcquireResult
from raftlock_wire.status import Status


def lock(token: int, *, held: bool) -> Lock:
    """Return what a grant looks like to the check."""
    return cast("Lock", SimpleNamespace(resource="r", token=token, held=held))


def test_two_holders_and_a_token_that_does_not_grow_are_seen() -> None:
    """A holder that has let go is none."""
    seen = Seen()
    for token, held in ((5, False), (6, True), (6, True)):
        seen.granted(lock(token, held=held))

    assert seen.violations == ["two holders of r: 6 and 6", "token 6 of r did not grow"]


@pytest.mark.parametrize(
    ("status", "violations"),
    [
        (Status.HELD, ["kept:1 is held, and nobody else wants it"]),
        (Status.SESSION_EXPIRED, []),
        (Status.TIMEOUT, []),
    ],
)
async def test_only_held_is_a_broken_promise(status: Status, violations: list[str]) -> None:
    """Not acquired, since the session ended while nobody served, is a true answer; and no grant."""
    probe, seen = Probe(), Seen()

    class Answering:
        """A client whose one answer ends the load."""

        async def try_acquire(self, resource: str, **_: Any) -> AcquireResult:
            """Answer."""
            probe.over.set()
            return AcquireResult(status=status)

    witness = probe.witness()
    await Load(probe, seen)._keep(cast("AsyncClient", Answering()), witness, "kept")

    assert (seen.violations, witness.granted_at, probe.refused) == (violations, [], 1)
