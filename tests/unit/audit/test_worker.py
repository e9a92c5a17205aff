"""The worker passes as the node says, counts each failure by its kind, and waits longer after it."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from raftlock.audit.backoff import Backoff
from raftlock.audit.shipper import AuditConflict, Shipper
from raftlock.audit.tiers import TierRefused, TierUnavailable
from raftlock.audit.worker import LEAD, STAND_BY, STANDBY_EVERY_S, Orders, Worker
from tests.unit.audit.ship_kit import MemoryTier, ShakyTier, contents, files_of_days, node


def worker_of(
    make: Callable[[], Any], *, order: str = LEAD
) -> tuple[Worker, Orders, list[dict[str, Any]]]:
    """Return a worker, who tells it what, and what it says."""
    orders, said = Orders(), list[dict[str, Any]]()
    orders.take(order + "\n")
    backoff = Backoff(random.Random(1))
    return Worker(make, orders, said.append, every_s=7, backoff=backoff), orders, said


def test_a_leaders_pass_tells_each_segment_and_what_waits(tmp_path: Path) -> None:
    """Each segment is named once; then nothing waits, and the next pass is after the interval."""
    tier = MemoryTier()
    worker, _, said = worker_of(lambda: Shipper(node(tmp_path), tier))

    wait_s = worker.step(leads=True)

    keys = [line["key"] for line in said if line["event"] == "shipped"]
    assert keys == sorted(key for key in contents(tier) if key.startswith("records/"))
    waits = [line["segments"] for line in said if line["event"] == "stands"]
    assert waits == [*reversed(range(len(keys))), 0]
    assert (wait_s, said[-1]["passed"], said[-1]["there"]) == (7, True, len(keys))


def test_who_stands_by_fills_only_what_the_store_has_gone_past(tmp_path: Path) -> None:
    """Of a hole in the middle and of what is newer than the store, it ships the hole, and closes no day."""
    tier, files = MemoryTier(), dict(sorted(files_of_days().items()))
    names = list(files)
    leaders = [n for i, n in enumerate(names[:-3]) if i != 4]
    Shipper(node(tmp_path / "leader", {n: files[n] for n in leaders}), tier).run_once()
    before = contents(tier)
    worker, _, said = worker_of(
        lambda: Shipper(node(tmp_path / "other", files), tier), order=STAND_BY
    )

    wait_s = worker.step(leads=False)

    [key] = [line["key"] for line in said if line["event"] == "shipped"]
    assert key.split("/")[-1].startswith(names[4].removeprefix("audit-").removesuffix(".seg"))
    assert {name: contents(tier)[name] for name in before} == before
    assert (len(contents(tier)), wait_s) == (len(before) + 1, STANDBY_EVERY_S)


def test_who_does_not_lead_any_more_stops_between_two_segments(tmp_path: Path) -> None:
    """The order comes while a segment is put: that one is whole, and no other is begun."""
    tier = MemoryTier()
    worker, orders, said = worker_of(
        lambda: Shipper(node(tmp_path), ShakyTier(tier, lambda: orders.take(STAND_BY) or ""))
    )

    worker.step(leads=True)

    assert [key for key in contents(tier) if key.startswith("records/")] == []
    assert said[-1]["segments"] == len(files_of_days())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TierUnavailable("x"), "unavailable"),
        (TierRefused("x"), "refused"),
        (AuditConflict("x"), "conflict"),
    ],
)
def test_a_failure_is_told_by_its_kind_and_waited_after(error: Exception, kind: str) -> None:
    """It neither ends the process nor is tried again at once; where the store cannot be opened, it is opened anew."""
    tries = []

    def make() -> Any:
        tries.append(1)
        raise error

    worker, _, said = worker_of(make)

    waits = [worker.step(leads=True) for _ in range(3)]

    assert said == [{"event": "failed", "kind": kind, "why": "x"}] * 3
    assert (len(tries), all(wait > 0 for wait in waits)) == (3, True)


def test_in_an_outage_what_waits_is_told_without_the_store(tmp_path: Path) -> None:
    """A segment that comes while the store is away waits; those that were seen there do not."""
    files, fails = dict(sorted(files_of_days().items())), [""]
    names = list(files)
    folder = node(tmp_path, {n: files[n] for n in names[:-2]})
    worker, _, said = worker_of(lambda: Shipper(folder, ShakyTier(MemoryTier(), lambda: fails[0])))
    worker.step(leads=True)
    fails[0] = "before"
    node(tmp_path, files)

    worker.step(leads=True)

    size = sum(len(files[n]) for n in names[-2:])
    assert (said[-1]["segments"], said[-1]["size"], said[-1]["passed"]) == (2, size, False)
